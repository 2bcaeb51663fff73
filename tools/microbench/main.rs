//! `make microbench`: what the parts of a decision take in time and allocations, and what herdgate holds in memory.
//!
//! All cases take turns in short slices over many rounds; a figure is the median over the rounds, so that whatever else
//! the machine does falls out. Goals stand beside the figures. `--only WORD` runs the cases whose name holds the word,
//! which is what one profiles.

mod bodies;
#[path = "../../tests/harness/mod.rs"]
mod harness;
mod idle;
mod report;
mod stage;
#[path = "../bench/summary.rs"]
mod summary;
#[path = "../bench/usage.rs"]
mod usage;

use futures_util::FutureExt as _;
use harness::Fault;
use harness::deadline::Stopwatch;
use herdgate::decision::request::body::BodyReader;

use herdgate::decision::inquiry::Inquiry;
use herdgate::decision::judge::{Judgement, judge};
use herdgate::decision::verdict::Verdict;
use herdgate::decision::view::View;
use herdgate::gate::{Decision, Gate, Question};
use herdgate::ledger::memory::MemoryLedger;
use herdgate::ledger::plan::{Application, Nobody, Requester};
use herdgate::ledger::reservation::ProxyUid;
use herdgate::ledger::tokens::observed::ObservedUsage;
use herdgate::metrics::Port;
use herdgate::spop::ack::AckWriter;
use herdgate::spop::answerer::Answerer;
use herdgate::spop::frame::{Split, split};
use herdgate::spop::notify::Messages;
use herdgate::spop::session::{Session, SessionEvent, SessionStep};
use herdgate::spop::translate::{inquiry, put_verdict};
use report::Figure;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;
use summary::Series;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 151;

/// One slice of one case: shorter than the time a busy system lets a thread run at a stretch, so that most slices are whole.
const SLICE: Duration = Duration::from_millis(1);

/// Something that is done over and over.
struct Case<'c> {
    name: &'static str,
    work: Box<dyn FnMut() + 'c>,
    /// Repetitions of a slice.
    repeat: u32,
    ns: Series,
    allocations: f64,
}

impl<'c> Case<'c> {
    fn new(name: &'static str, work: impl FnMut() + 'c) -> Case<'c> {
        Case { name, work: Box::new(work), repeat: 1, ns: Series::default(), allocations: f64::INFINITY }
    }

    /// Finds out how often it fits into a slice, and warms it up meanwhile.
    fn prepare(&mut self) {
        while self.slice() < SLICE && self.repeat < 1 << 24 {
            self.repeat *= 2;
        }
    }

    fn figure(self) -> Figure {
        Figure { name: self.name, ns: self.ns, allocations: self.allocations }
    }

    fn slice(&mut self) -> Duration {
        let watch = Stopwatch::new();
        for _ in 0..self.repeat {
            (self.work)();
        }
        watch.elapsed()
    }

    fn round(&mut self) {
        let region = Region::new(ALLOCATOR);
        let took = self.slice();
        let change = region.change();
        let allocations = change.allocations.saturating_add(change.reallocations) as f64;
        // The least of the rounds: the clock and the series above may grow in one of them.
        self.allocations = self.allocations.min(allocations / f64::from(self.repeat));
        self.ns.push(took.as_nanos() as f64 / f64::from(self.repeat));
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("microbench: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Fault> {
    // The log as `herdgate serve` sets it up: allowed requests are written at `debug`, which is off.
    let ours = Targets::new().with_default(LevelFilter::WARN).with_target("herdgate", LevelFilter::INFO);
    tracing_subscriber::registry().with(ours).with(tracing_subscriber::fmt::layer()).init();

    let gate = stage::gate()?;
    let ledger = MemoryLedger::default();
    let (base64, escaped, chat) = (bodies::base64_heavy(), bodies::escaped_text(), bodies::chat());
    let question = stage::question();
    let (mut session, mut answered) = (stage::session(), stage::session());
    let mut output = Vec::with_capacity(4096);
    let mut reply = Vec::with_capacity(4096);
    let view = gate.state.view();
    let asked = inquiry(messages(&question)?).map_err(|fault| fault.to_string())?;
    let granted = granted(&gate, &view, &asked)?;

    let validate = |name, body: &'_ [u8]| {
        let body = body.to_vec();
        Case::new(name, move || {
            let _ = black_box(std::str::from_utf8(black_box(&body)));
        })
    };
    let read = |name, body: &'_ [u8]| {
        let body = body.to_vec();
        Case::new(name, move || {
            let _ = black_box(BodyReader::read(black_box(&body)));
        })
    };
    let mut cases = vec![
        validate("from_utf8, base64-heavy", &base64),
        read("body reader, base64-heavy", &base64),
        validate("from_utf8, escaped text", &escaped),
        read("body reader, escaped text", &escaped),
        validate("from_utf8, 1 KiB chat", &chat),
        read("body reader, 1 KiB chat", &chat),
        Case::new("codec: NOTIFY of 1 KiB in, ACK out", || codec(&mut session, &question, &granted, &mut output)),
        Case::new("judge + admit + choose + release", || decide(&gate, &ledger, &view, &asked)),
        Case::new("bytes in, bytes out, release", || answer(&gate, &mut answered, &question, &mut reply)),
    ];
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    cases.retain(|case| only.as_ref().is_none_or(|word| case.name.contains(word.as_str())));
    cases.iter_mut().for_each(Case::prepare);
    for _ in 0..ROUNDS {
        cases.iter_mut().for_each(Case::round);
    }
    if only.is_some() {
        let figures: Vec<_> = cases.into_iter().map(Case::figure).collect();
        report::print_cases(&figures);
        return Ok(());
    }
    let held = idle::measure()?;
    let figures: Vec<_> = cases.into_iter().map(Case::figure).collect();
    report::print(&figures, held)?;
    report::write(&figures, held)
}

