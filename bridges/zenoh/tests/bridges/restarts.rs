//! Either side is started again while messages flow.

use std::slice::from_ref;
use std::time::Duration;

use blockcast_zenoh::Bridge;

use crate::faults::Flow;
use crate::processes::publish_until;
use crate::support::{
    Counting, Folder, Other, Side, This, all, pair, patient, publisher, session, subscriber, test_name, until,
};

/// Messages of each run.
const SOME: u64 = 1000;

/// The first message, and those since, were received or counted as lost.
fn counts_add_up(counting: &Counting, first: u64) -> bool {
    counting.next == Some(first + counting.received + counting.lost)
}

/// Receives the first message. A loss before it is what was published after the last message of an earlier
/// subscriber, while no bridge was there.
fn receive_first(counting: &mut Counting) -> u64 {
    while counting.next.is_none() {
        assert!(counting.step(), "the publisher has not ended");
    }
    counting.lost = 0;
    counting.next.expect("a message") - 1
}

#[test]
fn the_publishing_side_restarts_under_load() {
    const NAME: &str = "the_publishing_side_restarts_under_load";
    if let Some(mut this) = This::get() {
        let listening = session(from_ref(&this.place), &[]);
        let side = Side::new(&listening, all(), patient());
        let mut numbers = publisher(&side.broker, "numbers");
        side.sends(1);
        let next = publish_until(&mut numbers, 0, || assert_eq!(this.talk.hear(), "received"));
        let flow = Flow::start(numbers, next);
        assert_eq!(this.talk.hear(), "end");
        this.talk.say(&flow.end().to_string());
        // Those who wait for the end know it before the link does.
        assert_eq!(this.talk.hear(), "exit");
        return;
    }
    let folder = Folder::new();
    let place = folder.endpoint("one");
    let options = patient().linger(Duration::from_millis(100));
    let side = Side::new(&session(&[], from_ref(&place)), all(), options);
    for is_killed in [false, true, true, false] {
        let mut other = Other::start(test_name!(NAME), "publisher", &place);
        let mut counting = Counting::new(subscriber(&side.broker, "numbers"));
        // What is lost before the first message that arrives is not counted.
        assert!(counting.step(), "the first message");
        let first = counting.next.expect("a message") - 1;
        other.talk.say("received");
        while counting.next.is_none_or(|next| next < SOME) {
            assert!(counting.step(), "the publisher has not ended");
        }
        if is_killed {
            other.kill();
            while counting.step() {}
        } else {
            other.talk.say("end");
            while counting.step() {}
            let published = other.talk.hear().parse().ok();
            assert_eq!(counting.next, published, "all that it has published is known");
            other.talk.say("exit");
            other.end();
        }
        assert!(
            counts_add_up(&counting, first),
            "{first} {:?} {} {}",
            counting.next,
            counting.received,
            counting.lost
        );
        // Killed processes leave their sockets.
        let _ = std::fs::remove_file(folder.socket("one"));
        until("the link is gone", || side.bridge.stats().peers == 0);
    }
}

#[test]
fn the_subscribing_side_restarts_under_load() {
    const NAME: &str = "the_subscribing_side_restarts_under_load";
    if let Some(mut this) = This::get() {
        let side = Side::new(&session(&[], from_ref(&this.place)), all(), patient());
        let mut counting = Counting::new(subscriber(&side.broker, "numbers"));
        let first = receive_first(&mut counting);
        while counting.received < SOME {
            assert!(counting.step(), "the publisher has not ended");
        }
        assert!(counts_add_up(&counting, first));
        this.talk.say("received");
        if this.role == "last" {
            while counting.step() {}
            assert!(counts_add_up(&counting, first));
            this.talk.say(&counting.next.expect("a message").to_string());
        } else if this.role == "killed" {
            while counting.step() {}
        }
        return;
    }
    let folder = Folder::new();
    let place = folder.endpoint("one");
    let side = Side::new(&session(from_ref(&place), &[]), all(), patient());
    let flow = Flow::start(publisher(&side.broker, "numbers"), 0);
    for role in ["clean", "killed", "killed", "clean"] {
        let mut other = Other::start(test_name!(NAME), role, &place);
        assert_eq!(other.talk.hear(), "received");
        if role == "killed" {
            other.kill()
        } else {
            other.end()
        }
        until("the link is gone", || side.bridge.stats().peers == 0);
    }
    let mut other = Other::start(test_name!(NAME), "last", &place);
    assert_eq!(other.talk.hear(), "received");
    let published = flow.end();
    assert_eq!(other.talk.hear(), published.to_string());
    other.end();
}

/// The brokers, their participants and the link stay.
#[test]
fn bridges_restart_under_load() {
    let (_folder, mut one, mut other) = pair(patient());
    let flow = Flow::start(publisher(&one.broker, "numbers"), 0);
    for round in 0..6 {
        let mut counting = Counting::new(subscriber(&other.broker, "numbers"));
        let first = receive_first(&mut counting);
        while counting.received < SOME {
            assert!(counting.step(), "the publisher has not ended");
        }
        let expect_end = || {
            while counting.step() {}
            assert!(counts_add_up(&counting, first), "{first} {:?}", counting.next);
        };
        match round % 2 {
            0 => one = restart(one, expect_end),
            _ => other = restart(other, expect_end),
        }
    }
    flow.end();
}

/// Calls `meanwhile` while there is no bridge.
fn restart(side: Side, meanwhile: impl FnOnce()) -> Side {
    let Side { broker, bridge, session } = side;
    bridge.close();
    meanwhile();
    let bridge = Bridge::new(&broker, session.clone(), all(), patient()).expect("it starts");
    Side { broker, bridge, session }
}
