//! Messages between processes.

use blockcast_blocks::OpenError;
use blockcast_broker::{Broker, ExitReason, Grants};
use blockcast_subscriber::{Overflow, RecvError, SubscriberOptions};

use crate::support::{
    Folder, Host, Numbers, Other, This, expect_end, few_blocks, publish, publisher, receive, serve_options,
    subscriber, test_name, until,
};

const MESSAGES: u64 = 2000;

#[test]
fn a_client_publishes_to_its_host_and_subscribes_to_it() {
    const NAME: &str = "a_client_publishes_to_its_host_and_subscribes_to_it";
    if let Some(mut this) = This::get() {
        let connection = this.connect();
        let mut replies = subscriber(connection.broker(), "replies");
        let mut numbers = publisher(connection.broker(), "numbers");
        assert_eq!(numbers.subscriber_count(), 1, "the host's subscriber has joined");
        this.talk.say("ready");
        for number in 0..MESSAGES {
            publish(&mut numbers, number..number + 1);
            receive(&mut replies, number..number + 1);
        }
        drop(numbers);
        return expect_end(&mut replies);
    }
    let host = Host::new();
    let mut numbers = subscriber(&host.broker, "numbers");
    let mut other = Other::start(test_name!(NAME), "client", host.path());
    other.talk.expect("ready");
    let mut replies = publisher(&host.broker, "replies");
    assert_eq!(replies.subscriber_count(), 1, "the client's subscriber has joined");
    for number in 0..MESSAGES {
        receive(&mut numbers, number..number + 1);
        publish(&mut replies, number..number + 1);
    }
    expect_end(&mut numbers);
    let topic = host.broker.topic("replies").expect("it has a publisher");
    let name = &topic.publishers[0].subscribers[0].name;
    assert_eq!(*name, format!("client (process {})", other.pid()));
    assert_eq!(host.broker.topic("numbers").map(|topic| topic.published()), Some(MESSAGES));
    drop(replies);
    other.end();
}

/// The host itself takes no part in the topic.
#[test]
fn two_clients_exchange_messages_without_the_host() {
    const NAME: &str = "two_clients_exchange_messages_without_the_host";
    if let Some(mut this) = This::get() {
        let connection = this.connect();
        if this.role == "subscriber" {
            let mut subscribers = ["first", "second"].map(|_| subscriber(connection.broker(), "numbers"));
            this.talk.say("ready");
            for subscriber in &mut subscribers {
                receive(subscriber, 0..4);
            }
            let stats = connection.broker().topic("numbers").expect("two subscribe");
            assert!(stats.publishers[0].name.starts_with("publisher (process "), "{stats}");
            this.talk.say("received");
            for number in 4..MESSAGES {
                subscribers.iter_mut().for_each(|subscriber| receive(subscriber, number..number + 1));
            }
            subscribers.iter_mut().for_each(expect_end);
        } else {
            let mut numbers = publisher(connection.broker(), "numbers");
            assert_eq!(numbers.subscriber_count(), 2);
            publish(&mut numbers, 0..4);
            this.talk.expect("go on");
            publish(&mut numbers, 4..MESSAGES);
        }
        return;
    }
    let host = Host::new();
    let mut receiving = Other::start(test_name!(NAME), "subscriber", host.path());
    receiving.talk.expect("ready");
    let mut sending = Other::start(test_name!(NAME), "publisher", host.path());
    receiving.talk.expect("received");
    sending.talk.say("go on");
    sending.end();
    receiving.end();
    assert!(host.broker.topics().is_empty(), "the host has no part in the topic");
}

#[test]
fn a_late_subscriber_of_another_process_starts_with_the_history() {
    const NAME: &str = "a_late_subscriber_of_another_process_starts_with_the_history";
    if let Some(mut this) = This::get() {
        let connection = this.connect();
        let options = SubscriberOptions::new().history(2);
        let mut numbers = connection.subscriber::<Numbers>("numbers", options).expect("it opens");
        receive(&mut numbers, 8..10);
        this.talk.say("received");
        receive(&mut numbers, 10..12);
        return expect_end(&mut numbers);
    }
    let host = Host::new();
    let mut numbers = host.broker.publisher::<Numbers>("numbers", few_blocks().history(2)).expect("it opens");
    publish(&mut numbers, 0..10);
    let mut other = Other::start(test_name!(NAME), "subscriber", host.path());
    other.talk.expect("received");
    publish(&mut numbers, 10..12);
    drop(numbers);
    other.end();
}

