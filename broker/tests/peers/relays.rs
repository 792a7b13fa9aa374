//! Publishers that pass on messages from elsewhere, and publishers of any layout.

use blockcast_blocks::{LoanError, NoRelay, Payload, Schema, Validity};
use blockcast_broker::{Broker, PublishBatchError, PublishBytesError, UntypedPublisher};
use blockcast_publisher::PublisherOptions;
use blockcast_subscriber::{RecvError, Subscriber, SubscriberOptions};

use crate::support::{
    Host, Numbers, deadline, expect_end, few_blocks, publish, publisher, receive, serve_options, subscriber,
    until,
};

fn relay(broker: &Broker, topic: &str) -> UntypedPublisher {
    let options = few_blocks().relay(true);
    broker.publisher_of_any(topic, &Numbers::schema(), options).expect("it opens")
}

fn skipping(broker: &Broker, topic: &str) -> Subscriber<Numbers> {
    broker.subscriber(topic, SubscriberOptions::new().skip_relays(true)).expect("it opens")
}

fn send(relay: &mut UntypedPublisher, number: u64) {
    let bytes = [number; 3].map(u64::to_ne_bytes).concat();
    until("there is a block", || {
        relay.try_publish(bytes.len(), |block| block.copy_from_slice(&bytes)).is_ok()
    });
}

#[track_caller]
fn expect_loss(subscriber: &mut Subscriber<Numbers>, count: u64) {
    assert_eq!(subscriber.blocking_recv_ref(deadline()).err(), Some(RecvError::Lost(count)));
}

/// In the relay's process, in the host, in another process, and through a wall.
#[test]
fn subscribers_of_all_processes_learn_of_losses_that_a_relay_reports() {
    for host in [Host::new(), Host::with(serve_options().walled())] {
        let (one, other) = (host.connect(), host.connect());
        let mut subscribers =
            [&host.broker, one.broker(), other.broker()].map(|broker| subscriber(broker, "numbers"));
        let mut relay = relay(one.broker(), "numbers");
        for round in 0..50 {
            send(&mut relay, round);
            relay.report_lost(round + 1).expect("a relay");
            for subscriber in &mut subscribers {
                receive(subscriber, round..round + 1);
                expect_loss(subscriber, round + 1);
            }
        }
        drop(relay);
        subscribers.iter_mut().for_each(expect_end);
        assert!(subscribers.iter().all(|subscriber| subscriber.lost() == 50 * 51 / 2));
    }
}

#[test]
fn subscribers_that_skip_relays_receive_from_all_others() {
    let host = Host::new();
    let (one, other) = (host.connect(), host.connect());
    let mut early = [&host.broker, one.broker(), other.broker()].map(|broker| skipping(broker, "numbers"));
    let mut relay = relay(one.broker(), "numbers");
    let mut numbers = publisher(one.broker(), "numbers");
    let mut late = [&host.broker, one.broker(), other.broker()].map(|broker| skipping(broker, "numbers"));
    let mut taking = subscriber(&host.broker, "numbers");
    assert_eq!(relay.subscriber_count(), 1, "only the one that takes messages of relays");
    send(&mut relay, 7);
    receive(&mut taking, 7..8);
    publish(&mut numbers, 0..3);
    for subscriber in early.iter_mut().chain(&mut late) {
        receive(subscriber, 0..3);
    }
    let topic = host.broker.topic("numbers").expect("it has participants");
    assert_eq!((topic.subscriptions, topic.skipping_relays), (3, 2));
    drop(numbers);
    early.iter_mut().chain(&mut late).for_each(expect_end);
    receive(&mut taking, 0..3);
    assert_eq!(taking.try_recv_ref().err(), Some(RecvError::Empty), "the relay is still there");
}

#[test]
fn a_host_tells_which_publishers_are_relays() {
    let host = Host::new();
    let (one, other) = (host.connect(), host.connect());
    let _publishers = (relay(one.broker(), "relayed"), publisher(one.broker(), "original"));
    let relays = |topic: &str| {
        let topic = other.host_topic(topic).expect("it answers").expect("it exists");
        topic.publishers.iter().map(|publisher| publisher.relay).collect::<Vec<_>>()
    };
    assert_eq!(relays("relayed"), [true]);
    assert_eq!(relays("original"), [false]);
}

