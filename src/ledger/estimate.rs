//! What requests usually come to, learned: how long answers get, how fast they come, how much a byte holds. Pure.

use super::durations::Durations;
use crate::decision::limits::{Demand, Wanted};
use crate::decision::route::Endpoint;
use std::collections::HashMap;

/// Bytes of a prompt for one token, before anything is learned: fewer than English has, so that the prompt is held for
/// more rather than for less.
const PROMPT_BYTES: u64 = 3;

/// Tokens held for a request that named no bound, before anything is learned.
const LENGTH_UNLEARNED: u64 = 512;

/// Fewest tokens held for one that named no bound.
const LENGTH_MIN: u64 = 64;

/// Most pools that something is kept of.
const POOLS_MAX: usize = 1024;

/// What was learned, by pool.
#[derive(Debug, Default)]
pub struct Estimates {
    pools: HashMap<u64, OfPool>,
}

#[derive(Debug, Default)]
struct OfPool {
    /// Output tokens of requests. The histogram's unit is a token here.
    lengths: Durations,
    tokens: u64,
    ms: u64,
}

impl Estimates {
    /// Tokens to hold for a request: of its prompt, and of its output.
    pub fn expected(&self, pool: u64, demand: &Demand) -> (u64, u64) {
        let images = u64::from(demand.images).saturating_mul(1_000);
        let prompt = demand.prompt_bytes.div_ceil(PROMPT_BYTES).saturating_add(images);
        let output = match demand.output {
            Wanted::Nothing => 0,
            Wanted::AtMost(tokens) => tokens,
            Wanted::Open(bound) => self.usual_length(pool).min(bound.unwrap_or(u64::MAX)),
        };
        (prompt, output)
    }

    fn usual_length(&self, pool: u64) -> u64 {
        let learned = self.pools.get(&pool).and_then(|of_pool| of_pool.lengths.quantile_ms(950));
        learned.unwrap_or(LENGTH_UNLEARNED).max(LENGTH_MIN)
    }

    /// Tokens that are usually generated in so many milliseconds.
    pub fn tokens_in_time(&self, pool: u64, ms: u64) -> u64 {
        match self.pools.get(&pool) {
            Some(of_pool) if of_pool.ms > 0 => of_pool.tokens.saturating_mul(ms) / of_pool.ms,
            _ => u64::MAX,
        }
    }

    /// Tokens that usually stand in so many bytes of an answer.
    pub fn tokens_in_bytes(&self, _pool: u64, _endpoint: Endpoint, stream: bool, bytes: u64) -> u64 {
        bytes / if stream { 120 } else { 4 }
    }

    /// Learns from figures that are exact.
    pub fn note(&mut self, pool: u64, tokens_out: u64, ms: Option<u64>) {
        if self.pools.len() >= POOLS_MAX && !self.pools.contains_key(&pool) {
            return;
        }
        let of_pool = self.pools.entry(pool).or_default();
        of_pool.lengths.note(tokens_out);
        if let Some(ms) = ms.filter(|_| tokens_out > 0) {
            of_pool.tokens = of_pool.tokens.saturating_add(tokens_out);
            of_pool.ms = of_pool.ms.saturating_add(ms);
            if of_pool.ms > 3_600_000 {
                of_pool.tokens /= 2;
                of_pool.ms /= 2;
            }
        }
    }

    /// Forgets pools that no longer exist.
    pub fn retain_pools(&mut self, exists: impl Fn(u64) -> bool) {
        self.pools.retain(|pool, _| exists(*pool));
    }
}
