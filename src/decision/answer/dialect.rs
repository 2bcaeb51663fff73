//! The text of a refusal, in the dialect of its route: one line of JSON, with control characters escaped, and never a
//! secret or an address.

use crate::decision::plan::excess::{OptionExcess, RequestedAmount, Unit};
use crate::decision::plan::limits::Window;
use crate::decision::reason::{Code, Reason};
use crate::decision::request::endpoint::Dialect;
use crate::decision::verdict::Refusal;
use std::fmt::Write;

/// Returns the JSON body of a refusal.
///
/// One line without raw control characters or DEL: HAProxy 2.6 rewrites such bytes in `lf-string`.
pub fn refusal_body(refusal: &Refusal, dialect: Dialect) -> String {
    let message = message(refusal, dialect);
    let code = refusal.code();
    let mut body = String::with_capacity(message.len() + 128);
    match dialect {
        Dialect::Ollama => {
            body.push_str("{\"error\":");
            push_json_string(&mut body, &message);
            body.push('}');
        }
        Dialect::OpenAi => {
            body.push_str("{\"error\":{\"message\":");
            push_json_string(&mut body, &message);
            let (kind, code) = (openai_type(&refusal.reason), code.as_str());
            // Writing to a String cannot fail.
            let _ = match refusal.reason.option() {
                Some(option) => write!(body, ",\"type\":\"{kind}\",\"param\":\"{option}\",\"code\":\"{code}\"}}}}"),
                None => write!(body, ",\"type\":\"{kind}\",\"param\":null,\"code\":\"{code}\"}}}}"),
            };
        }
        Dialect::Anthropic => {
            let _ = write!(body, "{{\"type\":\"error\",\"error\":{{\"type\":\"{}\",\"message\":", anthropic_type(code));
            push_json_string(&mut body, &message);
            body.push_str("}}");
        }
    }
    body
}

/// Returns the text for people. It is the same for all reasons that a client must not tell apart.
fn message(refusal: &Refusal, dialect: Dialect) -> String {
    let model = refusal.model.as_deref().unwrap_or("");
    match refusal.code() {
        Code::InvalidApiKey => "a valid API key is required".into(),
        Code::ModelNotFound if dialect == Dialect::Ollama => format!("model '{model}' not found"),
        Code::ModelNotFound => format!("The model `{model}` does not exist or you do not have access to it."),
        Code::UnknownRoute => "unknown route".into(),
        Code::NotPermitted if refusal.reason == Reason::Blocked => "your access is suspended for a while".into(),
        Code::NotPermitted => match refusal.reason.option() {
            Some("keep_alive") => "your plan does not permit this `keep_alive`".into(),
            Some(option) => format!("your plan does not permit `{option}`"),
            None if refusal.reason == Reason::RouteNotInPlan => {
                "this endpoint is not offered to you through this gateway".into()
            }
            None => "your plan does not permit this request".into(),
        },
        Code::ExceedsLimit => match &refusal.reason {
            Reason::OverBound(excess) => excess_message(excess),
            Reason::NeverFits { held, most, .. } => {
                format!(
                    "prompt and output may need {held} tokens, and a limit permits at most {most}: \
                     shorten the prompt or ask for less output"
                )
            }
            _ => "the request asks for more than your plan permits".into(),
        },
        Code::InvalidBody | Code::AmbiguousBody => match &refusal.reason {
            Reason::Body(fault) => fault.public_message().to_string(),
            Reason::ModelInQuery => "the model must be named in the request body, not in the query".into(),
            _ => "the request body cannot be read".into(),
        },
        Code::BodyNotVisible => "the request body is larger than this gateway accepts".into(),
        Code::UnsupportedEncoding => "the request body must not have a content encoding".into(),
        Code::RateLimitExceeded => match refusal.retry_after_s {
            Some(seconds) => format!("rate limit exceeded, try again in {seconds} s"),
            None => "rate limit exceeded".into(),
        },
        Code::QuotaExceeded => match refusal.retry_after_s {
            Some(seconds) => format!("{} is used up, try again in {}", budget(&refusal.reason), duration(seconds)),
            None => format!("{} is used up", budget(&refusal.reason)),
        },
        Code::ConcurrencyExceeded => "too many requests at once, wait for one of them to end".into(),
        Code::NoServer if model.is_empty() => "no server is available right now".into(),
        Code::NoServer => format!("no server is available for model '{model}' right now"),
        Code::Overloaded => "the gateway is overloaded, try again".into(),
    }
}

