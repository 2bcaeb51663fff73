//! Tokens from bytes, against answers made of known parts: before anything is learned, after checks, after exact figures.

use herdgate::decision::fleet::roster::PoolKey;
use herdgate::decision::plan::limits::{Cost, Demand, RequestedOutput, Tokens};
use herdgate::decision::plan::server::ServerKind;
use herdgate::decision::request::endpoint::Endpoint;
use herdgate::ledger::tokens::estimate::{AnswerShape, Calibration, Estimated, Estimates, Exact, POOLS_MAX, Witness};
use herdgate::ledger::tokens::form::{AnswerKind, LAST_CHUNK, forms, framing};

/// A stand-in for a server: so many tokens of so many bytes each, `again` as its form has it.
#[derive(Clone, Copy)]
struct Truth {
    asked: AnswerKind,
    text: f64,
    id: f64,
    /// What a line has more than its known form.
    odd: f64,
}

const CHAT: AnswerKind =
    AnswerKind { kind: ServerKind::Ollama, endpoint: Endpoint::Chat, stream: true, usage: false, raw: false };

impl Truth {
    fn answer(&self, tokens: u64, complete: bool, framed: bool) -> AnswerShape {
        let known = forms()[usize::from(self.asked.place().unwrap())].unwrap();
        let (n, name) = (tokens as f64, 12.0);
        let chunk = if framed { 0.0 } else { framing(known.line + self.odd + name + self.text) };
        let line = if known.line > 0.0 { known.line + self.odd + known.names_line * name - chunk } else { 0.0 };
        let mut bytes = known.opening + known.names_opening * name + n * (line + self.text);
        let ids = if known.ids { self.id * (n + 40.0) } else { 0.0 };
        if complete {
            let last = if framed || known.line == 0.0 { 0.0 } else { LAST_CHUNK + framing(known.closing) };
            bytes += known.closing + known.names_closing * name + n * self.text * known.again + ids - last;
        }
        let bytes = bytes.round() as u64;
        AnswerShape { pool: PoolKey::new(7), asked: self.asked, name: 12, prompt_tokens: 40, bytes, framed, complete }
    }

    /// What a check of two tokens measures.
    fn check(&self) -> Calibration {
        let known = forms()[usize::from(self.asked.place().unwrap())].unwrap();
        Calibration {
            answer: self.answer(2, true, true),
            opening: known.opening,
            line: known.line + self.odd,
            closing: known.closing,
            names: (known.names_opening, known.names_closing),
            lines: if self.asked.stream { 2 } else { 0 },
            text: (2.0 * self.text) as u64,
            tokens: Some(2),
            ids: known.ids.then_some((42, (42.0 * self.id) as u64)),
            prompt: Some((120, 40)),
        }
    }
}

fn every_form() -> impl Iterator<Item = AnswerKind> {
    let endpoints = [
        Endpoint::Generate,
        Endpoint::Chat,
        Endpoint::V1ChatCompletions,
        Endpoint::V1Completions,
        Endpoint::V1Responses,
        Endpoint::V1Messages,
    ];
    let kinds = [ServerKind::Ollama, ServerKind::OpenAi];
    kinds.into_iter().flat_map(move |kind| {
        endpoints.into_iter().flat_map(move |endpoint| {
            [(true, false, false), (true, true, false), (false, false, false), (true, false, true)]
                .map(|(stream, usage, raw)| AnswerKind { kind, endpoint, stream, usage, raw })
        })
    })
}

fn off(estimated: u64, exact: u64) -> f64 {
    (estimated as f64 - exact as f64) / exact as f64
}

/// By the known forms alone, with text of another length than believed.
#[test]
fn streams_are_estimated_before_anything_is_learned() {
    let estimates = Estimates::default();
    for asked in every_form().filter(|asked| asked.stream) {
        let truth = Truth { asked, text: 6.0, id: 5.0, odd: 0.0 };
        let most = if asked.endpoint == Endpoint::V1Responses { 0.08 } else { 0.03 };
        for (tokens, complete, framed) in [(50, true, true), (500, true, false), (500, false, true)] {
            let answer = truth.answer(tokens, complete, framed);
            let Estimated { tokens: found, margin } = estimates.estimate_output(&answer);
            assert!(off(found, tokens).abs() <= most, "{asked:?} {tokens} {complete} {framed}: {found}");
            assert!(found.abs_diff(tokens) <= margin, "{asked:?}: {found} ± {margin}, not {tokens}");
        }
    }
}

