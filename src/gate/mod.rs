//! One decision from inquiry to verdict: judge, admit, choose, and write it down. What every ingress calls.

pub mod audit;
pub mod failures;
pub mod last_used;
pub mod proven_tokens;
pub mod receipt;
pub mod recent;
mod ruled;
mod shared_store;
pub mod state;
pub mod wait;

use ruled::Ruled;
pub use shared_store::{ForeignLine, Sharing};

use crate::decision::answer::catalog::{self, Rendered};
use crate::decision::caller::authenticate::{Caller, Identity};
use crate::decision::caller::keyset::Key;
use crate::decision::caller::network::Network;
use crate::decision::inquiry::Inquiry;
use crate::decision::judge::{Claim, Judged, Judgement, judge_with};
use crate::decision::moment::Moment;
use crate::decision::plan::limits::{Quota, Scope, Scopes};
use crate::decision::plan::policy::PlanIndex;
use crate::decision::reason::Reason;
use crate::decision::request::endpoint::{Dialect, Endpoint};
use crate::decision::request::route::route;
use crate::decision::verdict::{Answer, Refusal, Verdict};
use crate::decision::view::View;
use crate::gate::audit::{Against, Audit, printable};
use crate::gate::failures::Failures;
use crate::gate::last_used::LastUsed;
use crate::gate::proven_tokens::TokenMemory;
use crate::gate::receipt::{Claimed, GrantReceipt, Receipts, Redeemed};
use crate::gate::recent::Recent;
use crate::gate::state::State;
use crate::gate::wait::Hall;
use crate::ledger::account::{Excess, Spent};
use crate::ledger::books::Ended;
use crate::ledger::journal::Journal;
use crate::ledger::memory::{Asked, Denied, MemoryLedger, Standing, Turn};
use crate::ledger::reservation::{Evidence, Name, Record, Reservation, Written};
use crate::ledger::tokens::charge::Observed;
use crate::mailbox::calibrations::Calibrations;
use crate::mailbox::wanted::Wanted;
use crate::metrics::{Metrics, Outcome, Port, Settled};
use crate::net::log_throttle::Complaints;
use crate::time::clock::Clock;
use arc_swap::ArcSwapOption;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

pub use wait::Told;

/// Nanoseconds after which a verdict is worth nothing, because the proxy's own deadline (`timeout processing 100ms` in the
/// shipped SPOE file) is near: an answer is then a refusal, and no limit is taken.
pub const DEADLINE_NS: u64 = 50_000_000;

/// Everything a decision needs, shared by all connections.
pub struct Gate {
    /// The current view.
    pub state: Arc<State>,
    /// Where decisions are counted.
    pub metrics: Arc<Metrics>,
    /// The process's clock.
    pub clock: Clock,
    /// Who was refused what.
    pub audit: Audit,
    /// When each secret was last used.
    pub last_used: LastUsed,
    /// The decisions of a moment ago, for who asks about them.
    pub recent: Arc<Recent>,
    /// What deep checks measured of answers.
    pub calibrations: Calibrations,
    ledger: MemoryLedger,
    /// Where what must outlive the process is kept; empty: nowhere.
    /// Absent where nothing limits failed credentials.
    failures: ArcSwapOption<Failures>,
    receipts: Receipts,
    complaints: Complaints,
    tokens: TokenMemory,
    /// Absent where nothing is written down.
    journal: OnceLock<Arc<dyn Journal>>,
    /// When this run began, in seconds since 1970: receipts from before are another run's.
    began_unix_s: i64,
    /// Longest a request may be on its way, in seconds.
    max_stream_s: AtomicI64,
    /// Who waits for a server.
    hall: Hall,
    /// Absent where the books are this process's own.
    sharing: OnceLock<Sharing>,
}

/// A verdict, and what an adapter needs to put it on the wire.
#[derive(Debug, Clone)]
pub struct Decided<'v> {
    /// The verdict.
    pub verdict: Verdict<'v>,
    /// The public id of this decision (`x-request-id`).
    pub id: Id,
    /// The dialect a refusal is written in.
    pub dialect: Dialect,
    /// What settles a grant later: logged by the proxy, never sent to client or server.
    pub receipt: Option<GrantReceipt>,
    /// Who asked, where that was found out.
    pub caller: Option<Caller<'v>>,
    /// The key, where it is known, also where it may not call.
    pub key: Option<&'v Key>,
    /// With it the request waits for a server ([`Gate::wait`]); the verdict is then the refusal of one that does not.
    pub ticket: Option<Id>,
    /// Tokens held for a grant, of its prompt and of its output.
    pub held: Option<(u64, u64)>,
}

