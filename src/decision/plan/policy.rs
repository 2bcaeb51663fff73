//! The compiled configuration a decision reads: plans and servers. Built only by `config::compile` and by tests.

use super::allowance::Allowance;
use super::limits::{Cost, Scope, Terms};
use super::priority::{Patience, Priority};
use super::server::Server;
use crate::decision::caller::token::Issuer;
use crate::decision::request::endpoint::Endpoint;
use crate::decision::request::name::ModelName;
use std::collections::HashMap;
use std::sync::Arc;

/// Everything an operator decided, checked and ready to read.
#[derive(Debug, Default)]
pub struct Policy {
    /// Plans, in the order of the file. [`PlanIndex`] points here.
    pub plans: Vec<Plan>,
    /// Model servers, in the order of the file. [`ServerIndex`] points here.
    pub servers: Vec<Server>,
    /// Teams, in the order of the file.
    pub teams: Vec<Team>,
    /// What callers without a credential may do; absent, they are refused.
    pub anonymous: Option<Anonymous>,
    /// Issuers of tokens, in the order of the file.
    pub issuers: Vec<Issuer>,
    /// What holds for one model on every server (`[models.NAME]`).
    pub models: HashMap<ModelName, ModelPolicy>,
    /// What holds for all requests to one endpoint (`[routes.NAME]`).
    pub routes: Vec<RoutePolicy>,
    /// What holds for all requests together (`[gate]`).
    pub gate: Option<(Scope, Terms)>,
    /// Seconds after which a refused caller may find a server back: one probe interval, rounded up.
    pub recheck_s: u64,
    /// How long requests may wait.
    pub patience: Patience,
}

/// Callers that share limits (`[teams.NAME]`).
#[derive(Debug, Clone)]
pub struct Team {
    /// Name in the file.
    pub name: Arc<str>,
    /// The books of all of them.
    pub scope: Scope,
    /// The plan whose limits they share. Models and routes are each caller's own plan's.
    pub plan: PlanIndex,
}

/// Callers without a credential (`[auth] anonymous…`).
#[derive(Debug, Clone)]
pub struct Anonymous {
    /// The plan of each network.
    pub plan: PlanIndex,
    /// The books of all of them.
    pub scope: Scope,
    /// What all of them together are held to.
    pub terms: Terms,
}

/// What holds for one model (`[models.NAME]`).
#[derive(Debug, Clone)]
pub struct ModelPolicy {
    /// The books of all its requests.
    pub scope: Scope,
    /// What they are held to together.
    pub terms: Terms,
    /// What its tokens count for.
    pub cost: Cost,
}

/// What holds for one endpoint (`[routes.NAME]`).
#[derive(Debug, Clone)]
pub struct RoutePolicy {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The books of all its requests.
    pub scope: Scope,
    /// What they are held to together.
    pub terms: Terms,
}

/// Position of a plan in [`Policy::plans`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlanIndex(pub u16);

/// What a caller may do (`[plans.NAME]`).
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Name in the file.
    pub name: Arc<str>,
    /// Models it may use.
    pub models: Vec<ModelPattern>,
    /// Route classes it may use.
    pub routes: RouteClasses,
    /// What each caller on this plan is held to.
    pub terms: Terms,
    /// What a request may ask for.
    pub allowance: Allowance,
    /// Its place in queues.
    pub priority: Priority,
}

/// The route classes a plan permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteClasses {
    /// `"inference"`
    pub inference: bool,
    /// `"catalog"`
    pub catalog: bool,
}

/// One entry of a plan's `models`: an exact name, or a pattern in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelPattern {
    /// A canonical name.
    Exact(ModelName),
    /// Lower-case glob over the canonical short form. Never matches a model that leaves the fleet, by its name (`:cloud`,
    /// `-cloud`) or because its server says so (`remote_host`, see `roster`): prompts go to another company only where
    /// the plan says so by name.
    Glob(Box<str>),
}

impl ModelPattern {
    /// Reads an entry as written: with a `*` it is a glob, else an exact name.
    pub fn new(written: &str) -> ModelPattern {
        if written.contains('*') {
            ModelPattern::Glob(written.trim().to_ascii_lowercase().into())
        } else {
            ModelPattern::Exact(ModelName::canonical(written))
        }
    }

    /// Whether a plan with this entry may use `name`.
    pub fn permits(&self, name: &ModelName) -> bool {
        match self {
            ModelPattern::Exact(exact) => exact == name,
            ModelPattern::Glob(glob) => !name.leaves_fleet() && glob_matches(glob.as_bytes(), name.as_str().as_bytes()),
        }
    }

    /// Whether the entry names no model, but a pattern of names.
    pub fn is_glob(&self) -> bool {
        matches!(self, ModelPattern::Glob(_))
    }

    /// Whether the entry permits every model of the fleet.
    pub fn permits_all(&self) -> bool {
        matches!(self, ModelPattern::Glob(glob) if glob.bytes().all(|byte| byte == b'*'))
    }
}

/// Glob match in which `*` stands for any run of bytes. Linear in both lengths but for backtracking to the last `*`, which
/// is enough for one wildcard kind (Krauss' algorithm's argument).
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
