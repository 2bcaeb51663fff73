//! The most by which a token limit can be overshot, computed from a plan alone. Pure.
//!
//! A limit admits a request if what was charged, what is reserved and the request's own reservation fit into it. So it
//! is overshot only by what requests in flight use beyond their reservations, and there are never more of those than
//! `concurrency`. Output does not exceed its reservation if every request must give a bound (`left_open = "refuse"`)
//! and no more than `max_output` is admitted: all of it is reserved. A prompt exceeds its reservation if it has more
//! LLM tokens than estimated, and at worst it fills the context, of which `max_context` is the most that a caller may
//! ask for.

use super::allowance::{Allowance, LeftOpen};
use super::limits::Terms;
use super::policy::{Plan, Policy};

/// The reason for which there is no bound: the setting that the plan lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unbounded {
    /// Any number of requests may be in flight.
    Concurrency,
    /// An answer may have any length.
    MaxOutput,
    /// A request that gives no bound passes.
    LeftOpen,
    /// A prompt may have any length.
    MaxContext,
}

impl Unbounded {
    /// Returns the line to add to the plan.
    pub fn hint(self) -> &'static str {
        match self {
            Unbounded::Concurrency => "concurrency = 8",
            Unbounded::MaxOutput => "max_output = 4096",
            Unbounded::LeftOpen => "left_open = \"refuse\"",
            Unbounded::MaxContext => "max_context = 16384",
        }
    }
}

/// Returns the number of LLM tokens, weighted by cost, by which a holder of this plan can overshoot its token rate or a
/// budget at worst. `None` if the plan has neither; `Some(Err)` if nothing bounds the overshoot.
pub fn overshoot(policy: &Policy, plan: &Plan) -> Option<Result<u64, Unbounded>> {
    overshoot_of(policy, &plan.terms, &plan.allowance)
}

/// Returns the same for usage limits and request limits that may come from two plans: those of a key with a temporary
/// plan.
pub fn overshoot_of(policy: &Policy, terms: &Terms, allowance: &Allowance) -> Option<Result<u64, Unbounded>> {
    if terms.tokens.is_none() && terms.budgets.is_empty() {
        return None;
    }
    let bound = || {
        let requests = terms.concurrency.ok_or(Unbounded::Concurrency)?;
        allowance.max_output.ok_or(Unbounded::MaxOutput)?;
        if allowance.left_open != Some(LeftOpen::Refuse) {
            return Err(Unbounded::LeftOpen);
        }
        let context = allowance.max_context.ok_or(Unbounded::MaxContext)?;
        let dearest = policy.models.values().map(|model| model.cost.input_milli).max().unwrap_or(1000).max(1000);
        let each = u128::from(context) * u128::from(dearest);
        Ok(u64::try_from((each * u128::from(requests)).div_ceil(1000)).unwrap_or(u64::MAX))
    };
    Some(bound())
}

/// Returns the overshoot in words.
pub fn told(overshoot: Result<u64, Unbounded>) -> String {
    match overshoot {
        Ok(tokens) => format!(
            "exceeded by at most {tokens} tokens at worst (concurrency x max_context, if no server's own context is larger)"
        ),
        Err(lacking) => format!("exceeded without bound by a burst; {} helps bound it", lacking.hint()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::plan::allowance::Allowance;
    use crate::decision::plan::limits::{Budget, Cost, Scope, Terms, Window};
    use crate::decision::plan::policy::ModelPolicy;
    use crate::decision::request::name::ModelName;
    use std::num::NonZeroU64;

    #[test]
    fn what_is_missing_is_named_and_the_dearest_model_counts() {
        let budgets = NonZeroU64::new(9).map(|most| Budget { most, window: Window::Day }).into_iter().collect();
        let mut policy = Policy::default();
        let mut plan = Plan::default();
        assert_eq!(overshoot(&policy, &plan), None);
        plan.terms = Terms { budgets, ..Terms::default() };
        assert_eq!(overshoot(&policy, &plan), Some(Err(Unbounded::Concurrency)));
        plan.terms.concurrency = Some(8);
        assert_eq!(overshoot(&policy, &plan), Some(Err(Unbounded::MaxOutput)));
        plan.allowance = Allowance { max_output: Some(4096), ..Allowance::default() };
        assert_eq!(overshoot(&policy, &plan), Some(Err(Unbounded::LeftOpen)));
        plan.allowance.left_open = Some(LeftOpen::Refuse);
        assert_eq!(overshoot(&policy, &plan), Some(Err(Unbounded::MaxContext)));
        plan.allowance.max_context = Some(16_384);
        assert_eq!(overshoot(&policy, &plan), Some(Ok(131_072)));
        let cost = Cost { input_milli: 2500, output_milli: 9000 };
        let dear = ModelPolicy { scope: Scope(1), terms: Terms::default(), cost };
        policy.models.insert(ModelName::canonical("dear"), dear);
        assert_eq!(overshoot(&policy, &plan), Some(Ok(327_680)));
    }
}