/// A server whose lines are longer than those of any known release.
#[test]
fn a_few_checks_of_two_tokens_teach_a_form() {
    for asked in every_form() {
        let truth = Truth { asked, text: 7.0, id: 6.5, odd: if asked.stream { 40.0 } else { 0.0 } };
        let mut estimates = Estimates::default();
        (0..40).for_each(|_| estimates.calibrate(&truth.check()));
        for (tokens, complete) in [(3, true), (30, true), (3000, true), (3000, false)] {
            if !complete && !asked.stream {
                continue; // what there is of a whole answer that broke off says nothing
            }
            let answer = truth.answer(tokens, complete, true);
            let found = estimates.estimate_output(&answer).tokens;
            assert!(found.abs_diff(tokens) <= 1 + tokens / 25, "{asked:?} {tokens} {complete}: {found}");
        }
        let sums = estimates.compared(Witness::Check, asked.stream);
        assert_eq!(sums.exact, 80, "{asked:?}");
    }
}

#[test]
fn exact_figures_correct_what_no_check_measured() {
    for framed in [true, false] {
        for asked in every_form() {
            let truth = Truth { asked, text: 3.0, id: 4.5, odd: if asked.stream { 60.0 } else { 0.0 } };
            let mut estimates = Estimates::default();
            for round in 0..200 {
                let tokens = 20 + round * 13 % 400;
                let answer = truth.answer(tokens, true, framed);
                estimates.observe_output(&answer, Exact { tokens, units: asked.stream.then_some(tokens) });
            }
            let answer = truth.answer(300, true, framed);
            let Estimated { tokens, margin } = estimates.estimate_output(&answer);
            assert!(off(tokens, 300).abs() <= 0.02, "{asked:?} framed {framed}: {tokens}");
            assert!(margin <= 15, "{asked:?}: ± {margin}");
            let sums = estimates.compared(Witness::Request, asked.stream);
            assert!(sums.exact > 0 && sums.estimated > 0);
        }
    }
}

#[test]
fn tokens_that_are_held_back_have_no_line() {
    let mut estimates = Estimates::default();
    let truth = Truth { asked: CHAT, text: 4.0, id: 5.0, odd: 0.0 };
    // Of ten tokens nine have a line.
    for _ in 0..200 {
        let answer = truth.answer(90, true, true);
        estimates.observe_output(&answer, Exact { tokens: 100, units: Some(90) });
    }
    let found = estimates.estimate_output(&truth.answer(900, true, true)).tokens;
    assert!(off(found, 1000).abs() < 0.02, "{found}");
    let cut = estimates.estimate_output(&truth.answer(900, false, true)).tokens;
    assert!(off(cut, 1000).abs() < 0.02, "{cut}");
}

#[test]
fn prompts_are_three_bytes_a_token_until_more_is_known() {
    let mut estimates = Estimates::default();
    for (bytes, images, expected) in [(0, 0, 0), (1, 0, 1), (3, 0, 1), (300, 0, 100), (301, 0, 101), (3, 2, 2001)] {
        assert_eq!(estimates.estimate_prompt(PoolKey::new(7), bytes, images), expected, "{bytes} {images}");
    }
    // Five bytes a token, and a template of 30 tokens: checks with and without it tell them apart.
    for _ in 0..20 {
        for (raw, tokens) in [(true, 24), (false, 54)] {
            let asked = AnswerKind { raw, endpoint: if raw { Endpoint::Generate } else { Endpoint::Chat }, ..CHAT };
            let check = Truth { asked, text: 4.0, id: 5.0, odd: 0.0 }.check();
            estimates.calibrate(&Calibration { prompt: Some((120, tokens)), ..check });
        }
    }
    for (bytes, expected) in [(120, 54), (10_000, 2030)] {
        assert!(off(estimates.estimate_prompt(PoolKey::new(7), bytes, 0), expected).abs() < 0.05, "{bytes}");
    }
    // With images nothing is learned, and no single request teaches anything absurd.
    let before = estimates.estimate_prompt(PoolKey::new(7), 10_000, 0);
    estimates.observe_prompt(PoolKey::new(7), 10, 3, 4_000);
    assert_eq!(estimates.estimate_prompt(PoolKey::new(7), 10_000, 0), before);
    (0..50).for_each(|_| estimates.observe_prompt(PoolKey::new(7), 100, 0, u64::MAX));
    assert!(estimates.estimate_prompt(PoolKey::new(7), 10_000, 0) <= 12_000);
}