/// A random 128-bit identifier, shown as 32 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    number: u128,
    digits: [u8; 32],
}

impl Id {
    fn random() -> Id {
        let number: u128 = rand::random();
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        Id { number, digits }
    }

    /// The 32 hex digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits).unwrap_or("")
    }
}

impl Gate {
    /// A gate over this state, with empty books and these receipts.
    pub fn new(state: Arc<State>, metrics: Arc<Metrics>, clock: Clock, receipts: Receipts) -> Gate {
        let tokens = TokenMemory::new(metrics.clone());
        let began_unix_s = clock.now().unix_ms / 1000;
        Gate {
            state,
            metrics,
            clock,
            audit: Audit::default(),
            last_used: LastUsed::default(),
            recent: Arc::default(),
            calibrations: Calibrations::default(),
            ledger: MemoryLedger::default(),
            failures: ArcSwapOption::empty(),
            receipts,
            complaints: Complaints::default(),
            tokens,
            journal: OnceLock::new(),
            began_unix_s,
            max_stream_s: AtomicI64::new(3_600),
            hall: Hall::default(),
            sharing: OnceLock::new(),
        }
    }

    /// Writes down from now on what is granted and settled, and takes over what an earlier run left behind. Once.
    pub fn keep_in(
        &self,
        journal: Arc<dyn Journal>,
        open: Vec<Reservation>,
        charged: impl Iterator<Item = (Scope, i32, u64)>,
        done: impl Iterator<Item = (u128, Evidence)>,
    ) {
        self.ledger.restore(open, charged, done, self.clock.now());
        // Twice is a fault of the wiring, and keeps the first.
        let _ = self.journal.set(journal);
    }

    /// The keys of issuers that decisions found missing.
    pub fn wanted(&self) -> Arc<Wanted> {
        self.tokens.wanted.clone()
    }

    /// How many credentials of one network may fail (`[auth] failures`); `None`: any number. Another quota than before
    /// begins with no failure on record.
    pub fn limit_failures(&self, quota: Option<Quota>) {
        if self.failures.load().as_ref().map(|failures| failures.quota()) != quota {
            self.failures.store(quota.map(|quota| Arc::new(Failures::new(quota))));
        }
    }

    /// Decides, counts and logs. `received` is when the question was read from the wire: an answer later than
    /// [`DEADLINE_NS`] after it is a refusal.
    pub fn decide<'v>(&self, view: &'v View, inquiry: &Inquiry<'_>, ingress: Port, received: Moment) -> Decided<'v> {
        let now = self.clock.now();
        let decided = self.decide_at(view, inquiry, ingress, received, now);
        let took_ns = self.clock.mono_ns().saturating_sub(now.mono_ns);
        self.metrics.decision(ingress, outcome(&decided.verdict), took_ns);
        decided
    }

