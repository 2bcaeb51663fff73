//! One usage line: an optional syslog header, then one JSON object.

use crate::ledger::tokens::observed::ObservedUsage;
use nom::IResult;
use nom::Parser;
use nom::bytes::complete::{tag, take_till, take_while_m_n};
use nom::combinator::{opt, value};
use nom::sequence::delimited;
use serde_json::{Map, Value};

/// What herdgate reads of a usage line. Values that a proxy does not have are absent, `-` or empty there, and empty
/// here; so are numbers that are none. Of nginx's lists the last attempt of the last hop counts: the one at the model
/// server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageLine {
    /// The proxy's own identifier of the request.
    pub uid: String,
    /// The public id of the decision.
    pub id: String,
    /// The receipt of the grant.
    pub receipt: String,
    /// The server that was really used; in HAProxy the backend's name, which may be one of the file's own.
    pub server: String,
    /// Status told to the client; absent where it left before.
    pub status: Option<u64>,
    /// HAProxy's two letters of how it ended (`--`, `CD`, …), nginx's `OK` where the answer was complete.
    pub end: String,
    /// Tries to reach that server, the first included.
    pub attempts: Option<u64>,
    /// Bytes of the request.
    pub bytes_in: Option<u64>,
    /// Bytes of the answer, its head included.
    pub bytes_out: Option<u64>,
    /// Milliseconds in queues.
    pub ms_queue: Option<u64>,
    /// Milliseconds to connect; absent where no connection came about.
    pub ms_connect: Option<u64>,
    /// Milliseconds to the answer's head, in nginx from the first byte sent; absent where none came.
    pub ms_header: Option<u64>,
    /// Milliseconds in all.
    pub ms_total: Option<u64>,
    /// Whether a connection to a server came about: false only where the line says that none did.
    pub reached: bool,
    /// Whether the head of an answer came: false only where the line says that none did.
    pub answered: bool,
    /// Tokens of the prompt, as the server reported them (`in`).
    pub tokens_in: Option<u64>,
    /// Tokens of the answer, as the server reported them (`out`). With `end` other than `--` this is what it had reported
    /// before the stream was cut.
    pub tokens_out: Option<u64>,
    /// Lines or events with content that a stream brought.
    pub units: Option<u64>,
    /// Whether a stream of status 200 brought an error (`error`).
    pub failed: bool,
}

impl UsageLine {
    /// Returns what the line says of the request's use, in the ledger's terms.
    pub fn observed(&self) -> ObservedUsage {
        ObservedUsage {
            server: self.server.as_str().into(),
            reached: self.reached,
            answered: self.answered,
            // HAProxy's two dashes: neither side, and no phase, cut it off. nginx's word for the same.
            complete: matches!(self.end.as_str(), "--" | "OK"),
            failed: self.failed,
            status: self.status.and_then(|status| u16::try_from(status).ok()),
            tokens_in: self.tokens_in,
            tokens_out: self.tokens_out,
            units: self.units,
            bytes_out: self.bytes_out,
            // nginx counts what it read, HAProxy what it parsed.
            framed: matches!(self.end.as_str(), "" | "OK"),
            ms: self.ms_total,
            ms_served: self.ms_total.map(|total| total.saturating_sub(self.ms_queue.unwrap_or(0))),
        }
    }
}

/// Why a datagram is no usage line. It shows nothing of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UsageLineError {
    /// The syslog header cannot be read.
    #[error("header")]
    Header,
    /// What follows the header is not one JSON object.
    #[error("json")]
    Json,
    /// The version is absent or another one.
    #[error("version")]
    Version,
}

