//! What a guest may use: every limit refuses what goes beyond it, or ends the guest where its grant says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::guest_support::bus::{Bus, publish};
use crate::guest_support::child::in_child_async;
use crate::guest_support::{Guest, process, wat};
use blockcast_blocks::{Bytes, InvalidPayload, Payload};
use blockcast_broker::{Broker, Component, ComponentOptions, Grants, GuestSource};
use blockcast_broker::{ComponentLimits, ExitReason, GuestEngine, Limit, Rate, Validator};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::SubscriberOptions;

const MS: Duration = Duration::from_millis(1);
/// Bounds the wait for one free block.
const PATIENCE: Duration = Duration::from_secs(600);

fn guest(body: &str) -> Guest {
    let engine = GuestEngine::new().expect("an engine");
    Guest::new(&engine, Arc::new(Bus::new()), body)
}

/// Starts a guest that is granted everything but beyond `limits`.
fn start(broker: &Broker, body: &str, limits: impl FnOnce(&mut ComponentLimits)) -> Component {
    let program = broker.load(&GuestSource::bytes("test", wat::component(body).into_bytes())).expect("loads");
    let mut granted = ComponentLimits::default();
    limits(&mut granted);
    let options = ComponentOptions::new().grants(Grants::all().limits(granted));
    broker.supervise_guest(&program, options).expect("starts")
}

fn publisher(broker: &Broker, blocks: u32) -> Publisher<Bytes> {
    let options = PublisherOptions::new().block_size(64).blocks(blocks);
    broker.publisher::<Bytes>("topic", options).expect("opens")
}

/// Publishes 4 bytes 2000 times whatever comes of it, and reports how often that went well, was refused because of a
/// limit, and anything else.
const FLOOD: &str = r#"(func (export "run") (result i32)
  (local $p i32) (local $i i32) (local $code i32) (local $sent i32) (local $refused i32) (local $else i32)
  (local.set $p (call $open_publisher (i32.const 64) (i32.const 8)))
  (loop $again
    (local.set $code (call $publish (local.get $p) (i32.const 4096) (i32.const 4)))
    (if (i32.eqz (local.get $code))
      (then (local.set $sent (i32.add (local.get $sent) (i32.const 1))))
      (else (if (i32.eq (local.get $code) (i32.const -13))
        (then (local.set $refused (i32.add (local.get $refused) (i32.const 1))))
        (else (local.set $else (i32.add (local.get $else) (i32.const 1)))))))
    (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 2000))))
  (call $report (i32.const 115) (i64.extend_i32_u (local.get $sent)))
  (call $report (i32.const 114) (i64.extend_i32_u (local.get $refused)))
  (call $report (i32.const 101) (i64.extend_i32_u (local.get $else)))
  (i32.const 0))"#;

#[tokio::test]
async fn hostile_flood_of_messages_is_refused_beyond_its_rate() {
    let guest = guest(FLOOD).limits(|limits| limits.publish_messages = Some(Rate::per_second(100).burst(10)));
    let began = Instant::now();
    let report = guest.run().await;
    assert_eq!(report.reason, ExitReason::Finished);
    let sent = guest.reported('s')[0];
    let allowed = 10 + began.elapsed().as_millis() as u64 / 10 + 1;
    assert!((10..=allowed).contains(&sent), "{sent} of {allowed}");
    assert_eq!((guest.reported('r')[0], guest.reported('e')[0]), (2000 - sent, 0));
    assert_eq!((report.stats.published, report.stats.refusals), (sent, 2000 - sent));
}

#[tokio::test]
async fn hostile_flood_of_bytes_is_refused_beyond_its_rate() {
    let guest = guest(FLOOD).limits(|limits| limits.publish_bytes = Some(Rate::per_second(400).burst(40)));
    let began = Instant::now();
    assert_eq!(guest.run().await.reason, ExitReason::Finished);
    let bytes = guest.reported('s')[0] * 4;
    let allowed = 40 + began.elapsed().as_millis() as u64 * 400 / 1000 + 4;
    assert!((40..=allowed).contains(&bytes), "{bytes} of {allowed}");
}

