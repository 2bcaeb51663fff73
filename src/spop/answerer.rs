//! Who answers a NOTIFY: the seam between the conversation and the decision.

use super::ack::AckWriter;
use super::notify::Messages;
use super::translate::{QuestionError, inquiry, put_verdict};
use super::wire::WireError;
use crate::decision::moment::Moment;
use crate::decision::verdict::Verdict;
use crate::decision::view::View;
use crate::gate::{Gate, Question};
use crate::metrics::Port;

/// Answers questions. Shared by all connections, and called from many threads at once.
pub trait Answerer: Send + Sync + 'static {
    /// Returns this moment, on the clock that [`Answerer::answer`] measures by.
    fn now(&self) -> Moment;

    /// Answers one NOTIFY that was read at `received`: calls `write` once, with what fills in the answer, which always gets at
    /// least one variable. Returns what was wrong with the question, if anything was, for the log.
    fn answer(
        &self,
        messages: Result<Messages<'_>, WireError>,
        received: Moment,
        write: impl FnOnce(&mut dyn FnMut(&mut AckWriter<'_>)) + Send,
    ) -> impl Future<Output = Option<QuestionError>> + Send;

    /// Returns whether answers may have to wait for somebody else. Questions that came together are then answered side by side;
    /// otherwise one after the other, because each is ready when first polled.
    fn waits(&self) -> bool {
        false
    }
}

impl Answerer for Gate {
    fn now(&self) -> Moment {
        self.clock.now()
    }

    async fn answer(
        &self,
        messages: Result<Messages<'_>, WireError>,
        received: Moment,
        write: impl FnOnce(&mut dyn FnMut(&mut AckWriter<'_>)) + Send,
    ) -> Option<QuestionError> {
        let inquiry = match messages.map_err(QuestionError::Unreadable).and_then(inquiry) {
            Ok(inquiry) => inquiry,
            Err(malformed) => {
                let decided = self.refuse_malformed(Port::Spop);
                write(&mut |ack| put_verdict(ack, &decided, None));
                return Some(malformed);
            }
        };
        // The cheap kind is for one decision; what is held over a call of the store is owned.
        let (lent, owned);
        let view: &View = if Answerer::waits(self) {
            owned = self.state.view_owned();
            &owned
        } else {
            lent = self.state.view();
            &lent
        };
        let decided = self.decide(view, Question::new(&inquiry, Port::Spop, received)).await;
        match &decided.verdict {
            Verdict::Answer(answer) => {
                let receipt = self.answer_receipt(answer, view, &inquiry);
                write(&mut |ack| put_verdict(ack, &decided, Some(&receipt)));
            }
            Verdict::Allow(_) | Verdict::Refuse(_) => {
                write(&mut |ack| put_verdict(ack, &decided, decided.receipt.as_deref()));
            }
        }
        None
    }

    fn waits(&self) -> bool {
        Gate::waits(self)
    }
}
