//! Guests on a real broker, together with native code.

use super::KIND;
use crate::guest_support::assert_violation;
use blockcast_blocks::{Bytes, OpenError, Payload};
use blockcast_broker::{Broker, ExitReason, Grants, GuestSource};

/// Publishes the numbers 1 to 100 once there are two subscribers.
const PUBLISHER: &str = r#"
    (func (export "run") (result i32) (local $p i32) (local $i i32)
      (local.set $p (call $open_publisher (i32.const 64) (i32.const 8)))
      (if (i32.lt_s (local.get $p) (i32.const 0)) (then (call $fail (i32.const 16) (i32.const 5)) (return (i32.const 1))))
      (loop $wait
        (drop (call $wait (i64.const 5000000)))
        (br_if $wait (i32.lt_u (call $publisher.subscriber-count (local.get $p)) (i32.const 2))))
      (loop $numbers
        (i32.store (i32.const 4096) (i32.add (local.get $i) (i32.const 1)))
        (if (i32.eqz (call $publish (local.get $p) (i32.const 4096) (i32.const 4)))
          (then (local.set $i (i32.add (local.get $i) (i32.const 1))))
          (else (drop (call $wait (i64.const -1)))))
        (br_if $numbers (i32.lt_u (local.get $i) (i32.const 100))))
      (i32.const 0))
"#;

/// Sums the numbers that arrive, and traps unless the sum is 5050.
const SUBSCRIBER: &str = r#"
    (func (export "run") (result i32) (local $s i32) (local $r i32) (local $sum i32)
      (local.set $s (call $subscribe))
      (loop $numbers
        (local.set $r (call $next (local.get $s)))
        (if (local.get $r) (then
          (local.set $sum (i32.add (local.get $sum) (i32.load (i32.load offset=16 (local.get $r)))))
          (br $numbers))))
      (call $expect (i32.const 1) (local.get $sum) (i32.const 5050))
      (i32.const 0))
"#;

