//! nginx's reduced mode, headers and path only: the plan with all models passes, one limited to some is refused.

use super::VERSION;
use crate::cases::short_chat;
use crate::harness::client::Request;
use crate::harness::deadline::wait_until;
use crate::harness::fleet::SHARED_MODEL;
use crate::harness::nginx::Mode;
use crate::harness::stack::{Front, Stack};
use std::time::Duration;

const FRONT: Front = Front::Nginx(VERSION, Mode::AuthRequest);

#[test]
fn passes_by_key_and_path_and_refuses_with_the_real_status() {
    let stack = Stack::start(FRONT).unwrap();
    let keys = stack.keys();
    let cases = [
        ("no key", short_chat(SHARED_MODEL), 401),
        ("a bad key", short_chat(SHARED_MODEL).key("hg_wrong"), 401),
        ("a plan that is limited to some models", short_chat(SHARED_MODEL).key(&keys.team), 403),
        ("an administrative route", Request::post("/api/pull", "{}").key(&keys.all), 403),
        ("an unknown route", Request::post("/api/pulls", "{}").key(&keys.all), 404),
    ];
    for (what, request, status) in cases {
        let answer = stack.send(&request).unwrap();
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert!(answer.json()["error"].is_object(), "{what}: {}", answer.text());
    }
    assert_eq!(stack.fleet.asked().unwrap(), 0);
}

/// Options stand in the body, which this mode never sees: a plan that bounds one lets nothing through.
#[test]
fn a_plan_that_bounds_options_passes_nothing_that_is_not_seen() {
    let plans = "[plans.free]\nmodels = [\"*\", \"mistral:7b\"]\n[plans.bounded]\nmodels = [\"*\", \"mistral:7b\"]\nmax_output = 4096\n";
    let stack = Stack::start_with(plans, &[], FRONT).unwrap();
    for (plan, status) in [("free", 200), ("bounded", 403)] {
        let key = stack.herdgate.new_key(plan, plan).unwrap();
        let send = || stack.send(&short_chat(SHARED_MODEL).key(&key)).unwrap();
        wait_until("the key", Duration::from_secs(5), || send().status != 401).unwrap();
        let asked = stack.fleet.asked().unwrap();
        let answer = send();
        assert_eq!(answer.status, status, "{plan}: {}", answer.text());
        assert_eq!(stack.fleet.asked().unwrap() - asked, u64::from(status == 200), "{plan}");
    }
}
