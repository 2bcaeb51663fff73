//! Routes that generate text: from the body to a job, and from the job to an answer.

use crate::anthropic_script::AnthropicScript;
use crate::duration::KeepAlive;
use crate::faults::Kind;
use crate::fields::Fields;
use crate::generation::{Job, Outcome, Pace, Script, Words};
use crate::json::Json;
use crate::native_script::NativeScript;
use crate::openai_script::OpenAiScript;
use crate::reply::{self, Reply, Tongue};
use crate::responses_script::ResponsesScript;
use crate::router::Handler;
use crate::scheduler::RunnerOptions;
use crate::shapes;
use crate::sim::{Sim, prompt_tokens, text_bytes};
use crate::stats::Flight;
use crate::store::Model;

/// A request for text, its dialect left behind.
struct Order {
    model: Model,
    options: RunnerOptions,
    keep_alive: Option<KeepAlive>,
    stream: bool,
    /// Bound on the output as the request sets it.
    bound: Option<i64>,
    prompt_bytes: usize,
    /// Nothing to generate: the model is loaded, or unloaded with `keep_alive` 0.
    only_load: bool,
    script: Box<dyn Script>,
}

/// Answers a request for text.
pub async fn answer(sim: &Sim, handler: Handler, body: &[u8], number: u64) -> Reply {
    let flight = Flight::new(&sim.stats);
    let arrived = sim.clock.now();
    let mut order = match order(sim, handler, body, number) {
        Ok(order) => order,
        Err(refusal) => {
            flight.landed();
            return refusal;
        }
    };
    let key = sim.key(&order.model);
    sim.faults.hold(Kind::Dead, Some(&key)).await;
    if order.only_load && handler_is_native(handler) && order.keep_alive == Some(KeepAlive::For(0)) {
        sim.scheduler.expire(&order.model);
        flight.landed();
        let outcome = Outcome { reason: "unload", unix_ms: arrived.unix_ms, ..Outcome::default() };
        return order.script.whole("", &outcome);
    }
    let context = u64::try_from(order.options.num_ctx).unwrap_or(4);
    let acquired = sim.scheduler.acquire(&order.model, order.options, order.keep_alive, handler.name()).await;
    let Ok(lease) = acquired else {
        flight.landed();
        return sim.busy(handler);
    };
    let ready = sim.clock.now();
    if order.only_load {
        drop(lease);
        flight.landed();
        let outcome = Outcome { reason: "load", unix_ms: ready.unix_ms, ..Outcome::default() };
        if order.stream && !handler_is_native(handler) {
            return reply::whole(200, order.script.stream_type(), order.script.done(&outcome));
        }
        return order.script.whole("", &outcome);
    }
    // A bound of zero or less is none; without one Ollama stops at ten times the context.
    let (tokens, reason) = match order.bound.and_then(|bound| u64::try_from(bound).ok()).filter(|bound| *bound > 0) {
        Some(bound) => (bound.min(context.saturating_mul(10)), "length"),
        None => (sim.settings.default_predict, "stop"),
    };
    let job = Job {
        clock: sim.clock.clone(),
        stats: sim.stats.clone(),
        faults: sim.faults.clone(),
        pace: Pace {
            tokens_per_second: sim.settings.tokens_per_second,
            prompt_tokens_per_second: sim.settings.prompt_tokens_per_second,
        },
        words: Words::new(sim.settings.mixed_tokens, number),
        flight,
        lease,
        model: key,
        prompt_tokens: prompt_tokens(order.prompt_bytes),
        tokens,
        reason,
        arrived_ns: arrived.mono_ns,
        ready_ns: ready.mono_ns,
        script: order.script,
    };
    if order.stream { job.stream().await } else { job.whole().await }
}

fn handler_is_native(handler: Handler) -> bool {
    matches!(handler, Handler::Generate | Handler::Chat)
}

