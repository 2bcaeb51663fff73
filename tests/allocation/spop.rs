//! A question is read, translated and answered without touching the heap once the buffers have grown.

use crate::{ALLOCATOR, alone};
use futures_util::FutureExt as _;
use herdgate::decision::plan::priority::QueuePlace;
use herdgate::decision::plan::server::{Server, ServerKind};
use herdgate::decision::verdict::{Grant, LimitStanding, Verdict};
use herdgate::decision::view::View;
use herdgate::gate::receipt::Receipts;
use herdgate::gate::{Decision, Gate, GateParts, Question};
use herdgate::metrics::{Metrics, Port};
use herdgate::spop::frame::{Flags, FrameHeader, FrameKind};
use herdgate::spop::hello::HaproxyHello;
use herdgate::spop::notify::write_notify;
use herdgate::spop::session::{Session, SessionEvent, SessionStep};
use herdgate::spop::translate::{inquiry, put_verdict};
use herdgate::spop::wire::TypedValue;
use stats_alloc::Region;
use std::net::Ipv4Addr;
use std::sync::Arc;

#[test]
fn ten_thousand_questions_are_answered_without_an_allocation() {
    let _alone = alone();
    let gate = Gate::new(GateParts::new(
        Arc::default(),
        Arc::new(Metrics::new()),
        Default::default(),
        Receipts::new([7; 32], 1),
    ));
    let view = View::default();
    let server = Server {
        name: "gpu1".into(),
        url: "http://127.0.0.1:1".into(),
        kind: ServerKind::Ollama,
        maxconn: None,
        slots: None,
        weight: 100,
        models: Vec::new(),
    };
    let requests = Some(LimitStanding { limit: 20, remaining: 19, reset_ns: 1_500_000_000 });
    let place = QueuePlace { class: Some(-1), offset_ms: 7 };
    let grant = Grant { server: &server, server2: Some(&server), pool: None, requests, tokens: requests, place };

    let mut session = Session::new(100_000);
    let mut output = Vec::new();
    let mut hello = Vec::new();
    let capabilities = b"pipelining";
    HaproxyHello { versions: b"2.0", max_frame_size: 16_380, capabilities, engine_id: None, healthcheck: false }
        .write(&mut hello);
    session.step(&hello, &mut output);
    let mut question = Vec::new();
    write_notify(
        &mut question,
        FrameHeader { kind: FrameKind::Notify, flags: Flags::FIN, stream: 5, frame: 1 },
        b"request",
        &[
            (b"uid", TypedValue::String(b"8f1e0000-0000-0000-0000-000000000000")),
            (b"method", TypedValue::String(b"POST")),
            (b"target", TypedValue::String(b"/v1/chat/completions")),
            (b"src", TypedValue::Ipv4(Ipv4Addr::LOCALHOST)),
            (b"authorization", TypedValue::String(b"Bearer x")),
            (b"authorization_n", TypedValue::Int64(1)),
            (b"body", TypedValue::Binary(&[b'x'; 1024])),
            (b"body_len", TypedValue::Int64(1024)),
            (b"body_size", TypedValue::Int64(1024)),
        ],
    );
    let mut answered = 0_u32;
    let mut answer = |output: &mut Vec<u8>| {
        output.clear();
        let SessionStep::Frame { event: SessionEvent::Notify { ticket, messages }, .. } =
            session.step(&question, output)
        else {
            panic!("a question")
        };
        let Ok(inquiry) = messages.map_err(drop).and_then(|messages| inquiry(messages).map_err(drop)) else {
            panic!("an inquiry")
        };
        let some = gate.decide(&view, Question::new(&inquiry, Port::Spop, gate.clock.now())).now_or_never().unwrap();
        let decided = Decision { verdict: Verdict::Allow(grant), ..some };
        session.ack(ticket, output, |ack| put_verdict(ack, &decided, None)).unwrap();
        answered += 1;
    };
    answer(&mut output);
    let mut rounds: Vec<usize> = Vec::with_capacity(3);
    for _ in 0..3 {
        let region = Region::new(ALLOCATOR);
        for _ in 0..10_000 {
            answer(&mut output);
        }
        let change = region.change();
        rounds.push(change.allocations + change.reallocations);
    }
    assert_eq!(answered, 30_001);
    // The test harness has a thread of its own, which may allocate in one round; ours would in every one.
    assert_eq!(rounds.iter().min(), Some(&0), "{rounds:?}");
}