fn budget(reason: &Reason) -> &'static str {
    match reason {
        Reason::Budget(_, Window::Day) => "the token budget of the day",
        Reason::Budget(_, Window::Month) => "the token budget of the month",
        _ => "the token budget",
    }
}

/// A wait as people say it: "45 s", "12 min", "22 h 48 min". Rounded up, so that nobody comes too early.
fn duration(seconds: u64) -> String {
    let minutes = seconds.div_ceil(60);
    match (minutes / 60, minutes % 60) {
        _ if seconds < 120 => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

fn excess_message(excess: &OptionExcess) -> String {
    let OptionExcess { option, asked, bound, unit } = excess;
    let unit = match unit {
        Unit::Output => "tokens of output",
        Unit::Context => "tokens of context",
        Unit::Seconds => "s",
        Unit::Images => "images",
        Unit::Bytes => "bytes each",
    };
    match asked {
        RequestedAmount::Given(asked) => {
            format!("`{option}` asks for {asked}, and your plan permits at most {bound} {unit}")
        }
        RequestedAmount::Times(asked, answers) => {
            format!("`{option}` for {answers} answers asks for {asked}, and your plan permits at most {bound} {unit}")
        }
        RequestedAmount::Endless => format!("`{option}` sets no bound, and your plan permits at most {bound} {unit}"),
        RequestedAmount::Open => format!("`{option}` must be given: your plan permits at most {bound} {unit}"),
    }
}

/// Returns OpenAI's `error.type` for a reason, as its API documents and returns it.
fn openai_type(reason: &Reason) -> &'static str {
    match reason.code() {
        Code::NotPermitted => "permission_error",
        Code::RateLimitExceeded if reason.is_about_tokens() => "tokens",
        Code::RateLimitExceeded | Code::ConcurrencyExceeded => "requests",
        Code::QuotaExceeded => "insufficient_quota",
        Code::NoServer | Code::Overloaded => "server_error",
        Code::InvalidApiKey
        | Code::ModelNotFound
        | Code::UnknownRoute
        | Code::ExceedsLimit
        | Code::InvalidBody
        | Code::AmbiguousBody
        | Code::BodyNotVisible
        | Code::UnsupportedEncoding => "invalid_request_error",
    }
}

/// Returns Anthropic's `error.type` (its API reference, "Errors": a closed set on which its SDK switches).
fn anthropic_type(code: Code) -> &'static str {
    match code {
        Code::InvalidApiKey => "authentication_error",
        Code::NotPermitted => "permission_error",
        Code::ModelNotFound | Code::UnknownRoute => "not_found_error",
        Code::ExceedsLimit | Code::InvalidBody | Code::AmbiguousBody | Code::UnsupportedEncoding => {
            "invalid_request_error"
        }
        Code::BodyNotVisible => "request_too_large",
        Code::RateLimitExceeded | Code::QuotaExceeded | Code::ConcurrencyExceeded => "rate_limit_error",
        Code::NoServer | Code::Overloaded => "overloaded_error",
    }
}