fn order(sim: &Sim, handler: Handler, body: &[u8], number: u64) -> Result<Order, Reply> {
    let value = sim.json(handler, body)?;
    match handler {
        Handler::Generate => generate(sim, &value),
        Handler::Chat => chat(sim, &value),
        Handler::V1Chat => v1_chat(sim, &value, number),
        Handler::V1Completions => v1_completions(sim, &value, number),
        Handler::V1Responses => v1_responses(sim, &value, number),
        _ => v1_messages(sim, &value, number),
    }
}

/// Returns the model of a request for text, which must be able to write any.
fn writer(sim: &Sim, handler: Handler, written: &str) -> Result<Model, Reply> {
    let model = sim.resolve(handler, written)?;
    if model.only_embeds() && sim.tongue(handler) != Tongue::Vllm {
        let what = if matches!(handler, Handler::Generate | Handler::V1Completions) { "generate" } else { "chat" };
        return Err(sim.tongue(handler).error(400, &format!("{written:?} does not support {what}")));
    }
    Ok(model)
}

fn generate(sim: &Sim, value: &Json) -> Result<Order, Reply> {
    let fields = sim.fields(Handler::Generate, value, "api.GenerateRequest", shapes::GENERATE)?;
    let written = fields.text("model");
    let model = writer(sim, Handler::Generate, written)?;
    let raw = fields.flag("raw").unwrap_or(false);
    let script = NativeScript { model: written.to_owned(), chat: false, context: !raw };
    let prompt = fields.text("prompt");
    let bytes = prompt.len() + fields.text("system").len() + fields.text("suffix").len();
    native(sim, Handler::Generate, &fields, model, bytes, prompt.is_empty(), script)
}

fn chat(sim: &Sim, value: &Json) -> Result<Order, Reply> {
    let fields = sim.fields(Handler::Chat, value, "api.ChatRequest", shapes::CHAT)?;
    let written = fields.text("model");
    let model = writer(sim, Handler::Chat, written)?;
    let script = NativeScript { model: written.to_owned(), chat: true, context: false };
    let messages = fields.objects("messages");
    let bytes = messages.iter().map(|message| message.text("content").len()).sum();
    native(sim, Handler::Chat, &fields, model, bytes, messages.is_empty(), script)
}

fn native(
    sim: &Sim,
    handler: Handler,
    fields: &Fields<'_>,
    model: Model,
    prompt_bytes: usize,
    only_load: bool,
    script: NativeScript,
) -> Result<Order, Reply> {
    let options = fields.object("options");
    Ok(Order {
        model,
        options: sim.runner_options(handler, options.as_ref())?,
        keep_alive: fields.keep_alive(),
        stream: fields.flag("stream").unwrap_or(true),
        bound: sim.int_option(handler, options.as_ref(), "num_predict")?,
        prompt_bytes,
        only_load,
        script: Box::new(script),
    })
}

fn v1_chat(sim: &Sim, value: &Json, number: u64) -> Result<Order, Reply> {
    let tongue = sim.tongue(Handler::V1Chat);
    let vllm = tongue == Tongue::Vllm;
    let shape = if vllm { shapes::VLLM_CHAT } else { shapes::V1_CHAT };
    let fields = sim.fields(Handler::V1Chat, value, "openai.ChatCompletionRequest", shape)?;
    let messages = fields.objects("messages");
    if messages.is_empty() {
        return Err(tongue.error(400, "[] is too short - 'messages'"));
    }
    for message in &messages {
        let sayable = matches!(message.any("content"), Some(Json::Text(_) | Json::Array(_)));
        if !sayable && message.list("tool_calls").is_empty() {
            return Err(tongue.error(400, "invalid message content type: <nil>"));
        }
    }
    let bytes = messages.iter().map(|message| text_bytes(message.any("content"))).sum();
    let bound = fields.int("max_completion_tokens").or_else(|| fields.int("max_tokens"));
    openai(sim, Handler::V1Chat, &fields, bound, bytes, false, format!("chatcmpl-{number}"))
}

