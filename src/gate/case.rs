//! One question in the gate: opened, judged, admitted, ruled, concluded. Every decision takes these steps.

use super::id::{DecisionId, Ticket};
use super::receipt::{GrantClaims, GrantReceipt};
use super::{Gate, refusal, refusal_of, whole_s};
use crate::decision::caller::authenticate::{Caller, Identity};
use crate::decision::caller::keyset::Key;
use crate::decision::caller::network::Network;
use crate::decision::inquiry::Inquiry;
use crate::decision::judge::{Claim, JudgedInquiry, Judgement, judge_with};
use crate::decision::moment::Moment;
use crate::decision::plan::limits::Tokens;
use crate::decision::reason::Reason;
use crate::decision::request::endpoint::{Dialect, Endpoint};
use crate::decision::request::route::route;
use crate::decision::verdict::{Refusal, Verdict};
use crate::decision::view::View;
use crate::gate::audit::{Against, printable};
use crate::ledger::account::LimitExcess;
use crate::ledger::plan::{Application, Nobody, Requester, Turn};
use crate::ledger::reservation::ProxyUid;
use crate::metrics::{DecisionLabel, Port};
use sha2::{Digest, Sha256};

/// Nanoseconds after which a question is refused and takes no limit, because the proxy's own deadline (`timeout processing
/// 100ms` in the shipped SPOE file) is near.
pub const DEADLINE_NS: u64 = 50_000_000;

/// A question as an ingress puts it.
#[derive(Debug, Clone, Copy)]
pub struct Question<'q> {
    /// The inquiry.
    pub inquiry: &'q Inquiry<'q>,
    /// The port it came in on.
    pub ingress: Port,
    /// When the question was read from the wire. [`DEADLINE_NS`] later it can only be refused.
    pub received: Moment,
    /// Whether the ingress can wait. Where every server is full, the decision then carries a ticket.
    pub may_wait: bool,
}

impl<'q> Question<'q> {
    /// Returns a question of an ingress that cannot wait.
    pub fn new(inquiry: &'q Inquiry<'q>, ingress: Port, received: Moment) -> Question<'q> {
        Question { inquiry, ingress, received, may_wait: false }
    }

    /// Returns this question as one of an ingress that can wait.
    #[must_use]
    pub fn or_wait(self) -> Question<'q> {
        Question { may_wait: true, ..self }
    }
}

/// A question, who asks it, and when.
pub(super) struct Case<'q, 'v> {
    pub id: DecisionId,
    pub view: &'v View,
    pub question: Question<'q>,
    pub judged: JudgedInquiry<'v>,
    pub now: Moment,
}

/// A verdict, and what an adapter needs to put it on the wire.
#[derive(Debug, Clone)]
pub struct Decision<'v> {
    /// The verdict.
    pub verdict: Verdict<'v>,
    /// The public id of this decision (`x-request-id`).
    pub id: DecisionId,
    /// The dialect a refusal is written in.
    pub dialect: Dialect,
    /// Receipt that settles a grant later. The proxy logs it and sends it to neither client nor server.
    pub receipt: Option<GrantReceipt>,
    /// The caller, where it was authenticated.
    pub caller: Option<Caller<'v>>,
    /// The key, where it is known; also one that may not call.
    pub key: Option<&'v Key>,
    /// Ticket with which the request waits for a server ([`Gate::wait`]). The verdict beside it is the refusal of a request that
    /// does not wait.
    pub ticket: Option<Ticket>,
    /// Tokens reserved for a grant, of its prompt and of its output.
    pub reserved: Option<Tokens>,
}

/// The verdict on a case, and what was reserved for it.
struct CaseRuling<'v> {
    verdict: Verdict<'v>,
    /// Tokens reserved for prompt and output.
    reserved: Option<Tokens>,
    /// Ticket of a request that waits.
    ticket: Option<Ticket>,
}

impl<'v> CaseRuling<'v> {
    fn new(verdict: Verdict<'v>) -> CaseRuling<'v> {
        CaseRuling { verdict, reserved: None, ticket: None }
    }

    fn refuse(refusal: Refusal) -> CaseRuling<'v> {
        CaseRuling::new(Verdict::Refuse(refusal))
    }
}

impl Case<'_, '_> {
    /// Returns whether the proxy will have given up by `now`.
    pub fn is_late(&self, now: Moment) -> bool {
        now.since(self.question.received) >= DEADLINE_NS
    }

    /// Returns what the ledger knows the request by, and whom it records it for.
    pub fn requester(&self) -> Requester<'_> {
        let caller = self.judged.caller;
        Requester {
            id: self.id.number(),
            uid: uid_key(self.question.inquiry.uid),
            caller: caller.map_or("", |caller| caller.name),
            user: self.question.inquiry.on_behalf.field.value.unwrap_or_default(),
            token_user: self.judged.user.as_ref().map(|user| user.token.user.clone()),
            team: caller.and_then(|caller| caller.team().map(|team| team.name.clone())),
        }
    }
}

