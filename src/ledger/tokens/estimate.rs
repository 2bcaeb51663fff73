//! Tokens from bytes: what can be known of an answer behind nginx, which sees no usage; and the tokens of a prompt
//! before it is sent. Learned per pool. Pure.
//!
//! **Answers.** The bytes of an answer are `fixed + tokens × each`. Of a stream almost all of `each` is the line around a
//! token, which is known to the byte from the streams of deep checks (`probe/measure`) or from the program's source
//! (`form`); the text, 1 to 12 bytes a token, is the small part, learned as a mean. So streams are estimated well by a
//! model that was only ever asked for two tokens at a time. Of a whole answer the text is all there is, and the mean of a
//! few tokens is as good as it is. Exact figures, wherever they come from, correct offset and slope of each form (`fit`).
//! A server may hold a token back until a character is complete, so a token has a little less than one line: learned too.
//!
//! **Prompts.** `offset + bytes × ratio`: the offset is the model's template. Before anything is learned a token is 3 bytes
//! (`PROMPT_BYTES`), less than ordinary text has, so that what is reserved is rather too much.
//!
//! **Who can bend it.** Clients choose their texts, so one who sends odd ones moves the means of that model a little: no
//! single request moves them by more than its share, each is taken at no less than a quarter and no more than four times
//! of what was expected, and ratios stay within bounds. Nothing here allocates once a pool is known, and what is
//! remembered is bounded by [`POOLS_MAX`].

use super::fit::{Fit, Mean, Prior};
use super::form::{AnswerKind, FORMS, Form, LAST_CHUNK, forms, framing};
use super::observed::{Figures, ObservedUsage};
use crate::decision::fleet::roster::PoolKey;
use crate::decision::plan::limits::{Demand, RequestShape, RequestedOutput};
use crate::decision::plan::server::ServerKind;
use crate::decision::request::endpoint::Endpoint;
use crate::ledger::histogram::Histogram;
use crate::ledger::reservation::{Evidence, Reservation, Tokens};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Most pools remembered; those beyond are estimated by the priors.
pub const POOLS_MAX: usize = 4096;

/// Tokens taken for one image. What models make of one differs and depends on its size: 256 (Gemma 3, fixed), 576
/// (LLaVA 1.5, 24 × 24 patches), 765 (OpenAI, 1024 × 1024 in high detail), 1,369 (Qwen2-VL, 1024 × 1024 at 28 × 28
/// pixels a token). Figures of the models' papers and of OpenAI's vision guide; this one is above most.
pub const IMAGE_TOKENS: u64 = 1_000;

/// Bytes of a prompt token before anything is learned.
const PROMPT_BYTES: f64 = 3.0;

/// The bytes of prompt that this belief is worth, and the points that the belief in an offset of 0 is worth.
const PROMPT_WEIGHT: f64 = 60.0;
const PROMPT_OFFSET_WEIGHT: f64 = 1.0 / 300.0;

/// Least and most bytes a prompt token is taken to have.
const PROMPT_RANGE: (f64, f64) = (1.0, 12.0);

/// Most tokens a template is taken to add.
const TEMPLATE_MAX: f64 = 2000.0;

/// Bytes of text a generated token has before anything is learned, and how many tokens that belief is worth.
const TEXT_BYTES: f64 = 4.0;
const TEXT_WEIGHT: f64 = 4.0;

/// Least and most bytes of text a token is taken to have.
const TEXT_RANGE: (f64, f64) = (0.5, 24.0);

/// The belief that each token has a line: the tokens that it is worth, and the least share of tokens taken to have one.
const LINES_WEIGHT: f64 = 50.0;
const LINES_MIN: f64 = 0.5;

/// Bytes of a token's number in `context`, its comma included: vocabularies have 32,000 to 256,000.
const ID_BYTES: f64 = 5.2;
const ID_WEIGHT: f64 = 10.0;

/// The tokens of output that a form is worth against exact figures, and the points of one token that its fixed part is
/// worth.
const FORM_WEIGHT: f64 = 200.0;
const FORM_OFFSET_WEIGHT: f64 = 0.1;

