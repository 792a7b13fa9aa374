//! Direct publishing: no call for each message, and the same results as with calls.

use std::time::{Duration, Instant};

use crate::support::{assert_finishes, finishes, library, load, options, start};
use blockcast_blocks::Bytes;
use blockcast_broker::{Broker, ComponentLimits, ExitReason, Rate};
use blockcast_publisher::PublisherOptions;

/// Bounds the wait for a message, or for the end of a component that never ends by itself.
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
fn direct_messages_and_calls_arrive_in_the_order_of_publishing() {
    finishes("mixes");
}

#[test]
fn a_small_pool_is_exhausted_by_direct_publishing_as_it_is_by_calls() {
    finishes("exhausts");
}

#[test]
fn direct_publishing_is_refused_if_it_could_not_keep_the_promises_of_calls() {
    finishes("no-direct");
}

#[test]
fn a_rate_limit_excludes_direct_publishing_and_its_blocks_are_one_loan() {
    let broker = Broker::new();
    broker.keep_topics();
    assert_finishes(&broker, &start(&broker, "limited-direct", |limits| limits.loans = 2));
    for rate in [
        |limits: &mut ComponentLimits| limits.publish_messages = Some(Rate::per_second(1000)),
        |limits: &mut ComponentLimits| limits.publish_bytes = Some(Rate::per_second(1 << 20)),
    ] {
        let limited = options("limited-direct", rate).parameter("rate", "limited");
        let component = broker.supervise_library(&load(&broker, library()), limited);
        assert_finishes(&broker, &component.expect("it starts"));
    }
}

#[test]
fn direct_publishing_wakes_subscribers_and_updates_the_counters() {
    let broker = Broker::new();
    broker.keep_topics();
    let mut subscriber = broker.subscriber::<Bytes>("out", Default::default()).expect("plain bytes");
    let component = start(&broker, "publishes-directly", |_| {});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    for number in 0..20_000_u64 {
        let message = subscriber.blocking_recv_ref(Some(Instant::now() + PATIENCE)).expect("a message");
        assert_eq!(message.view(), number.to_le_bytes());
        drop(message);
        if number % 5000 == 4999 {
            let stats = runtime.block_on(component.stats());
            assert!(stats.published > number, "{stats:?}");
            assert!(stats.published_bytes >= stats.published * 8, "{stats:?}");
            assert!(stats.published <= number + 1 + 64, "no further ahead than its blocks: {stats:?}");
        }
    }
    component.request_shutdown();
    drop(subscriber);
    assert_finishes(&broker, &component);
}

#[test]
fn hostile_direct_publishing_after_the_end_harms_nobody() {
    let broker = Broker::new();
    broker.keep_topics();
    let component = start(&broker, "publishes-after-the-end", |_| {});
    // Nobody else keeps the channel. Other publishers come and go, so that its memory would be reused if the
    // broker had released it too early, which would crash this process.
    while component.report().is_none() {
        drop(broker.publisher::<Bytes>("own", PublisherOptions::new().block_size(64).blocks(2)));
    }
    assert_finishes(&broker, &component);
}

#[test]
fn a_component_that_publishes_directly_can_be_cancelled() {
    for task in ["publishes-directly", "watches-for-the-end"] {
        let broker = Broker::new();
        broker.keep_topics();
        let component = start(&broker, task, |_| {});
        std::thread::sleep(Duration::from_millis(100));
        let asked = Instant::now();
        component.cancel();
        let report = component.wait();
        assert_eq!(report.reason, ExitReason::Cancelled, "{task}");
        assert!(
            report.stats.host_calls <= 8 + report.stats.published / 4,
            "one call per several messages: {report:?}"
        );
        assert!(asked.elapsed() < PATIENCE, "{task}: {:?}", asked.elapsed());
    }
}