impl Gate {
    /// Decides on a question, counts and logs it. Only a shared store can make it wait, and under a deadline: without one it is
    /// ready when first polled, and allocates nothing.
    pub async fn decide<'v>(&self, view: &'v View, question: Question<'_>) -> Decision<'v> {
        let now = self.clock.now();
        let decided = self.decide_at(view, question, now).await;
        // One that waits is counted when it is told.
        if decided.ticket.is_none() {
            let took_ns = self.clock.mono_ns().saturating_sub(now.mono_ns);
            self.metrics.decision(question.ingress, outcome(&decided.verdict), took_ns);
        }
        decided
    }

    /// Decides at a moment handed in. The decision itself is not counted in the metrics; its limits are taken.
    pub async fn decide_at<'v>(&self, view: &'v View, question: Question<'_>, now: Moment) -> Decision<'v> {
        let case = Case { id: DecisionId::random(), view, question, judged: self.judge(view, &question, now), now };
        let ruling = match &case.judged.judgement {
            Judgement::Claim(claim) => self.rule(&case, self.admit(&case, claim).await),
            Judgement::Answer(answer) => CaseRuling::new(Verdict::Answer(*answer)),
            Judgement::Refuse(refusal) => CaseRuling::refuse(refusal.clone()),
        };
        self.conclude(&case, ruling)
    }

    /// Judges a question, unless it is too late or its network has had too many failed credentials.
    fn judge<'v>(&self, view: &'v View, question: &Question<'_>, now: Moment) -> JudgedInquiry<'v> {
        let inquiry = question.inquiry;
        let early = if now.since(question.received) >= DEADLINE_NS {
            // Late work is wasted work: HAProxy does not say that it gave up.
            Some(Refusal { retry_after_s: Some(1), ..Refusal::new(Reason::DeadlineMissed) })
        } else {
            self.shut_out(inquiry, now)
        };
        let Some(refusal) = early else { return judge_with(view, inquiry, &self.tokens, now) };
        let dialect = route(inquiry.method, inquiry.target).map_or_else(|(_, dialect)| dialect, |route| route.dialect);
        let judgement = Judgement::Refuse(refusal);
        JudgedInquiry { dialect, endpoint: None, caller: None, key: None, user: None, judgement }
    }

    /// Returns the refusal of a credential that is not looked up, because its network has had too many failures.
    fn shut_out(&self, inquiry: &Inquiry<'_>, now: Moment) -> Option<Refusal> {
        let failures = self.failures.load();
        let failures = failures.as_ref().filter(|_| inquiry.has_credential())?;
        let wait_ns = failures.wait_ns(Network::of(inquiry.source), now)?;
        Some(Refusal { retry_after_s: whole_s(wait_ns), ..Refusal::new(Reason::FailedCredentials) })
    }

