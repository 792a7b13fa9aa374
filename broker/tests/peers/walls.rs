//! Publishers whose messages the host copies, so that others need not trust them.

use blockcast_broker::Trust;
use blockcast_subscriber::{RecvError, SubscriberOptions};

use crate::support::{
    Host, Numbers, Other, This, deadline, expect_end, few_blocks, publish, publisher, receive, serve_options,
    subscriber, test_name, until,
};

const MESSAGES: u64 = 2000;

fn walled() -> Host {
    Host::with(serve_options().walled())
}

/// Subscribers of the host, of another process and of the publisher's own one, at once.
#[test]
fn each_message_of_a_walled_publisher_arrives_everywhere_once_and_in_order() {
    let host = walled();
    let (one, other) = (host.connect(), host.connect());
    let mut subscribers =
        [&host.broker, one.broker(), other.broker()].map(|broker| subscriber(broker, "numbers"));
    let mut numbers = publisher(one.broker(), "numbers");
    assert_eq!(numbers.subscriber_count(), 2, "its own process's subscriber, and the host");
    let publishing = std::thread::spawn(move || publish(&mut numbers, 0..MESSAGES));
    for number in 0..MESSAGES {
        subscribers.iter_mut().for_each(|subscriber| receive(subscriber, number..number + 1));
    }
    publishing.join().expect("it has published");
    subscribers.iter_mut().for_each(expect_end);
    until("nothing is left of the copies", || {
        host.broker.topic("numbers").is_none_or(|topic| topic.publishers.is_empty())
    });
}

/// The publisher changes a message that its subscribers have. Without a wall, they see that.
#[test]
fn a_walled_publisher_cannot_change_what_it_has_published() {
    const NAME: &str = "a_walled_publisher_cannot_change_what_it_has_published";
    if let Some(mut this) = This::get() {
        let connection = this.connect();
        let mut own = subscriber(connection.broker(), "numbers");
        let mut numbers = publisher(connection.broker(), "numbers");
        numbers.blocking_loan(deadline()).expect("a block comes free").send(&[1; 3][..]).expect("it fits");
        let sample = own.blocking_recv(deadline()).expect("it was published");
        let place = std::ptr::from_ref(&sample.view()[0]).cast_mut();
        this.talk.say("published");
        this.talk.expect("received");
        // SAFETY: this process has mapped the block for writing, and nobody reads it here any more. That
        // another process does is the point.
        unsafe { place.write_volatile(2) };
        this.talk.say("changed");
        this.talk.hear();
        return;
    }
    for (host, expected) in [(walled(), [1, 1, 1]), (Host::new(), [2, 1, 1])] {
        let mut numbers = subscriber(&host.broker, "numbers");
        let mut other = Other::start(test_name!(NAME), "publisher", host.path());
        other.talk.expect("published");
        let message = numbers.blocking_recv(deadline()).expect("it was published");
        other.talk.say("received");
        other.talk.expect("changed");
        // The reads must not be merged with earlier ones.
        let view = std::hint::black_box(message.view());
        assert_eq!(*view, expected);
        other.talk.say("end");
        other.end();
    }
}