#[tokio::test]
async fn hostile_flood_of_messages_ends_the_guest_where_its_grant_says_so() {
    for (limit, rate) in
        [(Limit::PublishMessages, Rate::per_second(5)), (Limit::PublishBytes, Rate::per_second(20))]
    {
        let guest = guest(FLOOD).limits(|limits| {
            if limit == Limit::PublishBytes {
                limits.publish_bytes = Some(rate);
            } else {
                limits.publish_messages = Some(rate);
            }
            limits.end_at.push(limit);
        });
        let report = guest.run().await;
        assert_eq!(report.reason, ExitReason::Killed(limit));
        assert_eq!(report.stats.published, 5);
    }
}

#[tokio::test]
async fn a_guest_that_asks_and_waits_publishes_at_its_rate_and_is_never_refused() {
    let body = r#"(func (export "run") (result i32) (local $p i32) (local $i i32)
      (local.set $p (call $open_publisher (i32.const 64) (i32.const 8)))
      (loop $again
        (if (call $publisher.free-blocks (local.get $p))
          (then
            (call $expect (i32.const 1) (call $publish (local.get $p) (i32.const 4096) (i32.const 4)) (i32.const 0))
            (local.set $i (i32.add (local.get $i) (i32.const 1))))
          (else (drop (call $wait (i64.const -1)))))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 30))))
      (i32.const 0))"#;
    let guest = guest(body).limits(|limits| limits.publish_messages = Some(Rate::per_second(200).burst(5)));
    let began = Instant::now();
    let report = guest.run().await;
    assert_eq!(report.reason, ExitReason::Finished);
    assert_eq!((report.stats.published, report.stats.refusals), (30, 0));
    assert!(began.elapsed() >= 120 * MS, "25 messages at 200 per second: {:?}", began.elapsed());
}

#[tokio::test]
async fn hostile_flood_of_log_lines_ends_the_guest_where_its_grant_says_so() {
    let body = r#"(func (export "run") (result i32)
      (loop $again (call $log (i32.const 2) (i32.const 16) (i32.const 5)) (br $again)) unreachable)"#;
    let guest = guest(body).limits(|limits| {
        limits.log_lines = Rate::per_second(1).burst(20);
        limits.end_at.push(Limit::LogLines);
    });
    let report = guest.run().await;
    assert_eq!(report.reason, ExitReason::Killed(Limit::LogLines));
    assert!((20..40).contains(&guest.log.lock().unwrap().len()));
    assert_eq!(report.stats.log_lines_dropped, 1);
}

#[tokio::test]
async fn hostile_flood_of_host_calls_ends_the_guest() {
    let body =
        r#"(func (export "run") (result i32) (loop $again (drop (call $now)) (br $again)) unreachable)"#;
    let guest = guest(body).limits(|limits| limits.host_calls = Some(Rate::per_second(1000)));
    let report = guest.run().await;
    assert_eq!(report.reason, ExitReason::Killed(Limit::HostCalls));
    assert!((1000..100_000).contains(&report.stats.host_calls), "{:?}", report.stats);
}

#[tokio::test]
async fn a_guest_that_calls_the_host_within_its_rate_goes_on() {
    let body = r#"(func (export "run") (result i32) (local $i i32)
      (loop $again
        (drop (call $wait (i64.const 1000000)))
        (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100))))
      (i32.const 0))"#;
    // One call per millisecond at most.
    let guest = guest(body).limits(|limits| limits.host_calls = Some(Rate::per_second(2000).burst(20)));
    assert_eq!(guest.run().await.reason, ExitReason::Finished);
}

