//! Who answers a NOTIFY: the seam between the conversation and the decision.

use super::ack::AckWriter;
use super::notify::Messages;
use super::translate::{Malformed, inquiry, put_verdict};
use super::wire::WireError;
use crate::decision::moment::Moment;
use crate::decision::verdict::Verdict;
use crate::gate::Gate;
use crate::metrics::Port;

/// Answers questions. Shared by all connections, and called from many threads at once.
pub trait Answerer: Send + Sync + 'static {
    /// Returns this moment, on the clock that [`Answerer::answer`] measures by.
    fn now(&self) -> Moment;

    /// Fills in the answer to one NOTIFY that was read at `received`, and tells what was wrong with the question, if
    /// anything was, for the log. Every question gets at least one variable.
    fn answer(
        &self,
        messages: Result<Messages<'_>, WireError>,
        received: Moment,
        ack: &mut AckWriter<'_>,
    ) -> Option<Malformed>;

    /// Returns whether answers may have to wait for somebody else: then [`Answerer::answer_later`] answers.
    fn waits(&self) -> bool {
        false
    }

    /// Answers as [`Answerer::answer`] does; calls `write` once, with what fills in the answer.
    fn answer_later(
        &self,
        messages: Result<Messages<'_>, WireError>,
        received: Moment,
        write: impl FnOnce(&mut dyn FnMut(&mut AckWriter<'_>)) + Send,
    ) -> impl Future<Output = Option<Malformed>> + Send {
        async move {
            let mut malformed = None;
            write(&mut |ack| malformed = self.answer(messages, received, ack));
            malformed
        }
    }
}

impl Answerer for Gate {
    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn answer(
        &self,
        messages: Result<Messages<'_>, WireError>,
        received: Moment,
        ack: &mut AckWriter<'_>,
    ) -> Option<Malformed> {
        let inquiry = match messages.map_err(Malformed::Unreadable).and_then(inquiry) {
            Ok(inquiry) => inquiry,
            Err(malformed) => {
                put_verdict(ack, &self.refuse_malformed(Port::Spop), None);
                return Some(malformed);
            }
        };
        let view = self.state.view();
        let decided = self.decide(&view, &inquiry, Port::Spop, received);
        match &decided.verdict {
            Verdict::Answer(answer) => put_verdict(ack, &decided, Some(&self.answer_receipt(answer, &view, &inquiry))),
            Verdict::Allow(_) | Verdict::Refuse(_) => put_verdict(ack, &decided, decided.receipt.as_deref()),
        }
        None
    }

    fn waits(&self) -> bool {
        Gate::waits(self)
    }

    async fn answer_later(
        &self,
        messages: Result<Messages<'_>, WireError>,
        received: Moment,
        write: impl FnOnce(&mut dyn FnMut(&mut AckWriter<'_>)) + Send,
    ) -> Option<Malformed> {
        let inquiry = match messages.map_err(Malformed::Unreadable).and_then(inquiry) {
            Ok(inquiry) => inquiry,
            Err(malformed) => {
                let decided = self.refuse_malformed(Port::Spop);
                write(&mut |ack| put_verdict(ack, &decided, None));
                return Some(malformed);
            }
        };
        let view = self.state.view_owned();
        let decided = self.decide_shared(&view, &inquiry, Port::Spop, received, false).await;
        match &decided.verdict {
            Verdict::Answer(answer) => {
                let receipt = self.answer_receipt(answer, &view, &inquiry);
                write(&mut |ack| put_verdict(ack, &decided, Some(&receipt)));
            }
            Verdict::Allow(_) | Verdict::Refuse(_) => {
                write(&mut |ack| put_verdict(ack, &decided, decided.receipt.as_deref()));
            }
        }
        None
    }
}
