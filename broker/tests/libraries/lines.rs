//! Publishing by a publisher's line: without a call for each message, and as if there were one.

use std::time::{Duration, Instant};

use crate::support::{load, options, start};
use blockcast_blocks::Bytes;
use blockcast_broker::{Broker, Component, ExitReason, Rate};
use blockcast_publisher::PublisherOptions;

/// Bounds the wait for one message, or for the end of a component that would never end by itself.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs a component that does this to its end; nothing of it is left then.
#[track_caller]
fn finishes(component: &Component, broker: &Broker) {
    let report = component.wait();
    assert_eq!(report.reason, ExitReason::Finished, "{report:?}");
    for topic in broker.topics() {
        let left = (topic.subscriptions, topic.publishers.len(), topic.departed.attached);
        assert_eq!(left, (0, 0, 0), "{topic}");
    }
}

#[track_caller]
fn does(deed: &str) {
    let broker = Broker::new();
    broker.keep_topics();
    finishes(&start(&broker, deed, |_| {}), &broker);
}

#[test]
fn messages_by_the_line_and_by_calls_come_in_the_order_of_publishing() {
    does("mixes");
}

#[test]
fn a_small_pool_is_exhausted_as_without_a_line_and_who_waits_for_a_block_is_told() {
    does("exhausts");
}

#[test]
fn there_is_no_line_where_it_could_not_keep_what_calls_promise() {
    does("no-lines");
}

#[test]
fn a_limited_rate_excludes_a_line_and_what_a_line_has_is_one_loan() {
    let broker = Broker::new();
    broker.keep_topics();
    finishes(&start(&broker, "limited-lines", |limits| limits.loans = 2), &broker);
    for rate in [
        |limits: &mut blockcast_broker::ComponentLimits| {
            limits.publish_messages = Some(Rate::per_second(1000))
        },
        |limits: &mut blockcast_broker::ComponentLimits| {
            limits.publish_bytes = Some(Rate::per_second(1 << 20))
        },
    ] {
        let limited = options("limited-lines", rate).parameter("rate", "limited");
        let component = broker.supervise_library(&load(&broker, crate::support::library()), limited);
        finishes(&component.expect("it starts"), &broker);
    }
}

#[test]
fn a_subscriber_that_sleeps_is_woken_and_counters_are_right_from_outside() {
    let broker = Broker::new();
    broker.keep_topics();
    let mut subscriber = broker.subscriber::<Bytes>("out", Default::default()).expect("plain bytes");
    let component = start(&broker, "lines", |_| {});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    for number in 0..20_000_u64 {
        let message = subscriber.blocking_recv_ref(Some(Instant::now() + PATIENCE)).expect("a message");
        assert_eq!(message.view(), number.to_le_bytes());
        drop(message);
        if number % 5000 == 4999 {
            let stats = runtime.block_on(component.stats());
            assert!(stats.published > number, "{stats:?}");
            assert!(stats.published_bytes >= stats.published * 8, "{stats:?}");
            assert!(stats.published <= number + 1 + 64, "no more than there are blocks: {stats:?}");
        }
    }
    component.request_shutdown();
    drop(subscriber);
    finishes(&component, &broker);
}

#[test]
fn hostile_publishing_after_the_end_reaches_what_stays_until_the_library_is_closed() {
    let broker = Broker::new();
    broker.keep_topics();
    let component = start(&broker, "leaves-a-line", |_| {});
    // Nobody else keeps the channel. Others come and go, so that what is not kept goes too, and this process with it.
    while component.report().is_none() {
        drop(broker.publisher::<Bytes>("own", PublisherOptions::new().block_size(64).blocks(2)));
    }
    finishes(&component, &broker);
}

#[test]
fn a_component_that_publishes_by_a_line_or_only_looks_at_it_is_cancelled() {
    for deed in ["lines", "looks-at-its-line"] {
        let broker = Broker::new();
        broker.keep_topics();
        let component = start(&broker, deed, |_| {});
        std::thread::sleep(Duration::from_millis(100));
        let asked = Instant::now();
        component.cancel();
        let report = component.wait();
        assert_eq!(report.reason, ExitReason::Cancelled, "{deed}");
        assert!(report.stats.host_calls <= 8 + report.stats.published / 4, "a call for several: {report:?}");
        assert!(asked.elapsed() < PATIENCE, "{deed}: {:?}", asked.elapsed());
    }
}
