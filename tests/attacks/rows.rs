//! Which test stands for which row of the threat model, and carries which number. `docs/security.md` says the same to people.

use crate::harness::root;
use crate::rows_of_limits;
use std::path::Path;

/// A row, or a part of one.
pub struct Row {
    /// As in docs/security.md.
    pub row: &'static str,
    /// Advisories and issues it is known from.
    pub numbers: &'static [&'static str],
    /// File and test, or function that tests share.
    pub tests: &'static [(&'static str, &'static str)],
}

pub const fn row(
    row: &'static str,
    numbers: &'static [&'static str],
    tests: &'static [(&'static str, &'static str)],
) -> Row {
    Row { row, numbers, tests }
}

const CORPUS: &[(&str, &str)] = &[
    ("tests/attacks/corpus_runs.rs", "nothing_of_the_corpus_gets_through_real_haproxy"),
    ("tests/attacks/corpus_runs.rs", "nothing_of_the_corpus_gets_through_real_haproxy_3_1_or_newer"),
    ("tests/attacks/corpus_runs.rs", "nothing_of_the_corpus_gets_through_real_nginx"),
    ("tests/attacks/corpus_runs.rs", "nothing_of_the_corpus_gets_through_the_decision_alone"),
];

/// All of them.
pub fn all_rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().chain(rows_of_limits::ROWS)
}

