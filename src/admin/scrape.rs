//! `GET /metrics`: all metrics, in the format that the scraper asks for.

use super::{Admin, TEXT, plain};
use crate::decision::view::View;
use crate::metrics::TextFormat;
use crate::net::accept::{Accept, Offer};
use crate::net::http::HttpAnswer;
use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderMap};

const CLASSIC: Offer<'static> =
    Offer { kind: "text", subtype: "plain", parameters: &[("version", "0.0.4"), ("charset", "utf-8")] };

const OPENMETRICS: Offer<'static> = Offer {
    kind: "application",
    subtype: "openmetrics-text",
    parameters: &[("version", "1.0.0"), ("charset", "utf-8")],
};

/// Answers with all metrics.
pub(super) fn answer(admin: &Admin, view: &View, headers: &HeaderMap) -> HttpAnswer {
    let format = format_for(headers);
    match admin.metrics.render(view, format) {
        Ok(text) => plain(StatusCode::OK, format.content_type(), text),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

/// Returns OpenMetrics where `Accept` names it and wants it no less than the classic format. Anything else, malformed headers
/// included, gets the classic format, which every scraper reads.
fn format_for(headers: &HeaderMap) -> TextFormat {
    let lines: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok()).collect();
    let Some(accept) = Accept::read(&lines.join(",")) else { return TextFormat::Classic };
    let openmetrics = accept.named_weight(OPENMETRICS);
    if openmetrics > 0 && openmetrics >= accept.weight(CLASSIC) { TextFormat::OpenMetrics } else { TextFormat::Classic }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TextFormat::{Classic, OpenMetrics};
    use hyper::header::HeaderValue;

    fn check(lines: &[&str], expected: TextFormat) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        assert_eq!(format_for(&headers), expected, "{lines:?}");
    }

    #[test]
    fn openmetrics_is_for_who_names_it_and_wants_it_no_less() {
        check(&[], Classic);
        check(&["*/*"], Classic);
        check(&["application/*"], Classic);
        check(&["application/json"], Classic);
        check(&["text/plain"], Classic);
        check(&["application/openmetrics-text"], OpenMetrics);
        check(&["application/openmetrics-text; version=1.0.0; charset=utf-8"], OpenMetrics);
        check(&["application/openmetrics-text;version=0.0.1"], Classic);
        check(&["application/openmetrics-text;q=0"], Classic);
        check(&["application/openmetrics-text;q=0, text/plain;q=0"], Classic);
        check(&["application/openmetrics-text, text/plain"], OpenMetrics);
        check(&["application/openmetrics-text;q=0.4, text/plain;q=0.5"], Classic);
        check(&["application/openmetrics-text;q=0.5, */*"], Classic);
        check(&["text/plain;q=0.5", "application/openmetrics-text"], OpenMetrics);
        check(&["application/openmetrics-text;q=2"], Classic);
        check(&["application/openmetrics-text, \u{e4}"], Classic);
    }

    /// What Prometheus 2.42 and 3 send by default.
    #[test]
    fn prometheus_gets_openmetrics() {
        check(
            &["application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
               text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
            OpenMetrics,
        );
        check(
            &["application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
               application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
               text/plain;version=0.0.4;q=0.3,*/*;q=0.2"],
            OpenMetrics,
        );
    }
}
