//! A topic's counters after participants have left.

use blockcast::{Broker, Bytes, PublisherOptions, SubscriberOptions};

#[test]
fn a_subscriber_that_left_without_ever_receiving_keeps_no_block() {
    let broker = Broker::new();
    broker.keep_topics();
    let subscriber = broker.subscriber::<Bytes>("topic", SubscriberOptions::new()).expect("a new topic");
    let mut publisher = broker.publisher::<Bytes>("topic", PublisherOptions::new()).expect("the same topic");
    publisher.try_loan().expect("a free block").send(&b"unread"[..]).expect("it fits");
    drop((subscriber, publisher));
    let departed = broker.topic("topic").expect("it is there").departed;
    assert_eq!((departed.publishers, departed.published, departed.bytes), (1, 1, 6));
    assert_eq!(departed.attached, 0);
}