fn source(name: &str, body: &str) -> GuestSource {
    KIND.form.source(name, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_publishes_to_a_guest_and_to_native_code() {
    let broker = Broker::new();
    let mut subscriber = broker.subscriber::<Bytes>("topic", Default::default()).expect("opens");
    let publisher = broker.load(&source("publisher", PUBLISHER)).expect("loads");
    let reader = broker.load(&source("subscriber", SUBSCRIBER)).expect("loads");
    let reading = broker.spawn_guest(&reader, Grants::new().subscribe("topic"), []).expect("starts");
    let publishing = broker.spawn_guest(&publisher, Grants::new().publish("topic"), []).expect("starts");
    let mut sum = 0;
    for _ in 0..100 {
        let message = subscriber.recv().await.expect("a message");
        sum += u32::from_le_bytes(message.view().try_into().expect("four bytes"));
    }
    assert_eq!(sum, 5050);
    let (reading, publishing) = (reading.ended().await, publishing.ended().await);
    assert_eq!((reading.reason, publishing.reason), (ExitReason::Finished, ExitReason::Finished));
    let (read, wrote) = (reading.stats, publishing.stats);
    assert_eq!((read.received, read.received_bytes, read.lost, read.refusals), (100, 400, 0, 0));
    assert_eq!((wrote.published, wrote.published_bytes, wrote.publish_copied_bytes), (100, 400, 400));
    assert!(wrote.host_calls >= 100 && !wrote.computed.is_zero() && wrote.memory >= 65536, "{wrote:?}");
    assert!(read.windows >= 65536 && read.memory > read.windows, "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_guest_reaches_only_topics_that_were_granted() {
    let broker = Broker::new();
    let publisher = broker.load(&source("publisher", PUBLISHER)).expect("loads");
    for grants in [Grants::new(), Grants::new().subscribe("topic"), Grants::new().publish("topical")] {
        let component = broker.spawn_guest(&publisher, grants, []).expect("starts");
        assert_eq!(component.ended().await.reason, ExitReason::Failed("topic".to_owned()));
    }
    assert!(broker.topic("topic").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_shuts_down_ends_its_waiting_guests() {
    let broker = Broker::new();
    let reader = broker.load(&source("subscriber", SUBSCRIBER)).expect("loads");
    let waits = r#"(func (export "run") (result i32)
      (drop (call $subscribe))
      (loop $again (br_if $again (i32.eqz (i32.and (call $wait (i64.const -1)) (i32.const 4)))))
      (i32.const 0))"#;
    let polite = broker.load(&source("polite", waits)).expect("loads");
    let reading = broker.spawn_guest(&reader, Grants::all(), []).expect("starts");
    let polite = broker.spawn_guest(&polite, Grants::all(), []).expect("starts");
    while broker.topic("topic").is_none_or(|topic| topic.subscriptions < 2) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    broker.shut_down();
    assert_eq!(polite.ended().await.reason, ExitReason::Finished);
    // The other guest sees the end of its topic and traps because of the sum.
    assert!(matches!(reading.ended().await.reason, ExitReason::Trapped { .. }));
}

/// Builds a message in place, publishes it, changes it, and publishes another.
const CHANGER: &str = r#"
    (func (export "run") (result i32) (local $p i32) (local $b i32)
      (local.set $p (call $open_publisher (i32.const 1200000) (i32.const 4)))
      (loop $wait
        (drop (call $wait (i64.const 5000000)))
        (br_if $wait (i32.eqz (call $publisher.subscriber-count (local.get $p)))))
      (local.set $b (call $filled_loan (local.get $p) (i32.const 1200000) (i32.const 7)))
      (call $expect (i32.const 1) (call $publish_block (local.get $p) (local.get $b) (i32.const 1200000)) (i32.const 0))
      (i32.store8 (global.get $at) (i32.const 8))
      (call $expect (i32.const 2) (call $publish (local.get $p) (i32.const 4096) (i32.const 4)) (i32.const 0))
      (i32.const 0))
"#;

/// Holds the first message until the second one arrives, and fails unless its first byte has become 8.
const WATCHER: &str = r#"
    (func (export "run") (result i32) (local $s i32) (local $a i32)
      (local.set $s (call $subscribe))
      (local.set $a (i32.load offset=16 (call $next (local.get $s))))
      (call $subscription.hold (local.get $s) (i64.const 0) (i32.const 1088))
      (call $expect (i32.const 3) (i32.load8_u (i32.const 1088)) (i32.const 0))
      (drop (call $next (local.get $s)))
      (i32.ne (i32.load8_u (local.get $a)) (i32.const 8)))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn only_guests_can_join_an_unsealed_topic_and_its_messages_may_change() {
    let broker = Broker::new();
    broker.declare_unsealed("topic", &Bytes::schema()).expect("a new topic");
    let refused = broker.subscriber::<Bytes>("topic", Default::default()).expect_err("refused");
    assert_eq!(refused, OpenError::Unsealed { topic: "topic".to_owned() });
    let again = broker.declare_unsealed("topic", &Bytes::schema()).expect_err("refused");
    assert_eq!(again, OpenError::Sealed { topic: "topic".to_owned() });
    let watcher = broker.load(&source("watcher", WATCHER)).expect("loads");
    let changer = broker.load(&source("changer", CHANGER)).expect("loads");
    let watching = broker.spawn_guest(&watcher, Grants::new().subscribe("topic"), []).expect("starts");
    let changing = broker.spawn_guest(&changer, Grants::new().publish("topic"), []).expect("starts");
    assert_eq!(changing.ended().await.reason, ExitReason::Finished);
    assert_eq!(watching.ended().await.reason, ExitReason::Finished);
    assert_eq!(changing.stats().await.publish_copied_bytes, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_change_of_a_published_message_ends_the_guest_in_a_sealed_topic() {
    let broker = Broker::new();
    let mut subscriber = broker.subscriber::<Bytes>("topic", Default::default()).expect("opens");
    let changer = broker.load(&source("changer", CHANGER)).expect("loads");
    let changing = broker.spawn_guest(&changer, Grants::new().publish("topic"), []).expect("starts");
    let message = subscriber.recv().await.expect("a message");
    assert_violation(&changing.ended().await.reason, "topic", 0..1, CHANGER);
    assert!(message.view().iter().all(|&byte| byte == 7));
    let closed = broker.declare_unsealed("topic", &Bytes::schema()).expect_err("refused");
    assert_eq!(closed, OpenError::Sealed { topic: "topic".to_owned() });
}

/// Receives nothing until it is asked to shut down, then everything. The first bytes of the messages must
/// count up.
const PATIENT: &str = r#"
    (func (export "run") (result i32) (local $s i32) (local $r i32) (local $n i32)
      (local.set $s (call $subscribe))
      (loop $again (br_if $again (i32.eqz (i32.and (call $wait (i64.const -1)) (i32.const 4)))))
      (loop $messages
        (local.set $r (call $next (local.get $s)))
        (if (local.get $r) (then
          (call $expect (i32.const 1) (i32.load8_u (i32.load offset=16 (local.get $r))) (local.get $n))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br $messages))))
      (call $expect (i32.const 2) (local.get $n) (i32.const 30))
      (i32.const 0))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_an_ended_publisher_come_before_those_of_later_ones() {
    let broker = Broker::new();
    let patient = broker.load(&source("patient", PATIENT)).expect("loads");
    let reading = broker.spawn_guest(&patient, Grants::new().subscribe("topic"), []).expect("starts");
    while broker.topic("topic").is_none_or(|topic| topic.subscriptions == 0) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    for first in [0, 10, 20_u8] {
        let mut publisher = broker.publisher::<Bytes>("topic", Default::default()).expect("opens");
        for byte in first..first + 10 {
            publisher.try_loan().expect("a block").send(&[byte]).expect("fits");
        }
    }
    reading.request_shutdown();
    let report = reading.ended().await;
    assert_eq!((report.reason, report.stats.received), (ExitReason::Finished, 30));
}
