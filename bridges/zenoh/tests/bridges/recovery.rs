//! Messages that were lost on the way come again, as far as the other bridge has kept them.

use crate::faults::{Flow, Link};
use crate::support::{Counting, patient, publish, publish_until_one_arrives, publisher, subscriber, until};

/// What happens to messages that are published while the link is severed, if the last of them are kept, in
/// samples of up to `batch` bytes. Returns how many of them arrive.
#[track_caller]
fn arrive_late(messages: u64, cache: usize, batch: usize) -> u64 {
    let link = Link::new(patient().cache(cache).back_pressure(true).batch(batch));
    let mut counting = Counting::new(subscriber(&link.other.broker, "numbers"));
    let mut numbers = publisher(&link.one.broker, "numbers");
    link.one.sends(1);
    let first = publish_until_one_arrives(&mut numbers, 0, &mut counting.subscriber);
    while counting.next != Some(first) {
        assert!(counting.step(), "the publisher has not ended");
    }
    let early = counting.received + counting.lost;
    let received = counting.received;
    link.proxy.sever();
    until("both sides notice", || link.peers() == [0, 0]);
    let end = first + messages;
    publish(&mut numbers, first..end);
    until("all are given to zenoh", || link.one.bridge.stats().sent == end);
    link.proxy.mend();
    while counting.next != Some(end) {
        assert!(counting.step(), "the publisher has not ended");
    }
    let late = counting.received - received;
    // It goes on as usual.
    publish(&mut numbers, end..end + 10);
    drop(numbers);
    while counting.step() {}
    assert_eq!(counting.received + counting.lost, early + messages + 10);
    assert_eq!(link.other.bridge.stats().missing, counting.lost);
    late
}

#[test]
fn a_cache_that_is_large_enough_loses_nothing() {
    assert_eq!(arrive_late(500, 1000, 0), 500);
}

#[test]
fn a_cache_that_is_too_small_reports_the_rest_as_lost() {
    assert_eq!(arrive_late(500, 20, 0), 20);
}

/// A cache keeps whole batches.
#[test]
fn a_cache_of_batches_that_is_large_enough_loses_nothing() {
    assert_eq!(arrive_late(500, 1000, 32 << 10), 500);
}

/// Publishing goes on while the link is severed, and while what is missing is asked for. Zenoh asks when the
/// first message has come over the new link. Often the other end cannot answer yet: then what is missing is
/// lost, however much is kept.
#[test]
fn what_was_missed_under_load_comes_again_or_is_lost_exactly() {
    let link = Link::new(patient().cache(1_000_000));
    let mut counting = Counting::new(subscriber(&link.other.broker, "numbers"));
    let mut numbers = publisher(&link.one.broker, "numbers");
    link.one.sends(1);
    let first = publish_until_one_arrives(&mut numbers, 0, &mut counting.subscriber);
    let flow = Flow::start(numbers, first);
    assert!(counting.step(), "the first message");
    let before = counting.next.expect("a message") - 1;
    for _ in 0..3 {
        link.proxy.sever();
        until("both sides notice", || link.peers() == [0, 0]);
        link.proxy.mend();
        counting.resume(&flow);
    }
    let published = flow.end();
    while counting.step() {}
    assert_eq!((counting.next, before + counting.received + counting.lost), (Some(published), published));
}
