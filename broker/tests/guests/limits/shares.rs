//! A guest's share of common resources: blocks of a pool, holds, places for subscribers, and publishers'
//! time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{MS, guest};
use crate::guest_support::bus::{Bus, publish, subscribed};
use crate::guest_support::{Guest, start};
use blockcast_blocks::Bytes;
use blockcast_broker::{Broker, ExitReason, GuestEngine, Limit, RestartPolicy};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::SubscriberOptions;

/// Bounds the wait for one free block.
const PATIENCE: Duration = Duration::from_secs(600);

fn publisher(broker: &Broker, blocks: u32) -> Publisher<Bytes> {
    let options = PublisherOptions::new().block_size(64).blocks(blocks);
    broker.publisher::<Bytes>("topic", options).expect("opens")
}

/// Opens a subscription, receives one message and holds it three times. Reports the result of the third hold.
const HOLDS: &str = r#"(func (export "run") (result i32) (local $s i32)
  (local.set $s (call $subscribe))
  (drop (call $next (local.get $s)))
  (call $subscription.hold (local.get $s) (i64.const 0) (i32.const 1088))
  (call $subscription.hold (local.get $s) (i64.const 0) (i32.const 1088))
  (call $expect (i32.const 1) (call $result) (i32.const 1))
  (call $subscription.hold (local.get $s) (i64.const 0) (i32.const 1088))
  (call $report (i32.const 104) (i64.extend_i32_s (call $result)))
  (i32.const 0))"#;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_holds_beyond_the_limit_are_refused_or_end_the_guest() {
    for end in [false, true] {
        let bus = Bus::new();
        let mut writer = bus.writer("topic", 64, 16);
        let engine = GuestEngine::new().expect("an engine");
        let guest = Guest::new(&engine, Arc::new(bus.clone()), HOLDS).limits(|limits| {
            limits.held = 2;
            limits.end_at.extend(end.then_some(Limit::Held));
        });
        let running = guest.spawn();
        subscribed(&writer, 1).await;
        assert!(publish(&mut writer, b"block"));
        let report = running.await.expect("no panic");
        if end {
            assert_eq!(report.reason, ExitReason::Killed(Limit::Held));
        } else {
            assert_eq!((report.reason, guest.reported('h')), (ExitReason::Finished, vec![-13_i64 as u64]));
        }
        assert_eq!((report.stats.held, report.stats.refusals), (2, 1), "as they were when it ended");
        assert_eq!(writer.reclaim(), 16, "all blocks have returned");
    }
}

/// Subscribes with `DropOldest` and never releases a message. Returns how many it received before it was
/// refused.
const HOARDER: &str = r#"
  (func $open_lossy (result i32)
    (local $s i32)
    (local.set $s (call $open_with (i32.const 16) (i32.const 5) (i32.const 1) (i32.const 0)))
    (call $expect (i32.const 9) (i32.lt_s (local.get $s) (i32.const 0)) (i32.const 0))
    (local.get $s))
  (func $hoard (param $s i32) (result i32)
    (local $code i32) (local $count i32)
    (loop $again
      (local.set $code (call $poll (local.get $s) (i32.const 2048) (i32.const 32) (i64.const 0)))
      (if (i32.eq (local.get $code) (i32.const -1)) (then (drop (call $donate (local.get $s))) (br $again)))
      (if (i32.eqz (local.get $code)) (then (drop (call $wait (i64.const 1000000))) (br $again)))
      (if (i32.eq (local.get $code) (i32.const 1)) (then
        (local.set $count (i32.add (local.get $count) (i32.const 1)))
        (br $again))))
    (call $expect (i32.const 8) (local.get $code) (i32.const -13))
    (local.get $count))"#;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_hoarder_keeps_only_its_share_of_a_pool() {
    let broker = Broker::new();
    let mut publisher = publisher(&broker, 64);
    let body = format!(
        r#"{HOARDER} (func (export "run") (result i32)
          (call $report (i32.const 107) (i64.extend_i32_u (call $hoard (call $open_lossy))))
          (loop $again (drop (call $wait (i64.const -1))) (br $again)) unreachable)"#
    );
    let hoarder = start(&broker, &body, RestartPolicy::never(), |limits| limits.pool_share = 25);
    while publisher.subscriber_count() == 0 {
        tokio::task::yield_now().await;
    }
    // Once it is refused, it keeps its blocks, and the other blocks circulate.
    let mut kept = 0;
    for number in 0..20_000_u32 {
        let loan = publisher.blocking_loan(Some(Instant::now() + PATIENCE)).expect("a block becomes free");
        loan.send(&number.to_le_bytes()[..]).expect("fits");
        if number % 100 == 0 {
            tokio::time::sleep(MS / 10).await;
            kept = kept.max(hoarder.stats().await.attached);
        }
    }
    assert_eq!(kept, 16, "a quarter of 64 blocks");
    hoarder.cancel();
    assert_eq!(hoarder.ended().await.reason, ExitReason::Cancelled);
    assert_eq!(publisher.reclaim(), 64, "all blocks have returned");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_hoarder_with_many_subscriptions_has_only_one_share() {
    let broker = Broker::new();
    let mut publisher = publisher(&broker, 64);
    // Opens 40 subscriptions at 40 positions of the stream.
    let body = format!(
        r#"{HOARDER} (func (export "run") (result i32) (local $i i32) (local $s i32) (local $code i32)
          (loop $open
            (local.set $s (call $open_lossy))
            (loop $one
              (local.set $code (call $poll (local.get $s) (i32.const 2048) (i32.const 32) (i64.const 0)))
              (if (i32.eq (local.get $code) (i32.const -1)) (then (drop (call $donate (local.get $s))) (br $one)))
              (if (i32.eqz (local.get $code)) (then (drop (call $wait (i64.const 100000))) (br $one))))
            (br_if $open (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 40))))
          (loop $again (drop (call $wait (i64.const -1))) (br $again)) unreachable)"#
    );
    let hoarder = start(&broker, &body, RestartPolicy::never(), |limits| limits.subscriptions_per_topic = 40);
    while publisher.subscriber_count() == 0 {
        tokio::task::yield_now().await;
    }
    // Publishes until it has opened all of them, and then as many messages again.
    let mut stats = hoarder.stats().await;
    let (mut number, mut last) = (0_u32, 5_000_000);
    while number < last {
        let loan = publisher.blocking_loan(Some(Instant::now() + PATIENCE)).expect("a block becomes free");
        loan.send(&number.to_le_bytes()[..]).expect("fits");
        number += 1;
        if number % 50 == 0 {
            tokio::time::sleep(MS / 10).await;
            stats = hoarder.stats().await;
            assert!(stats.attached <= 32, "{stats:?}");
            if stats.subscriptions == 40 && last > 2 * number {
                last = 2 * number;
            }
        }
    }
    assert_eq!(stats.subscriptions, 40, "{stats:?}");
    hoarder.cancel();
    assert_eq!(hoarder.ended().await.reason, ExitReason::Cancelled);
    assert_eq!(publisher.reclaim(), 64, "all blocks have returned");
}

