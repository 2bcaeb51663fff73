//! One usage line (`INTERFACE.md`): an optional syslog header, then one JSON object.

use nom::IResult;
use nom::Parser;
use nom::bytes::complete::{tag, take_till, take_while_m_n};
use nom::combinator::opt;
use nom::sequence::delimited;
use serde_json::{Map, Value};

/// What herdgate reads of a line. Values that a proxy does not have are absent, `-` or empty, and are empty here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageLine {
    /// The proxy's own identifier of the request.
    pub uid: String,
    /// The receipt of the grant.
    pub receipt: String,
    /// The server that was really used.
    pub server: String,
    /// The status the client got.
    pub status: String,
    /// HAProxy's termination state, nginx's `$request_completion`.
    pub end: String,
}

/// Reads a datagram.
///
/// # Errors
/// A fixed word for what is wrong; never a part of the line.
pub fn parse(datagram: &[u8]) -> Result<UsageLine, &'static str> {
    let (json, _) = opt(syslog_header).parse(datagram).map_err(|_| "header")?;
    let fields: Map<String, Value> = serde_json::from_slice(json.trim_ascii()).map_err(|_| "json")?;
    if fields.get("v").is_none_or(|version| text(version) != "1") {
        return Err("version");
    }
    let field = |name: &str| fields.get(name).map(text).filter(|text| text != "-").unwrap_or_default();
    // Both are empty where a client connected and asked nothing.
    Ok(UsageLine {
        uid: field("uid"),
        receipt: field("receipt"),
        server: field("server"),
        status: field("status"),
        end: field("end"),
    })
}

/// `<PRI>TIMESTAMP HOST TAG: ` (RFC 3164) as HAProxy and nginx write it, up to the object.
fn syslog_header(datagram: &[u8]) -> IResult<&[u8], &[u8]> {
    let priority = delimited(tag(&b"<"[..]), take_while_m_n(1, 3, |byte: u8| byte.is_ascii_digit()), tag(&b">"[..]));
    let (rest, priority) =
        (priority, take_till(|byte| byte == b'{')).parse(datagram).map(|(rest, (found, _))| (rest, found))?;
    Ok((rest, priority))
}

/// nginx quotes everything, HAProxy may write numbers bare.
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

    fn check(datagram: &str, expected: Result<(&str, &str), &str>) {
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
    fn what_is_no_usage_line_is_told_apart() {
        check("", Err("json"));
        check("<134>Nov 21 haproxy[17]: Server s1 is DOWN", Err("json"));
        check(r#"<9999>{"v":1,"uid":"u"}"#, Err("json"));
        check(r#"{"v":1,"uid":"u","receipt":"g1.a""#, Err("json"));
        check(r#"{"v":1,"uid":"u"}{"v":1}"#, Err("json"));
        check(r#"["v"]"#, Err("json"));
        check(r#"{"v":2,"uid":"u"}"#, Err("version"));
        check(r#"{"uid":"u"}"#, Err("version"));
    }
}