#[test]
fn bytes_of_a_known_layout_are_checked_once_and_before_anybody_sees_them() {
    let broker = Broker::new();
    let mut typed = subscriber(&broker, "numbers");
    let any = SubscriberOptions::new();
    let mut untyped = broker.subscriber_of_any("numbers", &Numbers::schema(), any).expect("it opens");
    let mut publisher =
        broker.publisher_of_any("numbers", &Numbers::schema(), few_blocks()).expect("it opens");
    let refused = publisher.try_publish(5, |block| block.fill(0)).expect_err("not a number of integers");
    assert!(matches!(refused, PublishBytesError::Invalid(_)), "{refused}");
    send(&mut publisher, 3);
    let message = untyped.try_recv().expect("the valid one");
    assert_eq!((message.validity(), message.sequence().get()), (Validity::Valid, 0));
    receive(&mut typed, 3..4);
    assert_eq!(publisher.report_lost(1), Err(NoRelay));
}

#[test]
fn bytes_of_an_unknown_layout_are_checked_by_each_typed_subscriber() {
    let broker = Broker::new();
    let schema = Schema::named("a layout that nobody here knows");
    let mut publisher = broker.publisher_of_any("topic", &schema, few_blocks()).expect("it opens");
    let mut untyped = broker.subscriber_of_any("topic", &schema, SubscriberOptions::new()).expect("it opens");
    publisher.try_publish(5, |block| block.copy_from_slice(b"hello")).expect("there is a block");
    let message = untyped.try_recv().expect("it was published");
    assert_eq!((message.validity(), message.bytes()), (Validity::Unchecked, &b"hello"[..]));

    // Another process knows the layout.
    let host = Host::new();
    let connection = host.connect();
    let mut typed = subscriber(connection.broker(), "numbers");
    let mut publisher =
        host.broker.publisher_of_any("numbers", &Numbers::schema(), few_blocks()).expect("it opens");
    publisher.try_publish(5, |block| block.fill(0)).expect("nobody here knows the layout");
    send(&mut publisher, 1);
    let refused = typed.blocking_recv_ref(deadline()).expect_err("not a number of integers");
    assert!(matches!(refused, RecvError::Invalid(_)), "{refused}");
    receive(&mut typed, 1..2);
}

#[test]
fn a_rule_and_a_panic_in_it_refuse_bytes() {
    let broker = Broker::new();
    let schema = Schema::named("any");
    let rule = std::sync::Arc::new(|bytes: &[u8]| match bytes {
        [] => panic!("an empty message"),
        [0, ..] => Err(blockcast_blocks::InvalidPayload { schema: "any".into(), reason: "a zero".into() }),
        _ => Ok(()),
    });
    broker.declare("topic", &schema, Some(rule)).expect("it is new");
    let mut publisher = broker.publisher_of_any("topic", &schema, PublisherOptions::new()).expect("it opens");
    let refused = publisher.try_publish(1, |block| block.fill(0)).expect_err("the rule refuses it");
    assert!(matches!(refused, PublishBytesError::Invalid(_)), "{refused}");
    assert_eq!(publisher.try_publish(0, |_| {}).expect_err("panics"), PublishBytesError::Panicked);
    assert_eq!(publisher.try_publish(1, |block| block.fill(1)).expect("accepted").get(), 0);
}

#[test]
fn a_batch_of_bytes_is_published_as_far_as_it_can_be() {
    let broker = Broker::new();
    let mut numbers = subscriber(&broker, "numbers");
    let mut relay = relay(&broker, "numbers");
    let bytes = |number: u64| [number; 3].map(u64::to_ne_bytes).concat();
    let messages: Vec<_> = (0..1000).map(bytes).collect();
    let batch = |from: usize| messages[from..].iter().map(|message| &message[..]);
    assert_eq!(relay.try_publish_batch(batch(0).take(0)), Ok(0));
    assert_eq!(relay.try_publish_batch(batch(0).take(2)), Ok(2));
    receive(&mut numbers, 0..2);
    // One that is not a list of numbers. Its place is reported, and the rest follows.
    let wrong = batch(2).take(1).chain([&b"wrong"[..]]).chain(batch(3).take(1));
    let refused = relay.try_publish_batch(wrong).expect_err("not all are correct");
    assert!(matches!(refused, PublishBatchError { published: 1, error: PublishBytesError::Invalid(_) }));
    relay.report_lost(1).expect("a relay");
    assert_eq!(relay.try_publish_batch(batch(3).take(1)), Ok(1));
    receive(&mut numbers, 2..3);
    expect_loss(&mut numbers, 1);
    receive(&mut numbers, 3..4);
    // More than there are blocks. What was published is visible, so that it can be released.
    let mut next = 4;
    while next < messages.len() {
        let published = match relay.try_publish_batch(batch(next)) {
            Ok(published) => published,
            Err(PublishBatchError { published, error }) => {
                assert!(matches!(error, PublishBytesError::Loan(LoanError::Exhausted { .. })), "{error}");
                published
            }
        };
        assert!(published > 0, "blocks were released");
        receive(&mut numbers, next as u64..(next + published) as u64);
        next += published;
    }
    drop(relay);
    expect_end(&mut numbers);
}
