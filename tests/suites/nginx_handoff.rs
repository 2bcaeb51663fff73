//! The main job through one version of nginx, where herdgate sees the body: `VERSION` of the module that this file is
//! included in.

use super::VERSION;
use crate::cases::{
    answers, bodies, callers, faults, framing, headers, paths, plans, sdks, servers, short_chat, slots, streams, tokens,
};
use crate::harness::client::Response;
use crate::harness::fleet::SHARED_MODEL;
use crate::harness::nginx::Mode;
use crate::harness::release::series;
use crate::harness::stack::{Front, Proxy, Stack};

const FRONT: Front = Front::Nginx(VERSION, Mode::Handoff);

/// HTTP, but broken: headers that are none, a status that is none, an end before the head's, a head without end.
const BROKEN_HTTP: [&[u8]; 4] = [
    b"HTTP/1.1 200 OK\r\n\x01\x02 no header\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: @herdgate_server\r\nX-Herdgate-Server: nowhere\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-Accel-Redi",
    b"",
];

#[test]
fn is_what_runs() {
    let line = VERSION.line().unwrap();
    println!("{line}");
    let found = series(&line).unwrap();
    assert!(line.starts_with("nginx version: ") && VERSION.series().contains(&found), "{line}");
}

/// A directive that a version deprecates shows here first.
#[test]
fn the_shipped_files_are_read_without_a_warning() {
    let stack = Stack::start(FRONT).unwrap();
    let Proxy::Nginx(nginx) = &stack.proxy else { panic!("not nginx") };
    let lines = nginx.error_lines();
    assert!(lines.is_empty() && nginx.process.output().is_empty(), "{lines:#?}{}", nginx.process.output());
}

#[test]
fn refusals_are_told_and_reach_no_server() {
    answers::refusals_are_told_and_reach_no_server(FRONT);
}

#[test]
fn a_burst_over_the_rate_is_told_when_to_come_back() {
    answers::a_burst_over_the_rate_is_told_when_to_come_back(FRONT);
}

#[test]
fn litellm_39309_token_limits_are_told_and_refusals_take_nothing() {
    answers::litellm_39309_token_limits_are_told_and_refusals_take_nothing(FRONT);
}

#[test]
fn the_catalog_is_the_fleets_filtered_by_plan() {
    answers::the_catalog_is_the_fleets_filtered_by_plan(FRONT);
}

#[test]
fn no_spelling_of_a_path_gets_around_the_table() {
    paths::no_spelling_of_a_path_gets_around_the_table(FRONT);
}

#[test]
fn what_a_plan_forbids_reaches_no_server() {
    plans::what_a_plan_forbids_reaches_no_server(FRONT);
}

#[test]
fn credentials_and_our_headers_never_reach_a_server() {
    headers::credentials_and_our_headers_never_reach_a_server(FRONT);
}

#[test]
fn forged_headers_never_change_a_verdict() {
    headers::forged_headers_never_change_a_verdict(FRONT);
}

#[test]
fn the_second_of_two_credentials_never_counts() {
    headers::the_second_of_two_credentials_never_counts(FRONT);
}

#[test]
fn an_encoding_behind_another_never_reaches_a_server() {
    headers::an_encoding_behind_another_never_reaches_a_server(FRONT);
}

#[test]
fn no_framing_hides_a_request_from_herdgate() {
    framing::no_framing_hides_a_request_from_herdgate(FRONT);
}

#[test]
fn tokens_written_50_ms_apart_arrive_50_ms_apart() {
    streams::tokens_written_50_ms_apart_arrive_50_ms_apart(FRONT);
}

/// With both of nginx's defaults back, as they were up to 1.29.6 (HTTP/1.1 since): an answer in chunks (HTTP/1.1) passes
/// its buffers as it comes, one that ends with the connection (HTTP/1.0) does not.
#[test]
fn without_proxy_buffering_off_tokens_arrive_in_bursts() {
    let edits = [("proxy_buffering off;", ""), ("proxy_http_version 1.1;", "proxy_http_version 1.0;")];
    streams::with_these_edits_tokens_arrive_in_bursts(FRONT, &edits);
}

#[test]
fn a_client_that_leaves_is_noticed_by_the_server() {
    streams::a_client_that_leaves_is_noticed_by_the_server(FRONT);
}

#[test]
fn a_client_that_leaves_before_the_answer_is_noticed_by_the_server() {
    streams::a_client_that_leaves_before_the_answer_is_noticed_by_the_server(FRONT);
}