/// Tokens over which means are taken.
const MEMORY: f64 = 50_000.0;

/// Most measures of one form that count: a new release of the server is taken up in so many checks.
const MEASURES: f64 = 16.0;

/// The lengths that must be known before one is usual, the tokens reserved before that, and the least that are.
const LENGTHS_MIN: u32 = 16;
const LENGTH_UNLEARNED: u64 = 512;
const LENGTH_FLOOR: u64 = 64;

/// Milliseconds over which the pace of generation is learned.
const PACE_MS: u64 = 3_600_000;

/// An answer as a proxy saw it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnswerShape {
    /// Its pool; absent where the body is hidden.
    pub pool: Option<PoolKey>,
    /// The kind of answer that was asked for.
    pub asked: AnswerKind,
    /// Bytes of the model's name as the server was told it, because answers repeat it.
    pub name: u64,
    /// Tokens of the prompt, known or estimated.
    pub prompt_tokens: u64,
    /// Bytes that came from the server, head included.
    pub bytes: u64,
    /// Whether the framing of HTTP/1.1 is among them: nginx's `$upstream_bytes_received` counts it.
    pub framed: bool,
    /// Whether the answer came to its end.
    pub complete: bool,
}

/// The figures of an answer that are exactly known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exact {
    /// Its tokens.
    pub tokens: u64,
    /// The lines or events with content, where the proxy counted them.
    pub units: Option<u64>,
}

/// The tokens of an answer as its bytes tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimated {
    /// Tokens.
    pub tokens: u64,
    /// The tokens by which that may be wrong either way, as far as is known.
    pub margin: u64,
}

/// What a deep check measured of one answer. Names, text and numbers of tokens are left out of the three parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// The answer as a proxy would have seen it.
    pub answer: AnswerShape,
    /// See [`Form::opening`]; so the others.
    pub opening: f64,
    /// The mean of the lines, see [`Form::line`].
    pub line: f64,
    /// See [`Form::closing`].
    pub closing: f64,
    /// How often the model's name was written before the first line, and after the last.
    pub names: (f64, f64),
    /// Lines with text; 0 in a whole answer.
    pub lines: u64,
    /// Bytes of text as written, escapes included.
    pub text: u64,
    /// Tokens of the answer, where the server said so.
    pub tokens: Option<u64>,
    /// How many numbers of tokens its end listed, and their bytes with commas.
    pub ids: Option<(u64, u64)>,
    /// Bytes of the prompt, and the tokens that the server reported for it.
    pub prompt: Option<(u64, u64)>,
}

closed_enum! {
    /// The source of the exact figures that estimates were compared with.
    pub enum Witness {
        /// A deep check.
        Check = "check",
        /// A client's request.
        Request = "request",
    }
}

/// Sums over the answers of which the estimate and the exact figure were known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Comparison {
    /// The estimated tokens, before the exact figure was learned from.
    pub estimated: u64,
    /// The exact tokens.
    pub exact: u64,
}

/// What was learned of one form of answers.
#[derive(Debug, Clone, Copy)]
struct Learned {
    place: u8,
    /// The form as checks measured it.
    measured: Option<Form>,
    measures: f64,
    fit: Fit,
}

/// What was learned of one pool.
#[derive(Debug, Clone, Default)]
struct PoolEstimates {
    /// Bytes of text a token.
    text: Mean,
    /// Lines a token.
    lines: Mean,
    /// Bytes of a token's number.
    id: Mean,
    prompt: Fit,
    lengths: Histogram,
    /// Tokens generated, and the time that took.
    tokens: u64,
    ms: u64,
    /// At most [`FORMS`].
    learned: Vec<Learned>,
}

/// What was learned of every pool.
#[derive(Debug)]
pub struct Estimates {
    pools: HashMap<Option<PoolKey>, PoolEstimates, RandomState>,
    known: [Option<Form>; FORMS],
    /// By witness, then whole and stream.
    compared: [[Comparison; 2]; 2],
}

