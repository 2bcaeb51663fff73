//! The SPOP codec against bytes written down from the protocol's definition, and against another implementation of it.

use herdgate::spop::ack::{AckAction, AckError, Actions, VariableScope, write_ack};
use herdgate::spop::disconnect::{Disconnect, write_disconnect};
use herdgate::spop::frame::{Flags, FrameError, FrameHeader, FrameKind, Split, split, write};
use herdgate::spop::hello::{AgentHello, HaproxyHello};
use herdgate::spop::notify::{Messages, put_message, write_notify};
use herdgate::spop::status::DisconnectStatus;
use herdgate::spop::variable::Variable;
use herdgate::spop::wire::{TypedValue, WireError, WireReader, put_pair, put_value, put_varint};
use proptest::prelude::*;
use spop::SpopFrame;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Largest frame in these tests.
const MAX: u32 = 16_380;

#[test]
fn varints_are_written_and_read_as_defined() {
    let cases: [(u64, &str); 12] = [
        (0, "00"),
        (1, "01"),
        (239, "ef"),
        (240, "f0 00"),
        (241, "f1 00"),
        (255, "ff 00"),
        (256, "f0 01"),
        (2287, "ff 7f"),
        (2288, "f0 80 00"),
        (16_380, "fc f0 06"),
        (u64::from(u32::MAX), "ff f0 fe fe 7e"),
        (u64::MAX, "ff f0 fe fe fe fe fe fe fe 0e"),
    ];
    for (number, bytes) in cases {
        let mut out = Vec::new();
        put_varint(&mut out, number);
        assert_eq!(hex(&out), bytes, "{number}");
        assert_eq!(WireReader::new(&out).varint(), Ok(number), "{bytes}");
        assert_eq!(spop::decode_varint(&out).unwrap(), (&[][..], number), "the other implementation on {bytes}");
    }
}

#[test]
fn varints_that_end_early_or_never_are_refused() {
    let cases = [
        ("", WireError::Truncated),
        ("f0", WireError::Truncated),
        ("ff ff ff", WireError::Truncated),
        // Eleven bytes.
        ("ff ff ff ff ff ff ff ff ff ff 00", WireError::VarintTooLong),
        ("f0 80 80 80 80 80 80 80 80 80 00", WireError::VarintTooLong),
        // Ten bytes, one above 2^64 - 1.
        ("f0 f1 fe fe fe fe fe fe fe 0e", WireError::VarintOverflow),
        ("ff f0 fe fe fe fe fe fe fe 0f", WireError::VarintOverflow),
        ("ff f0 fe fe fe fe fe fe fe 7f", WireError::VarintOverflow),
    ];
    for (bytes, error) in cases {
        assert_eq!(WireReader::new(&unhex(bytes)).varint(), Err(error), "{bytes}");
    }
}

