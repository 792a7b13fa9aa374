//! Messages between two brokers.

use std::sync::Arc;

use blockcast_blocks::Bytes;
use blockcast_broker::{Broker, ConnectOptions, Connection, ServeOptions};
use blockcast_publisher::PublisherOptions;
use blockcast_subscriber::{Overflow, RecvError, SubscriberOptions};
use blockcast_zenoh::{Bridge, Direction, Rule, Rules};

use crate::support::{
    Counting, Folder, Numbers, PATIENCE, Side, all, deadline, expect_end, options, pair, publish,
    publish_until_one_arrives, publisher, receive, session, subscriber, until,
};

const MESSAGES: u64 = 1000;

#[test]
fn everything_arrives_in_order_and_then_the_end() {
    let (_folder, one, other) = pair(options().back_pressure(true));
    let mut subscribers = [(); 2].map(|()| subscriber(&other.broker, "numbers"));
    let mut local = subscriber(&one.broker, "numbers");
    let mut numbers = publisher(&one.broker, "numbers");
    one.sends(1);
    let publishing = std::thread::spawn(move || publish(&mut numbers, 0..MESSAGES));
    for number in 0..MESSAGES {
        receive(&mut local, number..number + 1);
        subscribers.iter_mut().for_each(|subscriber| receive(subscriber, number..number + 1));
    }
    publishing.join().expect("it has published");
    subscribers.iter_mut().for_each(expect_end);
    expect_end(&mut local);
    let (sent, received) = (one.bridge.stats(), other.bridge.stats());
    assert_eq!((sent.sent, sent.unsent, sent.peers), (MESSAGES, 0, 1));
    assert_eq!((received.received, received.missing, received.refused), (MESSAGES, 0, 0));
    assert_eq!(sent.sent_bytes, received.received_bytes);
    until("nothing is carried any more", || {
        let (sent, received) = (one.bridge.stats(), other.bridge.stats());
        sent.sending == 0 && sent.receiving == 0 && received.sending == 0
    });
}

#[test]
fn messages_of_every_size_arrive_whole() {
    let (_folder, one, other) = pair(options().back_pressure(true));
    let mut received = other.broker.subscriber::<Bytes>("bytes", SubscriberOptions::new()).expect("it opens");
    let blocks = PublisherOptions::new().blocks(4).block_size(16 << 20);
    let mut bytes = one.broker.publisher::<Bytes>("bytes", blocks).expect("it opens");
    one.sends(1);
    for len in [0, 1, 63, 64, 4096, 4097, 65_535, 65_536, 1 << 20, 3_000_000, 16 << 20] {
        let message: Vec<_> = (0..len).map(|index: usize| (index ^ (index >> 8) ^ len) as u8).collect();
        bytes.blocking_loan(deadline()).expect("a block").send(&message[..]).expect("it fits");
        let arrived = received.blocking_recv(deadline()).expect("it was published");
        assert!(*arrived.view() == message[..], "{len} bytes");
    }
}

/// Both brokers have publishers and subscribers of one topic.
#[test]
fn a_topic_goes_both_ways() {
    let (_folder, one, other) = pair(options().back_pressure(true));
    let mut at_one = subscriber(&one.broker, "numbers");
    let mut at_other = subscriber(&other.broker, "numbers");
    let (mut from_one, mut from_other) =
        (publisher(&one.broker, "numbers"), publisher(&other.broker, "numbers"));
    one.sends(1);
    other.sends(1);
    for number in 0..100 {
        publish(&mut from_one, number..number + 1);
        receive(&mut at_one, number..number + 1);
        receive(&mut at_other, number..number + 1);
        publish(&mut from_other, number..number + 1);
        receive(&mut at_one, number..number + 1);
        receive(&mut at_other, number..number + 1);
    }
    drop((from_one, from_other));
    expect_end(&mut at_one);
    expect_end(&mut at_other);
}

#[test]
fn a_late_subscriber_gets_the_history_of_publishers_elsewhere() {
    let (_folder, one, other) = pair(options());
    let options = PublisherOptions::new().blocks(64).block_size(64).history(5);
    let mut numbers = one.broker.publisher::<Numbers>("numbers", options).expect("it opens");
    publish(&mut numbers, 0..20);
    let mut late = subscriber(&other.broker, "numbers");
    receive(&mut late, 15..20);
}

