//! What a claim takes, and from which books: holders, the terms they are held to, and what a request may come to.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::num::NonZeroU64;

/// A request-rate limit: `count` requests in `period_ns`, of which `burst` may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Requests per period.
    pub count: NonZeroU64,
    /// Length of the period in nanoseconds.
    pub period_ns: NonZeroU64,
    /// Requests that may come at once.
    pub burst: NonZeroU64,
}

/// Whose books a limit is kept in: a 128-bit hash of the identity, stable over reloads and restarts, so that quota
/// belongs to the identity and not to the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope(pub u128);

impl Scope {
    /// The books of `name` among all of this kind. Kinds are apart: a team and a key of one name share nothing.
    pub fn of(kind: &str, name: &[u8]) -> Scope {
        Scope::within(kind, &[], name)
    }

    /// The books of `name` within another scope: a user of a key.
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

/// Who holds a limit, for the log: a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The key itself.
    Key,
    /// The user on whose behalf a key asks, or whom a token names.
    User,
    /// The key's team.
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
    /// From midnight to midnight in the ledger's time zone.
    Day,
    /// From the first to the last of a month in the ledger's time zone.
    Month,
}

impl Window {
    /// Its name, as in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Window::Day => "day",
            Window::Month => "month",
        }
    }
}

/// Tokens in a calendar window (`budget = ["2M/day"]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Most tokens.
    pub most: NonZeroU64,
    /// In which window.
    pub window: Window,
}

/// What one holder is held to. Everything holds at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Request rates, at most [`RATES_MAX`].
    pub requests: Vec<Quota>,
    /// Requests on their way at once.
    pub concurrency: Option<u32>,
    /// Token rate: `count` tokens in the period, of which `burst` may be taken at once.
    pub tokens: Option<Quota>,
    /// Budgets, at most one a window.
    pub budgets: Vec<Budget>,
    /// Whether being over is counted and logged only.
    pub shadow: bool,
}

impl Terms {
    /// The most tokens that fit into every token limit at once; `None` where there is none, or being over is only told.
    pub fn most_tokens(&self) -> Option<u64> {
        let budgets = self.budgets.iter().map(|budget| budget.most.get());
        budgets.chain(self.tokens.map(|quota| quota.burst.get())).min().filter(|_| !self.shadow)
    }

    /// Whether they hold anybody to anything.
    pub fn is_empty(&self) -> bool {
        let Terms { requests, concurrency, tokens, budgets, shadow: _ } = self;
        requests.is_empty() && concurrency.is_none() && tokens.is_none() && budgets.is_empty()
    }
}

/// One of the books a claim is counted in: whose, and what they are held to.
#[derive(Debug, Clone, Copy)]
pub struct Account<'v> {
    /// Whose books.
    pub scope: Scope,
    /// What kind of holder that is.
    pub holder: Holder,
    /// What they are held to.
    pub terms: &'v Terms,
}

/// Most request rates of one holder.
pub const RATES_MAX: usize = 5;

/// The books one claim is counted in, without heap; the caller's own first. Empty: it is not metered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Accounts<'v> {
    items: [Option<Account<'v>>; SCOPES_MAX],
    len: usize,
}

impl<'v> Accounts<'v> {
    /// Adds books. False past [`SCOPES_MAX`]: the caller must refuse rather than admit with a limit forgotten.
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

    /// The books, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Account<'v>> {
        self.items[..self.len].iter().flatten()
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Counts what is held by `from` for `to` instead.
    pub fn move_scope(&mut self, from: Scope, to: Scope) {
        self.items.iter_mut().flatten().filter(|account| account.scope == from).for_each(|account| account.scope = to);
    }

    /// Their scopes alone.
    pub fn scopes(&self) -> Scopes {
        Scopes(self.items.map(|account| account.map(|account| account.scope)))
    }
}

/// Most books one claim is counted in: its key (or user, or address); the user behind it; its team (or all without
/// credential); the model, the route and the gate.
pub const SCOPES_MAX: usize = 6;

/// The scopes a request is counted in, its caller's own first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scopes([Option<Scope>; SCOPES_MAX]);

impl Scopes {
    /// One identity alone.
    pub fn one(scope: Scope) -> Scopes {
        let mut scopes = Scopes::default();
        scopes.0[0] = Some(scope);
        scopes
    }

    /// Adds one. False past [`SCOPES_MAX`].
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

    /// The scopes, the caller's own first.
    pub fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().flatten().copied()
    }
}

/// What a token of a model counts for in token limits and budgets (`[models.NAME] cost`), in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Of the prompt.
    pub input_milli: u32,
    /// Generated.
    pub output_milli: u32,
}

impl Default for Cost {
    fn default() -> Cost {
        Cost { input_milli: 1000, output_milli: 1000 }
    }
}

impl Cost {
    /// What these tokens count for, in thousandths of a token. Saturates.
    pub fn of(self, tokens_in: u64, tokens_out: u64) -> u64 {
        let input = tokens_in.saturating_mul(u64::from(self.input_milli));
        input.saturating_add(tokens_out.saturating_mul(u64::from(self.output_milli)))
    }
}

/// How much a request may come to, as far as its body says: what a reservation is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Its prompt, and how its answer will be built.
    pub written: Written,
    /// What it generates, and how much of that was asked for.
    pub output: Wanted,
    /// Whether the answer streams.
    pub stream: bool,
    /// What a token counts for.
    pub cost: Cost,
}

/// What of a request's writing decides how many tokens its bytes and those of its answer hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Written {
    /// Bytes of the prompt's text as written.
    pub prompt_bytes: u64,
    /// Images in it.
    pub images: u32,
    /// Bytes of the model's name as written, which the answer repeats.
    pub name: u16,
    /// Whether the end of a stream is to tell what was used (`stream_options.include_usage`).
    pub usage: bool,
    /// Whether the prompt goes without a template (`raw`).
    pub raw: bool,
    /// Whether the server that answers is of the kind that speaks OpenAI's API alone.
    pub openai: bool,
}

/// How much output a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// It generates nothing.
    #[default]
    Nothing,
    /// At most so many tokens, over all its answers.
    AtMost(u64),
    /// It did not say; where its plan has a bound, no more than that is held for it.
    Open(Option<u64>),
    /// It said so many, in a way that not every program of the pool may read: as much is held at least.
    AtLeast(u64, Option<u64>),
}

/// A user on whose behalf a key asks. How many have books of their own is bounded for each key: the ledger knows them,
/// and counts whoever is one too many in `shared`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The key's scope.
    pub key: Scope,
    /// The user's books.
    pub scope: Scope,
    /// The books of all who have none of their own, those without a name included.
    pub shared: Scope,
}
