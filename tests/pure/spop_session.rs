//! The SPOP conversation without sockets: this test plays HAProxy, byte by byte where that matters.

use herdgate::spop::ack::{AckAction, AckError, Actions, VariableScope};
use herdgate::spop::disconnect::{Disconnect, write_disconnect};
use herdgate::spop::frame::{Flags, Frame, FrameHeader, FrameKind, Split, split, write};
use herdgate::spop::hello::{AgentHello, HaproxyHello};
use herdgate::spop::notify::{put_message, write_notify};
use herdgate::spop::session::{AckTicket, Session, SessionError, SessionEvent, SessionStep, UnsentAckError};
use herdgate::spop::status::DisconnectStatus;
use herdgate::spop::translate::put_bare_refusal;
use herdgate::spop::wire::{TypedValue, put_pair};
use herdgate::variable;
use proptest::prelude::*;

/// Our cap in these tests.
const CAP: u32 = 100_000;

/// What HAProxy's defaults announce.
const SIZE: u32 = 16_380;

#[test]
fn a_hello_is_answered_with_one_whole_frame() {
    let cases = [
        // What HAProxy offers, and what we answer: its own size, `pipelining` only where offered, nothing else ever.
        (SIZE, "pipelining,async", SIZE, "pipelining"),
        (SIZE, "pipelining", SIZE, "pipelining"),
        (SIZE, "async, pipelining ,fragmentation", SIZE, "pipelining"),
        (SIZE, "async,fragmentation", SIZE, ""),
        (SIZE, "pipeliningx,future", SIZE, ""),
        (SIZE, "", SIZE, ""),
        (256, "", 256, ""),
        (CAP, "", CAP, ""),
        (CAP + 1, "", CAP, ""),
        (u32::MAX, "", CAP, ""),
    ];
    for (size, capabilities, agreed_size, announced) in cases {
        let mut proxy = Proxy::new();
        proxy.feed(&hello(size, capabilities, Some(b"E1"), false));
        let reply = only(&proxy.out);
        assert_eq!(reply.header, FrameHeader { kind: FrameKind::AgentHello, flags: Flags(1), stream: 0, frame: 0 });
        let expected = AgentHello { version: b"2.0", max_frame_size: agreed_size, capabilities: announced.as_bytes() };
        assert_eq!(AgentHello::parse(reply.payload), Ok(expected), "{size} {capabilities}");
        assert!(proxy.session.is_running());
    }
}

#[test]
fn a_hello_fed_one_byte_at_a_time_is_answered_once_and_whole() {
    let mut session = Session::new(CAP);
    let bytes = hello(SIZE, "pipelining", Some(b"E1"), false);
    let mut out = Vec::new();
    for end in 0..bytes.len() {
        match session.step(&bytes[..end], &mut out) {
            SessionStep::Incomplete { needed } => assert_eq!(needed, if end < 4 { 4 } else { bytes.len() }),
            _ => panic!("acted on {end} of {} bytes", bytes.len()),
        }
        assert!(out.is_empty(), "sent before the frame was whole");
    }
    assert!(matches!(session.step(&bytes, &mut out), SessionStep::Frame { event: SessionEvent::Hello { .. }, .. }));
    only(&out);
}

#[test]
fn a_check_is_answered_with_all_three_fields_and_closed() {
    let mut proxy = Proxy::new();
    proxy.feed(&hello(SIZE, "", None, true));
    let reply = AgentHello { version: b"2.0", max_frame_size: SIZE, capabilities: b"" };
    assert_eq!(AgentHello::parse(only(&proxy.out).payload), Ok(reply));
    assert!(proxy.session.is_closed());
    assert_eq!(proxy.events, ["hello check"]);
}