#[tokio::test]
async fn hostile_memory_growth_ends_the_guest_where_its_grant_says_so() {
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

/// Opens a subscription, receives one message and holds it three times; reports what came of the third hold.
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
        while writer.channel().stats().subscribers.is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(publish(&mut writer, b"block"));
        let report = running.await.expect("no panic");
        if end {
            assert_eq!(report.reason, ExitReason::Killed(Limit::Held));
        } else {
            assert_eq!((report.reason, guest.reported('h')), (ExitReason::Finished, vec![-13_i64 as u64]));
        }
        assert_eq!((report.stats.held, report.stats.refusals), (2, 1), "as of its end");
        assert_eq!(writer.reclaim(), 16, "all blocks are back");
    }
}

/// Subscribes so that it may lose messages, and never releases one; reports how many it was given before it was refused.
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
async fn hostile_hoarder_keeps_its_share_of_a_pool_and_the_publisher_goes_on() {
    let broker = Broker::new();
    let mut publisher = publisher(&broker, 64);
    let body = format!(
        r#"{HOARDER} (func (export "run") (result i32)
          (call $report (i32.const 107) (i64.extend_i32_u (call $hoard (call $open_lossy))))
          (loop $again (drop (call $wait (i64.const -1))) (br $again)) unreachable)"#
    );
    let hoarder = start(&broker, &body, |limits| limits.pool_share = 25);
    while publisher.subscriber_count() == 0 {
        tokio::task::yield_now().await;
    }
    // It says when it has had enough; from then on it keeps what it has, and the rest comes round.
    let mut kept = 0;
    for number in 0..20_000_u32 {
        let loan = publisher.blocking_loan(Some(Instant::now() + PATIENCE)).expect("a block comes free");
        loan.send(&number.to_le_bytes()[..]).expect("fits");
        if number % 100 == 0 {
            tokio::time::sleep(MS / 10).await;
            kept = kept.max(hoarder.stats().await.attached);
        }
    }
    assert_eq!(kept, 16, "a quarter of 64 blocks");
    hoarder.cancel();
    assert_eq!(hoarder.ended().await.reason, ExitReason::Cancelled);
    assert_eq!(publisher.reclaim(), 64, "all blocks are back");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_hoarder_with_many_subscriptions_has_one_share() {
    let broker = Broker::new();
    let mut publisher = publisher(&broker, 64);
    // 40 subscriptions at 40 places of the stream.
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
    let hoarder = start(&broker, &body, |limits| limits.subscriptions_per_topic = 40);
    while publisher.subscriber_count() == 0 {
        tokio::task::yield_now().await;
    }
    // Until it has opened all of them, and for as long again.
    let mut stats = hoarder.stats().await;
    let (mut number, mut last) = (0_u32, 5_000_000);
    while number < last {
        let loan = publisher.blocking_loan(Some(Instant::now() + PATIENCE)).expect("a block comes free");
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
    assert_eq!(publisher.reclaim(), 64, "all blocks are back");
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

/// Opens subscriptions of one topic until it is refused, gives one back and gets it again, and then waits.
const CROWDS: &str = r#"(func (export "run") (result i32) (local $s i32) (local $last i32)
  (loop $again
    (local.set $s (call $open_with (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 0)))
    (if (i32.ge_s (local.get $s) (i32.const 0)) (then (local.set $last (local.get $s)) (br $again))))
  (call $expect (i32.const 1) (local.get $s) (i32.const -13))
  (call $subscription.drop (local.get $last))
  (drop (call $subscribe))
  (call $expect (i32.const 2) (call $open_with (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 0)) (i32.const -13))
  ;; Those of another topic are counted on their own.
  (drop (call $open_with (i32.const 17) (i32.const 4) (i32.const 0) (i32.const 0)))
  (call $log (i32.const 2) (i32.const 16) (i32.const 5))
  (loop $wait (drop (call $wait (i64.const -1))) (br $wait)) unreachable)"#;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_subscriptions_in_a_loop_leave_places_for_honest_subscribers() {
    let broker = Broker::new();
    let mut publisher = publisher(&broker, 8);
    let hostile: Vec<_> = (0..10).map(|_| start(&broker, CROWDS, |_| ())).collect();
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
    let mut honest = broker.subscriber::<Bytes>("topic", SubscriberOptions::new()).expect("there is a place");
    publisher.try_loan().expect("a block").send(b"block").expect("fits");
    assert_eq!(honest.try_recv_ref().expect("a message").view(), b"block");
    assert_eq!(publisher.subscriber_count(), 9);
}