#[test]
fn values_are_written_and_read_as_defined() {
    let cases: [(TypedValue<'_>, &str); 20] = [
        (TypedValue::Null, "00"),
        (TypedValue::Bool(false), "01"),
        (TypedValue::Bool(true), "11"),
        (TypedValue::Int32(7), "02 07"),
        // Sign-extended to 64 bits, or HAProxy would read 4294967295.
        (TypedValue::Int32(-1), "02 ff f0 fe fe fe fe fe fe fe 0e"),
        (TypedValue::Int32(i32::MAX), "02 ff f0 fe fe 3e"),
        (TypedValue::Uint32(u32::MAX), "03 ff f0 fe fe 7e"),
        (TypedValue::Int64(240), "04 f0 00"),
        (TypedValue::Int64(-1), "04 ff f0 fe fe fe fe fe fe fe 0e"),
        (TypedValue::Uint64(u64::MAX), "05 ff f0 fe fe fe fe fe fe fe 0e"),
        (TypedValue::Ipv4(Ipv4Addr::new(192, 0, 2, 1)), "06 c0 00 02 01"),
        (
            TypedValue::Ipv6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
            "07 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 01",
        ),
        (TypedValue::String(b""), "08 00"),
        (TypedValue::String(b"GET"), "08 03 47 45 54"),
        // Headers may hold any byte.
        (TypedValue::String(b"\xff\xfe\x00"), "08 03 ff fe 00"),
        (TypedValue::Binary(b""), "09 00"),
        (TypedValue::Binary(b"{}"), "09 02 7b 7d"),
        (TypedValue::Int64(i64::MIN), "04 f0 f1 fe fe fe fe fe fe fe 06"),
        (TypedValue::Uint32(0), "03 00"),
        (TypedValue::Uint64(239), "05 ef"),
    ];
    for (value, bytes) in cases {
        let mut out = Vec::new();
        put_value(&mut out, value);
        assert_eq!(hex(&out), bytes, "{value:?}");
        let mut reader = WireReader::new(&out);
        assert_eq!(reader.value(), Ok(value), "{bytes}");
        assert!(reader.is_empty(), "{bytes}");
        // The other implementation makes text UTF-8, so what is not must be left out of the comparison.
        if bytes != "08 03 ff fe 00" {
            let theirs = spop::TypedData::from_bytes(&out).unwrap();
            let mut again = Vec::new();
            theirs.to_bytes(&mut again);
            assert_eq!(hex(&again), bytes, "the other implementation on {bytes}");
        }
        for cut in 0..out.len() {
            assert_eq!(WireReader::new(&out[..cut]).value(), Err(WireError::Truncated), "{bytes} cut at {cut}");
        }
    }
}

#[test]
fn values_that_are_none_are_refused() {
    let cases = [
        ("0a", WireError::UnknownType(10)),
        ("0f", WireError::UnknownType(15)),
        // An int32 of 2^31, an uint32 of 2^32.
        ("02 f0 f1 fe fe 3e", WireError::OutOfRange),
        ("03 f0 f1 fe fe 7e", WireError::OutOfRange),
        // Strings that point past the end, one of them past the address space.
        ("08 05 41 42", WireError::Truncated),
        ("09 ff f0 fe fe fe fe fe fe fe 0e 41", WireError::Truncated),
    ];
    for (bytes, error) in cases {
        assert_eq!(WireReader::new(&unhex(bytes)).value(), Err(error), "{bytes}");
    }
}

#[test]
fn a_frame_is_cut_as_defined() {
    // Stream 0, frame 1: what the first NOTIFY of a HAProxy 2.6 carries. One message `request`, `method` = GET.
    let bytes = "00 00 00 1c 03 00 00 00 01 00 01 07 72 65 71 75 65 73 74 01 06 6d 65 74 68 6f 64 08 03 47 45 54";
    let mut input = unhex(bytes);
    let mut ours = Vec::new();
    let header = FrameHeader { kind: FrameKind::Notify, flags: Flags::FIN, stream: 0, frame: 1 };
    write_notify(&mut ours, header, b"request", &[(b"method", TypedValue::String(b"GET"))]);
    assert_eq!(hex(&ours), bytes);
    for cut in 0..input.len() {
        let expected = if cut < 4 { 4 } else { input.len() };
        match split(&input[..cut], MAX) {
            Ok(Split::Incomplete { needed }) => assert_eq!(needed, expected, "cut at {cut}"),
            _ => panic!("cut at {cut}: neither whole nor broken"),
        }
    }
    input.extend_from_slice(b"next");
    let Ok(Split::Whole { frame, consumed }) = split(&input, MAX) else { panic!("whole") };
    assert_eq!((frame.header, consumed), (header, input.len() - 4));
    let messages: Vec<_> = Messages::new(frame.payload).unwrap().collect();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].name, b"request");
    assert_eq!(messages[0].arguments().collect::<Vec<_>>(), [(&b"method"[..], TypedValue::String(b"GET"))]);
}