/// Those about who may pass, and how.
const ROWS: &[Row] = &[
    row(
        "W1",
        &["coraza-spoa#381", "coraza-spoa#382", "spoa-modsecurity#3", "haproxy-ingress#962"],
        &[
            ("tests/attacks/a1_wiring.rs", "a_verdict_that_is_late_cut_or_lost_is_none"),
            ("tests/attacks/a1_wiring.rs", "a_verdict_for_another_question_passes_nothing"),
            ("tests/attacks/a1_wiring.rs", "coraza_spoa_381_382_a_question_never_asked_lets_nobody_pass"),
            ("tests/attacks/a1_wiring.rs", "w1_headers_of_64_kib_change_no_verdict"),
            ("tests/cases/faults.rs", "absent"),
            ("tests/cases/faults.rs", "stopped"),
            ("tests/cases/faults.rs", "killed_under_load"),
            ("tests/cases/faults.rs", "garbage_is_503"),
            ("tests/suites/nginx_handoff.rs", "what_is_not_http_on_its_port_never_reaches_a_server"),
        ],
    ),
    row(
        "W2 to W5",
        &["haproxy#1797"],
        &[("tests/attacks/a1_wiring.rs", "w2_to_w5_the_shipped_files_ask_once_decide_positively_and_leave_no_door")],
    ),
    row("W6", &["GHSA-5hvv-m4w4-gf6v"], CORPUS),
    row(
        "W6",
        &["GHSA-5hvv-m4w4-gf6v"],
        &[("tests/pure/decide.rs", "ghsa_5hvv_m4w4_gf6v_no_path_is_exempt_from_a_key")],
    ),
    row("A3", &["GHSA-69x8-hrgq-fjj8", "CVE-2026-42208", "CVE-2026-35030"], CORPUS),
    row(
        "A3",
        &["GHSA-69x8-hrgq-fjj8"],
        &[
            ("tests/pure/decide.rs", "ghsa_69x8_hrgq_fjj8_a_digest_never_authenticates"),
            ("tests/files/keys.rs", "a_digest_never_authenticates_as_in_litellm_ghsa_69x8_hrgq_fjj8"),
        ],
    ),
    row(
        "A3",
        &[],
        &[
            ("tests/attacks/corpus_runs.rs", "a_key_that_does_not_count_gets_one_answer_whatever_the_reason"),
            ("tests/files/keys.rs", "imported_secrets_must_be_hard_to_guess"),
            ("tests/files/keys.rs", "a_key_file_open_to_others_is_refused"),
            ("tests/files/keys.rs", "secrets_and_digests_are_not_in_debug_output"),
            ("tests/files/key_life.rs", "with_a_pepper_the_key_file_alone_cannot_be_tried_against"),
            ("tests/commands/reload.rs", "revoked_keys_stop_within_a_second_and_a_damaged_key_file_changes_nothing"),
            ("tests/cases/callers.rs", "a_key_is_rotated_under_load_without_a_wrong_answer"),
            ("tests/cases/callers.rs", "failed_credentials_are_limited_by_address"),
            ("tests/attacks/a10_secrets.rs", "nothing_secret_is_written_anywhere"),
        ],
    ),
    row("J1", &["CVE-2015-9235"], &[("tests/pure/jwt.rs", "j1_no_algorithm_but_the_keys_own_is_used")]),
    row(
        "J1 to J2",
        &[],
        &[
            ("tests/pure/wycheproof.rs", "every_vector_is_accepted_or_refused_as_it_says"),
            ("tests/pure/jwt.rs", "j2_only_public_keys_for_signatures_are_taken_from_a_set"),
        ],
    ),
    row("J3", &[], &[("tests/pure/jwt.rs", "j3_a_token_never_brings_its_own_key")]),
    row(
        "J4",
        &["GHSA-hm7r-c7qw-ghp6", "CVE-2025-59420"],
        &[("tests/pure/jwt.rs", "j4_a_header_that_changes_the_meaning_is_refused")],
    ),
    row(
        "J5",
        &["CVE-2026-25537"],
        &[
            ("tests/pure/jwt.rs", "j5_a_claim_of_a_wrong_type_is_refused"),
            ("tests/pure/jwt.rs", "j5_times_hold_within_the_leeway_and_not_past_it"),
        ],
    ),
    row("J6", &[], &[("tests/pure/jwt.rs", "j6_a_key_of_one_issuer_never_speaks_for_another")]),
    row("J7", &["CVE-2026-35030"], &[("tests/pure/jwt.rs", "j7_cve_2026_35030_tokens_of_equal_prefix_are_two_tokens")]),
    row(
        "J8",
        &["fastapi-zitadel-auth PR 156", "mobula#28"],
        &[
            ("tests/ports/jwks.rs", "j8_ten_thousand_invented_kids_cost_one_fetch_a_window"),
            ("tests/ports/jwks.rs", "j8_a_kid_that_a_fresh_set_lacks_asks_for_no_other_fetch"),
        ],
    ),
    row(
        "J9",
        &[],
        &[
            ("tests/ports/jwks.rs", "j9_whatever_an_issuer_answers_known_keys_keep_working"),
            ("tests/ports/jwks.rs", "j9_an_issuer_is_asked_over_tls_with_its_own_authority_only"),
        ],
    ),
    row("J10", &[], &[("tests/ports/jwks.rs", "j10_discovery_leads_to_the_issuers_own_host_or_nowhere_near")]),
    row("J11", &[], &[("tests/pure/jwt.rs", "j11_a_kid_is_a_name_and_nothing_else")]),
    row("H1", &[], CORPUS),
    row("H1", &[], &[("tests/cases/headers.rs", "the_second_of_two_credentials_never_counts")]),
    row("H1", &[], &[("tests/attacks/a4_http2.rs", "over_http_2_no_credential_counts_twice_and_no_path_is_another")]),
    row("H2", &[], CORPUS),
    row("H2", &[], &[("src/decision/caller/authenticate.rs", "two_credentials_are_refused_even_when_they_agree")]),
    row("H3", &["CVE-2025-64484"], CORPUS),
    row("H3", &[], &[("tests/cases/headers.rs", "forged_headers_never_change_a_verdict")]),
    row("H4", &["CVE-2025-48865"], CORPUS),
    row("H4", &[], &[("tests/cases/headers.rs", "credentials_and_our_headers_never_reach_a_server")]),
    row("H5", &["CVE-2026-40575", "GHSA-pjm4-8fpg-f9p6", "oauth2-proxy#3506"], CORPUS),
    row(
        "H5",
        &["CVE-2026-40575", "oauth2-proxy#3506"],
        &[
            ("tests/attacks/a4_unread_headers.rs", "no_unread_header_or_argument_changes_a_verdict_over_spop"),
            ("tests/attacks/a4_unread_headers.rs", "no_unread_header_changes_a_verdict_over_http"),
            ("tests/attacks/a4_unread_headers.rs", "no_unread_header_changes_a_verdict"),
            ("tests/attacks/a4_unread_headers.rs", "forwarding_headers_give_no_guesser_another_address"),
            ("tests/attacks/a4_unread_headers.rs", "no_forwarding_header_reaches_a_server"),
        ],
    ),
    row("H6", &[], CORPUS),
    row("H6", &[], &[("src/decision/caller/authenticate.rs", "malformed_credentials_are_refused")]),
    row(
        "A5",
        &[
            "CVE-2023-45539",
            "CVE-2026-26205",
            "GHSA-pxq7-h93f-9jrg",
            "GHSA-7rh7-c77v-6434",
            "litellm#41810",
            "ollama#17041",
            "ollama#16308",
            "bifrost#2873",
        ],
        CORPUS,
    ),
    row(
        "A5",
        &["CVE-2026-26205"],
        &[
            ("tests/cases/paths.rs", "no_spelling_of_a_path_gets_around_the_table"),
            ("tests/attacks/corpus_runs.rs", "no_spelling_of_a_path_gets_through_the_decision_alone"),
            ("src/decision/request/route.rs", "paths_that_two_servers_read_in_two_ways_are_refused"),
        ],
    ),
    row("A5", &[], &[("src/decision/request/route.rs", "litellm_41810_a_model_in_the_query_is_refused")]),
    row("A5", &["ollama#16308"], &[("tests/pure/decide.rs", "a_pattern_permits_no_model_that_leaves_the_fleet")]),
    row("A6", &["CVE-2025-11230", "docker/mcp-gateway#418", "production-stack PR 1017"], CORPUS),
    row(
        "A6",
        &[],
        &[
            ("tests/pure/body.rs", "a_body_that_two_parsers_read_in_two_ways_is_refused_by_name"),
            ("tests/pure/body.rs", "nothing_is_accepted_that_go_reads_differently"),
            ("tests/pure/body.rs", "the_json_test_suite_is_accepted_and_refused_as_it_says"),
            ("tests/pure/decide.rs", "a_prefix_is_never_decided_on"),
            ("tests/cases/headers.rs", "an_encoding_behind_another_never_reaches_a_server"),
            ("tests/cases/bodies.rs", "bodies_larger_than_the_proxy_shows_are_refused"),
        ],
    ),
    row(
        "A6",
        &["CVE-2021-40346", "CVE-2023-25725", "CVE-2023-40225", "CVE-2025-55315"],
        &[
            ("tests/cases/framing.rs", "no_framing_hides_a_request_from_herdgate"),
            ("tests/cases/framing.rs", "a_prefix_that_is_a_whole_document_is_not_decided_on"),
        ],
    ),
    row(
        "A7",
        &["CVE-2026-24513", "ingress-nginx#12876"],
        &[
            ("tests/attacks/a7_nginx.rs", "cve_2026_24513_no_directive_turns_a_refusal_into_an_answer"),
            ("tests/attacks/a7_nginx.rs", "a_servers_headers_steer_nothing"),
            ("tests/attacks/a7_nginx.rs", "in_the_reduced_mode_model_lists_are_refused_and_reach_no_server"),
        ],
    ),
    row(
        "A7",
        &[],
        &[
            ("tests/suites/nginx_auth_request.rs", "passes_by_key_and_path_and_refuses_with_the_real_status"),
            ("src/nginx/auth_request.rs", "every_refusal_is_401_or_403_and_keeps_its_real_status_beside"),
            ("tests/ports/nginx_port.rs", "a_fact_that_is_absent_repeated_or_spelled_otherwise_refuses"),
            ("tests/ports/nginx_port.rs", "the_catalog_is_shown_to_nobody_without_a_receipt_that_fits"),
        ],
    ),
    row(
        "A8",
        &["haproxy#2490"],
        &[
            ("tests/pure/spop_wire.rs", "bytes_that_are_no_frame_are_refused_as_soon_as_it_shows"),
            ("tests/pure/spop_wire.rs", "an_ack_without_action_or_above_the_size_is_not_written_at_all"),
        ],
    ),
    row("A8", &["haproxy#3478"], &[("tests/ports/spop_listener.rs", "hello_and_every_batch_leave_in_one_write")]),
    row(
        "A8",
        &["haproxy#690"],
        &[("tests/ports/spop_listener.rs", "twenty_pipelined_questions_cut_anywhere_are_all_answered")],
    ),
    row(
        "A8",
        &["haproxy#2868"],
        &[
            ("tests/hostile.rs", "the_spop_port"),
            ("tests/ports/spop_listener.rs", "a_bad_peer_is_disconnected_and_its_neighbours_notice_nothing"),
            ("tests/pure/spop_session.rs", "a_bad_hello_is_told_why_in_haproxys_numbers"),
        ],
    ),
    row(
        "A9",
        &["litellm#36926", "litellm#40050"],
        &[
            ("tests/attacks/a9_log_channel.rs", "only_a_line_of_ours_counts_and_once"),
            ("tests/attacks/a9_log_channel.rs", "what_a_client_writes_stays_in_its_field"),
            ("src/gate/receipt.rs", "a_grants_receipt_names_its_decision_to_its_own_process_only"),
            ("src/settle/line.rs", "what_is_no_usage_line_is_told_apart"),
        ],
    ),
    row(
        "A9",
        &["#20256", "olla#144"],
        &[("tests/cases/slots.rs", "two_thousand_requests_a_third_aborted_leave_no_slot_open")],
    ),
    row(
        "A9",
        &["#39309"],
        &[("tests/pure/decide.rs", "litellm_39309_a_request_that_no_server_can_take_is_not_charged")],
    ),
    row(
        "A10",
        &["litellm#12159"],
        &[
            ("tests/ports/admin.rs", "ten_thousand_junk_requests_add_no_series"),
            ("tests/ports/admin.rs", "status_tells_servers_and_plans_and_no_secret"),
            ("tests/ports/admin.rs", "every_route_is_read_only"),
        ],
    ),
    row(
        "A10",
        &[],
        &[
            ("src/config/server.rs", "no_spelling_of_a_link_local_address_passes"),
            ("src/gate/failures.rs", "networks_remembered_are_bounded"),
            ("src/ledger/users.rs", "one_user_too_many_shares_until_another_was_idle_for_a_day"),
            ("src/gate/audit.rs", "strangers_from_very_many_networks_neither_fill_the_disk_nor_silence_callers"),
            ("src/decision/answer/dialect.rs", "one_answer_for_reasons_that_must_not_be_told_apart"),
            ("tests/hostile.rs", "the_http_port"),
            ("tests/hostile.rs", "the_metrics_port"),
            ("tests/hostile.rs", "the_control_socket"),
            ("tests/attacks/a10_secrets.rs", "nothing_secret_is_written_anywhere"),
            ("tests/attacks/break_glass.rs", "break_glass"),
        ],
    ),
];