/// Returns the grant that the stage leads to; anything else would be another measurement.
fn granted<'v>(gate: &Gate, view: &'v View, inquiry: &Inquiry<'_>) -> Result<Decision<'v>, Fault> {
    let decided = gate.decide(view, Question::new(inquiry, Port::Spop, gate.clock.now())).now_or_never();
    let decided = decided.ok_or("the decision waits")?;
    match &decided.verdict {
        Verdict::Allow(grant) if grant.server2.is_some() && grant.requests.is_some() => Ok(decided),
        other => Err(format!("the stage does not lead to a grant: {other:?}")),
    }
}

/// Returns the messages of a NOTIFY.
fn messages<'q>(question: &'q [u8]) -> Result<Messages<'q>, Fault> {
    match split(question, u32::MAX).map_err(|fault| fault.to_string())? {
        Split::Whole { frame, .. } => Messages::new(frame.payload).map_err(|fault| fault.to_string()),
        Split::Incomplete { .. } => Err("the question is no frame".to_owned()),
    }
}

/// Reads a question, takes its arguments apart and writes a whole grant, without deciding.
fn codec(session: &mut Session, question: &[u8], granted: &Decision<'_>, output: &mut Vec<u8>) {
    output.clear();
    if let SessionStep::Frame { event: SessionEvent::Notify { ticket, messages: Ok(messages) }, .. } =
        session.step(black_box(question), output)
    {
        let _ = black_box(inquiry(messages));
        let _ = black_box(session.ack(ticket, output, |ack| put_verdict(ack, granted, None)));
    }
}

/// The decision alone, and the end of its slot: without it the books would fill up, which no fleet's do.
fn decide(gate: &Gate, ledger: &MemoryLedger, view: &View, inquiry: &Inquiry<'_>) {
    let now = gate.clock.now();
    if let Judgement::Claim(claim) = judge(view, black_box(inquiry), now).judgement {
        let uid = ProxyUid::new(1);
        let requester = &Requester { id: 1, uid, caller: "ann", user: b"", token_user: None, team: None };
        let (claim, accounts) = (&claim, &claim.accounts);
        let asks = Application { view, claim, accounts, requester, may_wait: false, elsewhere: &Nobody };
        let _ = black_box(ledger.take(&asks, now));
        let _ = black_box(uid.map(|uid| ledger.ended_unheard(uid, now)));
    }
}

/// All that happens between a read and a write of a connection: codec, decision, id, receipt, metrics, a log line that is off; and the
/// end of its slot.
fn answer(gate: &Gate, session: &mut Session, question: &[u8], output: &mut Vec<u8>) {
    output.clear();
    let received = gate.now();
    if let SessionStep::Frame { event: SessionEvent::Notify { ticket, messages }, .. } =
        session.step(black_box(question), output)
    {
        let write = |fill: &mut dyn FnMut(&mut AckWriter<'_>)| drop(session.ack(ticket, output, fill));
        black_box(gate.answer(messages, received, write).now_or_never());
        black_box(output);
        let _ = black_box(gate.settle("", stage::UID, &ObservedUsage::default()));
    }
}