/// haproxy#2490: a frame of no length made HAProxy spin and abort.
#[test]
fn bytes_that_are_no_frame_are_refused_as_soon_as_it_shows() {
    let cases = [
        ("00 00 00 00", FrameError::TooShort { len: 0 }),
        ("00 00 00 06", FrameError::TooShort { len: 6 }),
        ("00 00 3f fd", FrameError::TooBig { len: 16_381, max: MAX }),
        ("47 45 54 20 2f 20 48 54 54 50", FrameError::TooBig { len: 0x4745_5420, max: MAX }),
        ("00 00 00 07 03 00 00 00 01 f0 ff", FrameError::Header(WireError::Truncated)),
        (
            "00 00 00 11 03 00 00 00 01 ff ff ff ff ff ff ff ff ff ff ff 00",
            FrameError::Header(WireError::VarintTooLong),
        ),
    ];
    for (bytes, error) in cases {
        assert_eq!(split(&unhex(bytes), MAX).err(), Some(error), "{bytes}");
    }
}

#[test]
fn a_message_may_have_unnamed_and_repeated_arguments() {
    let arguments = [
        (&b""[..], TypedValue::Null),
        (b"", TypedValue::Int64(1)),
        (b"uid", TypedValue::String(b"a")),
        (b"uid", TypedValue::Null),
    ];
    assert_eq!(notify(&arguments), arguments);
}

#[test]
fn a_message_may_have_255_arguments() {
    let arguments = [(&b"a"[..], TypedValue::Bool(true)); 255];
    assert_eq!(notify(&arguments), arguments);
}

#[test]
fn messages_are_read_one_after_another() {
    let mut payload = Vec::new();
    put_message(&mut payload, b"first", &[(b"a", TypedValue::Null)]);
    put_message(&mut payload, b"", &[]);
    put_message(&mut payload, b"third", &[(b"", TypedValue::Binary(b"x")), (b"b", TypedValue::Bool(false))]);
    let found: Vec<_> = Messages::new(&payload).unwrap().map(|m| (m.name, m.arguments().count())).collect();
    assert_eq!(found, [(&b"first"[..], 1), (b"", 0), (b"third", 2)]);
    assert_eq!(Messages::new(b"").unwrap().count(), 0);
}

#[test]
fn a_payload_that_makes_no_sense_is_an_error_and_never_half_a_message() {
    let cases = [
        // A name longer than the payload, a missing count, one argument announced and none there, an unknown type.
        ("09 61", WireError::Truncated),
        ("01 61", WireError::Truncated),
        ("01 61 01", WireError::Truncated),
        ("01 61 01 01 62 0b", WireError::UnknownType(11)),
        // A good message, then rubbish.
        ("01 61 00 ff", WireError::Truncated),
    ];
    for (bytes, error) in cases {
        assert_eq!(Messages::new(&unhex(bytes)).err(), Some(error), "{bytes}");
    }
}

#[test]
fn an_ack_is_written_and_read_as_defined() {
    let mut out = Vec::new();
    write_ack(&mut out, 0, 1, MAX, |ack| {
        ack.set(VariableScope::Transaction, herdgate::variable!("verdict"), TypedValue::String(b"allow"));
        ack.unset(VariableScope::Request, herdgate::variable!("a.b"));
    })
    .unwrap();
    let expected =
        "00 00 00 20 67 00 00 00 01 00 01 01 03 02 07 76 65 72 64 69 63 74 08 05 61 6c 6c 6f 77 02 02 03 03 61 2e 62";
    assert_eq!(hex(&out), expected);
    let Ok(Split::Whole { frame, .. }) = split(&out, MAX) else { panic!("whole") };
    assert_eq!(frame.header, FrameHeader { kind: FrameKind::Ack, flags: Flags::FIN, stream: 0, frame: 1 });
    let actions: Vec<_> = Actions::new(frame.payload).map(Result::unwrap).collect();
    let expected = [
        AckAction::Set(VariableScope::Transaction, b"verdict", TypedValue::String(b"allow")),
        AckAction::Unset(VariableScope::Request, b"a.b"),
    ];
    assert!(actions == expected);
}