/// Reads a usage line from a datagram.
///
/// # Errors
/// Where the datagram is no usage line.
pub fn parse(datagram: &[u8]) -> Result<UsageLine, UsageLineError> {
    let (json, _) = opt(syslog_header).parse(datagram).map_err(|_| UsageLineError::Header)?;
    let fields: Map<String, Value> = serde_json::from_slice(json.trim_ascii()).map_err(|_| UsageLineError::Json)?;
    if fields.get("v").is_none_or(|version| text(version) != "1") {
        return Err(UsageLineError::Version);
    }
    let field = |name: &str| fields.get(name).map(text).filter(|text| text != "-").unwrap_or_default();
    let number = |name: &str| last(&field(name)).parse().ok();
    let ms = |name: &str| milliseconds(last(&field(name)));
    // A proxy that was told to leave these out has not said that nothing happened.
    let is_never = |name: &str| fields.get(name).is_some_and(|value| matches!(last(&text(value)), "" | "-" | "-1"));
    // Most are empty where a client connected and asked nothing.
    Ok(UsageLine {
        uid: field("uid"),
        id: field("id"),
        receipt: field("receipt"),
        server: field("server"),
        status: number("status"),
        end: field("end"),
        attempts: attempts(&field("attempts")),
        bytes_in: number("bytes_in"),
        bytes_out: number("bytes_out"),
        ms_queue: ms("ms_queue"),
        ms_connect: ms("ms_connect"),
        ms_header: ms("ms_header"),
        ms_total: ms("ms_total"),
        reached: !is_never("ms_connect"),
        answered: !is_never("ms_header"),
        tokens_in: number("in"),
        tokens_out: number("out"),
        units: number("units"),
        failed: field("error") == "1",
    })
}

/// Returns the last hop of one of nginx's lists: ` : ` separates hops, `, ` the attempts of one
/// (ngx_http_upstream_module, `$upstream_addr`).
fn last_hop(list: &str) -> &str {
    list.rsplit(" : ").next().unwrap_or_default()
}

/// Returns the last attempt of the last hop.
fn last(list: &str) -> &str {
    last_hop(list).rsplit(", ").next().unwrap_or_default()
}

/// Returns how many servers were tried. HAProxy says how often it tried again (`%rc`, with a `+` where it was another
/// server), nginx whom it tried.
fn attempts(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    match text.strip_prefix('+').unwrap_or(text).parse::<u64>() {
        Ok(again) => again.checked_add(1),
        Err(_) => u64::try_from(last_hop(text).split(", ").count()).ok(),
    }
}

/// Reads a duration: HAProxy writes whole milliseconds, nginx seconds with a point.
fn milliseconds(text: &str) -> Option<u64> {
    let Some((seconds, thousandths)) = text.split_once('.') else { return text.parse().ok() };
    if thousandths.len() != 3 {
        return None;
    }
    seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(thousandths.parse::<u16>().ok()?.into())
}

/// Skips `<PRI>TIMESTAMP HOST TAG: ` (RFC 3164), as HAProxy and nginx write it, up to the object.
fn syslog_header(datagram: &[u8]) -> IResult<&[u8], ()> {
    let priority = delimited(tag(&b"<"[..]), take_while_m_n(1, 3, |byte: u8| byte.is_ascii_digit()), tag(&b">"[..]));
    value((), (priority, take_till(|byte| byte == b'{'))).parse(datagram)
}