impl Default for Estimates {
    fn default() -> Estimates {
        Estimates { pools: HashMap::default(), known: forms(), compared: Default::default() }
    }
}

/// The parts of an answer in one reckoning: fixed bytes, bytes a token, and how uncertain both are.
struct Reckoning {
    fixed: f64,
    each: f64,
    fixed_doubt: f64,
    each_doubt: f64,
}

impl AnswerShape {
    /// Returns the shape of the answer of a request that ended.
    pub fn of(taken: &Reservation, seen: &ObservedUsage, bytes: u64) -> AnswerShape {
        let RequestShape { name, usage, raw, openai, .. } = taken.written;
        let kind = if openai { ServerKind::OpenAi } else { ServerKind::Ollama };
        AnswerShape {
            pool: taken.pool,
            asked: AnswerKind { kind, endpoint: taken.endpoint, stream: taken.stream, usage, raw },
            name: name.into(),
            prompt_tokens: seen.tokens_in.unwrap_or(taken.tokens.prompt),
            bytes,
            framed: seen.framed,
            complete: seen.complete && !seen.failed,
        }
    }
}

impl Estimates {
    /// Returns the tokens to reserve for a request. Where the request gives no bound on its output that every server
    /// reads, no more than usual is reserved, and no more than fits into `room` (weighted tokens) beside the prompt, but at
    /// least what it asks for: otherwise a model's usual output length could exceed a small limit and every request would
    /// be refused.
    pub fn expected(&self, pool: Option<PoolKey>, demand: &Demand, room: Option<u64>) -> Tokens {
        let prompt = self.estimate_prompt(pool, demand.written.prompt_bytes, demand.written.images.into());
        let output = match demand.output {
            RequestedOutput::Nothing => 0,
            RequestedOutput::AtMost(tokens) => tokens,
            RequestedOutput::Open(bound) => self.usual_within(pool, bound, prompt, demand, room),
            RequestedOutput::AtLeast(tokens, bound) => self.usual_within(pool, bound, prompt, demand, room).max(tokens),
        };
        Tokens { prompt, output }
    }

    fn usual_within(
        &self,
        pool: Option<PoolKey>,
        bound: Option<u64>,
        prompt: u64,
        demand: &Demand,
        room: Option<u64>,
    ) -> u64 {
        let usual = self.usual_length(pool).unwrap_or(LENGTH_UNLEARNED).min(bound.unwrap_or(u64::MAX));
        let Some(room) = room else { return usual };
        let left_milli = room.saturating_mul(1000).saturating_sub(demand.cost.of(Tokens { prompt, output: 0 }));
        let fits = left_milli.checked_div(u64::from(demand.cost.output_milli)).unwrap_or(u64::MAX);
        usual.min(fits)
    }

    /// Learns from a request that ended with an answer: how long answers are, and, where the server gave the figures
    /// itself, how many tokens are in bytes.
    pub fn settled(&mut self, taken: &Reservation, seen: &ObservedUsage, found: Figures) {
        if found.evidence < Evidence::Estimated || seen.status.is_some_and(|status| status >= 400) {
            return;
        }
        self.note(taken.pool, found.tokens.output, seen.ms_served);
        if found.evidence != Evidence::Exact {
            return;
        }
        if let (Some(bytes), Some(tokens)) = (seen.bytes_out, seen.tokens_out) {
            self.observe_output(&AnswerShape::of(taken, seen, bytes), Exact { tokens, units: seen.units });
        }
        if let Some(tokens) = seen.tokens_in {
            self.observe_prompt(taken.pool, taken.written.prompt_bytes, taken.written.images.into(), tokens);
        }
    }