#[test]
fn an_ack_without_action_or_above_the_size_is_not_written_at_all() {
    let mut out = b"before".to_vec();
    assert_eq!(write_ack(&mut out, 1, 1, 256, |_| {}), Err(AckError::Empty));
    assert_eq!(out, b"before");
    let text = [b'x'; 300];
    let fill = |ack: &mut herdgate::spop::ack::AckWriter<'_>| {
        ack.set(VariableScope::Transaction, herdgate::variable!("body"), TypedValue::String(&text));
    };
    // Header 7, action 3, name 5, type 1, length 2.
    assert_eq!(write_ack(&mut out, 1, 1, 317, fill), Err(AckError::TooBig { len: 318 }));
    assert_eq!(out, b"before");
    assert_eq!(write_ack(&mut out, 1, 1, 318, fill), Ok(()));
}

#[test]
fn actions_that_are_none_are_refused_and_end_the_reading() {
    let cases = [
        ("03 01 02", WireError::UnknownAction),
        ("01 02 02 01 61", WireError::UnknownAction),
        ("01 03 05 01 61 00", WireError::UnknownScope(5)),
        ("01 03 02 01", WireError::Truncated),
        ("01", WireError::Truncated),
    ];
    for (bytes, error) in cases {
        let payload = unhex(bytes);
        let mut actions = Actions::new(&payload);
        assert!(actions.next() == Some(Err(error)), "{bytes}");
        assert!(actions.next().is_none(), "{bytes}");
    }
}

#[test]
fn variable_names_are_those_haproxy_takes() {
    let cases = [
        ("verdict", true),
        ("a.b_C9", true),
        ("", false),
        ("retry-after", false),
        ("a b", false),
        ("ü", false),
        // `txn.herdgate.` and 46 more are 59; one more is refused.
        ("a234567890123456789012345678901234567890123456", true),
        ("a2345678901234567890123456789012345678901234567", false),
    ];
    for (name, taken) in cases {
        assert_eq!(Variable::new(name).is_some(), taken, "{name:?}");
    }
}

#[test]
fn the_check_hello_of_haproxy_is_read() {
    // What `option spop-check` sends at default settings: a frame of 78 bytes, without engine-id.
    let bytes = "00 00 00 4e 01 00 00 00 01 00 00 \
        12 73 75 70 70 6f 72 74 65 64 2d 76 65 72 73 69 6f 6e 73 08 03 32 2e 30 \
        0e 6d 61 78 2d 66 72 61 6d 65 2d 73 69 7a 65 03 fc f0 06 \
        0c 63 61 70 61 62 69 6c 69 74 69 65 73 08 00 \
        0b 68 65 61 6c 74 68 63 68 65 63 6b 11";
    let input = unhex(bytes);
    assert_eq!(input.len(), 4 + 78);
    let Ok(Split::Whole { frame, .. }) = split(&input, MAX) else { panic!("whole") };
    let hello = HaproxyHello::parse(frame.payload).unwrap();
    assert_eq!((hello.versions, hello.capabilities, hello.engine_id), (&b"2.0"[..], &b""[..], None));
    assert!(hello.healthcheck);
    assert_eq!(hello.max_frame_size, 16_380);
}