/// Digits, letters and everything else as one: a number stands in a test's name without its punctuation.
pub fn folded(text: &str) -> String {
    text.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|fault| panic!("{file}: {fault}"))
}

#[test]
fn every_row_has_tests_that_are_there() {
    let mut named = 0;
    for Row { row, tests, .. } in all_rows() {
        assert!(!tests.is_empty(), "{row}");
        for (file, name) in *tests {
            let text = read(file);
            assert!(text.contains(&format!("fn {name}(")), "{row}: {file} has no {name}");
            // What several tests share must be called by one.
            if !is_test(&text, name) {
                let called = sources(&root().join("tests")).into_iter().any(|text| {
                    text.lines().any(|line| {
                        line.contains(name) && !line.contains(&format!("fn {name}(")) && !line.contains("(\"tests/")
                    })
                });
                assert!(called, "{row}: nothing calls {name}");
            }
            named += 1;
        }
    }
    println!("{} rows, {named} tests named", all_rows().count());
    for expected in [
        "W1", "W2 to W5", "W6", "A3", "H1", "H2", "H3", "H4", "H5", "H6", "A5", "A6", "A7", "A8", "A9", "A10", "A11",
        "A12",
    ] {
        assert!(all_rows().any(|row| row.row == expected), "{expected}");
    }
}