    /// Learns how long answers are, and how fast they come where that is known.
    pub fn note(&mut self, pool: Option<PoolKey>, tokens_out: u64, ms: Option<u64>) {
        let Some(pool) = self.pool(pool).filter(|_| tokens_out > 0) else { return };
        pool.lengths.note(tokens_out);
        if let Some(ms) = ms {
            pool.tokens = pool.tokens.saturating_add(tokens_out);
            pool.ms = pool.ms.saturating_add(ms);
            if pool.ms > PACE_MS {
                pool.tokens /= 2;
                pool.ms /= 2;
            }
        }
    }

    /// Returns the tokens that are usually generated in so many milliseconds.
    pub fn tokens_in_time(&self, pool: Option<PoolKey>, ms: u64) -> u64 {
        match self.pools.get(&pool) {
            Some(pool) if pool.ms > 0 => pool.tokens.saturating_mul(ms) / pool.ms,
            _ => u64::MAX,
        }
    }

    /// Returns the tokens of an answer; zero where the endpoint answers without tokens.
    pub fn estimate_output(&self, answer: &AnswerShape) -> Estimated {
        let Some(Reckoning { fixed, each, fixed_doubt, each_doubt }) = self.reckon(answer) else {
            return Estimated::default();
        };
        let tokens = ((answer.bytes as f64 - fixed) / each).max(0.0);
        let margin = (tokens * each_doubt + fixed_doubt) / each;
        // `as` saturates.
        Estimated { tokens: tokens.round() as u64, margin: margin.ceil() as u64 }
    }

    /// Learns from an answer of which the tokens are exactly known. Returns what the estimate would have been.
    pub fn observe_output(&mut self, answer: &AnswerShape, exact: Exact) -> Estimated {
        let estimated = self.estimate_output(answer);
        self.compare(Witness::Request, answer.asked.stream, estimated.tokens, exact.tokens);
        let Some((place, form)) = self.form(answer) else { return estimated };
        let Some(pool) = self.pool(answer.pool) else { return estimated };
        if exact.tokens == 0 {
            return estimated;
        }
        let tokens = exact.tokens as f64;
        if let Some(units) = exact.units.filter(|units| *units > 0 && answer.asked.stream) {
            let counted = tokens.min(1000.0);
            pool.lines.add((units as f64 / tokens).min(1.0) * counted, counted, MEMORY);
        }
        if !answer.complete {
            return estimated;
        }
        let parts = Parts::of(pool, &form);
        // What is left when everything is taken off that the form's own line does not hold.
        let beside = parts.beside(&form, answer, tokens);
        let believed = form.opening + form.closing + tokens * parts.each(&form);
        let bytes = (answer.bytes as f64 - beside).clamp(believed / 4.0, believed * 4.0);
        if !answer.asked.stream {
            let text = (bytes - form.opening - form.closing) / (1.0 + form.again) - parts.id(&form) * tokens;
            let counted = tokens.min(1000.0);
            let each = (text / tokens).clamp(TEXT_RANGE.0, TEXT_RANGE.1);
            pool.text.add(each * counted, counted, MEMORY);
        }
        if let Some(learned) = pool.learned(place) {
            learned.fit.add(tokens, bytes);
        }
        estimated
    }

    /// Returns the tokens of a prompt of so many bytes and images.
    pub fn estimate_prompt(&self, pool: Option<PoolKey>, prompt_bytes: u64, images: u64) -> u64 {
        let (offset, slope) = self.pools.get(&pool).map_or((0.0, 1.0 / PROMPT_BYTES), PoolEstimates::prompt_line);
        // Less what a sum of fractions is too much by.
        let text = (offset + slope * prompt_bytes as f64 - 1e-6).ceil().max(0.0) as u64;
        text.saturating_add(images.saturating_mul(IMAGE_TOKENS))
    }

    /// Learns from a prompt of which the tokens are exactly known. One with images teaches nothing: how many tokens
    /// those took is not reported.
    pub fn observe_prompt(&mut self, pool: Option<PoolKey>, prompt_bytes: u64, images: u64, tokens: u64) {
        if images == 0 && prompt_bytes > 0 && tokens > 0 {
            self.learn_prompt(pool, prompt_bytes, tokens, true);
        }
    }

