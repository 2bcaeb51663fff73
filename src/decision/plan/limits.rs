//! What a claim takes, and from whose counters: holders, the limits that apply to them, and how much a request may use.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::num::NonZeroU64;

/// A rate limit: `count` requests (or LLM tokens) in `period_ns`, of which `burst` may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Requests (or LLM tokens) per period.
    pub count: NonZeroU64,
    /// Length of the period in nanoseconds.
    pub period_ns: NonZeroU64,
    /// Requests (or LLM tokens) that may come at once.
    pub burst: NonZeroU64,
}

/// The identity under which usage is counted: a 128-bit hash, stable over reloads and restarts, so that usage belongs
/// to the identity and not to the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope(pub u128);

impl Scope {
    /// Returns the scope of `name` among all of this kind. Kinds are separate: a team and a key of one name share
    /// nothing.
    pub fn of(kind: &str, name: &[u8]) -> Scope {
        Scope::within(kind, &[], name)
    }

    /// Returns the scope of `name` within another scope: a user of a key.
    pub fn of_user(key: Scope, name: &[u8]) -> Scope {
        Scope::within("user", &key.0.to_be_bytes(), name)
    }

    fn within(kind: &str, whose: &[u8], name: &[u8]) -> Scope {
        let hashed = Sha256::new().chain_update(kind).chain_update(b"\0").chain_update(whose).chain_update(name);
        let digest: [u8; 32] = hashed.finalize().into();
        let mut head = [0; 16];
        head.copy_from_slice(&digest[..16]);
        Scope(u128::from_be_bytes(head))
    }
}

/// The kind of holder to whom a limit applies, for the log: a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The key itself.
    Key,
    /// The user on whose behalf a key asks, or whom a JWT names.
    User,
    /// The team of the key or user.
    Team,
    /// An address without credential.
    Address,
    /// All callers without credential together.
    Anonymous,
    /// All requests for one model.
    Model,
    /// All requests to one endpoint.
    Route,
    /// All requests.
    Gate,
}

/// A calendar window of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Window {
    /// A day, from midnight to midnight in the ledger's time zone.
    Day,
    /// A month, from its first day to its last in the ledger's time zone.
    Month,
}

impl Window {
    /// Returns the name of the window, as in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Window::Day => "day",
            Window::Month => "month",
        }
    }
}

/// A budget of LLM tokens in a calendar window (`budget = ["2M/day"]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Most LLM tokens in a window.
    pub most: NonZeroU64,
    /// The window.
    pub window: Window,
}

/// The limits that apply to one holder. All of them apply at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Request rates, at most [`RATES_MAX`].
    pub requests: Vec<Quota>,
    /// Most requests in flight at once.
    pub concurrency: Option<u32>,
    /// The LLM token rate: `count` tokens in the period, of which `burst` may be taken at once.
    pub tokens: Option<Quota>,
    /// Budgets, at most one for each window.
    pub budgets: Vec<Budget>,
    /// Whether exceeding a limit is only counted and logged.
    pub shadow: bool,
}

impl Terms {
    /// Returns the most LLM tokens that fit into every token limit at once; `None` if there is no such limit, or
    /// exceeding one is only logged.
    pub fn most_tokens(&self) -> Option<u64> {
        let budgets = self.budgets.iter().map(|budget| budget.most.get());
        budgets.chain(self.tokens.map(|quota| quota.burst.get())).min().filter(|_| !self.shadow)
    }

    /// Returns whether there is no limit at all.
    pub fn is_empty(&self) -> bool {
        let Terms { requests, concurrency, tokens, budgets, shadow: _ } = self;
        requests.is_empty() && concurrency.is_none() && tokens.is_none() && budgets.is_empty()
    }
}

/// One of the accounts in which a claim is counted: the identity, and the limits that apply to it.
#[derive(Debug, Clone, Copy)]
pub struct Account<'v> {
    /// The identity under which usage is counted.
    pub scope: Scope,
    /// The kind of holder.
    pub holder: Holder,
    /// The limits that apply to the holder.
    pub terms: &'v Terms,
}

/// Most request rates of one holder.
pub const RATES_MAX: usize = 5;

/// The accounts in which one claim is counted, without heap, the caller's own first. Empty if the claim is not metered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Accounts<'v> {
    items: [Option<Account<'v>>; SCOPES_MAX],
    len: usize,
}

