//! Runs every case of `conformance` in every mix of deployments, with one expectation.
//!
//! | deployment | meaning |
//! | --- | --- |
//! | linked | a task of this program |
//! | component | a guest; blocks are mapped |
//! | module | the core module inside the component |
//! | strict | the component; only its attached messages are mapped |
//! | library | a native library |
//! | process | a program in a process of its own |
//! | copied | the component, the oracle: nothing is mapped, every message is copied on delivery and erased on release |
//!
//! Two apps run in all pairs of deployments. With three apps, the third one's deployment rotates, so that
//! each pair of the three meets in all mixes.

mod support;

use support::{Deployment, End, Stage, mixes};

/// The expected log of one app of a case, and its expected end.
struct Role {
    name: &'static str,
    end: End,
    says: &'static [&'static str],
}

/// Expects that an app finishes.
const fn role(name: &'static str, says: &'static [&'static str]) -> Role {
    Role { name, end: End::Finished, says }
}

/// Expects that an app ends otherwise.
const fn ending(name: &'static str, end: End, says: &'static [&'static str]) -> Role {
    Role { name, end, says }
}

/// Runs a case in every mix.
fn check(case: &str, roles: &[Role]) {
    check_with(case, roles, |_| {});
}

/// Like [`check`], but calls `meanwhile` once every app has logged that it is running.
fn check_with(case: &str, roles: &[Role], meanwhile: impl Fn(&Stage)) {
    for mix in mixes(roles.len()) {
        let stage = Stage::start(case, roles.iter().map(|role| role.name).zip(mix.iter().copied()));
        meanwhile(&stage);
        for (role, found) in roles.iter().zip(stage.outcomes(&mix)) {
            let at = format!("{case}, {} of {mix:?}", role.name);
            assert_eq!(found.says, role.says, "{at}: {}", found.reason);
            assert!(role.end.is(&found.reason), "{at}: {}", found.reason);
        }
    }
}

const THOUSAND: &str = "1000 numbers in order, sum 499500";

#[test]
fn messages_arrive_once_and_in_order() {
    check("order", &[role("subscriber", &[THOUSAND]), role("publisher", &["next is #1000"])]);
}

#[test]
fn messages_of_batches_arrive_once_and_in_order() {
    const LONG: &str = "the value needs at least 72 bytes and the block has 64";
    check("batches", &[role("subscriber", &[THOUSAND]), role("publisher", &[LONG, "next is #1000"])]);
}

#[test]
fn every_subscriber_gets_every_message() {
    check("fan-out", &[role("subscriber", &[THOUSAND]), role("publisher", &[]), role("other", &[THOUSAND])]);
}

#[test]
fn two_publishers_of_a_topic_keep_their_own_order() {
    check(
        "two-publishers",
        &[
            role(
                "subscriber",
                &["101 from 0 on, none missing: true", "101 from 1000000 on, none missing: true"],
            ),
            role("publisher", &[]),
            role("other", &[]),
        ],
    );
}

#[test]
fn four_subscriptions_of_an_app_receive_in_four_ways_at_once() {
    const ALL: &str = "500 numbers in order, sum 124750";
    check("ways", &[role("subscriber", &[ALL; 4]), role("publisher", &[])]);
}

#[test]
fn messages_of_all_lengths_arrive_intact() {
    check(
        "lengths",
        &[
            role("subscriber", &["lengths: 0 1 7 1000 20000 100000 0 1 7 1000 20000 100000", "0 wrong"]),
            role("publisher", &[]),
        ],
    );
}

#[test]
fn typed_values_are_read_as_they_were_written() {
    check(
        "values",
        &[
            role(
                "subscriber",
                &[
                    r#"[]"#,
                    r#"["word 0 of 1"]"#,
                    r#"["word 0 of 2", "word 1 of 2"]"#,
                    r#"["word 0 of 3", "word 1 of 3", "word 2 of 3"]"#,
                    r#"["word 0 of 4", "word 1 of 4", "word 2 of 4", "word 3 of 4"]"#,
                ],
            ),
            role("publisher", &[]),
        ],
    );
}

#[test]
fn late_subscribers_get_the_history_that_they_ask_for() {
    check(
        "history",
        &[
            role("subscriber", &["received: 10", "received: 8 9 10", "received: 7 8 9 10"]),
            role("publisher", &[]),
        ],
    );
}

#[test]
fn losses_of_the_oldest_are_reported_exactly() {
    check(
        "drop-oldest",
        &[
            role(
                "subscriber",
                &[
                    "received: 96 97 98 99",
                    "96 lost after 0",
                    "96 lost in all",
                    "received: 100 101 102",
                    "96 lost in all",
                ],
            ),
            role("publisher", &["published 100, refused: false"]),
        ],
    );
}

#[test]
fn losses_of_the_newest_are_reported_exactly() {
    check(
        "drop-newest",
        &[
            role(
                "subscriber",
                &[
                    "received: 0 1 2 3",
                    "96 lost after 4",
                    "96 lost in all",
                    "received: 100 101 102",
                    "96 lost in all",
                ],
            ),
            role("publisher", &["published 100, refused: false"]),
        ],
    );
}

#[test]
fn a_subscriber_that_loses_nothing_holds_the_publisher_back() {
    check(
        "back-pressure",
        &[
            role("subscriber", &["100 numbers in order, sum 4950"]),
            role("publisher", &["published 4, then all 4 blocks are in use"]),
        ],
    );
}

#[test]
fn released_blocks_are_reused_even_if_their_reader_waits_elsewhere() {
    check(
        "let-go",
        &[role("subscriber", &["received: 0 1 2 3", "received: 4 5 6 7"]), role("publisher", &[])],
    );
}

#[test]
fn one_slow_subscriber_slows_nobody_else() {
    check(
        "slow-and-fast",
        &[
            role("subscriber", &[THOUSAND]),
            role("publisher", &[]),
            role("other", &["1000 received or lost, the last is Some(999)", "no more than it keeps: true"]),
        ],
    );
}

#[test]
fn remaining_messages_arrive_before_the_end_which_stays() {
    check(
        "end",
        &[role("subscriber", &["received: 0 1 2 3 4", "received: ", "Err(Ended)"]), role("publisher", &[])],
    );
}

#[test]
fn a_topic_without_messages_ends() {
    check("empty", &[role("subscriber", &["0 numbers in order, sum 0"]), role("publisher", &[])]);
}

#[test]
fn a_topic_continues_after_its_end_with_a_new_publisher() {
    check("again", &[role("subscriber", &["received: 0 1 2", "received: 3 4 5"]), role("publisher", &[])]);
}

#[test]
fn messages_of_a_publisher_that_fails_arrive() {
    check(
        "fail",
        &[
            role("subscriber", &["100 numbers in order, sum 4950"]),
            ending("publisher", End::Failed("as asked"), &[]),
        ],
    );
}

#[test]
fn messages_of_a_publisher_that_panics_arrive() {
    check(
        "panic",
        &[
            role("subscriber", &["100 numbers in order, sum 4950"]),
            ending("publisher", End::Panicked("as asked"), &[]),
        ],
    );
}

#[test]
fn a_loan_that_a_panic_left_behind_is_not_published() {
    check(
        "unsent",
        &[
            role("subscriber", &["100 numbers in order, sum 4950"]),
            ending("publisher", End::Panicked("as asked, with 64 bytes in hand"), &[]),
        ],
    );
}

#[test]
fn kept_samples_stay_unchanged_and_hold_back_nothing_else() {
    check(
        "keep",
        &[
            role(
                "subscriber",
                &[
                    "kept: 0 20 40 60 80 100 120 140 160 180 200 220 240 260 280 300 320 340 360 380",
                    "left: 380 320 260 200 140 80 20",
                ],
            ),
            role("publisher", &[]),
        ],
    );
}

#[test]
fn samples_outlive_their_subscriber_and_hold_back_nothing_else() {
    check("outlive", &[role("subscriber", &["kept: 0 1 2"]), role("publisher", &[])]);
}

#[test]
fn another_schema_is_refused_when_joining() {
    check(
        "schema",
        &[
            role(
                "subscriber",
                &["another schema", "another schema", "another schema", "10 numbers in order, sum 45"],
            ),
            role("publisher", &[]),
        ],
    );
}

#[test]
fn topics_that_are_not_granted_are_refused_by_name() {
    const SAYS: &[&str] = &[
        "denied, denied",
        "no name, no name",
        "no name, no name",
        "no name, no name",
        r#"not granted: subscribe "secret""#,
    ];
    check("grants", &[role("subscriber", SAYS), role("publisher", SAYS)]);
}

#[test]
fn a_value_that_does_not_fit_is_refused_and_the_next_one_is_not() {
    check(
        "too-large",
        &[
            role("subscriber", &["2 numbers in disorder, sum 9"]),
            role(
                "publisher",
                &[
                    "#0",
                    "the value needs at least 72 bytes and the block has 64",
                    "the value needs at least 800 bytes and the block has 64",
                    "#1",
                    "a message of 65 bytes does not fit a block of 64 bytes",
                ],
            ),
        ],
    );
}

/// Sums of the two topics in the cases about several topics.
const LEFT: &str = "200 numbers in order, sum 19900";
const RIGHT: &str = "300 numbers in order, sum 44850";

#[test]
fn two_topics_and_a_timer_are_selected_from() {
    check("select", &[role("subscriber", &[LEFT, RIGHT]), role("publisher", &[]), role("other", &[])]);
}

#[test]
fn two_topics_are_merged_into_one_stream() {
    check("merge", &[role("subscriber", &[LEFT, RIGHT]), role("publisher", &[]), role("other", &[])]);
}

#[test]
fn two_topics_and_twenty_timers_are_joined() {
    check(
        "join",
        &[role("subscriber", &[LEFT, RIGHT, "20 timers"]), role("publisher", &[]), role("other", &[])],
    );
}

#[test]
fn an_app_between_two_others_subscribes_and_publishes() {
    check(
        "relay",
        &[
            role("subscriber", &[]),
            role("publisher", &[]),
            role("other", &["200 numbers in order, sum 39800"]),
        ],
    );
}

#[test]
fn a_publisher_that_replaces_another_publishes_on_its_own_topic() {
    check(
        "replaced",
        &[
            role("subscriber", &["5 numbers in order, sum 20"]),
            role("publisher", &[]),
            role("other", &["5 numbers in order, sum 25"]),
        ],
    );
}

#[test]
fn timers_fire_in_their_order_and_not_early() {
    check("timers", &[role("subscriber", &["fired: 1 30 60"]), role("publisher", &["fired: 1 30 60"])]);
}

#[test]
fn a_cancelled_future_loses_nothing() {
    check(
        "given-up",
        &[
            role(
                "subscriber",
                &[
                    "given up: true, true",
                    "given up: true, true",
                    "given up: true, true",
                    "100 numbers in order, sum 4950",
                ],
            ),
            role("publisher", &["published 4", "given up: true"]),
        ],
    );
}

#[test]
fn apps_finish_when_they_are_asked_to() {
    const SAYS: &[&str] = &["running", "asked to finish: true"];
    check_with("shutdown", &[role("subscriber", SAYS), role("publisher", SAYS)], |stage| {
        stage.running(2);
        stage.component("subscriber").request_shutdown();
        stage.component("publisher").request_shutdown();
    });
}

#[test]
fn a_broker_that_shuts_down_asks_all_of_its_apps_to_finish() {
    const SAYS: &[&str] = &["running", "asked to finish: true"];
    check_with("shutdown", &[role("subscriber", SAYS), role("publisher", SAYS)], |stage| {
        stage.running(2);
        stage.broker.shut_down();
    });
}

#[test]
fn a_publisher_continues_when_the_app_that_holds_it_back_is_cancelled() {
    let roles = [
        ending("subscriber", End::Cancelled, &["running"]),
        role("publisher", &["published 4", "running", "published 100 to 0"]),
    ];
    check_with("cancel", &roles, |stage| {
        stage.running(2);
        stage.component("subscriber").cancel();
    });
}

/// A suite that skips a deployment shows nothing about it.
#[test]
fn every_deployment_meets_every_other_one() {
    let all = Deployment::all();
    assert!(all.len() >= 7, "{all:?}");
    for apps in [2, 3] {
        for one in 0..apps {
            for next in (0..apps).filter(|next| *next != one) {
                let pairs: std::collections::BTreeSet<_> =
                    mixes(apps).map(|mix| (mix[one], mix[next])).collect();
                assert_eq!(pairs.len(), all.len() * all.len(), "apps {one} and {next} of {apps}");
            }
        }
    }
}