/// Before anyone has noticed that the first choice is gone: nothing was sent, so the second is tried, by its own name.
#[test]
fn a_refused_connection_goes_to_the_second_choice() {
    let mut stack = Stack::start(FRONT).unwrap();
    let request = short_chat(SHARED_MODEL).key(&stack.keys().team).header("Connection", "close");
    stack.fleet.server("ollama1").unwrap().stop();
    for _ in 0..4 {
        let answer = stack.send(&request).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let second = stack.fleet.server("ollama2").unwrap();
    let (address, seen) = (second.address.to_string(), second.counters().unwrap());
    for request in seen.asked_recently() {
        assert!(request.headers.contains(&("host".to_owned(), address.clone())), "{:?}", request.headers);
    }
    let hops = |line: &String| line.split(" status=").nth(1).unwrap_or_default().starts_with("200 : 502 : 200");
    assert!(stack.proxy.log_lines().iter().any(hops), "no request met the stopped server");
}

#[test]
fn a_stopped_server_is_avoided_and_then_back() {
    servers::a_stopped_server_is_avoided_and_then_back(FRONT);
}

#[test]
fn bodies_up_to_20_mb_pass_whole_with_the_model_last() {
    bodies::bodies_pass_whole_with_the_model_last(FRONT, &[100_000, 2_000_000, 20_000_000]);
}

#[test]
fn a_body_over_64_mb_is_refused() {
    bodies::bodies_larger_than_the_proxy_shows_are_refused(FRONT, &[68_000_000]);
}

#[test]
fn a_caller_holds_as_many_requests_as_its_plan_says() {
    slots::a_caller_holds_as_many_requests_as_its_plan_says(FRONT);
}

#[test]
fn two_thousand_requests_a_third_aborted_leave_no_slot_open() {
    slots::two_thousand_requests_a_third_aborted_leave_no_slot_open(FRONT);
}

#[test]
fn users_of_an_issuer_get_the_plan_of_their_rule() {
    tokens::users_of_an_issuer_get_the_plan_of_their_rule(FRONT);
}

#[test]
fn the_openai_and_ollama_sdks_list_and_stream() {
    sdks::the_openai_and_ollama_sdks_list_and_stream(FRONT);
}

#[test]
fn with_herdgate_absent_every_client_gets_503() {
    faults::absent(FRONT);
}

#[test]
fn with_herdgate_stopped_every_client_gets_503() {
    faults::stopped(FRONT);
}

#[test]
fn with_herdgate_killed_under_load_no_request_slips_through() {
    faults::killed_under_load(FRONT);
}

#[test]
fn with_broken_http_on_its_port_every_client_gets_503() {
    faults::garbage_is_503(FRONT, &BROKEN_HTTP);
}

/// nginx takes an answer without a status line for HTTP/0.9 and passes it on: the one case in which a client gets no
/// 503. What matters holds: no answer of success, and no server is asked.
#[test]
fn what_is_not_http_on_its_port_never_reaches_a_server() {
    fn no_success(what: &str, answers: Vec<Result<Response, String>>) -> usize {
        for answer in &answers {
            assert!(answer.as_ref().map_or(true, |answer| answer.status == 503), "{what}: {answer:?}");
        }
        answers.len()
    }
    faults::garbage(FRONT, &[b"\x00\x01\x02\x03 no protocol\r\n\r\n", b"SSH-2.0-other\r\n"], no_success);
}

#[test]
fn a_key_is_rotated_under_load_without_a_wrong_answer() {
    callers::a_key_is_rotated_under_load_without_a_wrong_answer(FRONT);
}

#[test]
fn a_rotated_secret_begins_no_limit_anew() {
    callers::a_rotated_secret_begins_no_limit_anew(FRONT);
}

#[test]
fn users_behind_a_key_are_limited_each() {
    callers::users_behind_a_key_are_limited_each(FRONT);
}

#[test]
fn two_keys_of_a_team_share_its_limit() {
    callers::two_keys_of_a_team_share_its_limit(FRONT);
}

#[test]
fn callers_without_a_credential_get_the_anonymous_plan() {
    callers::callers_without_a_credential_get_the_anonymous_plan(FRONT);
}

#[test]
fn all_anonymous_callers_together_are_held_to_a_limit() {
    callers::all_anonymous_callers_together_are_held_to_a_limit(FRONT);
}

#[test]
fn failed_credentials_are_limited_by_address() {
    callers::failed_credentials_are_limited_by_address(FRONT);
}

#[test]
fn a_blocked_key_is_out_until_it_is_let_in() {
    callers::a_blocked_key_is_out_until_it_is_let_in(FRONT);
}
