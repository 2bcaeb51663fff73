//! nginx's reduced mode, headers and path only: the plan with all models passes, one limited to some is refused.

use super::VERSION;
use crate::cases::short_chat;
use crate::harness::client::Request;
use crate::harness::fleet::SHARED_MODEL;
use crate::harness::nginx::Mode;
use crate::harness::stack::{Front, Stack};

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
