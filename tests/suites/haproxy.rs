//! The main job through one version of HAProxy: `VERSION` of the module that this file is included in.

use super::VERSION;
use crate::cases::{
    answers, bodies, callers, faults, framing, headers, paths, plans, sdks, servers, slots, streams, tokens, usage,
};
use crate::harness::release::series;
use crate::harness::stack::Front;

const FRONT: Front = Front::HaProxy(VERSION);

/// Answers that are no SPOP: another protocol, a length without end, zeros, a HELLO that stops short, an ACK out of turn.
const NOT_SPOP: [&[u8]; 5] = [
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    b"\xff\xff\xff\xff\x65\x00\x00\x00\x01\x00\x00",
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\x00\x00\x00\x40\x65\x00\x00\x00\x01\x00\x00\x07version",
    b"\x00\x00\x00\x16\x67\x00\x00\x00\x01\x01\x01\x01\x03\x02\x07verdict\x08\x05allow",
];

#[test]
fn is_what_runs() {
    let line = VERSION.line().unwrap();
    println!("{line}");
    let found = series(&line).unwrap();
    assert!(line.starts_with("HAProxy version ") && VERSION.series().contains(&found), "{line}");
}

/// A directive that a version deprecates shows here first.
#[test]
fn the_shipped_file_is_read_without_a_warning() {
    let (read, said) = VERSION.check().unwrap();
    assert!(read && said.is_empty(), "{said}");
}

macro_rules! tests {
    ($($name:ident => $check:expr;)+) => {
        $(#[test] fn $name() { $check(FRONT) })+
    };
}

tests! {
    refusals_are_told_and_reach_no_server => answers::refusals_are_told_and_reach_no_server;
    a_burst_over_the_rate_is_told_when_to_come_back => answers::a_burst_over_the_rate_is_told_when_to_come_back;
    litellm_39309_token_limits_are_told_and_refusals_take_nothing => answers::litellm_39309_token_limits_are_told_and_refusals_take_nothing;
    the_catalog_is_the_fleets_filtered_by_plan => answers::the_catalog_is_the_fleets_filtered_by_plan;
    no_spelling_of_a_path_gets_around_the_table => paths::no_spelling_of_a_path_gets_around_the_table;
    what_a_plan_forbids_reaches_no_server => plans::what_a_plan_forbids_reaches_no_server;
    credentials_and_our_headers_never_reach_a_server => headers::credentials_and_our_headers_never_reach_a_server;
    an_encoding_behind_another_never_reaches_a_server => headers::an_encoding_behind_another_never_reaches_a_server;
    no_framing_hides_a_request_from_herdgate => framing::no_framing_hides_a_request_from_herdgate;
    a_prefix_that_is_a_whole_document_is_not_decided_on =>
        |front| framing::a_prefix_that_is_a_whole_document_is_not_decided_on(front, &[260_900, 261_120, 261_600]);
    forged_headers_never_change_a_verdict => headers::forged_headers_never_change_a_verdict;
    the_second_of_two_credentials_never_counts => headers::the_second_of_two_credentials_never_counts;
    tokens_written_50_ms_apart_arrive_50_ms_apart => streams::tokens_written_50_ms_apart_arrive_50_ms_apart;
    without_http_no_delay_tokens_arrive_in_bursts =>
        |front| streams::with_these_edits_tokens_arrive_in_bursts(front, &[("option http-no-delay", "")]);
    a_client_that_leaves_is_noticed_by_the_server => streams::a_client_that_leaves_is_noticed_by_the_server;
    a_client_that_leaves_before_the_answer_is_noticed_by_the_server =>
        streams::a_client_that_leaves_before_the_answer_is_noticed_by_the_server;
    a_caller_holds_as_many_requests_as_its_plan_says => slots::a_caller_holds_as_many_requests_as_its_plan_says;
    two_thousand_requests_a_third_aborted_leave_no_slot_open =>
        slots::two_thousand_requests_a_third_aborted_leave_no_slot_open;
    a_key_is_rotated_under_load_without_a_wrong_answer => callers::a_key_is_rotated_under_load_without_a_wrong_answer;
    a_rotated_secret_begins_no_limit_anew => callers::a_rotated_secret_begins_no_limit_anew;
    users_behind_a_key_are_limited_each => callers::users_behind_a_key_are_limited_each;
    a_user_named_twice_is_refused => callers::a_user_named_twice_is_refused;
    two_keys_of_a_team_share_its_limit => callers::two_keys_of_a_team_share_its_limit;
    callers_without_a_credential_get_the_anonymous_plan =>
        callers::callers_without_a_credential_get_the_anonymous_plan;
    all_anonymous_callers_together_are_held_to_a_limit => callers::all_anonymous_callers_together_are_held_to_a_limit;
    failed_credentials_are_limited_by_address => callers::failed_credentials_are_limited_by_address;
    a_blocked_key_is_out_until_it_is_let_in => callers::a_blocked_key_is_out_until_it_is_let_in;
    a_stopped_server_is_avoided_and_then_back => servers::a_stopped_server_is_avoided_and_then_back;
    bodies_of_100_and_200_kb_pass_whole_with_the_model_last =>
        |front| bodies::bodies_pass_whole_with_the_model_last(front, &[100_000, 200_000, 260_000]);
    bodies_larger_than_the_buffer_are_refused =>
        |front| bodies::bodies_larger_than_the_proxy_shows_are_refused(front, &[261_500, 300_000, 2_000_000]);
    users_of_an_issuer_get_the_plan_of_their_rule => tokens::users_of_an_issuer_get_the_plan_of_their_rule;
    the_openai_and_ollama_sdks_list_and_stream => sdks::the_openai_and_ollama_sdks_list_and_stream;
    with_herdgate_absent_every_client_gets_503 => faults::absent;
    with_herdgate_stopped_every_client_gets_503 => faults::stopped;
    with_herdgate_killed_under_load_no_request_slips_through => faults::killed_under_load;
    with_garbage_on_its_port_every_client_gets_503 => |front| faults::garbage_is_503(front, &NOT_SPOP);
}

macro_rules! usage_tests {
    ($($name:ident;)+) => {
        $(#[test] fn $name() { usage::$name(VERSION) })+
    };
}

usage_tests! {
    what_the_line_says_is_what_the_server_did;
    however_an_answer_is_cut_it_says_the_same;
    long_lines_are_read_and_pass_unchanged;
    answers_of_other_kinds_are_left_alone;
    what_a_client_got_before_it_left_is_counted;
    a_fault_in_lua_costs_the_counts_and_no_answer;
}