/// Appends a JSON string (RFC 8259 section 7) with every control character and DEL escaped.
pub fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::plan::limits::Holder;

    fn check(reason: Reason, retry_after_s: Option<u64>, model: Option<&str>, dialect: Dialect, expected: &str) {
        let refusal = Refusal { retry_after_s, model: model.map(Into::into), ..Refusal::new(reason) };
        assert_eq!(refusal_body(&refusal, dialect), expected);
    }

    #[test]
    fn bodies_speak_the_dialect_of_their_route() {
        use Dialect::{Anthropic, Ollama, OpenAi};
        check(Reason::UnknownKey, None, None, Ollama, r#"{"error":"a valid API key is required"}"#);
        check(
            Reason::UnknownKey,
            None,
            None,
            OpenAi,
            r#"{"error":{"message":"a valid API key is required","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
        );
        check(
            Reason::UnknownKey,
            None,
            None,
            Anthropic,
            r#"{"type":"error","error":{"type":"authentication_error","message":"a valid API key is required"}}"#,
        );
        check(Reason::UnknownModel, None, Some("x"), Ollama, r#"{"error":"model 'x' not found"}"#);
        check(
            Reason::ModelNotInPlan,
            None,
            Some("x"),
            OpenAi,
            r#"{"error":{"message":"The model `x` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
        );
        check(
            Reason::RequestRate(Holder::Key),
            Some(7),
            None,
            OpenAi,
            r#"{"error":{"message":"rate limit exceeded, try again in 7 s","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
        );
        check(
            Reason::NoServer,
            Some(5),
            Some("llama3.2:3b"),
            Anthropic,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"no server is available for model 'llama3.2:3b' right now"}}"#,
        );
        check(
            Reason::BodyNotVisible,
            None,
            None,
            Ollama,
            r#"{"error":"the request body is larger than this gateway accepts"}"#,
        );
        check(
            Reason::RouteNotInPlan,
            None,
            None,
            Ollama,
            r#"{"error":"this endpoint is not offered to you through this gateway"}"#,
        );
    }

    #[test]
    fn a_budget_says_which_one_it_is_and_the_wait_in_hours_and_minutes() {
        let waits = [
            (Some(7), "try again in 7 s"),
            (Some(119), "try again in 119 s"),
            (Some(120), "try again in 2 min"),
            (Some(3_540), "try again in 59 min"),
            (Some(3_541), "try again in 1 h"),
            (Some(82_129), "try again in 22 h 49 min"),
            (Some(u64::MAX), "try again in 5124095576030431 h 1 min"),
        ];
        for (retry_after_s, wait) in waits {
            let expected = format!(r#"{{"error":"the token budget of the day is used up, {wait}"}}"#);
            check(Reason::Budget(Holder::Key, Window::Day), retry_after_s, None, Dialect::Ollama, &expected);
        }
        let expected = r#"{"error":"the token budget of the month is used up"}"#;
        check(Reason::Budget(Holder::Team, Window::Month), None, None, Dialect::Ollama, expected);
    }

    #[test]
    fn one_answer_for_reasons_that_must_not_be_told_apart() {
        let groups: [&[Reason]; 2] = [
            &[
                Reason::NoCredential,
                Reason::SeveralCredentials,
                Reason::MalformedCredential,
                Reason::UnknownKey,
                Reason::ExpiredKey,
                Reason::RevokedKey,
            ],
            &[Reason::UnknownModel, Reason::ModelNotInPlan],
        ];
        for dialect in [Dialect::Ollama, Dialect::OpenAi, Dialect::Anthropic] {
            for group in groups {
                let bodies: std::collections::BTreeSet<_> =
                    group.iter().map(|reason| refusal_body(&Refusal::new(reason.clone()), dialect)).collect();
                assert_eq!(bodies.len(), 1, "{bodies:?}");
            }
        }
    }

    #[test]
    fn a_clients_text_cannot_break_out_of_the_line_or_the_string() {
        let hostile = "a\"b\\c\nd\re\u{0}f\u{7f}g\u{85}h\u{1f999}%[src]$HOME";
        for dialect in [Dialect::Ollama, Dialect::OpenAi, Dialect::Anthropic] {
            let refusal = Refusal { model: Some(hostile.into()), ..Refusal::new(Reason::UnknownModel) };
            let body = refusal_body(&refusal, dialect);
            assert!(body.chars().all(|character| !character.is_control()), "{body:?}");
            let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert!(parsed.to_string().contains("%[src]$HOME"), "{parsed}");
        }
    }
}
