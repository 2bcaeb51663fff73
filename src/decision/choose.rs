//! Step 6: pool → server, and a second choice. Pure: whose turn it is comes in as a number.

use super::judge::Claim;
use super::policy::{Server, ServerIndex};
use super::verdict::{Grant, Reason, Refusal, Standing};
use super::view::View;

/// Takes the server whose turn it is in the pool's rotation, and the next other one as second choice.
///
/// # Errors
/// `NoServer` where no live server has the model; what was admitted must then be released.
pub fn choose<'v>(
    view: &'v View,
    claim: &Claim<'v>,
    turn: u64,
    requests: Option<Standing>,
) -> Result<Grant<'v>, Refusal> {
    let rotation: &'v [ServerIndex] = match claim.pool {
        Some(pool) => &pool.rotation,
        None => &view.roster.everywhere,
    };
    let none = || Refusal {
        retry_after_s: Some(view.policy.recheck_s),
        model: claim.pool.map(|pool| pool.name.as_str().into()),
        ..Refusal::new(Reason::NoServer)
    };
    let length = u64::try_from(rotation.len()).ok().filter(|length| *length > 0).ok_or_else(none)?;
    let start = usize::try_from(turn % length).unwrap_or(0);
    let (before, from) = rotation.split_at(start);
    let first = from.first().copied().ok_or_else(none)?;
    let second = from.iter().chain(before).copied().find(|index| *index != first);
    let server: &'v Server = view.server(first).ok_or_else(none)?;
    Ok(Grant { server, server2: second.and_then(|index| view.server(index)), pool: claim.pool, requests })
}