#[tokio::test]
async fn hostile_guest_without_back_pressure_cannot_make_publishers_wait() {
    let body = r#"(func (export "run") (result i32)
      (call $expect (i32.const 1) (call $open_with (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 0)) (i32.const -5))
      (call $expect (i32.const 2) (call $open_with (i32.const 16) (i32.const 5) (i32.const 1) (i32.const 0)) (i32.const 1))
      (i32.const 0))"#;
    let guest = guest(body).limits(|limits| limits.back_pressure = false);
    assert_eq!(guest.run().await.reason, ExitReason::Finished, "{:?}", guest.log);
}

/// Opens subscriptions of one topic until it is refused, drops one and reopens it, and then waits.
const CROWDS: &str = r#"(func (export "run") (result i32) (local $s i32) (local $last i32)
  (loop $again
    (local.set $s (call $open_with (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 0)))
    (if (i32.ge_s (local.get $s) (i32.const 0)) (then (local.set $last (local.get $s)) (br $again))))
  (call $expect (i32.const 1) (local.get $s) (i32.const -13))
  (call $subscription.drop (local.get $last))
  (drop (call $subscribe))
  (call $expect (i32.const 2) (call $open_with (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 0)) (i32.const -13))
  ;; Subscriptions of another topic are counted separately.
  (drop (call $open_with (i32.const 17) (i32.const 4) (i32.const 0) (i32.const 0)))
  (call $log (i32.const 2) (i32.const 16) (i32.const 5))
  (loop $wait (drop (call $wait (i64.const -1))) (br $wait)) unreachable)"#;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_subscriptions_in_a_loop_leave_places_for_honest_subscribers() {
    let broker = Broker::new();
    let mut publisher = publisher(&broker, 8);
    let hostile: Vec<_> = (0..10).map(|_| start(&broker, CROWDS, RestartPolicy::never(), |_| ())).collect();
    for guest in &hostile {
        let mut stats = guest.stats().await;
        while stats.log_lines == 0 {
            assert!(guest.report().is_none(), "{:?}", guest.report());
            tokio::time::sleep(MS).await;
            stats = guest.stats().await;
        }
        assert_eq!((stats.subscriptions, stats.refusals), (9, 2), "8 of one topic and one of another");
    }
    assert_eq!(publisher.subscriber_count(), 80);
    for guest in &hostile[1..] {
        guest.cancel();
        guest.ended().await;
    }
    let mut honest =
        broker.subscriber::<Bytes>("topic", SubscriberOptions::new()).expect("there is a free place");
    publisher.try_loan().expect("a block").send(b"block").expect("fits");
    assert_eq!(honest.try_recv_ref().expect("a message").view(), b"block");
    assert_eq!(publisher.subscriber_count(), 9);
}
