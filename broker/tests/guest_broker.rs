//! Guests on a real broker, beside native code.

mod guest_support;

use blockcast_blocks::Bytes;
use blockcast_broker::{Broker, ExitReason, Grants, GuestSource};
use guest_support::FORM;

/// Publishes the numbers 1 to 100, once somebody subscribes.
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

/// Adds up what arrives, and fails unless it is 5050.
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
    FORM.guest(name, body)
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
async fn hostile_guest_reaches_nothing_that_was_not_granted() {
    let broker = Broker::new();
    let publisher = broker.load(&source("publisher", PUBLISHER)).expect("loads");
    for grants in [Grants::new(), Grants::new().subscribe("topic"), Grants::new().publish("topical")] {
        let component = broker.spawn_guest(&publisher, grants, []).expect("starts");
        assert_eq!(component.ended().await.reason, ExitReason::Failed("topic".to_owned()));
    }
    assert!(broker.topic("topic").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_shuts_down_ends_waiting_guests() {
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
    // The other one sees the end of its topic and complains about the sum.
    assert!(matches!(reading.ended().await.reason, ExitReason::Trapped { .. }));
}