    fn learn_prompt(&mut self, pool: Option<PoolKey>, prompt_bytes: u64, tokens: u64, templated: bool) {
        let bytes = prompt_bytes as f64;
        let most = bytes / PROMPT_RANGE.0 + if templated { TEMPLATE_MAX } else { 0.0 };
        let tokens = (tokens as f64).clamp(bytes / PROMPT_RANGE.1, most);
        if let Some(pool) = self.pool(pool) {
            if templated {
                pool.prompt.add(bytes, tokens);
            } else {
                pool.prompt.add_slope(bytes, tokens);
            }
        }
    }

    /// Returns the length that 95 of 100 answers stay within, up to a quarter more, and at least 64 tokens; `None`
    /// before 16 ended.
    fn usual_length(&self, pool: Option<PoolKey>) -> Option<u64> {
        let lengths = &self.pools.get(&pool)?.lengths;
        if lengths.len() < LENGTHS_MIN {
            return None;
        }
        lengths.quantile(950).map(|tokens| tokens.max(LENGTH_FLOOR))
    }

    /// Learns what a deep check measured.
    pub fn calibrate(&mut self, found: &Calibration) {
        let answer = &found.answer;
        if let Some(tokens) = found.tokens {
            let estimated = self.estimate_output(answer).tokens;
            self.compare(Witness::Check, answer.asked.stream, estimated, tokens);
        }
        if let Some((bytes, tokens)) = found.prompt {
            let AnswerKind { kind, endpoint, raw, .. } = answer.asked;
            let is_bare = raw || (kind == ServerKind::OpenAi && endpoint == Endpoint::V1Completions);
            self.learn_prompt(answer.pool, bytes, tokens, !is_bare);
        }
        self.take_form(found);
        let Some(pool) = self.pool(answer.pool) else { return };
        if let Some((ids, bytes)) = found.ids {
            pool.id.add(bytes as f64, ids as f64, MEMORY);
        }
        let Some(tokens) = found.tokens.filter(|tokens| *tokens > 0) else { return };
        if found.lines > 0 || !answer.asked.stream {
            let (least, most) = (TEXT_RANGE.0 * tokens as f64, TEXT_RANGE.1 * tokens as f64);
            pool.text.add((found.text as f64).clamp(least, most), tokens as f64, MEMORY);
        }
        // Text that a server holds back comes out at the end, so the last token says nothing. Of templated requests a
        // parser takes tokens that begin or end the thinking, so only others say how many have no line.
        let plain = answer.asked.raw || answer.asked.endpoint == Endpoint::V1Completions;
        if plain && found.lines > 0 && tokens > 1 {
            let (lines, tokens) = (found.lines.saturating_sub(1) as f64, tokens.saturating_sub(1) as f64);
            pool.lines.add(lines.min(tokens), tokens, MEMORY);
        }
    }

    /// Returns the sums of the estimated and the exact tokens.
    pub fn compared(&self, witness: Witness, stream: bool) -> Comparison {
        let by = self.compared.get(witness as usize).and_then(|by| by.get(usize::from(stream)));
        by.copied().unwrap_or_default()
    }

    /// Returns the bytes of text that a token of this pool's answers has, and one of its prompts, where any were
    /// learned.
    pub fn ratios(&self, pool: PoolKey) -> Option<(f64, f64)> {
        let pool = self.pools.get(&Some(pool))?;
        Some((pool.text_bytes(), 1.0 / pool.prompt_line().1))
    }

    /// Forgets pools that no longer exist.
    pub fn retain_pools(&mut self, exists: impl Fn(PoolKey) -> bool) {
        self.pools.retain(|pool, _| pool.is_none_or(&exists));
    }

    fn compare(&mut self, witness: Witness, stream: bool, estimated: u64, exact: u64) {
        if let Some(sums) = self.compared.get_mut(witness as usize).and_then(|by| by.get_mut(usize::from(stream))) {
            sums.estimated = sums.estimated.saturating_add(estimated);
            sums.exact = sums.exact.saturating_add(exact);
        }
    }