#[test]
fn publishers_never_wait_for_a_bridge_and_every_loss_is_counted() {
    let (_folder, one, other) = pair(options());
    let mut counting = Counting::new(subscriber(&other.broker, "numbers"));
    let mut numbers = publisher(&one.broker, "numbers");
    one.sends(1);
    publish(&mut numbers, 0..1);
    assert!(counting.step(), "the first message");
    const MANY: u64 = 200_000;
    for number in 1..MANY {
        // Never waits.
        let loan = numbers.try_loan().expect("a block is free");
        loan.send(&[number; 3][..]).expect("it fits");
    }
    drop(numbers);
    while counting.step() {}
    assert_eq!(counting.next, Some(MANY));
    assert_eq!(counting.received + counting.lost, MANY);
    assert_eq!(counting.subscriber.lost(), counting.lost);
}

/// The subscriber elsewhere is slow, and may lose messages by itself.
#[test]
fn losses_on_the_way_and_of_slow_subscribers_add_up() {
    let (_folder, one, other) = pair(options());
    let lossy = SubscriberOptions::new().overflow(Overflow::DropOldest).depth(4);
    let mut counting = Counting::new(other.broker.subscriber("numbers", lossy).expect("it opens"));
    let mut numbers = publisher(&one.broker, "numbers");
    one.sends(1);
    publish(&mut numbers, 0..1);
    assert!(counting.step(), "the first message");
    const MANY: u64 = 20_000;
    publish(&mut numbers, 1..MANY);
    drop(numbers);
    while counting.step() {}
    assert_eq!((counting.next, counting.received + counting.lost), (Some(MANY), MANY));
}

#[test]
fn topics_without_a_counterpart_elsewhere_are_not_joined() {
    let (_folder, one, other) = pair(options());
    let (lonely, wanted) = (publisher(&one.broker, "lonely"), publisher(&one.broker, "wanted"));
    let _subscriber = subscriber(&other.broker, "wanted");
    let _missing = subscriber(&other.broker, "missing");
    one.sends(1);
    until("it is received", || other.bridge.stats().receiving == 1);
    assert_eq!((lonely.subscriber_count(), wanted.subscriber_count()), (0, 1));
    assert_eq!(one.bridge.stats().sending, 1);
}

#[test]
fn topics_with_different_schemas_are_not_connected() {
    let (_folder, one, other) = pair(options());
    let _numbers = publisher(&one.broker, "topic");
    let _bytes = other.broker.subscriber::<Bytes>("topic", SubscriberOptions::new()).expect("it opens");
    // A topic that is announced later, and connected.
    let (_later, _subscriber) = (publisher(&one.broker, "later"), subscriber(&other.broker, "later"));
    one.sends(1);
    until("it is received", || other.bridge.stats().receiving == 1);
    assert_eq!(one.bridge.stats().sending, 1);
}

#[test]
fn rules_choose_topics_directions_and_keys() {
    let folder = Folder::new();
    let place = [folder.endpoint("one")];
    let (first, second) = (session(&place, &[]), session(&[], &place));
    let rules = |direction, prefix: &str| {
        let rules = Rules::new(prefix).expect("a prefix");
        let rules = rules.with(Rule::new("renamed", direction).key("common/name")).expect("correct");
        rules.with(Rule::new("open/*", direction)).expect("correct").deny("open/secret*")
    };
    let one = Side::new(&first, rules(Direction::Out, "p"), options());
    let other = Side::new(&second, rules(Direction::In, "p"), options());
    let topics = ["renamed", "open/a", "open/secret/b", "closed"];
    let mut at_other = topics.map(|topic| subscriber(&other.broker, topic));
    let mut at_one = subscriber(&one.broker, "open/a");
    let mut from_one = topics.map(|topic| publisher(&one.broker, topic));
    let _against = publisher(&other.broker, "open/a");
    one.sends(2);
    from_one.iter_mut().for_each(|publisher| publish(publisher, 0..1));
    receive(&mut at_other[0], 0..1);
    receive(&mut at_other[1], 0..1);
    receive(&mut at_one, 0..1);
    assert_eq!(at_other[2].try_recv_ref().err(), Some(RecvError::Empty));
    assert_eq!(at_other[3].try_recv_ref().err(), Some(RecvError::Empty));
    assert_eq!((one.bridge.stats().receiving, other.bridge.stats().sending), (0, 0));
}

