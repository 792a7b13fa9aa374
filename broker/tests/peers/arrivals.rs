//! Which participants have joined when a publisher or subscriber is opened.

use std::sync::mpsc;

use blockcast_blocks::OpenError;
use blockcast_broker::ServeOptions;
use blockcast_subscriber::{Overflow, RecvError, Subscriber, SubscriberOptions};

use crate::support::{
    Folder, Host, Numbers, Other, This, connect_options, deadline, few_blocks, publish, publisher, receive,
    subscriber, test_name, until,
};

/// All who subscribed before a publisher was opened receive its first message.
#[test]
fn no_subscriber_misses_the_first_message_of_a_publisher_that_is_opened_after_it() {
    let host = Host::new();
    let connections = [(); 4].map(|()| host.connect());
    let mut subscribers: Vec<_> = connections.iter().map(|one| subscriber(one.broker(), "numbers")).collect();
    subscribers.push(subscriber(&host.broker, "numbers"));
    for round in 0..20 {
        let from = &connections[round % connections.len()];
        let mut numbers = publisher(from.broker(), "numbers");
        assert_eq!(numbers.subscriber_count(), 5);
        publish(&mut numbers, 0..1);
        subscribers.iter_mut().for_each(|subscriber| receive(subscriber, 0..1));
    }
}

/// A publisher is opened while subscribers are, in several processes.
#[test]
fn every_subscriber_that_is_open_receives_each_message() {
    let host = Host::new();
    let (opened, wait) = mpsc::channel();
    let options = SubscriberOptions::new().overflow(Overflow::DropOldest);
    let connections = [(); 3].map(|()| host.connect());
    std::thread::scope(|scope| {
        for connection in &connections {
            let opened = opened.clone();
            scope.spawn(move || {
                for _ in 0..20 {
                    let numbers = connection.subscriber::<Numbers>("numbers", options).expect("it opens");
                    opened.send(numbers).expect("the test runs");
                }
            });
        }
        drop(opened);
        let connection = host.connect();
        let mut numbers = publisher(connection.broker(), "numbers");
        for (next, mut subscriber) in wait.into_iter().enumerate() {
            let next = next as u64;
            // It has joined, even if it was about to while the publisher was.
            publish(&mut numbers, next..next + 1);
            loop {
                match subscriber.blocking_recv_ref(deadline()) {
                    Ok(message) if message.view()[0] == next => break,
                    Ok(_) | Err(RecvError::Lost(_)) => {}
                    Err(error) => panic!("{error} instead of message {next}"),
                }
            }
        }
    });
}

/// The publishers that a subscriber has joined.
fn publishers(subscriber: &mut Subscriber<Numbers>) -> usize {
    subscriber.backlog();
    subscriber.subscription().readers().count()
}

#[test]
fn a_stopped_process_delays_a_publisher_only_as_long_as_the_host_is_patient() {
    const NAME: &str = "a_stopped_process_delays_a_publisher_only_as_long_as_the_host_is_patient";
    if let Some(mut this) = This::get() {
        let connection = this.connect();
        let mut numbers = subscriber(connection.broker(), "numbers");
        this.talk.say("ready");
        // It has missed the messages published before it continued.
        let message = numbers.blocking_recv_ref(deadline()).expect("it was published");
        assert!(message.view()[0] >= 100, "{:?}", message.view());
        return;
    }
    let host = Host::with(ServeOptions::new().patience(std::time::Duration::from_millis(50)));
    let mut other = Other::start(test_name!(NAME), "stopped", host.path());
    other.talk.expect("ready");
    other.stop();
    let mut numbers = publisher(&host.broker, "numbers");
    assert_eq!(numbers.subscriber_count(), 0, "it has not joined");
    publish(&mut numbers, 0..1);
    other.go_on();
    assert!(numbers.blocking_subscribers(1, deadline()), "it joins later");
    publish(&mut numbers, 100..101);
    other.end();
}

#[test]
fn a_publisher_whose_process_is_stopped_keeps_nobody_out_and_is_joined_later() {
    const NAME: &str = "a_publisher_whose_process_is_stopped_keeps_nobody_out_and_is_joined_later";
    if let Some(mut this) = This::get() {
        let connection = this.connect();
        let mut numbers = publisher(connection.broker(), "numbers");
        this.talk.say("ready");
        this.talk.hear();
        assert!(numbers.blocking_subscribers(3, deadline()), "all have joined");
        publish(&mut numbers, 50..55);
        this.talk.hear();
        return;
    }
    let host = Host::with(ServeOptions::new().patience(std::time::Duration::from_secs(1)));
    let mut other = Other::start(test_name!(NAME), "publisher", host.path());
    other.talk.expect("ready");
    other.stop();
    let connection = host.connect();
    let mut numbers = publisher(connection.broker(), "numbers");
    let mut subscribers = [&host.broker, connection.broker(), &host.broker].map(|broker| {
        let subscriber = broker.subscriber("numbers", SubscriberOptions::new());
        subscriber.expect("it opens without the one that is stopped")
    });
    for subscriber in &mut subscribers {
        until("the other publisher is joined", || publishers(subscriber) == 1);
    }
    publish(&mut numbers, 0..5);
    subscribers.iter_mut().for_each(|subscriber| receive(subscriber, 0..5));
    other.go_on();
    other.talk.say("publish");
    subscribers.iter_mut().for_each(|subscriber| receive(subscriber, 50..55));
    other.talk.say("end");
    other.end();
}

/// A client is less patient than its host.
#[test]
fn a_client_whose_host_is_stopped_waits_only_as_long_as_it_is_patient() {
    const NAME: &str = "a_client_whose_host_is_stopped_waits_only_as_long_as_it_is_patient";
    if let Some(mut this) = This::get() {
        let broker = blockcast_broker::Broker::new();
        let options = ServeOptions::new().patience(std::time::Duration::ZERO);
        let _serving = broker.serve(&this.path, options).expect("nobody else serves");
        this.talk.say("ready");
        this.talk.hear();
        return;
    }
    let folder = Folder::new();
    let mut host = Other::start(test_name!(NAME), "host", &folder.socket());
    host.talk.expect("ready");
    let options = connect_options().patience(std::time::Duration::from_millis(50));
    let mut connection = None;
    until("the host answers", || {
        connection = blockcast_broker::Connection::connect_with(folder.socket(), &options).ok();
        connection.is_some()
    });
    let connection = connection.expect("it has answered");
    host.stop();
    let refused = connection.subscriber::<Numbers>("numbers", SubscriberOptions::new()).err();
    assert_eq!(refused, Some(OpenError::Unresponsive { topic: "numbers".to_owned() }));
    let refused = connection.publisher::<Numbers>("numbers", few_blocks()).err();
    assert_eq!(refused, Some(OpenError::Unresponsive { topic: "numbers".to_owned() }));
    host.go_on();
    // Nothing of the first attempts is in the way.
    until("a later attempt succeeds", || {
        connection.subscriber::<Numbers>("numbers", SubscriberOptions::new()).is_ok()
    });
    host.talk.say("end");
    host.end();
}