fn is_test(text: &str, name: &str) -> bool {
    let before = text.split(&format!("fn {name}(")).next().unwrap_or_default();
    let attributes: Vec<&str> = before.lines().rev().take(3).collect();
    attributes.iter().any(|line| line.contains("#[test]") || line.contains("#[tokio::test"))
}

pub fn sources(folder: &Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            texts.extend(sources(&entry.path()));
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            texts.push(std::fs::read_to_string(entry.path()).unwrap());
        }
    }
    texts
}

/// A number without a test that carries it is a claim.
#[test]
fn every_number_stands_where_its_test_is_and_in_the_page_for_people() {
    let page = folded(&read("docs/security.md"));
    let corpus = folded(&(read("tests/attacks/corpus.rs") + &read("tests/attacks/corpus_bodies.rs")));
    for Row { row, numbers, tests } in all_rows() {
        assert!(page.contains(&folded(row)), "{row} is not in docs/security.md");
        for number in *numbers {
            let folded_number = folded(number);
            // A repository's name may stand apart from the number, as in "coraza-spoa#381, #382".
            let short = folded(&number[number.find('#').unwrap_or(0)..]);
            let carried =
                corpus.contains(&folded_number) || tests.iter().any(|(file, _)| folded(&read(file)).contains(&short));
            assert!(carried, "{row}: no test carries {number}");
            assert!(page.contains(&folded_number) || page.contains(&short), "{number} is not in docs/security.md");
        }
    }
}