#[test]
fn a_bridge_that_closes_ends_its_publishers_elsewhere_and_may_come_back() {
    let (_folder, one, other) = pair(options());
    let mut numbers = publisher(&one.broker, "numbers");
    let mut first = subscriber(&other.broker, "numbers");
    one.sends(1);
    publish(&mut numbers, 0..10);
    receive(&mut first, 0..10);
    let Side { broker, bridge, session } = one;
    bridge.close();
    expect_end(&mut first);
    assert_eq!(numbers.subscriber_count(), 0);
    drop(first);
    let again = Bridge::new(&broker, session, all(), options());
    let again = again.expect("it starts");
    let mut second = subscriber(&other.broker, "numbers");
    // To zenoh, the first subscriber may still be there.
    let next = publish_until_one_arrives(&mut numbers, 10, &mut second);
    publish(&mut numbers, next..next + 10);
    let mut counting = Counting::new(second);
    while counting.next != Some(next + 10) {
        assert!(counting.step(), "the publisher has not ended");
    }
    assert_eq!(again.stats().sending, 1);
}

#[test]
fn a_bridge_that_closes_sends_what_was_published_before() {
    let (_folder, one, other) = pair(options().back_pressure(true));
    let mut numbers = publisher(&one.broker, "numbers");
    let Side { broker, mut bridge, session } = one;
    let mut next = 0;
    for _ in 0..3 {
        let mut received = subscriber(&other.broker, "numbers");
        next = publish_until_one_arrives(&mut numbers, next, &mut received);
        // Fewer than there are blocks, so none waits for the bridge.
        publish(&mut numbers, next..next + 50);
        next += 50;
        let sent = bridge.close();
        let mut counting = Counting::new(received);
        while counting.step() {}
        let stats = (counting.lost, sent, other.bridge.stats());
        // On the way, zenoh may lose some.
        assert!(counting.next == Some(next) && sent.sent >= 50 && sent.unsent == 0, "{stats:?}");
        drop(counting);
        until("nothing is received any more", || other.bridge.stats().receiving == 0);
        bridge =
            Bridge::new(&broker, session.clone(), all(), options().back_pressure(true)).expect("it starts");
    }
}

/// Late bridges ask for what others have cached.
#[test]
fn a_cache_serves_late_bridges() {
    let folder = Folder::new();
    let place = [folder.endpoint("one")];
    let first = session(&place, &[]);
    let one = Side::new(&first, all(), options().cache(8).back_pressure(true));
    let early = Side::new(&session(&[], &place), all(), options());
    let mut numbers = publisher(&one.broker, "numbers");
    let mut received = subscriber(&early.broker, "numbers");
    one.sends(1);
    publish(&mut numbers, 0..20);
    receive(&mut received, 0..20);
    let late = Side::new(&session(&[], &place), all(), options());
    let mut received = subscriber(&late.broker, "numbers");
    receive(&mut received, 12..20);
    publish(&mut numbers, 20..30);
    receive(&mut received, 20..30);
}

/// The bridge is one of several processes that are connected to a host, here all in one.
#[test]
fn a_bridge_with_a_connection_carries_the_topics_of_all_processes_of_its_host() {
    let folder = Folder::new();
    let host = Broker::new();
    let serving = host.serve(folder.socket("host"), ServeOptions::new().patience(PATIENCE));
    let serving = serving.expect("nobody else serves there");
    let connect = || {
        let options = ConnectOptions::new().patience(PATIENCE);
        Connection::connect_with(serving.path(), &options).expect("the host answers")
    };
    let (publishing, subscribing, bridging) = (connect(), connect(), Arc::new(connect()));
    let place = [folder.endpoint("one")];
    let options = options().back_pressure(true);
    let bridge = Bridge::new(Arc::clone(&bridging), session(&place, &[]), all(), options.clone());
    let bridge = bridge.expect("it starts");
    let other = Side::new(&session(&[], &place), all(), options);

    let mut at_other = subscriber(&other.broker, "from here");
    let mut numbers = publisher(publishing.broker(), "from here");
    until("the bridge sends", || bridge.stats().sending == 1);
    publish(&mut numbers, 0..50);
    receive(&mut at_other, 0..50);
    drop(numbers);
    expect_end(&mut at_other);

    let mut here = [subscribing.broker(), &host].map(|broker| subscriber(broker, "from there"));
    let mut numbers = publisher(&other.broker, "from there");
    other.sends(1);
    publish(&mut numbers, 0..50);
    here.iter_mut().for_each(|subscriber| receive(subscriber, 0..50));
    // Nobody here subscribes any more, except for the bridge.
    let mut own = publisher(publishing.broker(), "from there");
    drop(here);
    until("nothing is received any more", || bridge.stats().receiving == 0);
    publish(&mut own, 0..50);
}