    /// Takes every limit of a claim or none, in this process or in the shared store.
    async fn admit<'v>(&self, case: &Case<'_, 'v>, claim: &Claim<'v>) -> Result<Turn<'v>, Refusal> {
        match self.sharing.as_ref().filter(|_| !claim.accounts.is_empty()) {
            // In a box, because only gates that share pay for it, and every decision's future would be as large as that one.
            Some(sharing) => Box::pin(self.admit_shared(sharing, case, claim)).await,
            None => {
                let requester = case.requester();
                let asks = Application {
                    view: case.view,
                    claim,
                    accounts: &claim.accounts,
                    requester: &requester,
                    may_wait: case.question.may_wait,
                    elsewhere: &Nobody,
                };
                self.ledger.take(&asks, case.now).map_err(refusal_of)
            }
        }
    }

    /// Returns the ruling on a claim that got a server, a place in the wait queue, or nothing.
    fn rule<'v>(&self, case: &Case<'_, 'v>, turn: Result<Turn<'v>, Refusal>) -> CaseRuling<'v> {
        let shadowed = |excess: Option<LimitExcess>| {
            if let Some(told) = excess.map(refusal) {
                self.audit.note(case, Against::Passed(&told));
                self.metrics.shadowed(told.code());
            }
        };
        match turn {
            Err(refusal) => CaseRuling::refuse(refusal),
            Ok(Turn::Later(held)) => {
                shadowed(held.shadowed);
                match self.enqueue(case, *held) {
                    Ok(ticket) => {
                        let refusal = Refusal { retry_after_s: Some(1), ..Refusal::new(Reason::Full) };
                        CaseRuling { ticket: Some(ticket), ..CaseRuling::refuse(refusal) }
                    }
                    Err(refusal) => CaseRuling::refuse(refusal),
                }
            }
            Ok(Turn::Now(placed)) => {
                shadowed(placed.shadowed);
                let reserved = placed.reservation.map(|reservation| {
                    let tokens = reservation.tokens;
                    if let Some(journal) = &self.journal {
                        journal.opened(reservation);
                    }
                    tokens
                });
                CaseRuling { reserved, ..CaseRuling::new(Verdict::Allow(placed.choice.grant)) }
            }
        }
    }

    /// Records a decision and, of a grant, writes the receipt.
    fn conclude<'v>(&self, case: &Case<'_, 'v>, ruling: CaseRuling<'v>) -> Decision<'v> {
        let CaseRuling { verdict, reserved, ticket } = ruling;
        let Case { id, question, now, ref judged, .. } = *case;
        if let Some(Identity::Key { fingerprint, .. }) = judged.caller.map(|caller| caller.identity) {
            self.last_used.note(fingerprint, now.unix_ms);
        }
        match &verdict {
            Verdict::Refuse(_) if ticket.is_some() => {}
            Verdict::Refuse(refusal) => {
                if refusal.reason.is_failed_credential()
                    && let Some(failures) = &*self.failures.load()
                {
                    failures.failed(Network::of(question.inquiry.source), now);
                }
                self.audit.note(case, Against::Refused(refusal));
            }
            Verdict::Allow(_) | Verdict::Answer(_) => log(case, &verdict),
        }
        self.recent.note(|past| past.write(id.number(), question.inquiry, question.ingress, judged, &verdict, now));
        let receipt = match (&verdict, &judged.judgement) {
            (Verdict::Allow(grant), Judgement::Claim(claim)) => claim.accounts.iter().next().map(|account| {
                let tokens = reserved.unwrap_or_default();
                let model = grant.pool.map(|pool| pool.key);
                let (id, caller, unix_s) = (id.number(), account.scope, now.unix_ms / 1000);
                self.receipts.grant(&GrantClaims { id, caller, model, tokens, unix_s })
            }),
            _ => None,
        };
        let JudgedInquiry { dialect, caller, key, .. } = *judged;
        Decision { verdict, id, dialect, receipt, caller, key, reserved, ticket }
    }

    /// Refuses a question that lacked what every inquiry must carry, and counts it like any. The ingress logs what was wrong and
    /// who asked, where [`Gate::warning_due`] or a throttle of its own says so.
    pub fn refuse_malformed(&self, ingress: Port) -> Decision<'static> {
        let refusal = Refusal { retry_after_s: Some(1), ..Refusal::new(Reason::MalformedInquiry) };
        self.metrics.decision(ingress, DecisionLabel::Refuse(refusal.code()), 0);
        let id = DecisionId::random();
        self.recent.note(|past| past.write_malformed(id.number(), ingress, &refusal, self.clock.now()));
        Decision {
            verdict: Verdict::Refuse(refusal),
            id,
            dialect: Dialect::OpenAi,
            receipt: None,
            caller: None,
            key: None,
            reserved: None,
            ticket: None,
        }
    }
}

/// Returns a proxy's identifier as the ledger keeps it: half of its SHA-256, so that a client that could choose identifiers
/// could not make two alike. `None` for an empty one.
pub(super) fn uid_key(uid: &[u8]) -> Option<ProxyUid> {
    if uid.is_empty() {
        return None;
    }
    let digest: [u8; 32] = Sha256::digest(uid).into();
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    ProxyUid::new(u64::from_be_bytes(head).max(1))
}

fn outcome(verdict: &Verdict<'_>) -> DecisionLabel {
    match verdict {
        Verdict::Allow(_) => DecisionLabel::Allow,
        Verdict::Answer(_) => DecisionLabel::Answer,
        Verdict::Refuse(refusal) => outcome_of(refusal),
    }
}

pub(super) fn outcome_of(refusal: &Refusal) -> DecisionLabel {
    DecisionLabel::Refuse(refusal.code())
}

/// Logs grants and answers at DEBUG, because the proxy logs them; refusals are the audit log's.
fn log(case: &Case<'_, '_>, verdict: &Verdict<'_>) {
    let (judged, inquiry) = (&case.judged, case.question.inquiry);
    let ingress = case.question.ingress.as_str();
    let caller = judged.caller.map_or("-", |caller| caller.name);
    let user = judged.user.as_ref().map(|user| &*user.token.user);
    let plan = judged.caller.map_or("-", |caller| &caller.plan.name);
    let endpoint = judged.endpoint.map_or("-", Endpoint::as_str);
    match verdict {
        Verdict::Refuse(_) => {}
        Verdict::Allow(grant) => tracing::debug!(
            id = case.id.as_str(),
            uid = %printable(inquiry.uid),
            src = ?inquiry.source,
            ingress,
            endpoint,
            caller,
            user,
            plan,
            model = grant.pool.map(|pool| pool.name.as_str()),
            server = %grant.server.name,
            server2 = grant.server2.map(|server| &*server.name),
            "allowed"
        ),
        Verdict::Answer(_) => tracing::debug!(
            id = case.id.as_str(),
            uid = %printable(inquiry.uid),
            src = ?inquiry.source,
            ingress,
            endpoint,
            caller,
            user,
            plan,
            "answered"
        ),
    }
}