    /// Returns the estimates of a pool. They are made where there is room.
    fn pool(&mut self, key: Option<PoolKey>) -> Option<&mut PoolEstimates> {
        if self.pools.len() >= POOLS_MAX && !self.pools.contains_key(&key) {
            return None;
        }
        Some(self.pools.entry(key).or_default())
    }

    fn known(&self, place: u8) -> Option<Form> {
        self.known.get(usize::from(place)).copied().flatten()
    }

    /// Returns the place of an answer's form, and the form as measured or as known.
    fn form(&self, answer: &AnswerShape) -> Option<(u8, Form)> {
        let place = answer.asked.place()?;
        let learned = self.pools.get(&answer.pool).and_then(|pool| pool.find(place));
        let measured = learned.and_then(|learned| learned.measured);
        Some((place, measured.or_else(|| self.known(place))?))
    }

    fn reckon(&self, answer: &AnswerShape) -> Option<Reckoning> {
        let (place, form) = self.form(answer)?;
        let unknown = PoolEstimates::default();
        let pool = self.pools.get(&answer.pool).unwrap_or(&unknown);
        let learned = pool.find(place);
        let (fit, measured) =
            learned.map_or((Fit::default(), false), |learned| (learned.fit, learned.measured.is_some()));
        let parts = Parts::of(pool, &form);
        let prior = Prior {
            offset: form.opening + form.closing,
            slope: parts.each(&form),
            offset_weight: FORM_OFFSET_WEIGHT,
            slope_weight: FORM_WEIGHT,
        };
        let (offset, slope) = fit.line(prior);
        let offset = offset.clamp(0.0, prior.offset * 4.0 + 1000.0);
        let slope = slope.clamp(prior.slope / 4.0, prior.slope * 4.0);
        let (fixed, each) = if answer.complete {
            (offset + parts.beside(&form, answer, 0.0), slope)
        } else {
            (form.opening + form.names_opening * answer.name as f64, slope - parts.text * form.again - parts.id(&form))
        };
        let each = each + parts.beside_each(&form, answer);
        // Doubt: the text by a quarter once some is known, the line by a hundredth once it is measured; both fade as exact
        // figures come in.
        let fades = FORM_WEIGHT / (FORM_WEIGHT + fit.learned());
        let text = parts.text * if pool.text.weight() > 0.0 { 0.25 } else { 0.5 };
        let line = form.line * if measured { 0.01 } else { 0.05 };
        let each = each.max(0.5);
        Some(Reckoning {
            fixed,
            each,
            fixed_doubt: fades * if measured { 20.0 } else { 60.0 },
            each_doubt: fades * (text * (1.0 + form.again) + line) + 0.01 * each,
        })
    }
}

/// The figures of a form for the texts of one pool.
struct Parts {
    text: f64,
    lines: f64,
    id: f64,
}

impl Parts {
    fn of(pool: &PoolEstimates, form: &Form) -> Parts {
        let lines = if form.line > 0.0 { pool.lines.value(1.0, LINES_WEIGHT).clamp(LINES_MIN, 1.0) } else { 0.0 };
        Parts { text: pool.text_bytes(), lines, id: pool.id.value(ID_BYTES, ID_WEIGHT) }
    }

    fn id(&self, form: &Form) -> f64 {
        if form.ids { self.id } else { 0.0 }
    }

    /// Returns the bytes a token, names left out.
    fn each(&self, form: &Form) -> f64 {
        self.lines * form.line + self.text * (1.0 + form.again) + self.id(form)
    }

    /// Returns the bytes a token that this very answer adds: its name, less the framing where that is not counted.
    fn beside_each(&self, form: &Form, answer: &AnswerShape) -> f64 {
        let name = form.names_line * answer.name as f64;
        let chunk = if answer.framed { 0.0 } else { framing(form.line + name + self.text) };
        self.lines * (name - chunk)
    }