/// The subscriber keeps samples and loses the rest, exactly counted.
#[test]
fn a_slow_subscriber_of_another_process_loses_messages_that_are_counted() {
    const NAME: &str = "a_slow_subscriber_of_another_process_loses_messages_that_are_counted";
    if let Some(mut this) = This::get() {
        let connection = this.connect();
        let options = SubscriberOptions::new().overflow(Overflow::DropOldest);
        let mut numbers = connection.subscriber::<Numbers>("numbers", options).expect("it opens");
        this.talk.say("ready");
        let kept = numbers.blocking_recv(crate::support::deadline()).expect("it was published");
        this.talk.say("kept");
        this.talk.expect("all are published");
        let (mut received, mut lost) = (1, 0);
        loop {
            match numbers.blocking_recv_ref(crate::support::deadline()) {
                Ok(message) => {
                    assert_eq!(message.view(), [received + lost; 3]);
                    received += 1;
                }
                Err(RecvError::Lost(more)) => lost += more,
                Err(error) => {
                    assert_eq!(error, RecvError::Ended);
                    break;
                }
            }
        }
        assert_eq!(received + lost, MESSAGES);
        assert!(lost > 0);
        assert_eq!(kept.view(), [0; 3], "the sample was not overwritten");
        return;
    }
    let host = Host::new();
    let mut other = Other::start(test_name!(NAME), "subscriber", host.path());
    other.talk.expect("ready");
    let mut numbers = publisher(&host.broker, "numbers");
    publish(&mut numbers, 0..1);
    other.talk.expect("kept");
    publish(&mut numbers, 1..MESSAGES);
    drop(numbers);
    other.talk.say("all are published");
    other.end();
}

#[test]
fn participants_that_exist_before_the_broker_serves_take_part() {
    const NAME: &str = "participants_that_exist_before_the_broker_serves_take_part";
    if let Some(this) = This::get() {
        let connection = this.connect();
        let mut old = subscriber(connection.broker(), "old publisher");
        let mut numbers = publisher(connection.broker(), "old subscriber");
        assert_eq!(numbers.subscriber_count(), 1);
        publish(&mut numbers, 0..MESSAGES);
        drop(numbers);
        receive(&mut old, 0..MESSAGES);
        return expect_end(&mut old);
    }
    let (broker, folder) = (Broker::new(), Folder::new());
    let mut old_publisher = publisher(&broker, "old publisher");
    let mut old_subscriber = subscriber(&broker, "old subscriber");
    let serving = broker.serve(folder.socket(), serve_options()).expect("nobody else serves there");
    let other = Other::start(test_name!(NAME), "client", serving.path());
    receive(&mut old_subscriber, 0..MESSAGES);
    expect_end(&mut old_subscriber);
    assert!(old_publisher.blocking_subscribers(1, crate::support::deadline()));
    publish(&mut old_publisher, 0..MESSAGES);
    drop(old_publisher);
    other.end();
}

#[test]
fn a_process_that_no_longer_subscribes_leaves_the_publishers_of_others() {
    const NAME: &str = "a_process_that_no_longer_subscribes_leaves_the_publishers_of_others";
    if let Some(mut this) = This::get() {
        let connection = this.connect();
        let mut numbers = subscriber(connection.broker(), "numbers");
        receive(&mut numbers, 0..1);
        let sample = {
            this.talk.say("one");
            numbers.blocking_recv(crate::support::deadline()).expect("it was published")
        };
        drop(numbers);
        until("the topic is gone", || connection.topics().is_empty());
        assert_eq!(sample.view(), [1; 3], "samples outlive their subscriber");
        this.talk.say("left");
        this.talk.expect("still held?");
        drop(sample);
        this.talk.say("dropped");
        // Once more, by the same connection.
        let mut numbers = subscriber(connection.broker(), "numbers");
        this.talk.say("again");
        receive(&mut numbers, 100..102);
        return expect_end(&mut numbers);
    }
    let host = Host::new();
    let mut numbers = publisher(&host.broker, "numbers");
    let mut other = Other::start(test_name!(NAME), "subscriber", host.path());
    assert!(numbers.blocking_subscribers(1, crate::support::deadline()));
    publish(&mut numbers, 0..1);
    other.talk.expect("one");
    publish(&mut numbers, 1..2);
    other.talk.expect("left");
    until("it has left", || numbers.subscriber_count() == 0);
    // The sample pins one block, and the publisher continues with the others.
    publish(&mut numbers, 2..50);
    until("the sample is a hold", || {
        numbers.reclaim();
        numbers.writer().pool().limbo <= 1
    });
    other.talk.say("still held?");
    other.talk.expect("dropped");
    until("every block is free", || numbers.reclaim() == 8);
    other.talk.expect("again");
    publish(&mut numbers, 100..102);
    drop(numbers);
    other.end();
}

