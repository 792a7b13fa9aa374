//! Processes that are killed.

use blockcast_blocks::OpenError;
use blockcast_subscriber::{Overflow, RecvError, SubscriberOptions};

use crate::support::{
    Host, Numbers, Other, This, deadline, expect_end, few_blocks, publish, publisher, receive, subscriber,
    test_name, until,
};

/// The dead process was attached to messages, kept samples, and blocked the publisher.
#[test]
fn what_a_killed_subscriber_held_comes_free_and_its_publisher_goes_on() {
    const NAME: &str = "what_a_killed_subscriber_held_comes_free_and_its_publisher_goes_on";
    if let Some(mut this) = This::get() {
        let connection = this.connect();
        let mut numbers = subscriber(connection.broker(), "numbers");
        this.talk.say("ready");
        let _samples = [(); 3].map(|()| numbers.blocking_recv(deadline()).expect("it was published"));
        let _message = numbers.blocking_recv_ref(deadline()).expect("it was published");
        this.talk.say("attached");
        this.talk.hear();
        unreachable!("it is killed");
    }
    let host = Host::new();
    for _ in 0..5 {
        let mut other = Other::start(test_name!(NAME), "subscriber", host.path());
        other.talk.expect("ready");
        let mut numbers = publisher(&host.broker, "numbers");
        assert_eq!(numbers.subscriber_count(), 1);
        publish(&mut numbers, 0..8);
        other.talk.expect("attached");
        assert!(numbers.try_loan().is_err(), "the subscriber loses nothing, so the publisher waits for it");
        other.kill();
        // The death wakes the publisher.
        publish(&mut numbers, 8..100);
        assert_eq!(numbers.subscriber_count(), 0);
        until("every block has come back", || numbers.reclaim() == 8);
    }
}

#[test]
fn what_a_killed_publisher_published_is_received_then_the_end() {
    const NAME: &str = "what_a_killed_publisher_published_is_received_then_the_end";
    if let Some(mut this) = This::get() {
        let connection = this.connect();
        let mut numbers = publisher(connection.broker(), "numbers");
        publish(&mut numbers, 0..8);
        this.talk.say("published");
        this.talk.hear();
        unreachable!("it is killed");
    }
    let host = Host::new();
    // One waits when it happens, and one is far behind.
    let mut waiting = subscriber(&host.broker, "numbers");
    let mut behind = subscriber(&host.broker, "numbers");
    let mut other = Other::start(test_name!(NAME), "publisher", host.path());
    other.talk.expect("published");
    receive(&mut waiting, 0..8);
    let sample = behind.blocking_recv(deadline()).expect("it was published");
    let waiter = std::thread::spawn(move || {
        expect_end(&mut waiting);
    });
    other.kill();
    waiter.join().expect("it sees the end");
    receive(&mut behind, 1..8);
    expect_end(&mut behind);
    assert_eq!(sample.view(), [0; 3], "samples outlive their publisher's process");
    until("its publisher is counted", || {
        let topic = host.broker.topic("numbers").expect("two subscribe");
        topic.publishers.is_empty() && topic.departed.publishers == 1 && topic.departed.published == 8
    });
}

/// A second publisher of another process takes over.
#[test]
fn a_subscriber_outlives_killed_publishers_and_joins_the_next() {
    const NAME: &str = "a_subscriber_outlives_killed_publishers_and_joins_the_next";
    if let Some(mut this) = This::get() {
        let connection = this.connect();
        let mut numbers = publisher(connection.broker(), "numbers");
        let first: u64 = this.role.parse().expect("a number");
        publish(&mut numbers, first..first + 5);
        this.talk.say("published");
        this.talk.hear();
        unreachable!("it is killed");
    }
    let host = Host::new();
    let connection = host.connect();
    let mut numbers = subscriber(connection.broker(), "numbers");
    // It exists all the time, so that the topic does not end.
    let _silent = publisher(&host.broker, "numbers");
    for round in 0..4 {
        let mut other = Other::start(test_name!(NAME), &(round * 5).to_string(), host.path());
        other.talk.expect("published");
        other.kill();
        receive(&mut numbers, round * 5..round * 5 + 5);
    }
    assert_eq!(numbers.try_recv_ref().err(), Some(RecvError::Empty));
}