fn v1_completions(sim: &Sim, value: &Json, number: u64) -> Result<Order, Reply> {
    let fields = sim.fields(Handler::V1Completions, value, "openai.CompletionRequest", shapes::V1_COMPLETIONS)?;
    let prompt = fields.text("prompt");
    let bytes = prompt.len() + fields.text("suffix").len();
    let bound = fields.int("max_tokens");
    openai(sim, Handler::V1Completions, &fields, bound, bytes, prompt.is_empty(), format!("cmpl-{number}"))
}

fn openai(
    sim: &Sim,
    handler: Handler,
    fields: &Fields<'_>,
    bound: Option<i64>,
    prompt_bytes: usize,
    only_load: bool,
    id: String,
) -> Result<Order, Reply> {
    let written = fields.text("model");
    let model = writer(sim, handler, written)?;
    let vllm = sim.tongue(handler) == Tongue::Vllm;
    let script = OpenAiScript {
        id,
        model: if vllm { model.short.clone() } else { written.to_owned() },
        chat: handler == Handler::V1Chat,
        include_usage: fields
            .object("stream_options")
            .and_then(|options| options.flag("include_usage"))
            .unwrap_or(false),
        vllm,
        created_ms: sim.clock.now().unix_ms,
        begun: false,
    };
    Ok(Order {
        model,
        options: sim.runner_options(handler, None)?,
        keep_alive: None,
        stream: fields.flag("stream").unwrap_or(false),
        bound,
        prompt_bytes,
        only_load: only_load && !vllm,
        script: Box::new(script),
    })
}

fn v1_responses(sim: &Sim, value: &Json, number: u64) -> Result<Order, Reply> {
    let fields = sim.fields(Handler::V1Responses, value, "openai.ResponsesRequest", shapes::V1_RESPONSES)?;
    let written = fields.text("model");
    let input = match fields.any("input") {
        input @ Some(Json::Text(_) | Json::Array(_)) => text_bytes(input),
        _ => return Err(sim.tongue(Handler::V1Responses).error(400, "input must be a string or array")),
    };
    let script = ResponsesScript {
        id: format!("resp_{number}"),
        model: written.to_owned(),
        created_ms: sim.clock.now().unix_ms,
        text: String::new(),
        sequence: 0,
    };
    Ok(Order {
        model: writer(sim, Handler::V1Responses, written)?,
        options: sim.runner_options(Handler::V1Responses, None)?,
        keep_alive: None,
        stream: fields.flag("stream").unwrap_or(false),
        bound: fields.int("max_output_tokens"),
        prompt_bytes: input + fields.text("instructions").len(),
        only_load: false,
        script: Box::new(script),
    })
}

fn v1_messages(sim: &Sim, value: &Json, number: u64) -> Result<Order, Reply> {
    let fields = sim.fields(Handler::V1Messages, value, "anthropic.MessagesRequest", shapes::V1_MESSAGES)?;
    let tongue = sim.tongue(Handler::V1Messages);
    let (written, messages) = (fields.text("model"), fields.objects("messages"));
    let bound = fields.int("max_tokens").unwrap_or(0);
    let missing = match () {
        () if written.is_empty() => Some("model is required"),
        () if bound <= 0 => Some("max_tokens is required and must be positive"),
        () if messages.is_empty() => Some("messages is required"),
        () => None,
    };
    if let Some(missing) = missing {
        return Err(tongue.error(400, missing));
    }
    let roles: usize = messages.iter().map(|message| message.text("role").len()).sum();
    let said: usize = messages.iter().map(|message| text_bytes(message.any("content"))).sum();
    let bytes = said + text_bytes(fields.any("system"));
    let script = AnthropicScript {
        id: format!("msg_{number:024x}"),
        model: written.to_owned(),
        estimate: ((bytes + roles) as u64 / 4).max(1),
        begun: false,
    };
    Ok(Order {
        model: writer(sim, Handler::V1Messages, written)?,
        options: sim.runner_options(Handler::V1Messages, None)?,
        keep_alive: None,
        stream: fields.flag("stream").unwrap_or(false),
        bound: Some(bound),
        prompt_bytes: bytes,
        only_load: false,
        script: Box::new(script),
    })
}
