//! Who has joined when something is opened.

use std::sync::mpsc;

use blockcast_blocks::OpenError;
use blockcast_broker::ServeOptions;
use blockcast_subscriber::{Overflow, RecvError, Subscriber, SubscriberOptions};

use crate::support::{
    Host, Numbers, Other, This, connect_options, deadline, publish, publisher, receive, subscriber,
    test_name, until,
};

/// Everyone who subscribed before a publisher was opened receives its first message.
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
        // It has missed what was published before it went on.
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
fn joining_a_publisher_whose_process_is_stopped_fails() {
    const NAME: &str = "joining_a_publisher_whose_process_is_stopped_fails";
    if let Some(mut this) = This::get() {
        let connection = this.connect();
        let _numbers = publisher(connection.broker(), "numbers");
        this.talk.say("ready");
        this.talk.hear();
        return;
    }
    let host = Host::new();
    let mut other = Other::start(test_name!(NAME), "publisher", host.path());
    other.talk.expect("ready");
    other.stop();
    let options = connect_options().patience(std::time::Duration::from_millis(50));
    let connection = blockcast_broker::Connection::connect_with(host.path(), &options).expect("it answers");
    let refused = connection.subscriber::<Numbers>("numbers", SubscriberOptions::new()).err();
    assert_eq!(refused, Some(OpenError::Unresponsive { topic: "numbers".to_owned() }));
    other.go_on();
    // Nothing of the first attempt is in the way.
    let patient = host.connect();
    assert_eq!(publishers(&mut subscriber(patient.broker(), "numbers")), 1);
    until("a later attempt succeeds", || {
        connection.subscriber::<Numbers>("numbers", SubscriberOptions::new()).is_ok()
    });
    other.talk.say("end");
    other.end();
}