    /// [`Gate::decide`] for an ingress that can wait: where every server is full, the answer has a ticket.
    pub fn decide_or_wait<'v>(
        &self,
        view: &'v View,
        inquiry: &Inquiry<'_>,
        ingress: Port,
        received: Moment,
    ) -> Decided<'v> {
        let now = self.clock.now();
        let decided = self.decide_with(view, inquiry, ingress, received, true, now);
        let took_ns = self.clock.mono_ns().saturating_sub(now.mono_ns);
        if decided.ticket.is_none() {
            self.metrics.decision(ingress, outcome(&decided.verdict), took_ns);
        }
        decided
    }

    /// Decides at a moment handed in.
    pub fn decide_at<'v>(
        &self,
        view: &'v View,
        inquiry: &Inquiry<'_>,
        ingress: Port,
        received: Moment,
        now: Moment,
    ) -> Decided<'v> {
        self.decide_with(view, inquiry, ingress, received, false, now)
    }

    fn decide_with<'v>(
        &self,
        view: &'v View,
        inquiry: &Inquiry<'_>,
        ingress: Port,
        received: Moment,
        may_wait: bool,
        now: Moment,
    ) -> Decided<'v> {
        let id = Id::random();
        let judged = self.judge(view, inquiry, received, now);
        let came = match &judged.judgement {
            Judgement::Claim(claim) => {
                let turn = self.take(view, claim, asked(&id, inquiry, &judged), may_wait, now);
                self.taken(view, id, inquiry, ingress, &judged, turn, now)
            }
            Judgement::Answer(answer) => Ruled::new(Verdict::Answer(*answer)),
            Judgement::Refuse(refusal) => Ruled::new(Verdict::Refuse(refusal.clone())),
        };
        self.conclude(id, inquiry, ingress, judged, came, now)
    }

    /// What is asked, and of whom, unless it is too late or too many credentials from there have failed.
    fn judge<'v>(&self, view: &'v View, inquiry: &Inquiry<'_>, received: Moment, now: Moment) -> Judged<'v> {
        let early = match now.since(received) >= DEADLINE_NS {
            // Late work is wasted work: HAProxy does not say that it gave up.
            true => Some(Refusal { retry_after_s: Some(1), ..Refusal::new(Reason::DeadlineMissed) }),
            false => self.must_wait(inquiry, now),
        };
        let Some(refusal) = early else { return judge_with(view, inquiry, &self.tokens, now) };
        let dialect = route(inquiry.method, inquiry.target).map_or_else(|(_, dialect)| dialect, |route| route.dialect);
        let judgement = Judgement::Refuse(refusal);
        Judged { dialect, endpoint: None, caller: None, key: None, user: None, judgement }
    }

    /// Writes a decision down, and the receipt of a grant.
    fn conclude<'v>(
        &self,
        id: Id,
        inquiry: &Inquiry<'_>,
        ingress: Port,
        judged: Judged<'v>,
        came: Ruled<'v>,
        now: Moment,
    ) -> Decided<'v> {
        let Ruled { verdict, reserved, ticket } = came;
        if let Some(Identity::Key { fingerprint, .. }) = judged.caller.map(|caller| caller.identity) {
            self.last_used.note(fingerprint, now.unix_ms);
        }
        match &verdict {
            Verdict::Refuse(_) if ticket.is_some() => {}
            Verdict::Refuse(refusal) => {
                if refusal.reason.is_failed_credential()
                    && let Some(failures) = &*self.failures.load()
                {
                    failures.failed(Network::of(inquiry.source), now);
                }
                self.audit.note(id.as_str(), inquiry, ingress.as_str(), &judged, Against::Refused(refusal), now);
            }
            Verdict::Allow(_) | Verdict::Answer(_) => log(&id, inquiry, ingress, &judged, &verdict),
        }
        self.recent.note(|past| past.write(id.number, inquiry, ingress, &judged, &verdict, now));
        let receipt = match (&verdict, &judged.judgement) {
            (Verdict::Allow(grant), Judgement::Claim(claim)) => claim.accounts.iter().next().map(|account| {
                let (tokens_in, tokens_out) = reserved.unwrap_or_default();
                let model = grant.pool.map_or(0, |pool| pool.key);
                let unix_s = now.unix_ms / 1000;
                let (id, caller) = (id.number, account.scope);
                self.receipts.grant(&Claimed { id, caller, model, tokens_in, tokens_out, unix_s })
            }),
            _ => None,
        };
        Decided {
            verdict,
            id,
            dialect: judged.dialect,
            receipt,
            caller: judged.caller,
            key: judged.key,
            held: reserved,
            ticket,
        }
    }

    /// The refusal of a credential that is not looked up, because too many from its network have failed.
    fn must_wait(&self, inquiry: &Inquiry<'_>, now: Moment) -> Option<Refusal> {
        let failures = self.failures.load();
        let failures = failures.as_ref().filter(|_| inquiry.has_credential())?;
        let wait_ns = failures.wait_ns(Network::of(inquiry.source), now)?;
        Some(Refusal { retry_after_s: whole_s(wait_ns), ..Refusal::new(Reason::FailedCredentials) })
    }

    /// Decides on a question that lacked what every inquiry must carry: always a refusal, counted like any. The ingress
    /// logs what was wrong and who asked, through [`Gate::complaint`] or a limiter of its own.
    pub fn refuse_malformed(&self, ingress: Port) -> Decided<'static> {
        let refusal = Refusal { retry_after_s: Some(1), ..Refusal::new(Reason::MalformedInquiry) };
        self.metrics.decision(ingress, Outcome::Refuse(refusal.code()), 0);
        let id = Id::random();
        self.recent.note(|past| past.write_malformed(id.number, ingress, &refusal, self.clock.now()));
        let verdict = Verdict::Refuse(refusal);
        Decided {
            verdict,
            id,
            dialect: Dialect::OpenAi,
            receipt: None,
            caller: None,
            key: None,
            held: None,
            ticket: None,
        }
    }

    /// Whether to warn of a malformed question now, and how many warnings were passed over since the last one: a proxy
    /// that is configured wrongly must not fill the disk.
    pub fn complaint(&self) -> Option<u64> {
        self.complaints.admit(self.clock.now())
    }

    fn take<'v>(
        &self,
        view: &'v View,
        claim: &Claim<'v>,
        asked: Asked<'_>,
        may_wait: bool,
        now: Moment,
    ) -> Result<Turn<'v>, Refusal> {
        self.ledger.take(view, claim, asked, may_wait, now).map_err(refusal_of)
    }

    /// A request has ended: its usage line carried this receipt and this identifier of the proxy's, either possibly empty,
    /// and told this of it. Only a receipt settles; without one, whatever the inquiry took is released, because its verdict
    /// never arrived.
    pub fn settle(&self, receipt: &str, uid: &[u8], seen: &Observed) -> Settled {
        self.settle_at(receipt, uid, seen, self.clock.now())
    }

    /// [`Gate::settle`] at a moment handed in.
    pub fn settle_at(&self, receipt: &str, uid: &[u8], seen: &Observed, now: Moment) -> Settled {
        let settled = match self.receipts.redeem_grant(receipt) {
            Redeemed::Ours(claimed) => match self.ledger.settle(claimed.id, seen, now) {
                Ended::Settled(record) => {
                    self.write_down(*record);
                    Settled::Released
                }
                Ended::Corrected(record) => {
                    self.write_down(*record);
                    Settled::Corrected
                }
                Ended::Unknown if self.may_be_left_behind(&claimed, now) => {
                    let held = self.left_behind(&claimed);
                    self.write_down(self.ledger.charge_orphan(held, seen, now));
                    Settled::Released
                }
                Ended::Released(..) | Ended::Again | Ended::Unknown => Settled::Nothing,
            },
            Redeemed::Foreign { replica, claimed } => {
                self.settle_elsewhere(replica, claimed.id, seen);
                Settled::Foreign
            }
            Redeemed::Forged => Settled::Forged,
            Redeemed::None => match self.ledger.ended_unheard(uid_key(uid), now) {
                Ended::Released(id, scopes) => {
                    if let Some(journal) = self.journal.get() {
                        journal.released(id);
                    }
                    self.tell_unheard(id, scopes, now);
                    Settled::Unheard
                }
                _ => Settled::Nothing,
            },
        };
        self.metrics.usage_line(settled);
        if matches!(settled, Settled::Released | Settled::Unheard) {
            self.free_waiters();
        }
        settled
    }

    /// Whether a run before this one may have granted it and died before it was written down: then nothing charged it yet.
    /// What is older than a stream may be has ended, and its line is an old one that somebody repeats.
    fn may_be_left_behind(&self, claimed: &Claimed, now: Moment) -> bool {
        let oldest_s = (now.unix_ms / 1000).saturating_sub(self.max_stream_s.load(Ordering::Relaxed));
        self.journal.get().is_some() && (oldest_s..self.began_unix_s).contains(&claimed.unix_s)
    }

    fn write_down(&self, record: Record) {
        self.tell_store(&record);
        self.keep(record);
    }

    fn keep(&self, record: Record) {
        self.metrics.settled(&record);
        if let Some(journal) = self.journal.get() {
            journal.settled(record);
        }
    }

    /// What a run before this one granted and died before it had written it down: as much of it as its receipt says.
    fn left_behind(&self, claimed: &Claimed) -> Reservation {
        let view = self.state.view();
        let key = view.keys.iter().find(|key| key.scope == claimed.caller);
        let team = key.and_then(|key| view.team_of(key));
        let pool = view.roster.pools.iter().find(|pool| pool.key == claimed.model);
        let held = pool.and_then(|pool| view.policy.models.get(&pool.name));
        let mut scopes = Scopes::one(claimed.caller);
        let gate = view.policy.gate.as_ref().map(|(scope, _)| *scope);
        for scope in [team.map(|team| team.scope), held.map(|held| held.scope), gate].into_iter().flatten() {
            // Four at most, and there is room for six.
            let _ = scopes.push(scope);
        }
        Reservation {
            id: claimed.id,
            uid: 0,
            scopes,
            caller: Name::new(key.map_or("", |key| &key.name)),
            user: None,
            team: team.map(|team| team.name.clone()),
            model: pool.map(|pool| pool.name.clone()),
            endpoint: Endpoint::V1ChatCompletions,
            stream: true,
            server: 0,
            pool: claimed.model,
            opened_ns: 0,
            opened_unix_ms: claimed.unix_s.saturating_mul(1000),
            tokens_in: claimed.tokens_in,
            tokens_out: claimed.tokens_out,
            cost: held.map(|held| held.cost).unwrap_or_default(),
            written: Written::default(),
        }
    }

    /// Ends slots that are too old, and publishes how the books stand. Called every second.
    pub fn expire(&self) -> Standing {
        let now = self.clock.now();
        self.audit.tick(now);
        let (expired, records, standing) = self.ledger.expire(now);
        records.into_iter().for_each(|record| self.write_down(record));
        self.metrics.slots(standing.open, expired, standing.silent);
        let measured = self.calibrations.take();
        self.metrics.estimates(self.ledger.calibrate(&measured));
        self.metrics.reserved(standing.reserved, standing.clock_in_doubt);
        standing
    }

    /// Bytes that a token has of this pool's answers, and of its prompts, where any of it was learned.
    pub fn bytes_per_token(&self, pool_key: u64) -> Option<(f64, f64)> {
        self.ledger.bytes_per_token(pool_key)
    }

    /// Changes how long a slot may stay open (configuration reloaded).
    pub fn set_max_stream_ns(&self, max_stream_ns: u64) {
        self.ledger.set_max_stream_ns(max_stream_ns);
        let s = i64::try_from(max_stream_ns / 1_000_000_000).unwrap_or(i64::MAX);
        self.max_stream_s.store(s.saturating_add(60), Ordering::Relaxed);
        if let Some(sharing) = self.sharing.get() {
            sharing.set_max_stream_ns(max_stream_ns);
        }
    }

    /// Changes the time zone of budgets (configuration reloaded).
    pub fn set_zone(&self, zone: TimeZone) {
        self.ledger.set_zone(zone);
    }

    /// A receipt with which the caller of `answer` can fetch it from the HTTP port (`/catalog`).
    pub fn answer_receipt(&self, answer: &Answer<'_>, view: &View, inquiry: &Inquiry<'_>) -> String {
        let plan = view.policy.plans.get(usize::from(answer.plan.0)).map_or("", |plan| &plan.name);
        self.receipts.issue(plan, inquiry.method, inquiry.target, self.clock.now().unix_ms / 1000)
    }

    /// The catalog answer a receipt was issued for; `None` where the receipt does not fit the request.
    pub fn catalog(&self, view: &View, receipt: &str, method: &[u8], target: &[u8]) -> Option<Rendered> {
        let plan_name = self.receipts.redeem(receipt, method, target, self.clock.now().unix_ms / 1000)?;
        let position = view.policy.plans.iter().position(|plan| *plan.name == *plan_name)?;
        let plan = PlanIndex(u16::try_from(position).ok()?);
        let route = route(method, target).ok().filter(|route| route.endpoint.is_answered_here())?;
        let pool = match route.model_in_path {
            None => None,
            Some(encoded) => {
                let plan_policy = view.policy.plans.get(position)?;
                let decoded: Vec<u8> = crate::decision::request::route::percent_decoded(encoded).collect();
                let name = String::from_utf8_lossy(&decoded);
                Some(crate::decision::resolve::resolve(view, plan_policy, plan, &name).ok()?)
            }
        };
        let answer = Answer { endpoint: route.endpoint, plan, pool, head: route.head };
        Some(catalog::render(view, &answer))
    }

    /// Forgets the users of keys that are gone. Called after keys are published.
    pub fn retain_keys(&self, view: &View) {
        // Only keys that ask for others have users.
        let asking = view.keys.iter().filter(|key| key.on_behalf.is_some());
        let scopes: std::collections::HashSet<_> = asking.map(|key| key.scope).collect();
        self.ledger.retain_keys(|scope| scopes.contains(&scope));
    }

    /// Forgets the turns of pools that are gone. Called after a View is published.
    pub fn retain_pools(&self, view: &View) {
        let exists = |key| key == 0 || view.roster.pools.iter().any(|pool| pool.key == key);
        self.ledger.retain_pools(exists);
    }
}