#[test]
fn a_hello_without_what_it_needs_names_what_is_missing() {
    let whole: [(&[u8], TypedValue<'_>); 3] = [
        (b"supported-versions", TypedValue::String(b"2.0")),
        (b"max-frame-size", TypedValue::Uint32(16_380)),
        (b"capabilities", TypedValue::String(b"")),
    ];
    let missing = [DisconnectStatus::NoVersion, DisconnectStatus::NoFrameSize, DisconnectStatus::NoCapabilities];
    for (position, status) in missing.into_iter().enumerate() {
        let mut payload = Vec::new();
        for (at, (name, value)) in whole.iter().enumerate() {
            if at != position {
                put_pair(&mut payload, name, *value);
            }
        }
        assert_eq!(HaproxyHello::parse(&payload), Err(status));
    }
    let offers = [
        ("2.0", 16_380, Ok(16_380)),
        ("1.0,2.0", 16_380, Ok(16_380)),
        ("1.0, 2.3 ,3.0", 256, Ok(256)),
        ("2.0", 255, Err(DisconnectStatus::BadFrameSize)),
        ("2.0", 0, Err(DisconnectStatus::BadFrameSize)),
        ("2.0", 9_000_000, Ok(1_000_000)),
        ("1.0", 16_380, Err(DisconnectStatus::BadVersion)),
        ("", 16_380, Err(DisconnectStatus::BadVersion)),
        ("20", 16_380, Err(DisconnectStatus::BadVersion)),
        ("2", 16_380, Err(DisconnectStatus::BadVersion)),
        ("2.x", 16_380, Err(DisconnectStatus::BadVersion)),
        ("12.0", 16_380, Err(DisconnectStatus::BadVersion)),
    ];
    for (versions, size, expected) in offers {
        let hello = HaproxyHello {
            versions: versions.as_bytes(),
            max_frame_size: size,
            capabilities: b"pipelining,async",
            engine_id: None,
            healthcheck: false,
        };
        let agreed = hello.agree(1_000_000);
        assert_eq!(agreed.map(|agreed| agreed.max_frame_size), expected, "{versions} {size}");
        assert!(agreed.is_err() || agreed.is_ok_and(|agreed| agreed.pipelining), "{versions}");
    }
}

#[test]
fn the_other_implementation_reads_what_we_write_as_haproxy() {
    let mut out = Vec::new();
    HaproxyHello {
        versions: b"2.0",
        max_frame_size: 16_380,
        capabilities: b"pipelining,async",
        engine_id: Some(b"3F5A"),
        healthcheck: false,
    }
    .write(&mut out);
    let (_, frame) = spop::parser::parse_frame(&out).unwrap();
    let spop::FramePayload::KVList(pairs) = frame.payload() else { panic!("pairs") };
    assert_eq!(pairs["max-frame-size"], spop::TypedData::UInt32(16_380));
    assert_eq!(pairs["capabilities"], spop::TypedData::String("pipelining".into()));
    assert_eq!(pairs["engine-id"], spop::TypedData::String("3F5A".into()));

    out.clear();
    write_disconnect(&mut out, FrameKind::HaproxyDisconnect, DisconnectStatus::Timeout);
    let (_, frame) = spop::parser::parse_frame(&out).unwrap();
    let spop::FramePayload::KVList(pairs) = frame.payload() else { panic!("pairs") };
    assert_eq!(pairs["status-code"], spop::TypedData::UInt32(2));

    out.clear();
    let header = FrameHeader { kind: FrameKind::Notify, flags: Flags::FIN, stream: 300, frame: 1 };
    let arguments = [
        (&b"src"[..], TypedValue::Ipv4(Ipv4Addr::new(10, 0, 0, 9))),
        (b"method", TypedValue::String(b"POST")),
        (b"body", TypedValue::Binary(b"{\"model\":\"m\"}")),
        (b"body_size", TypedValue::Int64(13)),
        (b"", TypedValue::Null),
        (b"low", TypedValue::Int32(-5)),
    ];
    write_notify(&mut out, header, b"request", &arguments);
    let (rest, frame) = spop::parser::parse_frame(&out).unwrap();
    assert!(rest.is_empty());
    assert_eq!((frame.metadata().stream_id, frame.metadata().frame_id), (300, 1));
    let spop::FramePayload::ListOfMessages(messages) = frame.payload() else { panic!("messages") };
    assert_eq!(messages[0].get("src"), Some(&spop::TypedData::IPv4(Ipv4Addr::new(10, 0, 0, 9))));
    assert_eq!(messages[0].get("body"), Some(&spop::TypedData::Binary(b"{\"model\":\"m\"}".to_vec())));
    assert_eq!(messages[0].get("body_size"), Some(&spop::TypedData::Int64(13)));
    assert_eq!(messages[0].get("low"), Some(&spop::TypedData::Int32(-5)));
    assert_eq!(messages[0].args.len(), arguments.len());
}

#[test]
fn we_read_what_the_other_implementation_writes_as_an_agent() {
    let ack = spop::frames::Ack::new(7, 2)
        .set_var(spop::VarScope::Transaction, "status", 429_i32)
        .set_var(spop::VarScope::Session, "low", -1_i64)
        .set_var(spop::VarScope::Transaction, "body", "{\"error\":\"ü\"}")
        .unset_var(spop::VarScope::Process, "gone");
    let bytes = ack.serialize().unwrap();
    let Ok(Split::Whole { frame, consumed }) = split(&bytes, MAX) else { panic!("whole") };
    assert_eq!(consumed, bytes.len());
    assert_eq!(frame.header, FrameHeader { kind: FrameKind::Ack, flags: Flags::FIN, stream: 7, frame: 2 });
    let expected = [
        AckAction::Set(VariableScope::Transaction, b"status", TypedValue::Int32(429)),
        AckAction::Set(VariableScope::Session, b"low", TypedValue::Int64(-1)),
        AckAction::Set(VariableScope::Transaction, b"body", TypedValue::String("{\"error\":\"ü\"}".as_bytes())),
        AckAction::Unset(VariableScope::Process, b"gone"),
    ];
    assert!(Actions::new(frame.payload).map(Result::unwrap).eq(expected));

    // And the same bytes come out of our own writer.
    let mut ours = Vec::new();
    write_ack(&mut ours, 7, 2, MAX, |ack| {
        ack.set(VariableScope::Transaction, herdgate::variable!("status"), TypedValue::Int32(429));
        ack.set(VariableScope::Session, herdgate::variable!("low"), TypedValue::Int64(-1));
        ack.set(
            VariableScope::Transaction,
            herdgate::variable!("body"),
            TypedValue::String("{\"error\":\"ü\"}".as_bytes()),
        );
        ack.unset(VariableScope::Process, herdgate::variable!("gone"));
    })
    .unwrap();
    assert_eq!(hex(&ours), hex(&bytes));

    let hello = spop::frames::AgentHello {
        version: spop::Version::new(2, 0, 0),
        max_frame_size: 16_380,
        capabilities: vec![spop::frames::FrameCapabilities::Pipelining],
    };
    let bytes = hello.serialize().unwrap();
    let Ok(Split::Whole { frame, .. }) = split(&bytes, MAX) else { panic!("whole") };
    let expected = AgentHello { version: b"2.0", max_frame_size: 16_380, capabilities: b"pipelining" };
    assert_eq!(AgentHello::parse(frame.payload), Ok(expected));

    let bye = spop::frames::AgentDisconnect { status_code: 4, message: "invalid".into() };
    let bytes = bye.serialize().unwrap();
    let Ok(Split::Whole { frame, .. }) = split(&bytes, MAX) else { panic!("whole") };
    assert_eq!(Disconnect::parse(frame.payload), Ok(Disconnect { status: Some(4), message: b"invalid" }));
}

#[test]
fn text_is_never_shown_by_debug() {
    let shown = format!("{:?} {:?}", TypedValue::String(b"hg_secret"), TypedValue::Binary(b"a prompt"));
    assert_eq!(shown, "String(9 bytes) Binary(8 bytes)");
}

fn any_value() -> impl Strategy<Value = (u8, u64, Vec<u8>)> {
    (0_u8..10, any::<u64>(), proptest::collection::vec(any::<u8>(), 0..300))
}

fn value(kind: u8, number: u64, bytes: &[u8]) -> TypedValue<'_> {
    match kind {
        0 => TypedValue::Null,
        1 => TypedValue::Bool(number & 1 == 1),
        2 => TypedValue::Int32(number as i32),
        3 => TypedValue::Uint32(number as u32),
        4 => TypedValue::Int64(number as i64),
        5 => TypedValue::Uint64(number),
        6 => TypedValue::Ipv4(Ipv4Addr::from(number as u32)),
        7 => TypedValue::Ipv6(Ipv6Addr::from(u128::from(number) << 32)),
        8 => TypedValue::String(bytes),
        _ => TypedValue::Binary(bytes),
    }
}

