//! Between HAProxy's words and ours: the arguments of message `request` become an inquiry, a verdict becomes variables.
//!
//! Nothing here is guessed. An argument that a decision needs and that is absent, of another type, given twice or in
//! contradiction to its neighbour makes the whole question malformed, and it is refused: the configuration that sends
//! such a question is not the one herdgate ships, and half of a fact about a credential is worse than none.

use super::ack::{AckWriter, VariableScope};
use super::notify::Messages;
use super::variable::Variable;
use super::wire::{TypedValue, WireError};
use crate::decision::answer::dialect::refusal_body;
use crate::decision::answer::reset::Reset;
use crate::decision::inquiry::{BodyShown, HeaderField, Inquiry, OnBehalf};
use crate::decision::reason::Code;
use crate::decision::request::endpoint::Dialect;
use crate::decision::verdict::{Grant, LimitStanding, Refusal, Verdict};
use crate::gate::Decision;
use crate::variable;
use std::net::IpAddr;

/// The message that asks (`spoe-message request`).
const MESSAGE: &[u8] = b"request";

/// Seconds above which a client is told not to retry by itself: the SDKs would otherwise do so at once.
const RETRY_ALONE_MAX_S: u64 = 60;

/// Why a question cannot be put. Names the argument and never its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// The payload cannot be read.
    #[error("NOTIFY payload: {0}")]
    Unreadable(WireError),
    /// No message `request`.
    #[error("no message `request`")]
    NoRequest,
    /// More than one message `request`.
    #[error("more than one message `request`")]
    SeveralRequests,
    /// An argument that must be there is absent, null or empty.
    #[error("argument `{0}` is missing")]
    Missing(&'static str),
    /// An argument given twice.
    #[error("argument `{0}` is given twice")]
    Repeated(&'static str),
    /// An argument of a type it cannot have, or a negative count.
    #[error("argument `{0}` has a wrong type")]
    WrongType(&'static str),
    /// A header value whose count says there is none.
    #[error("argument `{0}` contradicts its count")]
    Contradiction(&'static str),
}

/// The arguments herdgate knows; any other is passed over, unnamed ones included. `Some(Null)` is a fetch that failed.
#[derive(Default)]
struct InquiryArguments<'a> {
    uid: Option<TypedValue<'a>>,
    method: Option<TypedValue<'a>>,
    target: Option<TypedValue<'a>>,
    src: Option<TypedValue<'a>>,
    authorization: Option<TypedValue<'a>>,
    authorization_n: Option<TypedValue<'a>>,
    x_api_key: Option<TypedValue<'a>>,
    x_api_key_n: Option<TypedValue<'a>>,
    api_key: Option<TypedValue<'a>>,
    api_key_n: Option<TypedValue<'a>>,
    on_behalf: Option<TypedValue<'a>>,
    on_behalf_n: Option<TypedValue<'a>>,
    on_behalf_name: Option<TypedValue<'a>>,
    encoding: Option<TypedValue<'a>>,
    body: Option<TypedValue<'a>>,
    body_len: Option<TypedValue<'a>>,
    body_size: Option<TypedValue<'a>>,
}

impl<'a> InquiryArguments<'a> {
    fn collect(arguments: super::notify::MessageArguments<'a>) -> Result<InquiryArguments<'a>, QuestionError> {
        let mut found = InquiryArguments::default();
        for (name, value) in arguments {
            let (slot, name) = match name {
                b"uid" => (&mut found.uid, "uid"),
                b"method" => (&mut found.method, "method"),
                b"target" => (&mut found.target, "target"),
                b"src" => (&mut found.src, "src"),
                b"authorization" => (&mut found.authorization, "authorization"),
                b"authorization_n" => (&mut found.authorization_n, "authorization_n"),
                b"x_api_key" => (&mut found.x_api_key, "x_api_key"),
                b"x_api_key_n" => (&mut found.x_api_key_n, "x_api_key_n"),
                b"api_key" => (&mut found.api_key, "api_key"),
                b"api_key_n" => (&mut found.api_key_n, "api_key_n"),
                b"on_behalf" => (&mut found.on_behalf, "on_behalf"),
                b"on_behalf_n" => (&mut found.on_behalf_n, "on_behalf_n"),
                b"on_behalf_name" => (&mut found.on_behalf_name, "on_behalf_name"),
                b"encoding" => (&mut found.encoding, "encoding"),
                b"body" => (&mut found.body, "body"),
                b"body_len" => (&mut found.body_len, "body_len"),
                b"body_size" => (&mut found.body_size, "body_size"),
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(QuestionError::Repeated(name));
            }
        }
        Ok(found)
    }
}

/// Reads what a NOTIFY asks. Messages of other names are ignored: one ACK answers all of them.
pub fn inquiry(messages: Messages<'_>) -> Result<Inquiry<'_>, QuestionError> {
    let mut requests = messages.filter(|message| message.name == MESSAGE);
    let request = requests.next().ok_or(QuestionError::NoRequest)?;
    if requests.next().is_some() {
        return Err(QuestionError::SeveralRequests);
    }
    let found = InquiryArguments::collect(request.arguments())?;
    Ok(Inquiry {
        uid: text(found.uid, "uid")?.unwrap_or_default(),
        method: required(found.method, "method")?,
        target: required(found.target, "target")?,
        source: address(found.src, "src")?,
        authorization: field(found.authorization, found.authorization_n, "authorization")?,
        x_api_key: field(found.x_api_key, found.x_api_key_n, "x_api_key")?,
        api_key: field(found.api_key, found.api_key_n, "api_key")?,
        on_behalf: OnBehalf {
            header: text(found.on_behalf_name, "on_behalf_name")?.unwrap_or_default(),
            field: field(found.on_behalf, found.on_behalf_n, "on_behalf")?,
        },
        // An empty Content-Encoding lists no coding (RFC 9110 section 8.4), and is how some versions show none at all.
        encoding: text(found.encoding, "encoding")?.filter(|encoding| !encoding.is_empty()),
        body: body(found.body, found.body_len, found.body_size)?,
    })
}

fn text<'a>(value: Option<TypedValue<'a>>, name: &'static str) -> Result<Option<&'a [u8]>, QuestionError> {
    match value {
        None | Some(TypedValue::Null) => Ok(None),
        Some(value) => value.bytes().map(Some).ok_or(QuestionError::WrongType(name)),
    }
}

fn required<'a>(value: Option<TypedValue<'a>>, name: &'static str) -> Result<&'a [u8], QuestionError> {
    text(value, name)?.filter(|text| !text.is_empty()).ok_or(QuestionError::Missing(name))
}

fn number(value: Option<TypedValue<'_>>, name: &'static str) -> Result<Option<u64>, QuestionError> {
    match value {
        None | Some(TypedValue::Null) => Ok(None),
        Some(value) => value.unsigned().map(Some).ok_or(QuestionError::WrongType(name)),
    }
}

/// Returns the client's address, which is null where it came over a unix socket.
fn address(value: Option<TypedValue<'_>>, name: &'static str) -> Result<Option<IpAddr>, QuestionError> {
    match value {
        None | Some(TypedValue::Null) => Ok(None),
        Some(value) => value.address().map(Some).ok_or(QuestionError::WrongType(name)),
    }
}

/// Reads a header that may stand once. Its count is required with it, because without it a second one would go
/// unseen.
fn field<'a>(
    value: Option<TypedValue<'a>>,
    count: Option<TypedValue<'_>>,
    name: &'static str,
) -> Result<HeaderField<'a>, QuestionError> {
    let count = number(count, name)?;
    let value = text(value, name)?;
    match (value, count) {
        (None | Some(b""), None | Some(0)) => Ok(HeaderField::default()),
        (Some(_), None) => Err(QuestionError::Missing(name)),
        (Some(_), Some(0)) => Err(QuestionError::Contradiction(name)),
        (value, Some(count)) => Ok(HeaderField { value, count: u32::try_from(count).unwrap_or(u32::MAX) }),
    }
}

/// Reads the body, null and empty alike. Sizes are required with it, or a prefix could pass for the whole.
fn body<'a>(
    body: Option<TypedValue<'a>>,
    len: Option<TypedValue<'_>>,
    size: Option<TypedValue<'_>>,
) -> Result<BodyShown<'a>, QuestionError> {
    let seen = text(body, "body")?.unwrap_or_default();
    let (len, size) = (number(len, "body_len")?, number(size, "body_size")?);
    if !seen.is_empty() && len.is_none() {
        return Err(QuestionError::Missing("body_len"));
    }
    if !seen.is_empty() && size.is_none() {
        return Err(QuestionError::Missing("body_size"));
    }
    let size = size.unwrap_or(0).max(len.unwrap_or(0)).max(seen.len() as u64);
    Ok(BodyShown::Bytes { seen, size })
}

