//! How long topics live.

use crate::guest_support::load;
use blockcast_blocks::{Bytes, OpenError, Payload, Pod};
use blockcast_broker::{Broker, ComponentLimits, ExitReason, Grants};

#[test]
fn a_topic_without_participants_is_forgotten_with_its_type() {
    let broker = Broker::new();
    let publisher = broker.publisher::<Bytes>("topic", Default::default()).expect("opens");
    let subscriber = broker.subscriber::<Bytes>("topic", Default::default()).expect("opens");
    drop(publisher);
    let refused =
        broker.publisher::<Pod<u32>>("topic", Default::default()).expect_err("the topic has a subscriber");
    assert!(matches!(refused, OpenError::SchemaMismatch { .. }), "{refused}");
    assert_eq!(broker.topic("topic").expect("it exists").departed.publishers, 1);
    drop(subscriber);
    assert!(broker.topic("topic").is_none() && broker.topics().is_empty());
    let subscriber = broker.subscriber::<Pod<u32>>("topic", Default::default()).expect("another type");
    assert_eq!(broker.topic("topic").expect("it exists").departed.publishers, 0, "it is a new topic");
    drop(subscriber);
    broker.declare_unsealed("topic", &Bytes::schema()).expect("a new topic");
}

#[test]
fn one_off_topics_are_forgotten_even_if_nobody_reopens_them() {
    let broker = Broker::new();
    let remaining = broker.subscriber::<Bytes>("there", Default::default()).expect("opens");
    let mut most = 0;
    for number in 0..3_000 {
        drop(broker.subscriber::<Bytes>(&format!("topic {number}"), Default::default()).expect("opens"));
        most = most.max(format!("{broker:?}").matches("topic ").count());
    }
    assert!(most <= 200, "{most} topics without participants");
    assert_eq!(broker.topics().len(), 1);
    drop(remaining);
}

#[test]
fn a_declared_topic_stays_until_it_is_undeclared() {
    let broker = Broker::new();
    broker.declare("declared", &Bytes::schema(), None).expect("a new topic");
    broker.declare_unsealed("unsealed", &Bytes::schema()).expect("a new topic");
    drop(broker.publisher::<Bytes>("declared", Default::default()).expect("opens"));
    assert_eq!(broker.topics().len(), 2);
    assert_eq!(broker.topic("declared").expect("stays").departed.publishers, 1);
    let refused = broker.publisher::<Pod<u32>>("declared", Default::default()).expect_err("declared");
    assert!(matches!(refused, OpenError::SchemaMismatch { .. }), "{refused}");
    broker.undeclare("declared");
    broker.undeclare("unsealed");
    broker.undeclare("unknown");
    assert!(broker.topics().is_empty());
    broker.keep_topics();
    drop(broker.publisher::<Bytes>("kept", Default::default()).expect("opens"));
    assert_eq!(broker.topics().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_one_topic_allows_a_guest_one_topic_after_another() {
    let broker = Broker::new();
    let body = r#"(func (export "run") (result i32) (local $n i32) (local $p i32)
      (loop $again
        (local.set $p (call $open_publisher (i32.const 64) (i32.const 2)))
        (call $expect (i32.const 1) (i32.lt_s (local.get $p) (i32.const 0)) (i32.const 0))
        (call $publisher.drop (local.get $p))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $n) (i32.const 10))))
      (i32.const 0))"#;
    let guest = load(&broker, body);
    let mut limits = ComponentLimits::default();
    limits.topics = 1;
    let guest = broker.spawn_guest(&guest, Grants::all().limits(limits), []).expect("starts");
    assert_eq!(guest.ended().await.reason, ExitReason::Finished);
    assert!(broker.topics().is_empty());
}