#[test]
fn a_walled_publisher_waits_for_reliable_subscribers_and_loses_nothing() {
    let host = walled();
    let connection = host.connect();
    let mut slow = subscriber(&host.broker, "numbers");
    let options = SubscriberOptions::latest();
    let mut latest = host.broker.subscriber::<Numbers>("numbers", options).expect("it opens");
    let mut numbers = publisher(connection.broker(), "numbers");
    let mut published = 0;
    // The blocks of the publisher, and those of the copies.
    until("the publisher waits", || {
        if let Ok(loan) = numbers.try_loan() {
            loan.send(&[published; 3][..]).expect("it fits");
            published += 1;
        }
        published >= 8 + 8
    });
    assert!(numbers.try_loan().is_err(), "{published} messages are unread");
    receive(&mut slow, 0..published);
    for number in published..100 {
        publish(&mut numbers, number..number + 1);
        receive(&mut slow, number..number + 1);
    }
    drop(numbers);
    expect_end(&mut slow);
    let last = std::iter::from_fn(|| {
        loop {
            match latest.blocking_recv_ref(deadline()) {
                Ok(message) => return Some(message.view()[0]),
                Err(RecvError::Lost(_)) => {}
                Err(RecvError::Ended) => return None,
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!(last.last(), Some(99));
}

#[test]
fn what_a_killed_walled_publisher_published_is_received_then_the_end() {
    const NAME: &str = "what_a_killed_walled_publisher_published_is_received_then_the_end";
    if let Some(mut this) = This::get() {
        let connection = this.connect();
        let mut numbers = publisher(connection.broker(), "numbers");
        publish(&mut numbers, 0..8);
        this.talk.say("published");
        this.talk.hear();
        unreachable!("it is killed");
    }
    let host = walled();
    let connection = host.connect();
    let mut numbers = subscriber(connection.broker(), "numbers");
    for _ in 0..3 {
        // It exists all the time, so that the topic does not end.
        let silent = publisher(&host.broker, "numbers");
        let mut other = Other::start(test_name!(NAME), "publisher", host.path());
        other.talk.expect("published");
        other.kill();
        receive(&mut numbers, 0..8);
        drop(silent);
        expect_end(&mut numbers);
    }
}

#[test]
fn the_history_of_a_walled_publisher_reaches_late_subscribers() {
    let host = walled();
    let (one, other) = (host.connect(), host.connect());
    let mut numbers = one.publisher::<Numbers>("numbers", few_blocks().history(3)).expect("it opens");
    publish(&mut numbers, 0..20);
    let mut late = None;
    // The last of them may not be copied yet.
    until("the history is there", || {
        let options = SubscriberOptions::new().history(3);
        let mut subscriber = other.subscriber::<Numbers>("numbers", options).expect("it opens");
        let first = subscriber.blocking_recv_ref(deadline()).expect("there is a history").view()[0];
        late = Some(subscriber);
        first == 17
    });
    receive(late.as_mut().expect("it is there"), 18..20);
}

/// Needs the superuser, who alone can start a process of another user.
#[test]
fn publishers_of_another_user_are_walled_by_default() {
    const NAME: &str = "publishers_of_another_user_are_walled_by_default";
    /// A user other than the host's.
    const OTHER: u32 = 4711;
    if let Some(mut this) = This::get() {
        let options = crate::support::connect_options().host_user(0);
        let connection =
            blockcast_broker::Connection::connect_with(&this.path, &options).expect("the host answers");
        let mut numbers = publisher(connection.broker(), "numbers");
        publish(&mut numbers, 0..8);
        let topic = connection.broker().topic("numbers").expect("it has a publisher");
        this.talk.say(&topic.publishers[0].subscribers[0].name);
        this.talk.hear();
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root starts processes of another user");
    }
    let grants = blockcast_broker::Grants::new().publish("numbers");
    // SAFETY: the other user's process uses this crate's publishers only.
    let trusting = unsafe { serve_options().trust_others(Trust::Checked) };
    for (options, is_walled) in [(serve_options(), true), (trusting, false)] {
        let host = Host::with(options.user(OTHER, grants.clone()).mode(0o666));
        let mut numbers = subscriber(&host.broker, "numbers");
        let mut other = Other::start_as(OTHER, test_name!(NAME), "publisher", &host);
        let reader = other.talk.hear();
        assert_eq!(reader.ends_with("(copies)"), is_walled, "{reader}");
        receive(&mut numbers, 0..8);
        let process = format!("process {}", other.pid());
        let topic = host.broker.topic("numbers").expect("one subscribes");
        assert!(topic.publishers[0].name.contains(&process), "{topic}");
        other.talk.say("end");
        other.end();
    }
}

/// The host lists its topics, in which nothing appears twice.
#[test]
fn a_walled_publisher_is_listed_once_with_its_own_process() {
    let host = walled();
    let connection = host.connect();
    let mut subscriber = subscriber(&host.broker, "numbers");
    let mut numbers = publisher(connection.broker(), "numbers");
    publish(&mut numbers, 0..3);
    receive(&mut subscriber, 0..3);
    let topic = connection.host_topic("numbers").expect("it answers").expect("it has participants");
    let [publisher] = &topic.publishers[..] else { panic!("{topic:?}") };
    assert!(publisher.process.contains(&format!("process {}", std::process::id())), "{topic:?}");
    assert_eq!((topic.published(), topic.subscribers.len()), (3, 1), "{topic:?}");
}