/// An app in the broker of a client, with its own topics and grants.
#[test]
fn components_of_a_client_take_part() {
    let host = Host::new();
    let connection = host.connect();
    let mut numbers = subscriber(&host.broker, "numbers");
    let app = |session: blockcast_broker::Session| {
        let mut numbers = session.blocking_publisher::<Numbers>("numbers", few_blocks()).expect("granted");
        publish(&mut numbers, 0..100);
        session.blocking_publisher::<Numbers>("other", few_blocks()).expect_err("not granted");
        Ok::<_, std::convert::Infallible>(())
    };
    let grants = Grants::new().publish("numbers");
    let component = connection.broker().run("app", grants, [], app).expect("it starts");
    receive(&mut numbers, 0..100);
    expect_end(&mut numbers);
    assert_eq!(component.wait().reason, ExitReason::Finished);
}

/// The child does not share the connection, and does not disturb its parent's.
#[test]
fn a_forked_child_cannot_use_the_connection_and_its_parent_goes_on() {
    const NAME: &str = "a_forked_child_cannot_use_the_connection_and_its_parent_goes_on";
    if let Some(this) = This::get() {
        let broker = Broker::new();
        let serving = broker.serve(&this.path, serve_options()).expect("nobody else serves");
        let connection = crate::support::connect(&this.path);
        let mut numbers = publisher(connection.broker(), "numbers");
        let mut subscriber_of_host = subscriber(&broker, "numbers");
        let mut inherited = Some((connection, serving));
        // SAFETY: the child uses nothing that relies on the parent's other threads, and exits at once.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed");
        if pid == 0 {
            let (connection, serving) = inherited.take().expect("a copy in the child");
            let is_forked = |error: Option<OpenError>| error == Some(OpenError::Forked);
            let refused = is_forked(connection.publisher::<Numbers>("numbers", few_blocks()).err())
                && is_forked(broker.subscriber::<Numbers>("numbers", SubscriberOptions::new()).err())
                && broker.serve(&this.path, serve_options()).is_err();
            drop((connection, serving));
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if refused { 77 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: waits for our own child, and `status` is a valid place for the answer.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(libc::WEXITSTATUS(status), 77, "the child: {status}");
        publish(&mut numbers, 0..8);
        receive(&mut subscriber_of_host, 0..8);
        let (connection, _serving) = inherited.expect("the child took only its copy");
        drop(subscriber(connection.broker(), "numbers"));
        return;
    }
    let folder = Folder::new();
    Other::start(test_name!(NAME), "parent", &folder.socket()).end();
}

/// Participants of one process meet directly, even if the process is a client.
#[test]
fn participants_of_one_client_receive_each_message_once() {
    let host = Host::new();
    let connection = host.connect();
    let mut own = subscriber(connection.broker(), "numbers");
    let mut hosts = subscriber(&host.broker, "numbers");
    let mut numbers = publisher(connection.broker(), "numbers");
    assert_eq!(numbers.subscriber_count(), 2);
    for number in 0..100 {
        publish(&mut numbers, number..number + 1);
        receive(&mut own, number..number + 1);
        receive(&mut hosts, number..number + 1);
    }
    drop(numbers);
    expect_end(&mut own);
    expect_end(&mut hosts);
    assert_eq!(own.try_recv_ref().err(), Some(RecvError::Ended));
}