/// Sets the variables of a verdict. `receipt` is what fetches an answer of our own; other verdicts have none.
pub fn put_verdict(ack: &mut AckWriter<'_>, decided: &Decision<'_>, receipt: Option<&str>) {
    match &decided.verdict {
        Verdict::Allow(grant) => put_grant(ack, grant),
        Verdict::Answer(_) => put_text(ack, variable!("verdict"), "answer"),
        Verdict::Refuse(refusal) => put_refusal(ack, refusal, decided.dialect),
    }
    put_text(ack, variable!("id"), decided.id.as_str());
    if let Some(receipt) = receipt {
        put_text(ack, variable!("receipt"), receipt);
    }
}

fn put_grant(ack: &mut AckWriter<'_>, grant: &Grant<'_>) {
    put_text(ack, variable!("verdict"), "allow");
    put_text(ack, variable!("server"), &grant.server.name);
    if let Some(server2) = grant.server2 {
        put_text(ack, variable!("server2"), &server2.name);
    }
    if let Some(pool) = grant.pool {
        put_text(ack, variable!("model"), pool.name.as_str());
    }
    if let Some(class) = grant.place.class {
        put_signed(ack, variable!("priority_class"), class);
    }
    if grant.place.offset_ms != 0 {
        put_signed(ack, variable!("priority_offset"), grant.place.offset_ms);
    }
    put_requests(ack, grant.requests);
    put_tokens(ack, grant.tokens);
}

