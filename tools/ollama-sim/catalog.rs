//! Routes that only read: root, version, tags, ps, show, `/v1/models`.

use crate::reply::{self, Reply};
use crate::router::Handler;
use crate::settings::Kind;
use crate::shapes;
use crate::sim::Sim;
use crate::store::Model;
use crate::timestamp::rfc3339;
use serde_json::{Value, json};

/// Answers a route that only reads; `parameter` is the path's.
pub fn answer(sim: &Sim, handler: Handler, body: &[u8], parameter: &str) -> Reply {
    match handler {
        Handler::Root => reply::whole(200, reply::TEXT, "Ollama is running"),
        Handler::Version => reply::gin(200, &json!({ "version": sim.settings.release })),
        Handler::Status => reply::gin(200, &json!({ "cloud": { "disabled": false, "source": "none" } })),
        Handler::Tags => reply::gin(
            200,
            &json!({ "models": sim.store.all().iter().map(|model| tag(sim, model)).collect::<Vec<_>>() }),
        ),
        Handler::Ps => ps(sim),
        Handler::Show => show(sim, body).unwrap_or_else(|refusal| refusal),
        Handler::V1Models => {
            let data: Vec<Value> = sim.store.all().iter().map(|model| listed(sim, model, &model.short)).collect();
            reply::v1(200, &json!({ "object": "list", "data": data }))
        }
        Handler::V1Model => match sim.resolve(handler, parameter) {
            Ok(model) => reply::v1(200, &listed(sim, &model, parameter)),
            Err(refusal) => refusal,
        },
        _ => reply::empty(200),
    }
}

fn tag(sim: &Sim, model: &Model) -> Value {
    json!({
        "name": model.short,
        "model": model.short,
        "modified_at": rfc3339(model.written_ms),
        "size": model.size(),
        "digest": sim.faults.digest(&sim.key(model), &model.digest),
        "details": model.details(),
    })
}

fn ps(sim: &Sim) -> Reply {
    let models: Vec<Value> = sim
        .scheduler
        .loaded()
        .iter()
        .map(|loaded| {
            // What the context takes comes on top of the weights.
            let size = loaded.model.size() + u64::try_from(loaded.num_ctx).unwrap_or(0).saturating_mul(100_000);
            json!({
                "name": loaded.model.short,
                "model": loaded.model.short,
                "size": size,
                "digest": sim.faults.digest(&sim.key(&loaded.model), &loaded.model.digest),
                "details": loaded.model.details(),
                "expires_at": rfc3339(loaded.expires_ms),
                "size_vram": size,
                "context_length": loaded.num_ctx,
            })
        })
        .collect();
    reply::gin(200, &json!({ "models": models }))
}

fn show(sim: &Sim, body: &[u8]) -> Result<Reply, Reply> {
    let value = sim.json(Handler::Show, body)?;
    let fields = sim.fields(Handler::Show, &value, "api.ShowRequest", shapes::SHOW)?;
    let written = match fields.text("model") {
        "" => fields.text("name"),
        model => model,
    };
    let model = sim.resolve(Handler::Show, written)?;
    Ok(reply::gin(200, &model.show(sim.settings.context_length)))
}

fn listed(sim: &Sim, model: &Model, id: &str) -> Value {
    let created = model.written_ms.div_euclid(1000);
    if sim.settings.kind == Kind::Openai {
        let longest = sim.settings.context_length;
        return json!({
            "id": id, "object": "model", "created": created, "owned_by": "vllm", "root": id, "parent": null,
            "max_model_len": longest,
        });
    }
    json!({ "id": id, "object": "model", "created": created, "owned_by": model.name.namespace() })
}