    /// Returns the bytes of a complete answer of so many tokens that its form does not hold.
    fn beside(&self, form: &Form, answer: &AnswerShape, tokens: f64) -> f64 {
        let names = (form.names_opening + form.names_closing) * answer.name as f64;
        let chunks = if answer.framed || form.line == 0.0 { 0.0 } else { framing(form.closing) + LAST_CHUNK };
        names - chunks + self.id(form) * answer.prompt_tokens as f64 + tokens * self.beside_each(form, answer)
    }
}

impl PoolEstimates {
    fn text_bytes(&self) -> f64 {
        self.text.value(TEXT_BYTES, TEXT_WEIGHT)
    }

    fn prompt_line(&self) -> (f64, f64) {
        let (offset, slope) = self.prompt.line(Prior {
            offset: 0.0,
            slope: 1.0 / PROMPT_BYTES,
            offset_weight: PROMPT_OFFSET_WEIGHT,
            slope_weight: PROMPT_WEIGHT,
        });
        (offset.clamp(0.0, TEMPLATE_MAX), slope.clamp(1.0 / PROMPT_RANGE.1, 1.0 / PROMPT_RANGE.0))
    }

    fn find(&self, place: u8) -> Option<&Learned> {
        self.learned.iter().find(|learned| learned.place == place)
    }

    fn learned(&mut self, place: u8) -> Option<&mut Learned> {
        let at = self.learned.iter().position(|learned| learned.place == place).unwrap_or(self.learned.len());
        if at == self.learned.len() {
            self.learned.push(Learned { place, measured: None, measures: 0.0, fit: Fit::default() });
        }
        self.learned.get_mut(at)
    }

    /// Adds a measure of a form: the mean of the last few counts.
    fn measure(&mut self, place: u8, form: Form) {
        let Some(learned) = self.learned(place) else { return };
        learned.measures = (learned.measures + 1.0).min(MEASURES);
        let share = 1.0 / learned.measures;
        let before = learned.measured.unwrap_or(form);
        let mean = |before: f64, now: f64| before + (now - before) * share;
        learned.measured = Some(Form {
            opening: mean(before.opening, form.opening),
            line: mean(before.line, form.line),
            closing: mean(before.closing, form.closing),
            ..form
        });
    }
}

impl Estimates {
    /// Learns the form that a check measured, and what it says of the endpoint's other forms.
    fn take_form(&mut self, found: &Calibration) {
        let asked = found.answer.asked;
        let Some((place, known)) = asked.place().and_then(|place| Some((place, self.known(place)?))) else { return };
        if asked.stream && found.lines == 0 {
            return;
        }
        let Calibration { opening, line, closing, .. } = *found;
        let (names_opening, names_closing) = found.names;
        let ids = known.ids && found.ids.is_some();
        let form = Form { opening, line, closing, names_opening, names_closing, ids, ..known };
        // The same parts in the endpoint's other forms, as far as they are the same.
        let sibling = |asked: AnswerKind, change: &dyn Fn(Form) -> Form| {
            let place = asked.place()?;
            Some((place, change(self.known(place)?)))
        };
        let moved = closing - known.closing;
        let other = match (asked.stream, asked.usage) {
            // Ollama's last line is the object of a whole answer.
            (true, false) if known.again == 0.0 && is_native(&asked) => {
                sibling(AnswerKind { stream: false, ..asked }, &|whole| Form {
                    opening: whole.opening + moved,
                    ids: form.ids,
                    ..whole
                })
            }
            // Without the usage at its end.
            (true, true) => sibling(AnswerKind { usage: false, ..asked }, &|plain| Form {
                opening,
                line,
                closing: plain.closing + moved,
                ..plain
            }),
            _ => None,
        };
        let Some(pool) = self.pool(found.answer.pool) else { return };
        pool.measure(place, form);
        if let Some((place, form)) = other {
            pool.measure(place, form);
        }
    }
}

fn is_native(asked: &AnswerKind) -> bool {
    matches!(asked.endpoint, Endpoint::Generate | Endpoint::Chat)
}
