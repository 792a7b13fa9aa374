//! Calls of native components: what they can do, and the errors for what they should not do.

use std::sync::{Arc, Mutex};

use crate::support::{finishes, library, load, options, start};
use blockcast_broker::{Broker, ExitReason, Limit, Rate};

#[test]
fn a_component_publishes_and_receives_in_place() {
    finishes("works");
}

#[test]
fn hostile_forged_closed_and_mistyped_handles_are_invalid() {
    finishes("handles");
}

#[test]
fn hostile_null_and_misaligned_pointers_and_bad_numbers_are_refused() {
    finishes("ranges");
}

#[test]
fn memory_blocks_follow_the_same_rules_as_for_guests() {
    finishes("blocks");
}

#[test]
fn hostile_leaks_are_returned_at_the_end() {
    finishes("leaks");
}

#[test]
fn a_wait_ends_at_its_timeout_and_on_a_wake() {
    finishes("timeouts");
}

#[test]
fn calls_from_several_threads_of_a_component_run_one_at_a_time() {
    finishes("threads");
}

#[test]
fn hostile_forged_contexts_reach_nothing() {
    finishes("forges");
}

#[test]
fn hostile_calls_after_the_end_reach_nothing() {
    finishes("ends-early");
}

#[test]
fn slow_subscriptions_learn_how_many_messages_they_lost() {
    finishes("loses");
}

#[test]
fn the_limits_of_a_grant_apply_to_native_components() {
    let broker = Broker::new();
    let component = start(&broker, "limits", |limits| {
        (limits.subscriptions, limits.publishers, limits.loans, limits.attached, limits.held) =
            (1, 1, 2, 3, 1);
        limits.memory_block_bytes = 2 << 20;
        limits.publish_messages = Some(Rate { per_second: 20, burst: 3 });
    });
    let report = component.wait();
    assert_eq!(report.reason, ExitReason::Finished, "{report:?}");
    assert!(report.stats.refusals >= 7, "{report:?}");
    assert_eq!((report.stats.published, report.stats.received), (4, 3), "{report:?}");
}

#[test]
fn hostile_excess_ends_a_native_component_if_the_grant_says_so() {
    let broker = Broker::new();
    let component = start(&broker, "exceeds", |limits| {
        limits.subscriptions = 3;
        limits.end_at = vec![Limit::Subscriptions];
    });
    assert_eq!(component.wait().reason, ExitReason::Killed(Limit::Subscriptions));
    let component = start(&broker, "exceeds", |limits| {
        limits.subscriptions_per_topic = 3;
        limits.end_at = vec![Limit::SubscriptionsPerTopic];
    });
    assert_eq!(component.wait().reason, ExitReason::Killed(Limit::SubscriptionsPerTopic));
    let component =
        start(&broker, "exceeds", |limits| limits.host_calls = Some(Rate { per_second: 1, burst: 20 }));
    assert_eq!(component.wait().reason, ExitReason::Killed(Limit::HostCalls));
}

#[test]
fn hostile_chatter_is_dropped_and_counted() {
    let broker = Broker::new();
    let report = start(&broker, "chats", |limits| limits.log_lines = Rate::per_second(0).burst(20)).wait();
    assert_eq!(report.reason, ExitReason::Finished);
    assert!(report.stats.log_lines < 100 && report.stats.log_lines_dropped > 4000, "{report:?}");
}

#[test]
fn hostile_departed_publishers_of_a_native_component_are_bounded() {
    let broker = Broker::new();
    let component = start(&broker, "departs", |limits| limits.departed_publishers = 3);
    let report = component.wait();
    assert_eq!(report.reason, ExitReason::Finished, "{report:?}");
    assert_eq!(report.stats.refusals, 1);
}

#[test]
fn calls_of_a_native_component_that_cannot_fail_are_counted() {
    let broker = Broker::new();
    assert_eq!(start(&broker, "asks", |_| {}).wait().stats.host_calls, 31, "one to learn its task");
    let component =
        start(&broker, "asks", |limits| limits.host_calls = Some(Rate { per_second: 0, burst: 20 }));
    assert_eq!(component.wait().reason, ExitReason::Killed(Limit::HostCalls));
}

#[test]
fn hostile_line_breaks_and_marks_in_native_texts_are_escaped() {
    let broker = Broker::new();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&lines);
    let options = options("forges-lines", |_| {})
        .log(Arc::new(move |_, line: &str| log.lock().expect("no panic").push(line.to_owned())));
    let component = broker.supervise_library(&load(&broker, library()), options).expect("it starts");
    assert_eq!(component.wait().reason, ExitReason::Failed(r"c\nd\u{202e}".to_owned()));
    assert_eq!(*lines.lock().expect("no panic"), [r"a\nb\u{1b}[2J"]);
}
