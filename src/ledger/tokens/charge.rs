//! What a request is charged, from the best evidence there is of what it used. Pure.
//!
//! | what the line says | charged |
//! |---|---|
//! | no server was reached | nothing |
//! | a server was reached and sent no head | the prompt, and the time it took at the pace learned, up to the reservation |
//! | a server answered with an error | nothing: it generated nothing |
//! | an answer that ended as it should, with figures of the server's own | these figures (`exact`) |
//! | an answer that broke off or failed, its units counted | units (`counted`); the prompt as reported, else as reserved |
//! | an answer whose bytes are known | what these bytes usually hold (`estimated`) |
//! | an answer of which nothing else is known | the reservation |
//!
//! A server leaves figures out that are zero (Ollama's `omitempty`: `prompt_eval_count` of a cached prompt, `eval_count` of
//! an empty answer, both for `/api/embeddings`), so one figure without the other means that the other is zero. A broken
//! stream's own figures stand where they are higher than what was counted.

use super::estimate::{AnswerShape, Estimates};
use super::observed::{Figures, ObservedUsage};
use crate::decision::request::endpoint::Endpoint;
use crate::ledger::reservation::{Evidence, Reservation, Tokens};

/// Returns what is charged for a request, by the table above.
pub fn figures(taken: &Reservation, seen: &ObservedUsage, learned: &Estimates) -> Figures {
    let nothing = Figures { evidence: Evidence::Exact, tokens: Tokens::NONE };
    let known = |evidence, prompt, output| Figures { evidence, tokens: Tokens { prompt, output } };
    let reserved = taken.tokens;
    if !seen.reached {
        return nothing;
    }
    if !seen.answered {
        let generated = seen.ms_served.map_or(reserved.output, |ms| learned.tokens_in_time(taken.pool, ms));
        return known(Evidence::Estimated, reserved.prompt, generated.min(reserved.output));
    }
    if seen.status.is_some_and(|status| status >= 400) && seen.units.unwrap_or(0) == 0 {
        return nothing;
    }
    let reported = seen.tokens_in.is_some() || seen.tokens_out.is_some();
    if reported && seen.complete && !seen.failed {
        return known(Evidence::Exact, seen.tokens_in.unwrap_or(0), seen.tokens_out.unwrap_or(0));
    }
    let prompt = seen.tokens_in.unwrap_or(reserved.prompt);
    if let (Some(units), true) = (seen.units, taken.stream) {
        return known(Evidence::Counted, prompt, units.max(seen.tokens_out.unwrap_or(0)));
    }
    if generates_nothing(taken.endpoint) {
        return known(Evidence::Estimated, prompt, 0);
    }
    match seen.bytes_out {
        Some(bytes) => {
            let generated = learned.estimate_output(&AnswerShape::of(taken, seen, bytes)).tokens;
            known(Evidence::Estimated, prompt, generated.max(seen.tokens_out.unwrap_or(0)))
        }
        None => Figures { evidence: Evidence::Reserved, tokens: reserved },
    }
}

/// Returns whether an endpoint answers with vectors or a description.
fn generates_nothing(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::Embed | Endpoint::Embeddings | Endpoint::V1Embeddings | Endpoint::Show)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::fleet::roster::PoolKey;
    use crate::decision::plan::limits::{Cost, Scopes};
    use crate::ledger::reservation::CallerName;

    /// Checks a request with 40 tokens reserved for its prompt and 500 for its output.
    fn check(endpoint: Endpoint, stream: bool, seen: ObservedUsage, expected: (Evidence, u64, u64)) {
        let taken = Reservation {
            id: 1,
            uid: None,
            scopes: Scopes::default(),
            caller: CallerName::new("ann"),
            user: None,
            team: None,
            model: None,
            endpoint,
            stream,
            server: None,
            pool: PoolKey::new(7),
            opened_ns: 0,
            opened_unix_ms: 0,
            tokens: Tokens { prompt: 40, output: 500 },
            cost: Cost::default(),
            written: Default::default(),
        };
        // Ten tokens a second.
        let mut learned = Estimates::default();
        learned.note(PoolKey::new(7), 100, Some(10_000));
        let found = figures(&taken, &seen, &learned);
        assert_eq!((found.evidence, found.tokens.prompt, found.tokens.output), expected, "{endpoint:?} {seen:?}");
    }

    fn answer() -> ObservedUsage {
        ObservedUsage {
            status: Some(200),
            complete: true,
            ms: Some(9_000),
            ms_served: Some(5_000),
            ..ObservedUsage::default()
        }
    }

    #[test]
    fn each_kind_of_evidence_is_charged_as_the_table_says() {
        use Evidence::{Counted, Estimated, Exact, Reserved};
        let nothing = (Exact, 0, 0);
        let chat = |seen, expected| check(Endpoint::Chat, true, seen, expected);
        chat(ObservedUsage { reached: false, answered: false, status: Some(503), ..answer() }, nothing);
        // The prompt was read, and five seconds are fifty tokens; never more than was reserved.
        chat(ObservedUsage { answered: false, status: None, complete: false, ..answer() }, (Estimated, 40, 50));
        let long = ObservedUsage { answered: false, ms_served: Some(600_000), ..answer() };
        chat(long.clone(), (Estimated, 40, 500));
        chat(ObservedUsage { ms_served: None, ..long }, (Estimated, 40, 500));
        // Errors that brought nothing.
        for status in [400, 404, 429, 500, 503] {
            chat(ObservedUsage { status: Some(status), bytes_out: Some(300), ..answer() }, nothing);
        }
        // A whole answer with the server's own figures; what is zero is left out (Ollama's omitempty).
        let figures = |tokens_in, tokens_out| ObservedUsage { tokens_in, tokens_out, units: Some(9), ..answer() };
        chat(figures(Some(17), Some(9)), (Exact, 17, 9));
        chat(figures(None, Some(9)), (Exact, 0, 9));
        chat(figures(Some(17), None), (Exact, 17, 0));
        // Broken off: what was counted, or what the stream had said by then where that is more.
        chat(ObservedUsage { complete: false, ..figures(None, None) }, (Counted, 40, 9));
        chat(ObservedUsage { complete: false, ..figures(Some(17), Some(12)) }, (Counted, 17, 12));
        chat(ObservedUsage { complete: false, units: Some(0), ..figures(None, None) }, (Counted, 40, 0));
        // An error in a stream of status 200 (llama.cpp, Ollama): what came before it.
        chat(ObservedUsage { failed: true, ..figures(None, None) }, (Counted, 40, 9));
        // A stream without figures that ended as it should.
        chat(figures(None, None), (Counted, 40, 9));
        // Nobody counted: bytes, and without them what was reserved.
        chat(ObservedUsage { bytes_out: Some(1_650), ..answer() }, (Estimated, 40, 10));
        chat(answer(), (Reserved, 40, 500));
    }

    #[test]
    fn what_embeds_generates_nothing() {
        use Evidence::{Estimated, Exact};
        for endpoint in [Endpoint::Embed, Endpoint::V1Embeddings] {
            check(endpoint, false, ObservedUsage { tokens_in: Some(17), ..answer() }, (Exact, 17, 0));
        }
        // Ollama's old endpoint says nothing of tokens.
        check(Endpoint::Embeddings, false, ObservedUsage { bytes_out: Some(9_000), ..answer() }, (Estimated, 40, 0));
    }
}