/// Whom a request is written down for.
fn asked<'a>(id: &Id, inquiry: &'a Inquiry<'_>, judged: &Judged<'a>) -> Asked<'a> {
    let caller = judged.caller;
    Asked {
        id: id.number,
        uid: uid_key(inquiry.uid),
        caller: caller.map_or("", |caller| caller.name),
        user: inquiry.on_behalf.field.value.unwrap_or_default(),
        token_user: judged.user.as_ref().map(|user| user.token.user.clone()),
        team: caller.and_then(|caller| caller.team().map(|team| team.name.clone())),
    }
}

/// What is said of a claim that got nothing.
fn refusal_of(denied: Denied) -> Refusal {
    match denied {
        Denied::Shed { retry_ns } => Refusal { retry_after_s: whole_s(retry_ns), ..Refusal::new(Reason::Shed) },
        Denied::Excess(excess) => refusal(excess),
        Denied::NoServer(refusal) => refusal,
    }
}

/// What is said of a limit that is used up.
fn refusal(excess: Excess) -> Refusal {
    let Excess { holder, limit, retry_ns, standing } = excess;
    let (reason, standing, tokens) = match limit {
        Spent::Requests => (Reason::RequestRate(holder), standing, None),
        Spent::Concurrency => (Reason::Concurrency(holder), None, None),
        Spent::Tokens => (Reason::TokenRate(holder), None, standing),
        Spent::Budget(window) => (Reason::Budget(holder, window), None, standing),
        Spent::NeverFits { held, most } => (Reason::NeverFits { holder, held, most }, None, None),
    };
    Refusal { retry_after_s: retry_ns.and_then(whole_s), standing, tokens, ..Refusal::new(reason) }
}

