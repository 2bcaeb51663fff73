//! The compiled configuration that a decision reads: plans and servers. Built only by `config::compile` and by tests.

use super::allowance::Allowance;
use super::limits::{Cost, Scope, Terms};
use super::priority::{Priority, QueueSettings};
use super::server::Server;
use crate::decision::caller::token::Issuer;
use crate::decision::request::endpoint::Endpoint;
use crate::decision::request::name::ModelName;
use std::collections::HashMap;
use std::sync::Arc;

/// All settings that an operator chose, checked and ready to read.
#[derive(Debug, Default)]
pub struct Policy {
    /// Plans, in the order of the file. [`PlanIndex`] points here.
    pub plans: Vec<Plan>,
    /// Model servers, in the order of the file. [`ServerIndex`](super::server::ServerIndex) points here.
    pub servers: Vec<Server>,
    /// Teams, in the order of the file.
    pub teams: Vec<Team>,
    /// What callers without a credential may do; they are refused if this is `None`.
    pub anonymous: Option<Anonymous>,
    /// Issuers of JWTs, in the order of the file.
    pub issuers: Vec<Issuer>,
    /// The settings of single models, which apply on every server (`[models.NAME]`).
    pub models: HashMap<ModelName, ModelPolicy>,
    /// The limits of single endpoints, which apply to all their requests (`[routes.NAME]`).
    pub routes: Vec<RoutePolicy>,
    /// The scope and limits of all requests together (`[gate]`).
    pub gate: Option<(Scope, Terms)>,
    /// Seconds after which a refused caller may find a server available again: one probe interval, rounded up.
    pub recheck_s: u64,
    /// How long requests may wait.
    pub patience: QueueSettings,
}

/// Callers that share limits (`[teams.NAME]`).
#[derive(Debug, Clone)]
pub struct Team {
    /// The name in the file.
    pub name: Arc<str>,
    /// The scope under which the usage of all of them is counted.
    pub scope: Scope,
    /// The plan whose limits they share. Models and routes are those of each caller's own plan.
    pub plan: PlanIndex,
}

/// Callers without a credential (`[auth] anonymous…`).
#[derive(Debug, Clone)]
pub struct Anonymous {
    /// The plan of each network.
    pub plan: PlanIndex,
    /// The scope under which the usage of all of them is counted.
    pub scope: Scope,
    /// The limits of all of them together.
    pub terms: Terms,
}

/// The settings of one model (`[models.NAME]`).
#[derive(Debug, Clone)]
pub struct ModelPolicy {
    /// The scope under which the usage of all its requests is counted.
    pub scope: Scope,
    /// The limits of all its requests together.
    pub terms: Terms,
    /// The weight of its LLM tokens.
    pub cost: Cost,
}

/// The limits of one endpoint (`[routes.NAME]`).
#[derive(Debug, Clone)]
pub struct RoutePolicy {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The scope under which the usage of all its requests is counted.
    pub scope: Scope,
    /// The limits of all its requests together.
    pub terms: Terms,
}

/// The position of a plan in [`Policy::plans`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlanIndex(pub u16);

/// What a caller may do (`[plans.NAME]`).
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The name in the file.
    pub name: Arc<str>,
    /// The models that callers may use.
    pub models: Vec<ModelPattern>,
    /// The route classes that callers may use.
    pub routes: RouteClasses,
    /// The limits of each caller on this plan.
    pub terms: Terms,
    /// The request limits: what a single request may ask for.
    pub allowance: Allowance,
    /// The urgency of its requests in queues.
    pub priority: Priority,
}

/// The route classes that a plan permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteClasses {
    /// Whether the plan has `"inference"`.
    pub inference: bool,
    /// Whether the plan has `"catalog"`.
    pub catalog: bool,
}

/// One entry of a plan's `models`: an exact name, or a pattern in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelPattern {
    /// A canonical name.
    Exact(ModelName),
    /// A lower-case glob over the canonical short form. It never matches a model that leaves the fleet, by its name
    /// (`:cloud`, `-cloud`) or because its server says so (`remote_host`, see `roster`): prompts go to another company
    /// only if the plan lists the model by name.
    Glob(Box<str>),
}

impl ModelPattern {
    /// Reads an entry as written: one with a `*` is a glob, any other an exact name.
    pub fn new(written: &str) -> ModelPattern {
        if written.contains('*') {
            ModelPattern::Glob(written.trim().to_ascii_lowercase().into())
        } else {
            ModelPattern::Exact(ModelName::canonical(written))
        }
    }

    /// Returns whether a plan with this entry may use `name`.
    pub fn permits(&self, name: &ModelName) -> bool {
        match self {
            ModelPattern::Exact(exact) => exact == name,
            ModelPattern::Glob(glob) => !name.leaves_fleet() && glob_matches(glob.as_bytes(), name.as_str().as_bytes()),
        }
    }

    /// Returns whether the entry is a pattern rather than the name of a model.
    pub fn is_glob(&self) -> bool {
        matches!(self, ModelPattern::Glob(_))
    }

    /// Returns whether the entry permits every model of the fleet.
    pub fn permits_all(&self) -> bool {
        matches!(self, ModelPattern::Glob(glob) if glob.bytes().all(|byte| byte == b'*'))
    }
}

/// Matches a glob in which `*` stands for any run of bytes. Backtracking goes only to the last `*`, which is enough for
/// a single kind of wildcard (the argument of Krauss' algorithm); apart from that it is linear in both lengths.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if g < glob.len() && glob[g] == b'*' {
            star = Some((g, t));
            g += 1;
        } else if g < glob.len() && glob[g] == text[t] {
            g += 1;
            t += 1;
        } else if let Some((star_g, star_t)) = star {
            g = star_g + 1;
            t = star_t + 1;
            star = Some((star_g, star_t + 1));
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_permit_canonical_names() {
        let cases = [
            ("llama3.*", "llama3.2:3b", true),
            ("llama3.*", "LLAMA3.1:8b", true),
            ("llama3.*", "llama3:8b", false),
            ("llama3", "library/llama3:latest", true),
            ("llama3", "llama3:8b", false),
            ("*", "qwen:0.5b", true),
            ("*", "gpt-oss:120b-cloud", false),
            ("*", "gpt-oss:cloud", false),
            ("gpt-oss:120b-cloud", "gpt-oss:120b-cloud", true),
            ("*:3b", "llama3.2:3b", true),
            ("l*3*b", "llama3.2:3b", true),
            ("l*3*c", "llama3.2:3b", false),
        ];
        for (pattern, name, permitted) in cases {
            let found = ModelPattern::new(pattern).permits(&ModelName::canonical(name));
            assert_eq!(found, permitted, "{pattern} on {name}");
        }
    }
}