impl<'v> Accounts<'v> {
    /// Adds an account. Returns false past [`SCOPES_MAX`]: the caller must then refuse rather than admit with a limit
    /// forgotten.
    #[must_use]
    pub fn push(&mut self, account: Account<'v>) -> bool {
        match self.items.get_mut(self.len) {
            Some(place) => {
                *place = Some(account);
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// Returns the accounts, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Account<'v>> {
        self.items[..self.len].iter().flatten()
    }

    /// Returns whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Counts under `to` whatever would be counted under `from`.
    pub fn move_scope(&mut self, from: Scope, to: Scope) {
        self.items.iter_mut().flatten().filter(|account| account.scope == from).for_each(|account| account.scope = to);
    }

    /// Returns the scopes of the accounts alone.
    pub fn scopes(&self) -> Scopes {
        Scopes(self.items.map(|account| account.map(|account| account.scope)))
    }
}

/// Most accounts in which one claim is counted: its key (or user, or address); the user behind it; its team (or all
/// callers without credential); the model, the route and the gate.
pub const SCOPES_MAX: usize = 6;

/// The scopes under which a request is counted, the caller's own first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scopes([Option<Scope>; SCOPES_MAX]);

impl Scopes {
    /// Returns the scopes of one identity alone.
    pub fn one(scope: Scope) -> Scopes {
        let mut scopes = Scopes::default();
        scopes.0[0] = Some(scope);
        scopes
    }

    /// Adds a scope. Returns false past [`SCOPES_MAX`].
    #[must_use]
    pub fn push(&mut self, scope: Scope) -> bool {
        match self.0.iter_mut().find(|place| place.is_none()) {
            Some(place) => {
                *place = Some(scope);
                true
            }
            None => false,
        }
    }

    /// Returns the scopes, the caller's own first.
    pub fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().flatten().copied()
    }
}

/// The weight of a model's LLM tokens in token limits and budgets (`[models.NAME] cost`), in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// The weight of a token of the prompt, in thousandths.
    pub input_milli: u32,
    /// The weight of a generated token, in thousandths.
    pub output_milli: u32,
}

impl Default for Cost {
    fn default() -> Cost {
        Cost { input_milli: 1000, output_milli: 1000 }
    }
}

impl Cost {
    /// Returns the weight of these LLM tokens, in thousandths of a token. Saturates.
    pub fn of(self, tokens: Tokens) -> u64 {
        let prompt = tokens.prompt.saturating_mul(u64::from(self.input_milli));
        prompt.saturating_add(tokens.output.saturating_mul(u64::from(self.output_milli)))
    }
}

/// The LLM tokens of one request. They are stored under the names that usage lines and rows have for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Tokens {
    /// Tokens of the prompt.
    #[serde(rename = "tokens_in")]
    pub prompt: u64,
    /// Tokens of the output.
    #[serde(rename = "tokens_out")]
    pub output: u64,
}

impl Tokens {
    /// No tokens at all.
    pub const NONE: Tokens = Tokens { prompt: 0, output: 0 };
}

/// The most that a request may use, as far as its body says: the basis of its reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// The request's prompt, and the form of its answer.
    pub written: RequestShape,
    /// The output that it asks for.
    pub output: RequestedOutput,
    /// Whether the answer streams.
    pub stream: bool,
    /// The weight of the model's LLM tokens.
    pub cost: Cost,
}

/// The parts of a request that decide how many LLM tokens are in its bytes and in those of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RequestShape {
    /// Bytes of the prompt's text as written.
    pub prompt_bytes: u64,
    /// Number of images in the prompt.
    pub images: u32,
    /// Bytes of the model's name as written, which the answer repeats.
    pub name: u16,
    /// Whether the end of a stream must report the usage (`stream_options.include_usage`).
    pub usage: bool,
    /// Whether the prompt goes to the model without a template (`raw`).
    pub raw: bool,
    /// Whether the server that answers is of the kind that speaks OpenAI's API alone.
    pub openai: bool,
}

/// The output that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestedOutput {
    /// The request generates nothing.
    #[default]
    Nothing,
    /// The request asks for at most so many LLM tokens, over all its answers.
    AtMost(u64),
    /// The request gives no bound. If its plan has one (in LLM tokens), no more than that is reserved.
    Open(Option<u64>),
    /// The request gives this bound, in LLM tokens, in a form that not every program of the pool may read: at least
    /// that much is reserved. The second value is the plan's bound.
    AtLeast(u64, Option<u64>),
}

/// A user on whose behalf a key asks. The number of users whose usage is counted separately is bounded for each key:
/// the ledger knows them, and counts further users under `shared`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserScopes {
    /// The scope of the key.
    pub key: Scope,
    /// The scope of the user.
    pub scope: Scope,
    /// The scope of all users who have no scope of their own, including those without a name.
    pub shared: Scope,
}