#[test]
fn odd_figures_bend_nothing_out_of_bounds() {
    let mut estimates = Estimates::default();
    let truth = Truth { asked: CHAT, text: 5.0, id: 5.0, odd: 0.0 };
    for bytes in [0, 1, 100, u64::MAX] {
        for tokens in [0, 1, 1_000_000, u64::MAX] {
            let answer = AnswerShape { bytes, ..truth.answer(10, true, true) };
            (0..20).for_each(|_| {
                estimates.observe_output(&answer, Exact { tokens, units: Some(u64::MAX) });
            });
            estimates.estimate_output(&answer);
        }
    }
    let found = estimates.estimate_output(&truth.answer(1000, true, true)).tokens;
    assert!((200..=5000).contains(&found), "{found}");
    // Nor is more remembered than there is room for.
    let most = POOLS_MAX as u64;
    (1..=most + 10).for_each(|pool| estimates.observe_prompt(PoolKey::new(pool), 100, 0, 30));
    assert_eq!([most, most + 1].map(|pool| estimates.ratios(PoolKey::new(pool).unwrap()).is_some()), [true, false]);
    estimates.retain_pools(|pool| pool.get() == 3);
    assert_eq!([3, 4].map(|pool| estimates.ratios(PoolKey::new(pool).unwrap()).is_some()), [true, false]);
}

#[test]
fn an_endpoint_without_tokens_has_none() {
    let asked = AnswerKind { endpoint: Endpoint::Embed, stream: false, ..CHAT };
    let answer = AnswerShape { asked, ..Truth { asked: CHAT, text: 1.0, id: 1.0, odd: 0.0 }.answer(5, true, true) };
    assert_eq!(Estimates::default().estimate_output(&answer), Estimated::default());
}

/// What is asked for is held as it is, though it never fits; of what nobody asked for, no more than fits.
#[test]
fn output_is_held_as_it_was_asked_for_and_otherwise_as_it_usually_is_within_the_limits() {
    let mut estimates = Estimates::default();
    let cost = Cost { input_milli: 1000, output_milli: 2000 };
    let check = |output, room, expected| {
        let demand = Demand { output, cost, ..Demand::default() };
        let Tokens { prompt, output: usual } = estimates.expected(PoolKey::new(7), &demand, None);
        let found = estimates.expected(PoolKey::new(7), &demand, room).output;
        assert_eq!(found, expected, "{output:?} in {room:?}: prompt {prompt}, {usual} without limits");
        prompt
    };
    let prompt = check(RequestedOutput::Nothing, None, 0);
    check(RequestedOutput::Open(None), None, 512);
    check(RequestedOutput::Open(Some(100)), None, 100);
    check(RequestedOutput::Open(None), Some(300 + prompt), 150);
    check(RequestedOutput::Open(None), Some(0), 0);
    check(RequestedOutput::AtMost(4000), Some(300), 4000);
    // In a way that not every program reads (`n_predict` on vLLM): no less than what is usual.
    check(RequestedOutput::AtLeast(1, None), None, 512);
    check(RequestedOutput::AtLeast(900, None), None, 900);
    check(RequestedOutput::AtLeast(1, None), Some(300 + prompt), 150);
    for _ in 0..100 {
        estimates.note(PoolKey::new(7), 3_000, None);
    }
    let demand = Demand { output: RequestedOutput::Open(None), cost, ..Demand::default() };
    assert!(estimates.expected(PoolKey::new(7), &demand, None).output >= 3_000);
    assert_eq!(
        estimates.expected(PoolKey::new(7), &demand, Some(300 + prompt)).output,
        150,
        "what others generate makes no limit too small"
    );
}
