//! An agent for HAProxy that allows every request: what `make bench` compares herdgate with.
//!
//! It speaks SPOP through the same codec and listener as herdgate and decides nothing, so that what is left between the
//! two is the decision.

use herdgate::decision::moment::Moment;
use herdgate::metrics::Metrics;
use herdgate::net::listen::{Address, bind};
use herdgate::spop::ack::{AckWriter, VariableScope};
use herdgate::spop::answerer::Answerer;
use herdgate::spop::limits::Limits;
use herdgate::spop::listener::serve_with;
use herdgate::spop::notify::Messages;
use herdgate::spop::translate::QuestionError;
use herdgate::spop::variable::Variable;
use herdgate::spop::wire::{TypedValue, WireError};
use herdgate::variable;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Allows everything, to one server.
struct Constant {
    server: String,
    /// Whether to set every variable herdgate sets for a grant, and not only the two that HAProxy needs.
    whole: bool,
}

impl Answerer for Constant {
    /// No clock is read: the moment is only used by answers and by warnings about peers, of which there are none.
    fn now(&self) -> Moment {
        Moment::default()
    }

    async fn answer(
        &self,
        _: Result<Messages<'_>, WireError>,
        _: Moment,
        write: impl FnOnce(&mut dyn FnMut(&mut AckWriter<'_>)) + Send,
    ) -> Option<QuestionError> {
        write(&mut |ack| self.fill(ack));
        None
    }
}

impl Constant {
    fn fill(&self, ack: &mut AckWriter<'_>) {
        let mut text = |name: Variable<'_>, value: &str| {
            ack.set(VariableScope::Transaction, name, TypedValue::String(value.as_bytes()));
        };
        text(variable!("verdict"), "allow");
        text(variable!("server"), &self.server);
        if self.whole {
            text(variable!("server2"), &self.server);
            text(variable!("model"), "llama3.2:3b");
            text(variable!("id"), "00112233445566778899aabbccddeeff");
            text(variable!("reset_requests"), "1ms");
            ack.set(VariableScope::Transaction, variable!("limit_requests"), TypedValue::Int64(1_000_000));
            ack.set(VariableScope::Transaction, variable!("remaining_requests"), TypedValue::Int64(999_999));
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(server)) = (arguments.next(), arguments.next()) else {
        eprintln!("constant-agent IP:PORT SERVER [--whole]");
        return ExitCode::from(2);
    };
    let whole = arguments.any(|argument| argument == "--whole");
    match run(&listen, Constant { server, whole }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("constant-agent: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until the process is ended, on the runtime herdgate serves on.
fn run(listen: &str, constant: Constant) -> Result<(), Box<dyn Error>> {
    let address: Address = listen.parse()?;
    herdgate::serve::runtime()?.block_on(async {
        let bound = bind(&address, 0o600)?;
        let metrics = Arc::new(Metrics::new());
        serve_with(bound, Arc::new(constant), metrics, CancellationToken::new(), Limits::default()).await;
        Ok(())
    })
}