/// Opens and drops subscriptions to topics with 1000 different names, and reports how many there were.
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
async fn hostile_creation_of_topics_is_refused_at_the_limit_also_over_restarts() {
    let broker = Broker::new();
    broker.keep_topics();
    drop(broker.subscriber::<Bytes>("tops-500", SubscriberOptions::new()).expect("opens"));
    let program =
        broker.load(&GuestSource::bytes("test", wat::component(TOPICS).into_bytes())).expect("loads");
    let mut limits = ComponentLimits::default();
    limits.topics = 7;
    let policy = blockcast_broker::RestartPolicy {
        initial: MS,
        limit: Some(3),
        ..blockcast_broker::RestartPolicy::on_failure()
    };
    let options = ComponentOptions::new().grants(Grants::all().limits(limits)).restart(policy);
    let component = broker.supervise_guest(&program, options).expect("starts");
    component.ended().await;
    assert_eq!(component.exits().len(), 4);
    assert_eq!(broker.topics().len(), 8, "the one that was there and seven");
    assert!(component.exits().iter().all(|exit| exit.stats.refusals == 992), "{:?}", component.exits());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_creation_of_topics_ends_the_guest_where_its_grant_says_so() {
    let broker = Broker::new();
    let guest = start(&broker, TOPICS, |limits| {
        limits.topics = 0;
        limits.end_at.push(Limit::Topics);
    });
    assert_eq!(guest.ended().await.reason, ExitReason::Killed(Limit::Topics));
    assert!(broker.topics().is_empty());
}

#[tokio::test]
async fn hostile_opening_ends_the_guest_where_its_grant_says_so() {
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
async fn a_guest_that_waits_much_and_computes_little_keeps_its_computing_time() {
    let body = r#"(func (export "run") (result i32) (local $i i32)
      (loop $again
        (drop (call $wait (i64.const 6000000)))
        (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 50))))
      (i32.const 0))"#;
    // It waits longer than a tick 50 times, and computes next to nothing.
    let guest = guest(body).limits(|limits| limits.compute = Some(150 * MS));
    let report = guest.run().await;
    assert_eq!(report.reason, ExitReason::Finished);
    assert!(report.stats.computed < 150 * MS, "{:?}", report.stats);
}

#[tokio::test]
async fn hostile_huge_fills_are_bounded_by_the_memory_and_end_with_the_computing_time() {
    let body = r#"(func (export "run") (result i32)
      (drop (memory.grow (i32.const 1000)))
      (loop $again
        (memory.fill (i32.const 0) (i32.const 0) (i32.shl (memory.size) (i32.const 16)))
        (br $again))
      unreachable)"#;
    let guest = guest(body).limits(|limits| limits.compute = Some(100 * MS));
    let report = guest.run().await;
    assert_eq!(report.reason, ExitReason::Killed(Limit::Compute));
    assert!(report.stats.computed >= 100 * MS && report.stats.memory > 60 << 20, "{:?}", report.stats);
}

