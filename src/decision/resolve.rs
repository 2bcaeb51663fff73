//! Step 4: finds the pool for a model name, if the caller may use it.
//!
//! A model that does not exist and one outside the plan get the same answer, so that a caller cannot list what it may
//! not use; the reason in the log tells them apart.

use super::reason::Reason;
use super::verdict::Refusal;
use super::view::View;
use crate::decision::fleet::roster::Pool;
use crate::decision::plan::policy::{Plan, PlanIndex};
use crate::decision::request::name::{ModelName, NameBuffer};

/// Finds the pool for a model name as the client wrote it.
///
/// # Errors
/// [`Reason::ModelNotInPlan`] or [`Reason::UnknownModel`]; [`Reason::FleetUnknown`] if the plan permits the model and
/// some server may yet turn out to have it.
pub fn resolve<'v>(view: &'v View, plan: &Plan, index: PlanIndex, requested: &str) -> Result<&'v Pool, Refusal> {
    let mut buffer = NameBuffer::default();
    let canonical = buffer.canonical(requested);
    let reason = match canonical.and_then(|name| view.roster.get(name)) {
        Some(pool) if pool.permits(index) => return Ok(pool),
        Some(_) => Reason::ModelNotInPlan,
        None => {
            let name = ModelName::canonical(requested);
            let permitted = canonical.is_some() && plan.models.iter().any(|pattern| pattern.permits(&name));
            if permitted && view.roster.incomplete { Reason::FleetUnknown } else { Reason::UnknownModel }
        }
    };
    let retry_after_s = (reason == Reason::FleetUnknown).then_some(view.policy.recheck_s);
    Err(Refusal { retry_after_s, model: Some(shown(requested)), ..Refusal::new(reason) })
}

/// Returns a client's model name as an answer may repeat it: cut to a length, between two characters.
fn shown(requested: &str) -> Box<str> {
    let end = (0..=requested.len().min(crate::decision::request::name::NAME_MAX))
        .rev()
        .find(|&at| requested.is_char_boundary(at));
    requested.get(..end.unwrap_or(0)).unwrap_or("").into()
}
