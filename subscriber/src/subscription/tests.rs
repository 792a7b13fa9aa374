//! Unit tests of subscriptions.

use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Wake, Waker};

use blockcast_blocks::{ChannelConfig, PublisherId, ReaderOptions, Schema, Writer, channel};

use super::*;

fn open(number: u64, feed: &SubscriptionFeed) -> Writer {
    let schema = Schema::named("test");
    let mut config = ChannelConfig::new(PublisherId::new(number), schema.clone());
    (config.blocks, config.block_size) = (8, 64);
    let writer = channel(config).unwrap();
    let options = ReaderOptions::default();
    feed.add(writer.channel().join(&schema, options, Arc::clone(feed.signal())).unwrap());
    writer
}

fn publish(writer: &mut Writer) {
    writer.try_loan(1).unwrap().publish(1).unwrap();
}

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_publisher_that_joins_while_the_subscription_starts_to_wait_wakes_it() {
    let (feed, mut subscription) = subscription();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(!subscription.is_ready(), "the first half of `poll_ready`");
    let mut writer = open(1, &feed);
    if subscription.wait(&mut Context::from_waker(&waker)).is_pending() {
        publish(&mut writer);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }
    subscription.receive().unwrap();
}

#[test]
fn an_end_that_was_found_is_received_even_if_a_publisher_joins_before() {
    let (feed, mut subscription) = subscription();
    for round in 0..3 {
        let mut writer = open(round, &feed);
        publish(&mut writer);
        drop(subscription.receive().unwrap());
        assert!(!subscription.is_ready());
        drop(writer);
        assert!(subscription.is_ready(), "it has ended");
        let mut next = open(100 + round, &feed);
        publish(&mut next);
        assert_eq!(subscription.receive().unwrap_err(), ReceiveError::Ended);
        assert_eq!(subscription.receive().unwrap().publisher(), PublisherId::new(100 + round));
        drop(next);
    }
}

#[test]
fn a_publisher_that_has_ended_and_was_received_frees_its_memory() {
    let (feed, mut subscription) = subscription();
    let mut writer = open(1, &feed);
    publish(&mut writer);
    let memory = Arc::downgrade(writer.channel());
    drop(writer);
    assert!(subscription.is_ready());
    drop(subscription.receive().unwrap());
    assert!(memory.upgrade().is_some());
    assert!(subscription.is_ready(), "the end");
    assert!(memory.upgrade().is_none());
    assert_eq!(subscription.receive().unwrap_err(), ReceiveError::Ended);

    let mut writers: Vec<_> = (2..4).map(|number| open(number, &feed)).collect();
    assert!(!subscription.is_ready() && subscription.sole.is_none());
    drop(writers.remove(0));
    assert!(!subscription.is_ready());
    assert!(!subscription.is_ready() && subscription.sole.is_some());
    publish(&mut writers[0]);
    assert_eq!(subscription.receive().unwrap().publisher(), PublisherId::new(3));
    drop(writers);
    assert_eq!(subscription.receive().unwrap_err(), ReceiveError::Ended);
}

#[test]
fn publishers_take_turns_with_and_without_a_check_before() {
    for checks in [false, true] {
        let (feed, mut subscription) = subscription();
        let mut writers: Vec<_> = (0..4).map(|number| open(number, &feed)).collect();
        for _ in 0..3 {
            writers.iter_mut().for_each(publish);
        }
        let mut order = Vec::new();
        for _ in 0..12 {
            assert!(!checks || subscription.is_ready());
            order.push(subscription.receive().unwrap().publisher().get());
        }
        for turn in order.chunks_mut(4) {
            turn.sort_unstable();
            assert_eq!(turn, [0, 1, 2, 3], "checks: {checks}");
        }
    }
}

#[test]
fn a_subscription_that_never_received_keeps_no_publisher_waiting() {
    let (feed, subscription) = subscription();
    let mut early = open(1, &feed);
    drop(subscription);
    let mut late = open(2, &feed);
    for writer in [&mut early, &mut late] {
        assert_eq!(writer.subscriber_count(), 0);
        for _ in 0..100 {
            publish(writer);
        }
    }
    assert!(feed.is_closed());
}