#[test]
fn a_bad_hello_is_told_why_in_haproxys_numbers() {
    let pairs = |pairs: &[(&[u8], TypedValue<'_>)]| {
        let mut out = Vec::new();
        write(&mut out, FrameHeader::of_connection(FrameKind::HaproxyHello), |out| {
            pairs.iter().for_each(|(name, value)| put_pair(out, name, *value));
        });
        out
    };
    let versions = (&b"supported-versions"[..], TypedValue::String(b"2.0"));
    let size = (&b"max-frame-size"[..], TypedValue::Uint32(SIZE));
    let capabilities = (&b"capabilities"[..], TypedValue::String(b""));
    let whole = hello(SIZE, "", None, false);
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let cases = [
        ("no versions", pairs(&[size, capabilities]), DisconnectStatus::NoVersion),
        (
            "versions that are no text",
            pairs(&[(versions.0, TypedValue::Null), size, capabilities]),
            DisconnectStatus::NoVersion,
        ),
        ("no size", pairs(&[versions, capabilities]), DisconnectStatus::NoFrameSize),
        ("no capabilities", pairs(&[versions, size]), DisconnectStatus::NoCapabilities),
        (
            "version 1.0",
            pairs(&[(versions.0, TypedValue::String(b"1.0")), size, capabilities]),
            DisconnectStatus::BadVersion,
        ),
        (
            "size 255",
            pairs(&[versions, (size.0, TypedValue::Uint32(255)), capabilities]),
            DisconnectStatus::BadFrameSize,
        ),
        (
            "size 2^32",
            pairs(&[versions, (size.0, TypedValue::Uint64(1 << 32)), capabilities]),
            DisconnectStatus::BadFrameSize,
        ),
        ("100 pairs", pairs(&[versions; 100]), DisconnectStatus::Invalid),
        ("without FIN", with(8, 0), DisconnectStatus::FragmentationUnsupported),
        ("with a stream-id", with(9, 1), DisconnectStatus::Invalid),
        ("with a frame-id", with(10, 1), DisconnectStatus::Invalid),
        ("a name past the end", with(11, 200), DisconnectStatus::Invalid),
    ];
    for (name, bytes, status) in cases {
        let mut proxy = Proxy::new();
        proxy.feed(&bytes);
        assert_eq!(proxy.disconnected(), Some(status.code()), "{name}");
        assert!(proxy.session.is_closed(), "{name}");
    }
}

#[test]
fn framing_faults_end_the_conversation_in_both_states() {
    let notify = |flags: u32, stream: u64| {
        let mut out = Vec::new();
        let header = FrameHeader { kind: FrameKind::Notify, flags: Flags(flags), stream, frame: 1 };
        write_notify(&mut out, header, b"request", &[(b"", TypedValue::Null)]);
        out
    };
    let of_kind = |kind: FrameKind, flags: u32| {
        let mut out = Vec::new();
        write(&mut out, FrameHeader { kind, flags: Flags(flags), stream: 0, frame: 0 }, |_| {});
        out
    };
    // Above what was agreed on, and above what a HELLO may have.
    let oversize = (SIZE + 5).to_be_bytes().to_vec();
    let long_varint = [&[0, 0, 0, 17, 3, 0, 0, 0, 1][..], &[0xff; 11], &[0]].concat();
    // Bytes, what is answered before HELLO, and what after it.
    let cases = [
        ("zero size", vec![0, 0, 0, 0], DisconnectStatus::Invalid, DisconnectStatus::Invalid),
        ("too short", vec![0, 0, 0, 6, 3, 0, 0, 0, 1, 0], DisconnectStatus::Invalid, DisconnectStatus::Invalid),
        ("oversize", oversize, DisconnectStatus::TooBig, DisconnectStatus::TooBig),
        ("garbage", b"GET / HTTP/1.1\r\n\r\n".to_vec(), DisconnectStatus::TooBig, DisconnectStatus::TooBig),
        ("varint of 11 bytes", long_varint, DisconnectStatus::Invalid, DisconnectStatus::Invalid),
        (
            "truncated identifiers",
            vec![0, 0, 0, 7, 3, 0, 0, 0, 1, 0xf0, 0xff],
            DisconnectStatus::Invalid,
            DisconnectStatus::Invalid,
        ),
        ("fragment", notify(0, 1), DisconnectStatus::Invalid, DisconnectStatus::FragmentationUnsupported),
        (
            "continuation",
            of_kind(FrameKind::Unset, 1),
            DisconnectStatus::Invalid,
            DisconnectStatus::FragmentationUnsupported,
        ),
        ("ACK from HAProxy", of_kind(FrameKind::Ack, 1), DisconnectStatus::Invalid, DisconnectStatus::Invalid),
        (
            "AGENT-HELLO from HAProxy",
            of_kind(FrameKind::AgentHello, 1),
            DisconnectStatus::Invalid,
            DisconnectStatus::Invalid,
        ),
        (
            "AGENT-DISCONNECT",
            of_kind(FrameKind::AgentDisconnect, 1),
            DisconnectStatus::Invalid,
            DisconnectStatus::Invalid,
        ),
    ];
    for (name, bytes, before, after) in &cases {
        for (running, status) in [(false, before), (true, after)] {
            let mut proxy = if running { Proxy::running(SIZE) } else { Proxy::new() };
            proxy.feed(bytes);
            assert_eq!(proxy.disconnected(), Some(status.code()), "{name}, running {running}");
            assert!(matches!(proxy.session.step(b"more", &mut proxy.out), SessionStep::Closed), "{name}");
        }
    }
    let mut early = Proxy::new();
    early.feed(&notify(1, 1));
    assert_eq!(early.disconnected(), Some(DisconnectStatus::Invalid.code()), "NOTIFY before HELLO");
    let mut twice = Proxy::running(SIZE);
    twice.feed(&hello(SIZE, "", None, false));
    assert_eq!(twice.disconnected(), Some(DisconnectStatus::Invalid.code()), "HELLO twice");
}

#[test]
fn a_frame_of_exactly_the_size_agreed_on_is_taken_and_one_more_is_not() {
    // Header 7 + name 8 + count 1 + argument name 5 + type 1 + length 1 = 23.
    for (body, events) in [(256 - 23, vec!["hello", "notify 1"]), (256 - 22, vec!["hello", "fault"])] {
        let mut proxy = Proxy::running(256);
        proxy.ask(1, b"body", TypedValue::Binary(&vec![b'x'; body]));
        assert_eq!(proxy.events, events, "{body}");
    }
    // With a larger agreement, the small one is long forgotten.
    let mut proxy = Proxy::running(SIZE);
    proxy.ask(1, b"body", TypedValue::Binary(&[b'x'; 16_000]));
    assert_eq!(proxy.events, ["hello", "notify 1"]);
}

#[test]
fn stream_id_zero_is_a_question_like_any_other() {
    let mut proxy = Proxy::running(SIZE);
    proxy.ask(0, b"method", TypedValue::String(b"GET"));
    assert_eq!(proxy.events, ["hello", "notify 0"]);
    proxy.answer_all();
    assert_eq!(proxy.acks(), [(0, 1)]);
}

#[test]
fn an_odd_notify_is_handed_on_to_be_answered_and_ends_nothing() {
    let payloads: [(&str, &[u8]); 4] = [
        ("no message", b""),
        ("a length past the end", b"\xef"),
        ("unknown type", b"\x01a\x01\x01b\x0f"),
        ("zeros", &[0; 9]),
    ];
    for (name, payload) in payloads {
        let mut proxy = Proxy::running(SIZE);
        let mut bytes = Vec::new();
        write(&mut bytes, FrameHeader { kind: FrameKind::Notify, flags: Flags::FIN, stream: 5, frame: 1 }, |out| {
            out.extend_from_slice(payload);
        });
        proxy.feed(&bytes);
        proxy.ask(7, b"method", TypedValue::String(b"GET"));
        proxy.answer_all();
        assert_eq!(proxy.acks(), [(5, 1), (7, 1)], "{name}");
    }
}

#[test]
fn aborted_and_unknown_frames_are_passed_over() {
    let mut proxy = Proxy::running(SIZE);
    for (kind, flags) in [
        (FrameKind::Notify, 3),
        (FrameKind::Notify, 2),
        (FrameKind::Unset, 3),
        (FrameKind::Other(4), 1),
        (FrameKind::Other(255), 0),
    ] {
        let mut bytes = Vec::new();
        write(&mut bytes, FrameHeader { kind, flags: Flags(flags), stream: 3, frame: 1 }, |out| out.push(0xff));
        proxy.feed(&bytes);
    }
    proxy.ask(9, b"", TypedValue::Null);
    proxy.answer_all();
    assert_eq!(proxy.events, ["hello", "skipped", "skipped", "skipped", "skipped", "skipped", "notify 9"]);
    assert_eq!(proxy.acks(), [(9, 1)]);
    let mut early = Proxy::new();
    let mut bytes = Vec::new();
    write(&mut bytes, FrameHeader { kind: FrameKind::Other(77), flags: Flags(1), stream: 0, frame: 0 }, |_| {});
    bytes.extend_from_slice(&hello(SIZE, "", None, false));
    early.feed(&bytes);
    assert_eq!(early.events, ["skipped", "hello"]);
}

#[test]
fn a_goodbye_is_answered_with_status_zero_in_every_state() {
    let mut good = Vec::new();
    write_disconnect(&mut good, FrameKind::HaproxyDisconnect, DisconnectStatus::Timeout);
    let mut odd = Vec::new();
    write(&mut odd, FrameHeader { kind: FrameKind::HaproxyDisconnect, flags: Flags(0), stream: 8, frame: 8 }, |out| {
        out.push(0xff);
    });
    for (bytes, event) in [(&good, "goodbye Some(2)"), (&odd, "goodbye None")] {
        for running in [false, true] {
            let mut proxy = if running { Proxy::running(SIZE) } else { Proxy::new() };
            proxy.feed(bytes);
            assert_eq!(proxy.disconnected(), Some(0));
            assert_eq!(proxy.events.last().map(String::as_str), Some(event));
            assert!(proxy.session.is_closed());
        }
    }
}

#[test]
fn answers_after_the_end_go_nowhere() {
    let mut proxy = Proxy::running(SIZE);
    proxy.ask(1, b"", TypedValue::Null);
    proxy.feed(&[0, 0, 0, 0]);
    let before = proxy.out.len();
    proxy.answer_all();
    assert_eq!(proxy.out.len(), before);
    assert_eq!(proxy.session.time_out(&mut proxy.out), SessionError::Silent);
    proxy.session.finish(&mut proxy.out);
    assert_eq!(proxy.out.len(), before, "nothing follows a DISCONNECT");
}

#[test]
fn stopping_says_goodbye_only_to_those_who_said_hello() {
    let mut running = Proxy::running(SIZE);
    running.session.finish(&mut running.out);
    assert_eq!(running.disconnected(), Some(0));
    let mut silent = Proxy::new();
    silent.session.finish(&mut silent.out);
    assert!(silent.out.is_empty() && silent.session.is_closed());
    let mut late = Proxy::new();
    late.session.time_out(&mut late.out);
    assert_eq!(late.disconnected(), Some(DisconnectStatus::Timeout.code()));
}

#[test]
fn an_answer_that_is_empty_or_does_not_fit_is_replaced_and_the_ticket_comes_back() {
    let mut proxy = Proxy::running(256);
    proxy.ask(1, b"", TypedValue::Null);
    let ticket = proxy.tickets.remove(0);
    let before = proxy.out.len();
    let Err(UnsentAckError { ticket, error }) = proxy.session.ack(ticket, &mut proxy.out, |_| {}) else {
        panic!("empty ACK")
    };
    assert_eq!((error, proxy.out.len()), (AckError::Empty, before));
    let body = [b'x'; 250];
    let too_big = proxy.session.ack(ticket, &mut proxy.out, |ack| {
        ack.set(VariableScope::Transaction, variable!("verdict"), TypedValue::String(b"allow"));
        ack.set(VariableScope::Transaction, variable!("body"), TypedValue::String(&body));
    });
    let Err(UnsentAckError { ticket, error: AckError::TooBig { .. } }) = too_big else { panic!("too big an ACK") };
    assert_eq!(proxy.out.len(), before);
    assert_eq!(proxy.session.ack(ticket, &mut proxy.out, put_bare_refusal), Ok(()));
    let frames = frames(&proxy.out);
    let actions: Vec<_> = Actions::new(frames[1].payload).map(Result::unwrap).collect();
    let expected = [
        AckAction::Set(VariableScope::Transaction, b"verdict", TypedValue::String(b"refuse")),
        AckAction::Set(VariableScope::Transaction, b"status", TypedValue::Int64(503)),
        AckAction::Set(VariableScope::Transaction, b"code", TypedValue::String(b"overloaded")),
    ];
    assert!(actions == expected);
}

#[test]
fn every_status_is_one_of_haproxys() {
    let codes: Vec<u32> = DisconnectStatus::ALL.iter().map(|status| status.code()).collect();
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 99]);
}