/// Publishes large messages without a pause, whatever comes of it: copied, and built in place.
fn large_messages(in_place: bool) -> String {
    const SIZE: u32 = 4 << 20;
    let publish = if in_place {
        format!(
            "(local.set $b (call $filled_loan (local.get $p) (i32.const {SIZE}) (i32.const 7)))
            (drop (call $publish_block (local.get $p) (local.get $b) (i32.const {SIZE})))
            (call $block.drop (local.get $b))"
        )
    } else {
        format!("(drop (call $publish (local.get $p) (i32.const 262144) (i32.const {SIZE})))")
    };
    format!(
        r#"(func (export "run") (result i32) (local $p i32) (local $b i32)
          (local.set $p (call $open_publisher (i32.const {SIZE}) (i32.const 2)))
          (drop (call $grow (i32.const {SIZE})))
          (loop $again {publish} (br $again)) unreachable)"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_large_messages_that_take_long_to_validate_end_with_the_time_that_is_granted() {
    const VALIDATION: Duration = Duration::from_millis(20);
    const GRANTED: Duration = Duration::from_millis(100);
    for (in_place, valid) in [(false, false), (false, true), (true, false), (true, true)] {
        let at = format!("in place: {in_place}, valid: {valid}");
        let broker = Broker::new();
        let validated = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&validated);
        let validator: Validator = Arc::new(move |bytes| {
            let began = Instant::now();
            while began.elapsed() < VALIDATION {
                std::hint::spin_loop();
            }
            counted.fetch_add(1, Ordering::SeqCst);
            let invalid = || InvalidPayload::of::<Bytes>(format!("{} bytes", bytes.len()));
            if valid { Ok(()) } else { Err(invalid()) }
        });
        broker.declare("topic", &Bytes::schema(), Some(validator)).expect("declared");
        let body = large_messages(in_place);

        // Between two calls it is ended; what it is in the middle of it may finish.
        let guest = start(&broker, &body, |limits| limits.compute = Some(GRANTED));
        let report = guest.ended().await;
        assert_eq!(report.reason, ExitReason::Killed(Limit::Compute), "{at}");
        let computed = report.stats.computed;
        assert!((GRANTED..GRANTED + 5 * VALIDATION).contains(&computed), "{at}: {computed:?}");

        let guest = start(&broker, &body, |limits| limits.run_time = Some(GRANTED));
        assert_eq!(guest.ended().await.reason, ExitReason::Killed(Limit::RunTime), "{at}");

        let before = validated.load(Ordering::SeqCst);
        let guest = start(&broker, &body, |_| ());
        while validated.load(Ordering::SeqCst) == before {
            assert!(guest.report().is_none(), "{at}: {:?}", guest.report());
            tokio::time::sleep(MS).await;
        }
        guest.cancel();
        assert_eq!(guest.ended().await.reason, ExitReason::Cancelled, "{at}");
        let published = guest.stats().await.published;
        assert!(if valid { published > 0 } else { published == 0 }, "{at}: {published}");
    }
}

#[test]
fn hostile_guest_dropped_in_the_middle_of_a_wait_leaves_nothing() {
    in_child_async!("hostile_guest_dropped_in_the_middle_of_a_wait_leaves_nothing", async {
        let engine = GuestEngine::new().expect("an engine");
        let body = r#"(func (export "run") (result i32) (local $s i32)
          (local.set $s (call $subscribe))
          (drop (call $next (local.get $s)))
          (call $subscription.hold (local.get $s) (i64.const 0) (i32.const 1088))
          (loop $again (drop (call $wait (i64.const -1))) (br $again)) unreachable)"#;
        let mut first = None;
        for round in 0..5 {
            let bus = Bus::new();
            let mut writer = bus.writer("topic", 4096, 4);
            let guest = Guest::new(&engine, Arc::new(bus.clone()), body);
            let running = guest.spawn();
            while writer.channel().stats().subscribers.is_empty() {
                tokio::task::yield_now().await;
            }
            assert!(publish(&mut writer, b"block"));
            while writer.channel().stats().holds == 0 {
                tokio::task::yield_now().await;
            }
            assert!(process::arena_mappings().len() > 1, "it has its window");
            running.abort();
            assert!(running.await.expect_err("aborted").is_cancelled());
            assert_eq!(writer.reclaim(), 4, "all blocks are back");
            drop((guest, writer, bus));
            let now = (process::open_files(), process::reserved(), process::arena_mappings().len());
            assert_eq!(now.2, 0, "mappings are gone");
            if round == 1 {
                first = Some(now);
            } else if let Some(first) = first {
                assert_eq!(now, first);
            }
        }
    });
}
