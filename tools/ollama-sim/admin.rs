//! Routes that change the server or leave it: answered as Ollama would, so that a test can prove they were not reached.

use crate::fields::Fields;
use crate::name::{Name, Reference};
use crate::reply::{self, NDJSON, Reply, Tongue};
use crate::router::Handler;
use crate::shapes;
use crate::sim::Sim;
use serde_json::{Value, json};

/// Answers an administrative route; `parameter` is the path's.
pub fn answer(sim: &Sim, handler: Handler, body: &[u8], parameter: &str) -> Reply {
    let reply = match handler {
        Handler::Copy => copy(sim, body),
        Handler::BlobHead if sim.store.has_blob(parameter) => Ok(reply::empty(200)),
        Handler::BlobHead => Err(Tongue::Native.error(404, &format!("blob {parameter:?} not found"))),
        Handler::BlobCreate => blob(sim, body, parameter),
        Handler::Me | Handler::WebSearch | Handler::WebFetch => Err(sim.cloud(handler)),
        Handler::Signout => Ok(reply::gin(200, &Value::Null)),
        _ => manage(sim, handler, body),
    };
    reply.unwrap_or_else(|refusal| refusal)
}

fn manage(sim: &Sim, handler: Handler, body: &[u8]) -> Result<Reply, Reply> {
    let value = sim.json(handler, body)?;
    let fields = sim.fields(handler, &value, "api.ManageRequest", shapes::MANAGE)?;
    let written = match fields.text("model") {
        "" => fields.text("name"),
        model => model,
    };
    let invalid = || match handler {
        Handler::Push if written.is_empty() => Tongue::Native.error(400, "model is required"),
        Handler::Delete => Tongue::Native.error(400, &format!("name {written:?} is invalid")),
        _ => Tongue::Native.error(400, "invalid model name"),
    };
    let name = Reference::parse(written).map_err(|_| invalid())?.name;
    match handler {
        Handler::Pull => pull(sim, &fields, &name),
        Handler::Push => push(sim, &fields, &name),
        Handler::Create => create(sim, &fields, &name),
        _ if sim.store.remove(&name) => Ok(reply::empty(200)),
        _ => Err(Tongue::Native.error(404, &format!("model '{written}' not found"))),
    }
}

/// Returns a stream of progress, or its last line alone.
fn progress(fields: &Fields<'_>, lines: Vec<Value>) -> Reply {
    if fields.flag("stream") == Some(false) {
        return reply::whole(200, reply::PLAIN_JSON, lines.last().map(reply::text_of).unwrap_or_default());
    }
    let text: String = lines.iter().map(|line| reply::text_of(line) + "\n").collect();
    reply::whole(200, NDJSON, text)
}

fn layer(verb: &str, digest: &str, total: u64) -> Value {
    let short: String = digest.chars().take(12).collect();
    json!({ "status": format!("{verb} {short}"), "digest": format!("sha256:{digest}"), "total": total, "completed": total })
}

fn pull(sim: &Sim, fields: &Fields<'_>, name: &Name) -> Result<Reply, Reply> {
    let now = sim.clock.now().unix_ms;
    let model = match sim.store.find(name) {
        Some(model) => model,
        None => sim.store.put(name, None, now).map_err(|error| Tongue::Native.error(500, &error))?,
    };
    Ok(progress(
        fields,
        vec![
            json!({ "status": "pulling manifest" }),
            layer("pulling", &model.digest, model.size()),
            json!({ "status": "verifying sha256 digest" }),
            json!({ "status": "writing manifest" }),
            json!({ "status": "success" }),
        ],
    ))
}

fn push(sim: &Sim, fields: &Fields<'_>, name: &Name) -> Result<Reply, Reply> {
    let mut lines = vec![json!({ "status": "retrieving manifest" })];
    match sim.store.find(name) {
        None => lines.push(json!({ "error": "couldn't retrieve manifest" })),
        Some(model) => lines.extend([
            layer("pushing", &model.digest, model.size()),
            json!({ "status": "pushing manifest" }),
            json!({ "status": "success" }),
        ]),
    }
    Ok(progress(fields, lines))
}

fn create(sim: &Sim, fields: &Fields<'_>, name: &Name) -> Result<Reply, Reply> {
    let from = fields.text("from");
    let base = Name::parse(from.trim()).and_then(|base| sim.store.find(&base));
    let Some(base) = base else {
        let message = if from.is_empty() {
            "neither 'from' or 'files' was specified"
        } else {
            "pull model manifest: file does not exist"
        };
        return Err(Tongue::Native.error(400, message));
    };
    sim.store.put(name, None, sim.clock.now().unix_ms).map_err(|error| Tongue::Native.error(500, &error))?;
    Ok(progress(
        fields,
        vec![
            json!({ "status": format!("using existing layer sha256:{}", base.digest) }),
            json!({ "status": "writing manifest" }),
            json!({ "status": "success" }),
        ],
    ))
}

fn copy(sim: &Sim, body: &[u8]) -> Result<Reply, Reply> {
    let value = sim.json(Handler::Copy, body)?;
    let fields = sim.fields(Handler::Copy, &value, "api.CopyRequest", shapes::COPY)?;
    let name = |field: &str| {
        let written = fields.text(field);
        Name::parse(written).ok_or_else(|| Tongue::Native.error(400, &format!("{field} {written:?} is invalid")))
    };
    let (source, destination) = (name("source")?, name("destination")?);
    let Some(model) = sim.store.find(&source) else {
        return Err(Tongue::Native.error(404, &format!("model {:?} not found", fields.text("source"))));
    };
    let put = sim.store.put(&destination, Some(model.digest), sim.clock.now().unix_ms);
    put.map_err(|error| Tongue::Native.error(500, &error))?;
    Ok(reply::empty(200))
}

fn blob(sim: &Sim, body: &[u8], digest: &str) -> Result<Reply, Reply> {
    if sim.store.has_blob(digest) {
        return Ok(reply::empty(200));
    }
    let found = sim.store.put_blob(body);
    if found == digest {
        return Ok(reply::empty(201));
    }
    Err(Tongue::Native.error(400, &format!("digest mismatch, expected {digest:?}, got {found:?}")))
}