/// Sets where the caller stands with its tightest request limit.
fn put_requests(ack: &mut AckWriter<'_>, standing: Option<LimitStanding>) {
    let Some(standing) = standing else { return };
    put_number(ack, variable!("limit_requests"), standing.limit);
    put_number(ack, variable!("remaining_requests"), standing.remaining);
    put_text(ack, variable!("reset_requests"), Reset::new(standing.reset_ns).as_str());
}

/// Sets where the caller stands with its tightest token limit.
fn put_tokens(ack: &mut AckWriter<'_>, standing: Option<LimitStanding>) {
    let Some(standing) = standing else { return };
    put_number(ack, variable!("limit_tokens"), standing.limit);
    put_number(ack, variable!("remaining_tokens"), standing.remaining);
    put_text(ack, variable!("reset_tokens"), Reset::new(standing.reset_ns).as_str());
}

/// Sets the variables of a refusal, its body included.
pub fn put_refusal(ack: &mut AckWriter<'_>, refusal: &Refusal, dialect: Dialect) {
    put_code(ack, refusal.code());
    put_text(ack, variable!("body"), &refusal_body(refusal, dialect));
    if let Some(seconds) = refusal.retry_after_s {
        put_number(ack, variable!("retry_after"), seconds);
        if seconds > RETRY_ALONE_MAX_S {
            put_text(ack, variable!("should_retry"), "false");
        }
    }
    put_requests(ack, refusal.standing);
    put_tokens(ack, refusal.tokens);
}

/// Sets what refuses a request and nothing more: for a verdict whose variables exceed the frame size agreed on.
pub fn put_bare_refusal(ack: &mut AckWriter<'_>) {
    put_code(ack, Code::Overloaded);
}

fn put_code(ack: &mut AckWriter<'_>, code: Code) {
    put_text(ack, variable!("verdict"), "refuse");
    put_number(ack, variable!("status"), u64::from(code.status()));
    put_text(ack, variable!("code"), code.as_str());
}

fn put_text(ack: &mut AckWriter<'_>, name: Variable<'_>, text: &str) {
    ack.set(VariableScope::Transaction, name, TypedValue::String(text.as_bytes()));
}

fn put_signed(ack: &mut AckWriter<'_>, name: Variable<'_>, number: i32) {
    ack.set(VariableScope::Transaction, name, TypedValue::Int64(number.into()));
}

/// Sets a number. HAProxy's integers are signed, so a larger one becomes the largest of them.
fn put_number(ack: &mut AckWriter<'_>, name: Variable<'_>, number: u64) {
    ack.set(VariableScope::Transaction, name, TypedValue::Int64(i64::try_from(number).unwrap_or(i64::MAX)));
}
