//! The rows of the threat model that are about limits: LLM tokens charged rightly, and limits shared by several herdgates.

use super::rows::{Row, row};

/// Rows A11 and A12.
pub const ROWS: &[Row] = &[
    row(
        "A11",
        &["litellm#18730", "litellm#26672", "Envoy AI Gateway#2394", "litellm#24677", "#29191", "litellm#14457"],
        &[
            (
                "tests/pure/quota.rs",
                "litellm_18730_no_order_of_events_passes_a_limit_by_more_than_what_went_beyond_its_reservation",
            ),
            ("tests/pure/quota.rs", "litellm_24677_the_first_request_of_an_unused_limit_passes"),
            ("tests/pure/quota.rs", "litellm_14457_a_lost_line_is_charged_and_a_late_one_corrects"),
            ("tests/pure/quota.rs", "a_budget_is_whole_again_when_its_window_ends_and_not_before"),
        ],
    ),
    row(
        "A11",
        &["litellm PR 30522"],
        &[("tests/cases/slots.rs", "two_thousand_requests_a_third_aborted_leave_no_slot_open")],
    ),
    row("A11", &["openai-openapi#539"], &[("tests/cases/usage.rs", "what_a_client_got_before_it_left_is_counted")]),
    row(
        "A11",
        &[],
        &[
            ("tests/proxies/charges.rs", "two_thousand_mixed_requests_are_charged_what_they_used_through_real_haproxy"),
            ("tests/files/store_crash.rs", "what_was_acknowledged_is_there_after_every_kill_and_nothing_twice"),
        ],
    ),
    row(
        "A12",
        &["litellm PR 27001"],
        &[
            ("tests/shared_store/books.rs", "a_claim_takes_all_its_limits_or_none_and_a_refusal_changes_nothing"),
            ("tests/shared_store/books.rs", "settling_twice_equals_once_and_better_evidence_corrects"),
        ],
    ),
    row(
        "A12",
        &["envoyproxy/ratelimit#462", "envoyproxy/ratelimit PR 1191"],
        &[
            ("tests/shared_store/faults.rs", "a_store_that_is_stopped_and_goes_on"),
            ("tests/shared_store/faults.rs", "a_store_that_is_killed_and_comes_back_empty"),
            ("tests/shared_store/faults.rs", "a_store_that_takes_no_writes_is_given_up_and_taken_up_again"),
        ],
    ),
    row(
        "A12",
        &["litellm#40291"],
        &[
            ("tests/shared_store/herdgates.rs", "two_herdgates_hold_to_one_limit_and_settle_each_others_requests"),
            ("tests/shared_store/herdgates.rs", "either_herdgate_may_be_killed_and_the_other_knows_what_is_on_its_way"),
        ],
    ),
];