proptest! {
    #[test]
    fn varints_survive_the_round_trip(number in any::<u64>(), shift in 0_u32..64) {
        let number = number >> shift;
        let mut out = Vec::new();
        put_varint(&mut out, number);
        let mut theirs = Vec::new();
        spop::encode_varint_into(number, &mut theirs);
        prop_assert_eq!(&out, &theirs);
        prop_assert_eq!(WireReader::new(&out).varint(), Ok(number));
    }

    #[test]
    fn notifies_survive_the_round_trip(
        stream in any::<u64>(),
        frame in any::<u64>(),
        arguments in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..8), any_value()), 0..20),
    ) {
        let arguments: Vec<_> =
            arguments.iter().map(|(name, (kind, number, bytes))| (&name[..], value(*kind, *number, bytes))).collect();
        let mut out = Vec::new();
        let header = FrameHeader { kind: FrameKind::Notify, flags: Flags::FIN, stream, frame };
        write_notify(&mut out, header, b"request", &arguments);
        let Ok(Split::Whole { frame, consumed }) = split(&out, MAX) else { panic!("whole") };
        prop_assert_eq!((frame.header, consumed), (header, out.len()));
        let message = Messages::new(frame.payload).unwrap().next().unwrap();
        prop_assert!(message.arguments().eq(arguments));
    }

    #[test]
    fn random_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn mutated_frames_are_read_without_a_panic(
        position in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut out = Vec::new();
        let header = FrameHeader { kind: FrameKind::Notify, flags: Flags::FIN, stream: 4_000_000, frame: 1 };
        write_notify(&mut out, header, b"request", &[(b"a", TypedValue::Int64(-9)), (b"b", TypedValue::String(b"text"))]);
        let at = position.index(out.len());
        out[at] = byte;
        out.truncate(cut.index(out.len()) + 1);
        read_as_everything(&out);
    }
}

