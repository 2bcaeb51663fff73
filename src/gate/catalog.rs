//! Answers that herdgate gives itself. HAProxy fetches them from the HTTP port with a receipt that fits one request alone.

use super::Gate;
use crate::decision::answer::catalog::{self, RenderedCatalog};
use crate::decision::inquiry::Inquiry;
use crate::decision::plan::policy::PlanIndex;
use crate::decision::request::route::{percent_decoded, route};
use crate::decision::resolve::resolve;
use crate::decision::verdict::LocalAnswer;
use crate::decision::view::View;

impl Gate {
    /// Returns a receipt with which the caller of `answer` can fetch it from the HTTP port (`/catalog`).
    pub fn answer_receipt(&self, answer: &LocalAnswer<'_>, view: &View, inquiry: &Inquiry<'_>) -> String {
        let plan = view.policy.plans.get(usize::from(answer.plan.0)).map_or("", |plan| &plan.name);
        self.receipts.issue(plan, inquiry.method, inquiry.target, self.clock.now().unix_ms / 1000)
    }

    /// Returns the answer that a receipt was issued for; `None` where the receipt does not fit the request.
    pub fn catalog(&self, view: &View, receipt: &str, method: &[u8], target: &[u8]) -> Option<RenderedCatalog> {
        let plan_name = self.receipts.redeem(receipt, method, target, self.clock.now().unix_ms / 1000)?;
        let position = view.policy.plans.iter().position(|plan| *plan.name == *plan_name)?;
        let plan = PlanIndex(u16::try_from(position).ok()?);
        let route = route(method, target).ok().filter(|route| route.endpoint.is_answered_here())?;
        let pool = match route.model_in_path {
            None => None,
            Some(encoded) => {
                let plan_policy = view.policy.plans.get(position)?;
                let decoded: Vec<u8> = percent_decoded(encoded).collect();
                let name = String::from_utf8_lossy(&decoded);
                Some(resolve(view, plan_policy, plan, &name).ok()?)
            }
        };
        let answer = LocalAnswer { endpoint: route.endpoint, plan, pool, head: route.head };
        Some(catalog::render(view, &answer))
    }
}
