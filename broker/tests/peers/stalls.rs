//! Subscribers of other processes that hold a publisher back and do not move.

use std::time::Duration;

use blockcast_broker::Stall;
use blockcast_subscriber::{Overflow, SubscriberOptions};

use crate::support::{
    Host, Numbers, Other, This, deadline, publish, publisher, receive, serve_options, subscriber, test_name,
    until,
};

/// Joins, receives one number, and waits to be told to receive all.
fn be_subscriber(mut this: This) {
    let connection = this.connect();
    let overflow = if this.role == "overtakable" { Overflow::DropOldest } else { Overflow::Block };
    let options = SubscriberOptions::new().overflow(overflow);
    let mut numbers = connection.subscriber::<Numbers>("numbers", options).expect("it opens");
    this.talk.say("ready");
    drop(numbers.blocking_recv_ref(deadline()).expect("it was published"));
    this.talk.say("one");
    let last: u64 = this.talk.hear().parse().expect("a number");
    while numbers.blocking_recv_ref(deadline()).map(|message| message.view()[0]) != Ok(last) {}
    this.talk.say("all");
}

/// The publisher's process is another one, too.
#[test]
fn the_host_kills_a_process_that_stalls_a_publisher_if_it_is_told_to() {
    const NAME: &str = "the_host_kills_a_process_that_stalls_a_publisher_if_it_is_told_to";
    if let Some(this) = This::get() {
        return be_subscriber(this);
    }
    let host = Host::with(serve_options().stall(Stall::Kill(Duration::from_millis(100))));
    let connection = host.connect();
    for (round, broker) in [&host.broker, connection.broker()].into_iter().enumerate() {
        let mut honest = subscriber(&host.broker, "numbers");
        let mut stalls = Other::start(test_name!(NAME), "reliable", host.path());
        let mut slow = Other::start(test_name!(NAME), "overtakable", host.path());
        [&mut stalls, &mut slow].into_iter().for_each(|other| other.talk.expect("ready"));
        let mut numbers = publisher(broker, "numbers");
        publish(&mut numbers, 0..1);
        [&mut stalls, &mut slow].into_iter().for_each(|other| other.talk.expect("one"));
        [&stalls, &slow].into_iter().for_each(Other::stop);
        receive(&mut honest, 0..1);
        for number in 1..100 {
            // It waits for the process that has stopped, until that is killed.
            publish(&mut numbers, number..number + 1);
            receive(&mut honest, number..number + 1);
        }
        stalls.expect_killed();
        assert_eq!(host.serving.killed(), round as u64 + 1);
        // Nobody waits for one that may lose messages.
        slow.go_on();
        slow.talk.say("99");
        slow.talk.expect("all");
        slow.end();
        drop(numbers);
    }
}

#[test]
fn a_publisher_waits_for_a_process_that_stalls_it_by_default() {
    const NAME: &str = "a_publisher_waits_for_a_process_that_stalls_it_by_default";
    if let Some(this) = This::get() {
        return be_subscriber(this);
    }
    let host = Host::new();
    let mut stalls = Other::start(test_name!(NAME), "reliable", host.path());
    stalls.talk.expect("ready");
    let mut numbers = publisher(&host.broker, "numbers");
    publish(&mut numbers, 0..1);
    stalls.talk.expect("one");
    stalls.stop();
    publish(&mut numbers, 1..8);
    // It has released the first, or was stopped before that.
    let more = u64::from(numbers.try_loan().is_ok());
    publish(&mut numbers, 8..8 + more);
    assert!(numbers.blocking_loan(Some(std::time::Instant::now() + Duration::from_millis(50))).is_err());
    assert_eq!(host.serving.killed(), 0);
    stalls.go_on();
    stalls.talk.say("99");
    publish(&mut numbers, 8 + more..100);
    stalls.talk.expect("all");
    stalls.end();
    until("it has left", || numbers.subscriber_count() == 0);
}