fn read_as_everything(bytes: &[u8]) {
    let payload = match split(bytes, MAX) {
        Ok(Split::Whole { frame, .. }) => frame.payload,
        _ => bytes,
    };
    if let Ok(messages) = Messages::new(payload) {
        for message in messages {
            assert!(message.arguments().count() <= 255);
        }
    }
    assert!(Actions::new(payload).count() <= payload.len());
    let _ = HaproxyHello::parse(payload);
    let _ = AgentHello::parse(payload);
    let _ = Disconnect::parse(payload);
}

/// Writes a NOTIFY with one message of these arguments, and reads them back.
fn notify<'a>(arguments: &[(&[u8], TypedValue<'a>)]) -> Vec<(&'static [u8], TypedValue<'static>)> {
    let mut out = Vec::new();
    write(&mut out, FrameHeader { kind: FrameKind::Notify, flags: Flags::FIN, stream: 1, frame: 1 }, |out| {
        put_message(out, b"request", arguments);
    });
    let out: &'static [u8] = out.leak();
    let Ok(Split::Whole { frame, .. }) = split(out, MAX) else { panic!("whole") };
    let message = Messages::new(frame.payload).unwrap().next().unwrap();
    assert_eq!(message.name, b"request");
    message.arguments().collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn unhex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}
