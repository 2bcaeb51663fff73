//! The fleet of a trial: the configuration's models on servers that are all up, or the fleet that a daemon reports.

use crate::decision::caller::blocks::{Block, BlockKind, Blocks};
use crate::decision::fleet::{FleetView, Inventory, Model, Preference, ServerState, ServerView};
use crate::decision::moment::Moment;
use crate::decision::plan::policy::Policy;
use crate::decision::request::name::ModelName;
use crate::time::date;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Returns a fleet whose servers are all up and have the models that `[[server]] models` names.
pub fn configured(policy: &Policy) -> FleetView {
    let server = |server: &crate::decision::plan::server::Server| {
        let models = server.models.iter().map(|name| model(name, "", false)).collect();
        (server.name.clone(), seen(ServerState::Up, Preference::Sound, models))
    };
    FleetView { servers: policy.servers.iter().map(server).collect() }
}

/// The part of `/status` that a decision depends on.
#[derive(Deserialize)]
struct ReportedStatus {
    servers: Vec<ReportedServer>,
    #[serde(default)]
    blocks: Vec<Blocked>,
}

#[derive(Deserialize)]
struct Blocked {
    kind: String,
    name: String,
    until: String,
}

#[derive(Deserialize)]
struct ReportedServer {
    name: String,
    state: String,
    preference: String,
    models: Vec<String>,
    #[serde(default)]
    remote: Vec<String>,
    #[serde(default)]
    quarantined: Vec<Quarantined>,
}

#[derive(Deserialize)]
struct Quarantined {
    model: String,
    digest: String,
    expected: String,
}

/// Returns the fleet and the blocks that `/status` of a running daemon shows. `None` where the text is no status.
pub fn reported(status: &str, now: Moment) -> Option<(FleetView, Blocks)> {
    let status: ReportedStatus = serde_json::from_str(status).ok()?;
    // Whoever is not quarantined for a model has what is expected of it.
    let mut expected: BTreeMap<ModelName, &str> = BTreeMap::new();
    for odd in status.servers.iter().flat_map(|server| &server.quarantined) {
        expected.insert(ModelName::canonical(&odd.model), &odd.expected);
    }
    let server = |server: &ReportedServer| {
        let state = ServerState::parse(&server.state)?;
        let preference = Preference::parse(&server.preference)?;
        let models = server.models.iter().map(|name| {
            let canonical = ModelName::canonical(name);
            let odd = server.quarantined.iter().find(|odd| ModelName::canonical(&odd.model) == canonical);
            let digest = odd.map(|odd| &*odd.digest).or(expected.get(&canonical).copied()).unwrap_or_default();
            model(name, digest, server.remote.contains(name))
        });
        Some((Arc::from(server.name.as_str()), seen(state, preference, models.collect())))
    };
    let fleet = FleetView { servers: status.servers.iter().map(server).collect::<Option<_>>()? };
    let blocks = status.blocks.iter().try_fold(Blocks::default(), |blocks, blocked| {
        let left_ms = u64::try_from(date::parse(&blocked.until)?.saturating_sub(now.unix_ms)).unwrap_or(0);
        let until = now.plus_ns(left_ms.saturating_mul(1_000_000));
        blocks.with(Block { kind: BlockKind::parse(&blocked.kind)?, name: blocked.name.as_str().into(), until }, now)
    })?;
    Some((fleet, blocks))
}

fn seen(state: ServerState, preference: Preference, models: Vec<Model>) -> ServerView {
    let inventory = Arc::new(Inventory { models, ..Inventory::default() });
    ServerView { state, preference, inventory, failure: None }
}

fn model(listed: &str, digest: &str, remote: bool) -> Model {
    Model {
        name: ModelName::canonical(listed),
        listed: listed.into(),
        digest: digest.into(),
        size: 0,
        modified_at: "".into(),
        created: 0,
        owned_by: "".into(),
        details: "".into(),
        capabilities: "".into(),
        remote,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reported_fleet_has_the_states_models_and_quarantines_that_were_told() {
        let status = r#"{"version":"1","servers":[
            {"name":"a","state":"up","preference":"sound","models":["m:1","x:cloud"],"remote":["x:cloud"],"quarantined":[]},
            {"name":"b","state":"cooldown","preference":"last","models":["M:1"],"quarantined":[{"model":"m:1","digest":"bb","expected":"aa"}]},
            {"name":"c","state":"down","preference":"sound","models":["m:1"],"weight":100}],
            "blocks":[{"kind":"user","name":"ann","until":"1970-01-01T00:00:09Z"}]}"#;
        let now = Moment { mono_ns: 1_000_000_000, unix_ms: 1_000 };
        let (fleet, blocks) = reported(status, now).unwrap();
        assert!(blocks.holds_user(b"ann", now) && blocks.holds_user(b"ann", now.plus_ns(7_999_000_000)));
        assert!(!blocks.holds_user(b"ann", now.plus_ns(8_000_000_000)));
        let told: Vec<_> = fleet
            .servers
            .iter()
            .map(|(name, seen)| {
                let models = &seen.inventory.models;
                (
                    &**name,
                    seen.state,
                    seen.preference,
                    models[0].digest.to_string(),
                    models.iter().any(|model| model.remote),
                )
            })
            .collect();
        let expected = [
            ("a", ServerState::Up, Preference::Sound, "aa".to_owned(), true),
            ("b", ServerState::Cooldown, Preference::Last, "bb".to_owned(), false),
            ("c", ServerState::Down, Preference::Sound, "aa".to_owned(), false),
        ];
        assert_eq!(told, expected);
        for no_status in ["", "{}", r#"{"servers":[{"name":"a","state":"odd","preference":"sound","models":[]}]}"#] {
            assert!(reported(no_status, now).is_none(), "{no_status}");
        }
    }
}
