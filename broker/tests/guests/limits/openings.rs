//! Topics, subscriptions, publishers and memory that a guest opens or takes in a loop.

use super::{MS, guest};
use crate::guest_support::start;
use blockcast_blocks::Bytes;
use blockcast_broker::{Broker, ExitReason, Limit, RestartPolicy};
use blockcast_subscriber::SubscriberOptions;

/// Opens and drops subscriptions to topics with 1000 different names, and fails.
const TOPICS: &str = r#"(func (export "run") (result i32) (local $i i32) (local $s i32) (local $count i32)
  (i64.store (i32.const 4096) (i64.const 0x3030302d73706f74))
  (loop $again
    (i32.store8 (i32.const 4101) (i32.add (i32.const 48) (i32.div_u (local.get $i) (i32.const 100))))
    (i32.store8 (i32.const 4102) (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $i) (i32.const 10)) (i32.const 10))))
    (i32.store8 (i32.const 4103) (i32.add (i32.const 48) (i32.rem_u (local.get $i) (i32.const 10))))
    (local.set $s (call $open_with (i32.const 4096) (i32.const 8) (i32.const 0) (i32.const 0)))
    (if (i32.lt_s (local.get $s) (i32.const 0))
      (then (call $expect (i32.const 1) (local.get $s) (i32.const -13)))
      (else
        (call $subscription.drop (local.get $s))
        (local.set $count (i32.add (local.get $count) (i32.const 1)))))
    (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000))))
  (i32.const 1))"#;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_creation_of_topics_is_refused_at_the_limit_across_restarts() {
    let broker = Broker::new();
    broker.keep_topics();
    drop(broker.subscriber::<Bytes>("tops-500", SubscriberOptions::new()).expect("opens"));
    let policy = RestartPolicy { initial: MS, limit: Some(3), ..RestartPolicy::on_failure() };
    let component = start(&broker, TOPICS, policy, |limits| limits.topics = 7);
    component.ended().await;
    assert_eq!(component.exits().len(), 4);
    assert_eq!(broker.topics().len(), 8, "the existing topic and seven more");
    assert!(component.exits().iter().all(|exit| exit.stats.refusals == 992), "{:?}", component.exits());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_creation_of_topics_ends_the_guest_if_its_grant_says_so() {
    let broker = Broker::new();
    let guest = start(&broker, TOPICS, RestartPolicy::never(), |limits| {
        limits.topics = 0;
        limits.end_at.push(Limit::Topics);
    });
    assert_eq!(guest.ended().await.reason, ExitReason::Killed(Limit::Topics));
    assert!(broker.topics().is_empty());
}

#[tokio::test]
async fn hostile_opening_in_a_loop_ends_the_guest_if_its_grant_says_so() {
    let subscribes = r#"(func (export "run") (result i32) (loop $again (drop (call $subscribe)) (br $again)) unreachable)"#;
    let publishes = r#"(func (export "run") (result i32)
      (loop $again (drop (call $open_publisher (i32.const 4096) (i32.const 4))) (br $again)) unreachable)"#;
    for (body, limit) in [
        (subscribes, Limit::Subscriptions),
        (publishes, Limit::Publishers),
        (publishes, Limit::PublisherBytes),
    ] {
        let guest = guest(body).limits(|limits| {
            (limits.subscriptions, limits.publishers) = (5, 5);
            if limit == Limit::PublisherBytes {
                limits.publisher_bytes = 3 * 4 * 4096;
            }
            limits.end_at.push(limit);
        });
        assert_eq!(guest.run().await.reason, ExitReason::Killed(limit));
    }
}

#[tokio::test]
async fn hostile_memory_growth_ends_the_guest_if_its_grant_says_so() {
    let body = r#"(func (export "run") (result i32)
      (loop $grow (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (i32.const 0))"#;
    let guest = guest(body).limits(|limits| {
        limits.memory = 20 * 65536;
        limits.end_at.push(Limit::Memory);
    });
    let report = guest.run().await;
    assert_eq!(report.reason, ExitReason::Killed(Limit::Memory));
    assert_eq!(report.stats.memory, 20 * 65536);
}