/// Host, publisher and subscriber are processes of their own. The host is killed.
#[test]
fn clients_go_on_without_their_host_but_nobody_joins() {
    const NAME: &str = "clients_go_on_without_their_host_but_nobody_joins";
    if let Some(mut this) = This::get() {
        if this.role == "host" {
            let broker = blockcast_broker::Broker::new();
            let _serving = broker.serve(&this.path, crate::support::serve_options()).expect("it serves");
            this.talk.say("serving");
            this.talk.hear();
            unreachable!("it is killed");
        }
        let connection = this.connect();
        let mut numbers = subscriber(connection.broker(), "numbers");
        this.talk.say("ready");
        receive(&mut numbers, 0..10);
        this.talk.say("ten");
        // Much more than there are blocks: each wakes the other again and again.
        receive(&mut numbers, 10..2000);
        this.talk.say("all");
        this.talk.hear();
        unreachable!("it is killed");
    }
    let folder = crate::support::Folder::new();
    let mut host = Other::start(test_name!(NAME), "host", &folder.socket());
    host.talk.expect("serving");
    let mut other = Other::start(test_name!(NAME), "subscriber", &folder.socket());
    other.talk.expect("ready");
    let options = crate::support::connect_options();
    let connection =
        blockcast_broker::Connection::connect_with(folder.socket(), &options).expect("it answers");
    let mut numbers = publisher(connection.broker(), "numbers");
    publish(&mut numbers, 0..10);
    other.talk.expect("ten");
    host.kill();
    publish(&mut numbers, 10..2000);
    other.talk.expect("all");
    until("the connection is lost", || !connection.is_connected());
    let refused = connection.publisher::<Numbers>("numbers", few_blocks()).err();
    assert_eq!(refused, Some(OpenError::Disconnected));
    let refused = connection.subscriber::<Numbers>("numbers", SubscriberOptions::new()).err();
    assert_eq!(refused, Some(OpenError::Disconnected));
    // Recovery needs no host either.
    other.kill();
    publish(&mut numbers, 0..100);
    until("every block has come back", || numbers.reclaim() == 8);
}

/// Many processes come and are killed while they receive, at any moment.
#[test]
fn subscribers_killed_at_any_moment_leave_nothing_and_disturb_nobody() {
    const NAME: &str = "subscribers_killed_at_any_moment_leave_nothing_and_disturb_nobody";
    if let Some(mut this) = This::get() {
        let connection = this.connect();
        let overflow = if this.role == "slow" { Overflow::DropOldest } else { Overflow::Block };
        let options = SubscriberOptions::new().overflow(overflow);
        let mut numbers = connection.subscriber::<Numbers>("numbers", options).expect("it opens");
        this.talk.say("ready");
        let mut kept = Vec::new();
        loop {
            match numbers.blocking_recv(deadline()) {
                Ok(sample) if kept.len() < 2 => kept.push(sample),
                Ok(_) | Err(RecvError::Lost(_)) => {}
                Err(RecvError::TooManySamples { .. }) => kept.clear(),
                Err(error) => panic!("{error}"),
            }
        }
    }
    let host = Host::new();
    let mut witness = subscriber(&host.broker, "numbers");
    let mut numbers = publisher(&host.broker, "numbers");
    let mut next = 0;
    for round in 0..12 {
        let role = if round % 2 == 0 { "slow" } else { "fast" };
        let mut other = Other::start(test_name!(NAME), role, host.path());
        other.talk.expect("ready");
        // Different moments in its work; none of them matters to the result.
        for _ in 0..50 + 37 * round {
            publish(&mut numbers, next..next + 1);
            receive(&mut witness, next..next + 1);
            next += 1;
        }
        other.kill();
    }
    until("all are detached", || numbers.subscriber_count() == 1);
    drop(numbers.try_loan().expect("blocks are free"));
    until("every block has come back", || numbers.reclaim() == 8);
    assert_eq!(witness.lost(), 0);
}
