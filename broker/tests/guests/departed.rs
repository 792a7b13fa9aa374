//! Departed publishers whose messages are unread: their memory is charged, and their number is bounded.

use std::time::Duration;

use crate::guest_support::{channel_memory, start};
use blockcast_blocks::Bytes;
use blockcast_broker::{Broker, ExitReason, Limit, RestartPolicy};
use blockcast_publisher::PublisherOptions;

/// How long to wait for something that takes milliseconds before the test counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// Opens a publisher of 4 blocks, publishes a message and closes the publisher, until one is refused or 100
/// have left. Returns how many left.
const LEAVE: &str = r#"
  (func $leave (result i32) (local $p i32) (local $left i32)
    (loop $again
      (local.set $p (call $open_publisher (i32.const 4096) (i32.const 4)))
      (if (i32.lt_s (local.get $p) (i32.const 0)) (then
        (call $expect (i32.const 1) (local.get $p) (i32.const -13))
        (return (local.get $left))))
      (call $expect (i32.const 2) (call $publish (local.get $p) (i32.const 4096) (i32.const 4)) (i32.const 0))
      (call $publisher.drop (local.get $p))
      (br_if $again (i32.lt_u (local.tee $left (i32.add (local.get $left) (i32.const 1))) (i32.const 100))))
    (local.get $left))"#;

/// A guest that leaves as many publishers behind as it can, checks that their number is `left`, and opens
/// another once the messages are read.
fn leaves_and_reopens(left: u64) -> String {
    format!(
        r#"{LEAVE} (func (export "run") (result i32) (local $p i32)
          (call $expect (i32.const 3) (call $leave) (i32.const {left}))
          ;; Waits until the subscriber has read everything.
          (loop $wait
            (local.set $p (call $open_publisher (i32.const 64) (i32.const 2)))
            (if (i32.lt_s (local.get $p) (i32.const 0)) (then (drop (call $wait (i64.const 1000000))) (br $wait)))
            (call $publisher.drop (local.get $p)))
          (i32.const 0))"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_departed_publishers_are_charged_until_their_messages_are_read() {
    let broker = Broker::new();
    let mut slow = broker.subscriber::<Bytes>("topic", Default::default()).expect("opens");
    let guest = start(&broker, &leaves_and_reopens(5), RestartPolicy::never(), |limits| {
        (limits.publishers, limits.publisher_bytes) = (1, 5 * channel_memory(4096, 4) + 4096);
    });
    // Once it is refused, it has published all five messages.
    while guest.stats().await.refusals == 0 && guest.report().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..5 {
        let message = tokio::time::timeout(PATIENCE, slow.recv()).await.expect("it does not hang");
        drop(message.expect("a message"));
    }
    let reading = tokio::spawn(async move { while slow.recv().await.is_ok() {} });
    let report = tokio::time::timeout(PATIENCE, guest.ended()).await.expect("it does not hang");
    assert_eq!(report.reason, ExitReason::Finished);
    reading.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_departed_publishers_are_bounded_in_number() {
    let broker = Broker::new();
    let _slow = broker.subscriber::<Bytes>("topic", Default::default()).expect("opens");
    let body = format!(
        r#"{LEAVE} (func (export "run") (result i32)
          (call $expect (i32.const 3) (call $leave) (i32.const 7)) (i32.const 0))"#
    );
    let guest = start(&broker, &body, RestartPolicy::never(), |limits| limits.departed_publishers = 7);
    assert_eq!(guest.ended().await.reason, ExitReason::Finished);
    assert_eq!(broker.topic("topic").expect("it exists").departed.attached, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_restarts_do_not_shed_the_departed_publishers_of_earlier_runs() {
    let broker = Broker::new();
    let _slow = broker.subscriber::<Bytes>("topic", Default::default()).expect("opens");
    // Fails, and is restarted, until a publisher is refused.
    let body = r#"(func (export "run") (result i32) (local $p i32)
      (local.set $p (call $open_publisher (i32.const 64) (i32.const 2)))
      (if (i32.lt_s (local.get $p) (i32.const 0)) (then
        (call $expect (i32.const 1) (local.get $p) (i32.const -13)) (return (i32.const 0))))
      (drop (call $publish (local.get $p) (i32.const 4096) (i32.const 4)))
      (i32.const 1))"#;
    let policy = RestartPolicy {
        initial: Duration::from_millis(1),
        factor: 1.0,
        limit: Some(20),
        ..RestartPolicy::on_failure()
    };
    let guest = start(&broker, body, policy, |limits| limits.departed_publishers = 3);
    assert_eq!(guest.ended().await.reason, ExitReason::Finished);
    assert_eq!(guest.restarts(), 3);
}

#[tokio::test]
async fn hostile_blocks_of_one_byte_are_charged_for_all_the_memory_they_map() {
    let broker = Broker::on_runtime(tokio::runtime::Handle::current());
    let body = r#"(func (export "run") (result i32)
      (call $expect (i32.const 1) (call $open_publisher (i32.const 1) (i32.const 0x100000)) (i32.const -13))
      (i32.const 0))"#;
    let guest = start(&broker, body, RestartPolicy::never(), |limits| limits.publisher_bytes = 1 << 20);
    assert_eq!(guest.ended().await.reason, ExitReason::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_subscriptions_keep_a_bounded_number_of_departed_publishers() {
    // One sleeps and one computes. Neither polls its subscription.
    for idle in ["(drop (call $wait (i64.const -1)))", ""] {
        let broker = Broker::new();
        let body = format!(
            r#"(func (export "run") (result i32)
              (drop (call $subscribe)) (loop $again {idle} (br $again)) unreachable)"#
        );
        let guest =
            start(&broker, &body, RestartPolicy::never(), |limits| limits.departed_per_subscription = 10);
        while broker.topic("topic").is_none_or(|topic| topic.subscriptions == 0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..20 {
            let options = PublisherOptions::new().block_size(64).blocks(2);
            let mut publisher = broker.publisher::<Bytes>("topic", options).expect("opens");
            publisher.try_loan().expect("a block").send(b"block").expect("fits");
        }
        let ended = tokio::time::timeout(PATIENCE, guest.ended()).await;
        let reason = ended.expect("it ends").reason;
        assert_eq!(reason, ExitReason::Killed(Limit::DepartedPerSubscription), "{idle:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_keeps_up_may_see_any_number_of_publishers_come_and_go() {
    let broker = Broker::new();
    let body = r#"(func (export "run") (result i32) (local $s i32) (local $i i32)
      (local.set $s (call $subscribe))
      (loop $again
        (drop (call $next (local.get $s)))
        (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 30))))
      (i32.const 0))"#;
    let guest = start(&broker, body, RestartPolicy::never(), |limits| limits.departed_per_subscription = 2);
    let mut last = broker.publisher::<Bytes>("topic", Default::default()).expect("opens");
    last.subscribers(1).await;
    for number in 1..=30 {
        let options = PublisherOptions::new().block_size(64).blocks(2);
        let mut publisher = broker.publisher::<Bytes>("topic", options).expect("opens");
        publisher.try_loan().expect("a block").send(b"block").expect("fits");
        drop(publisher);
        while guest.stats().await.received < number {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(guest.ended().await.reason, ExitReason::Finished);
}