#[test]
fn twenty_questions_are_answered_in_reverse() {
    let mut proxy = Proxy::running(SIZE);
    for stream in 0..20 {
        proxy.ask(stream, b"method", TypedValue::String(b"GET"));
    }
    proxy.tickets.reverse();
    proxy.answer_all();
    assert_eq!(proxy.acks(), (0..20).rev().map(|stream| (stream, 1)).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn questions_may_be_answered_late_and_in_any_order(
        order in Just((0_u64..20).collect::<Vec<_>>()).prop_shuffle(),
        late in 0_usize..20,
    ) {
        let mut proxy = Proxy::running(SIZE);
        for stream in 0..20 {
            proxy.ask(stream, b"n", TypedValue::Uint64(stream));
        }
        let mut waiting: Vec<Option<AckTicket>> = proxy.tickets.drain(..).map(Some).collect();
        let mut expected = Vec::new();
        for (position, stream) in order.iter().enumerate() {
            if position == late {
                proxy.ask(100, b"", TypedValue::Null);
                proxy.answer_all();
                expected.push((100, 1));
            }
            proxy.tickets.push(waiting[*stream as usize].take().unwrap());
            proxy.answer_all();
            expected.push((*stream, 1));
        }
        prop_assert_eq!(proxy.acks(), expected);
    }

    #[test]
    fn any_bytes_in_any_pieces_get_only_whole_frames_and_known_statuses(
        running in any::<bool>(),
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        random in proptest::collection::vec(any::<u8>(), 0..60),
        piece in 1_usize..64,
    ) {
        let mut proxy = if running { Proxy::running(SIZE) } else { Proxy::new() };
        let mut bytes = if running { Vec::new() } else { hello(SIZE, "pipelining", Some(b"E1"), false) };
        for stream in 0..3 {
            let header = FrameHeader { kind: FrameKind::Notify, flags: Flags::FIN, stream, frame: 1 };
            write_notify(&mut bytes, header, b"request", &[(b"method", TypedValue::String(b"GET")), (b"n", TypedValue::Int64(-3))]);
        }
        for (position, byte) in &mutations {
            let at = position.index(bytes.len());
            bytes[at] = *byte;
        }
        bytes.extend_from_slice(&random);
        let mut whole = Proxy { session: Session::new(CAP), ..Proxy::new() };
        if running {
            whole = Proxy::running(SIZE);
        }
        for piece in bytes.chunks(piece) {
            proxy.feed(piece);
        }
        whole.feed(&bytes);
        // However the bytes are cut, they mean the same.
        prop_assert_eq!(&proxy.events, &whole.events);
        proxy.answer_all();
        for frame in frames(&proxy.out) {
            prop_assert!(frame.header.flags == Flags::FIN);
            match frame.header.kind {
                FrameKind::AgentHello => {}
                FrameKind::Ack => prop_assert!(Actions::new(frame.payload).count() > 0),
                FrameKind::AgentDisconnect => {
                    let status = Disconnect::parse(frame.payload).unwrap().status.unwrap();
                    prop_assert!(DisconnectStatus::ALL.iter().any(|known| u64::from(known.code()) == status));
                }
                kind => prop_assert!(false, "{kind:?} sent"),
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for mut proxy in [Proxy::new(), Proxy::running(SIZE)] {
            proxy.feed(&bytes);
            frames(&proxy.out);
        }
    }
}

/// HAProxy's side of one conversation.
struct Proxy {
    session: Session,
    input: Vec<u8>,
    /// Everything we sent.
    out: Vec<u8>,
    events: Vec<String>,
    tickets: Vec<AckTicket>,
}

impl Proxy {
    fn new() -> Proxy {
        Proxy {
            session: Session::new(CAP),
            input: Vec::new(),
            out: Vec::new(),
            events: Vec::new(),
            tickets: Vec::new(),
        }
    }

    /// After a HELLO with this frame size.
    fn running(size: u32) -> Proxy {
        let mut proxy = Proxy::new();
        proxy.feed(&hello(size, "pipelining", Some(b"E1"), false));
        assert!(proxy.session.is_running());
        proxy
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let mut position = 0;
        while let SessionStep::Frame { consumed, event } = self.session.step(&self.input[position..], &mut self.out) {
            position += consumed;
            self.events.push(match event {
                SessionEvent::Hello { healthcheck: true, .. } => "hello check".into(),
                SessionEvent::Hello { .. } => "hello".into(),
                SessionEvent::Notify { ticket, messages } => {
                    let name = match messages {
                        Ok(_) => format!("{ticket:?}"),
                        Err(_) => "unreadable".into(),
                    };
                    self.tickets.push(ticket);
                    match name.strip_prefix("AckTicket { stream: ").and_then(|rest| rest.split(',').next()) {
                        Some(stream) => format!("notify {stream}"),
                        None => name,
                    }
                }
                SessionEvent::Skipped => "skipped".into(),
                SessionEvent::Goodbye { status } => format!("goodbye {status:?}"),
                SessionEvent::Fault(_) => "fault".into(),
            });
        }
        self.input.drain(..position);
    }

    fn ask(&mut self, stream: u64, name: &[u8], value: TypedValue<'_>) {
        let mut bytes = Vec::new();
        write(&mut bytes, FrameHeader { kind: FrameKind::Notify, flags: Flags::FIN, stream, frame: 1 }, |out| {
            put_message(out, b"request", &[(name, value)]);
        });
        self.feed(&bytes);
    }

    fn answer_all(&mut self) {
        for ticket in self.tickets.drain(..) {
            let answered = self.session.ack(ticket, &mut self.out, |ack| {
                ack.set(VariableScope::Transaction, variable!("verdict"), TypedValue::String(b"allow"));
            });
            assert_eq!(answered, Ok(()));
        }
    }

    /// Stream and frame of every ACK, in order.
    fn acks(&self) -> Vec<(u64, u64)> {
        frames(&self.out)
            .iter()
            .filter(|frame| frame.header.kind == FrameKind::Ack)
            .map(|frame| (frame.header.stream, frame.header.frame))
            .collect()
    }

    /// The status of the DISCONNECT that was sent last.
    fn disconnected(&self) -> Option<u32> {
        let frames = frames(&self.out);
        let frame =
            frames.last().filter(|frame| frame.header == FrameHeader::of_connection(FrameKind::AgentDisconnect))?;
        let disconnect = Disconnect::parse(frame.payload).ok()?;
        assert!(!disconnect.message.is_empty());
        disconnect.status.and_then(|status| u32::try_from(status).ok())
    }
}

fn hello(size: u32, capabilities: &str, engine_id: Option<&[u8]>, healthcheck: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let capabilities = capabilities.as_bytes();
    HaproxyHello { versions: b"2.0", max_frame_size: size, capabilities, engine_id, healthcheck }.write(&mut out);
    out
}

/// The frames of `bytes`, which must be nothing but whole frames.
fn frames(bytes: &[u8]) -> Vec<Frame<'_>> {
    let mut rest = bytes;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let Ok(Split::Whole { frame, consumed }) = split(rest, u32::MAX) else { panic!("half a frame was sent") };
        frames.push(frame);
        rest = &rest[consumed..];
    }
    frames
}

fn only(bytes: &[u8]) -> Frame<'_> {
    let frames = frames(bytes);
    assert_eq!(frames.len(), 1);
    frames[0]
}
