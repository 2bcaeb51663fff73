//! From what a claim got to a verdict: what is held, and who waits.

use super::{Gate, Id, refusal};
use crate::decision::inquiry::Inquiry;
use crate::decision::judge::Judged;
use crate::decision::moment::Moment;
use crate::decision::reason::Reason;
use crate::decision::verdict::{Refusal, Verdict};
use crate::decision::view::View;
use crate::gate::audit::Against;
use crate::ledger::account::Excess;
use crate::ledger::memory::Turn;
use crate::metrics::Port;

/// What became of a judgement.
pub(super) struct Ruled<'v> {
    pub verdict: Verdict<'v>,
    /// Tokens held, of prompt and output.
    pub reserved: Option<(u64, u64)>,
    /// Of one that waits.
    pub ticket: Option<Id>,
}

impl<'v> Ruled<'v> {
    pub fn new(verdict: Verdict<'v>) -> Ruled<'v> {
        Ruled { verdict, reserved: None, ticket: None }
    }
}

impl Gate {
    /// What becomes of a claim that was taken, held or refused.
    #[allow(clippy::too_many_arguments, reason = "the parts of one decision, each used once")]
    pub(super) fn taken<'v>(
        &self,
        view: &'v View,
        id: Id,
        inquiry: &Inquiry<'_>,
        ingress: Port,
        judged: &Judged<'v>,
        turn: Result<Turn<'v>, Refusal>,
        now: Moment,
    ) -> Ruled<'v> {
        let shadowed = |excess: Option<Excess>| {
            if let Some(told) = excess.map(refusal) {
                self.audit.note(id.as_str(), inquiry, ingress.as_str(), judged, Against::Passed(&told), now);
                self.metrics.shadowed(told.code());
            }
        };
        match turn {
            Err(refusal) => Ruled::new(Verdict::Refuse(refusal)),
            Ok(Turn::Later(held)) => {
                shadowed(held.shadowed);
                match self.let_in(view, *held, id, judged.dialect, now) {
                    Ok(ticket) => {
                        let refusal = Refusal { retry_after_s: Some(1), ..Refusal::new(Reason::Full) };
                        Ruled { ticket: Some(ticket), ..Ruled::new(Verdict::Refuse(refusal)) }
                    }
                    Err(refusal) => Ruled::new(Verdict::Refuse(refusal)),
                }
            }
            Ok(Turn::Now(taken)) => {
                shadowed(taken.shadowed);
                let reserved = taken.reservation.map(|held| {
                    let tokens = (held.tokens_in, held.tokens_out);
                    if let Some(journal) = self.journal.get() {
                        journal.opened(held);
                    }
                    tokens
                });
                Ruled { reserved, ..Ruled::new(Verdict::Allow(taken.choice.grant)) }
            }
        }
    }
}