/// Whole seconds, rounded up, at least one: what `Retry-After` says.
fn whole_s(ns: u64) -> Option<u64> {
    Some(ns.div_ceil(1_000_000_000).max(1))
}

/// A proxy's identifier as the books keep it: half of its SHA-256, so that a client that could choose it still could not
/// make two alike; 0 for none.
fn uid_key(uid: &[u8]) -> u64 {
    if uid.is_empty() {
        return 0;
    }
    let digest: [u8; 32] = Sha256::digest(uid).into();
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(head).max(1)
}

fn outcome(verdict: &Verdict<'_>) -> Outcome {
    match verdict {
        Verdict::Allow(_) => Outcome::Allow,
        Verdict::Answer(_) => Outcome::Answer,
        Verdict::Refuse(refusal) => outcome_of(refusal),
    }
}

fn outcome_of(refusal: &Refusal) -> Outcome {
    Outcome::Refuse(refusal.code())
}

/// Grants and answers at DEBUG, because the proxy logs them; refusals are the audit log's.
fn log(id: &Id, inquiry: &Inquiry<'_>, ingress: Port, judged: &Judged<'_>, verdict: &Verdict<'_>) {
    let caller = judged.caller.map_or("-", |caller| caller.name);
    let user = judged.user.as_ref().map(|user| &*user.token.user);
    let plan = judged.caller.map_or("-", |caller| &caller.plan.name);
    let endpoint = judged.endpoint.map_or("-", Endpoint::as_str);
    match verdict {
        Verdict::Refuse(_) => {}
        Verdict::Allow(grant) => tracing::debug!(
            id = id.as_str(),
            uid = %printable(inquiry.uid),
            src = ?inquiry.source,
            ingress = ingress.as_str(),
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
            id = id.as_str(),
            uid = %printable(inquiry.uid),
            src = ?inquiry.source,
            ingress = ingress.as_str(),
            endpoint,
            caller,
            user,
            plan,
            "answered"
        ),
    }
}