/// Returns a member as text: nginx quotes everything, HAProxy may write numbers bare.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(datagram: &str, expected: Result<(&str, &str), UsageLineError>) {
        let found = parse(datagram.as_bytes());
        let found = found.as_ref().map(|line| (line.uid.as_str(), line.receipt.as_str())).map_err(|fault| *fault);
        assert_eq!(found, expected, "{datagram}");
    }

    #[test]
    fn lines_of_both_proxies_are_read() {
        let json = r#"{"v":1,"uid":"u-1","id":"0","receipt":"g1.a","server":"s1","status":200,"end":"--"}"#;
        check(json, Ok(("u-1", "g1.a")));
        check(&format!("<134>Nov 21 09:29:05 haproxy[17]: {json}"), Ok(("u-1", "g1.a")));
        check(&format!("<190>Nov  1 09:29:05 web nginx: {json}\n"), Ok(("u-1", "g1.a")));
        check(r#"{"v":"1","uid":"u","receipt":"-"}"#, Ok(("u", "")));
        check(r#"{"v":"1","uid":"","receipt":"g1.a","more":[1,2]}"#, Ok(("", "g1.a")));
        check(r#"{"v":1,"uid":"-","receipt":"-"}"#, Ok(("", "")));
        check(r#"{"v":1,"uid":{"a":1}}"#, Ok(("", "")));
    }

    #[test]
    fn a_line_of_haproxy_is_read_whole() {
        let line = r#"<134>Nov 21 09:29:05 haproxy[17]: {"v":1,"uid":"u-1","id":"0f","receipt":"g1.a","server":"ollama1","status":"200","end":"CD","attempts":"0","bytes_in":"310","bytes_out":"4711","ms_queue":"2","ms_connect":"1","ms_header":"250","ms_total":"9001","in":"17","out":"-","units":"42","error":"1","src":"10.0.0.1"}"#;
        let expected = UsageLine {
            uid: "u-1".to_owned(),
            id: "0f".to_owned(),
            receipt: "g1.a".to_owned(),
            server: "ollama1".to_owned(),
            status: Some(200),
            end: "CD".to_owned(),
            attempts: Some(1),
            bytes_in: Some(310),
            bytes_out: Some(4711),
            ms_queue: Some(2),
            ms_connect: Some(1),
            ms_header: Some(250),
            ms_total: Some(9001),
            reached: true,
            answered: true,
            tokens_in: Some(17),
            tokens_out: None,
            units: Some(42),
            failed: true,
        };
        assert_eq!(parse(line.as_bytes()), Ok(expected));
    }

    #[test]
    fn a_line_of_nginx_is_read_by_its_last_hop_and_attempt() {
        let line = r#"<190>Nov 21 09:29:05 nginx: {"v":1,"uid":"u","id":"0f","receipt":"g1.a","server":"ollama2","status":"200","end":"OK","attempts":"127.0.0.1:9902 : 10.0.0.1:11434, 10.0.0.2:11434","bytes_in":"310","bytes_out":"290 : 0, 4711","ms_connect":"0.000 : -, 0.004","ms_header":"0.001 : -, 1.250","ms_total":"12.034"}"#;
        let expected = UsageLine {
            uid: "u".to_owned(),
            id: "0f".to_owned(),
            receipt: "g1.a".to_owned(),
            server: "ollama2".to_owned(),
            status: Some(200),
            end: "OK".to_owned(),
            attempts: Some(2),
            bytes_in: Some(310),
            bytes_out: Some(4711),
            ms_connect: Some(4),
            ms_header: Some(1250),
            ms_total: Some(12_034),
            reached: true,
            answered: true,
            ..UsageLine::default()
        };
        assert_eq!(parse(line.as_bytes()), Ok(expected));
    }

    #[test]
    fn numbers_that_are_none_are_absent() {
        let figures = |text: &str| {
            let json = serde_json::json!({ "v": 1, "ms_connect": text, "in": text, "status": text, "attempts": text });
            let line = parse(json.to_string().as_bytes()).unwrap_or_default();
            (line.ms_connect, line.tokens_in, line.status, line.attempts)
        };
        assert_eq!(figures("7"), (Some(7), Some(7), Some(7), Some(8)));
        assert_eq!(figures("0.007"), (Some(7), None, None, Some(1)));
        for text in ["", "-"] {
            assert_eq!(figures(text), (None, None, None, None), "{text}");
        }
        for text in ["-1", "x", "1 2", "1e3", "0.1.2", "99999999999999999999", "99999999999999999.000", "0x10", "1 : -"]
        {
            let (connect, tokens, status, _) = figures(text);
            assert_eq!((connect, tokens, status), (None, None, None), "{text}");
        }
        assert_eq!(figures("18446744073709551615").3, None);
        assert_eq!(figures("+2").3, Some(3));
        assert_eq!(
            parse(br#"{"v":1,"status":200,"ms_total":-1,"units":[1]}"#).map(|line| (line.status, line.units)),
            Ok((Some(200), None))
        );
    }

    #[test]
    fn what_is_no_usage_line_is_told_apart() {
        check("", Err(UsageLineError::Json));
        check("<134>Nov 21 haproxy[17]: Server s1 is DOWN", Err(UsageLineError::Json));
        check(r#"<9999>{"v":1,"uid":"u"}"#, Err(UsageLineError::Json));
        check(r#"{"v":1,"uid":"u","receipt":"g1.a""#, Err(UsageLineError::Json));
        check(r#"{"v":1,"uid":"u"}{"v":1}"#, Err(UsageLineError::Json));
        check(r#"["v"]"#, Err(UsageLineError::Json));
        check(r#"{"v":2,"uid":"u"}"#, Err(UsageLineError::Version));
        check(r#"{"uid":"u"}"#, Err(UsageLineError::Version));
    }
}
