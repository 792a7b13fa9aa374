//! Hold against reclaim: a block that somebody holds is not handed out, and comes back when the last hold is
//! gone. The attachment window: a sample that is dropped while its subscriber turns it into a counted hold is
//! given up exactly once.

use std::sync::Arc;

use loom::thread;

use super::quietly;
use super::ring::{Met, Ring};
use crate::attachment::AttachmentWindow;
use crate::channel::{Channel, ChannelConfig};
use crate::consumer::{Pace, unhold};
use crate::descriptor::unit_of;
use crate::schema::Schema;
use crate::signal::Signal;
use crate::units::PublisherId;

#[test]
fn hold_keeps_its_block_past_the_interval_until_it_is_given_up() {
    quietly(|| {
        let mut ring = Ring::new(2, 1, 0);
        let mut receiver = ring.join(0, Pace::Reliable, 0);
        assert!(ring.publish());
        let subscriber = thread::spawn(move || {
            assert_eq!(receiver.take(), Met::Message(0));
            let held = receiver.consumer.current();
            receiver.consumer.hold(unit_of(held.word));
            let _ = receiver.consumer.let_go(1);
            receiver.cells.check(held);
            let _ = unhold(receiver.consumer.control(), unit_of(held.word));
            receiver
        });
        for _ in 0..3 {
            ring.publish();
        }
        let mut receiver = subscriber.join().unwrap();
        while let Met::Message(_) = receiver.receive() {}
        assert_eq!(ring.settle(), 2, "every block comes back");
    });
}

/// A channel and a ring on its control segment: samples know the channel, the model checks the ring's cells.
fn channel_of(blocks: u32) -> (Arc<Channel>, Ring) {
    let mut config = ChannelConfig::new(PublisherId::new(1), Schema::named("model"));
    (config.blocks, config.block_size, config.max_subscribers) = (blocks, 64, 1);
    let channel = Channel::create(config, Signal::new(), None).expect("a small channel");
    let ring = Ring::with(channel.control().clone(), channel.layout(), &channel.config().classes(), 0);
    (channel, ring)
}

/// One sample is read and dropped (after it was cloned, if `cloned`) by another thread, while its subscriber
/// counts it and lets go, and while the publisher wants its block.
fn sample_dropped_elsewhere(cloned: bool) {
    quietly(move || {
        let (channel, mut ring) = channel_of(2);
        let mut receiver = ring.join(0, Pace::Reliable, 0);
        let mut window = AttachmentWindow::new(Arc::clone(&channel));
        assert!(ring.publish());
        assert_eq!(receiver.take(), Met::Message(0));
        let message = receiver.consumer.current();
        let sample = window.attach(&receiver.consumer, message);
        let cells = ring.cells.clone();
        let holder = thread::spawn(move || {
            let kept = cloned.then(|| sample.clone());
            cells.check(message);
            drop(sample);
            if kept.is_some() {
                cells.check(message);
            }
        });
        let subscriber = thread::spawn(move || {
            window.count_all(&receiver.consumer);
            let _ = receiver.consumer.let_go(1);
            (window, receiver)
        });
        for _ in 0..2 {
            ring.publish();
        }
        holder.join().unwrap();
        let (window, mut receiver) = subscriber.join().unwrap();
        while let Met::Message(_) = receiver.receive() {}
        assert_eq!(ring.settle(), 2, "every block comes back");
        assert_eq!(channel.stats().held, 0, "no hold is left");
        drop(window);
        assert_eq!(Arc::strong_count(&channel), 1, "no sample keeps the channel");
    });
}

#[test]
fn hold_a_sample_dropped_while_it_is_counted_is_given_up_once() {
    sample_dropped_elsewhere(false);
}

#[test]
fn hold_a_clone_outlives_its_sample_and_its_interval() {
    sample_dropped_elsewhere(true);
}

#[test]
fn hold_the_interval_follows_samples_that_are_dropped_elsewhere() {
    quietly(|| {
        let (channel, mut ring) = channel_of(2);
        let mut receiver = ring.join(0, Pace::Reliable, 0);
        let mut window = AttachmentWindow::new(Arc::clone(&channel));
        assert!(ring.publish());
        assert_eq!(receiver.take(), Met::Message(0));
        let message = receiver.consumer.current();
        let sample = window.attach(&receiver.consumer, message);
        let cells = ring.cells.clone();
        let holder = thread::spawn(move || {
            cells.check(message);
            drop(sample);
        });
        let subscriber = thread::spawn(move || {
            let low = window.oldest(&receiver.consumer).unwrap_or(1);
            let _ = receiver.consumer.let_go(low);
            (window, receiver)
        });
        for _ in 0..2 {
            ring.publish();
        }
        holder.join().unwrap();
        let (mut window, mut receiver) = subscriber.join().unwrap();
        assert_eq!(window.oldest(&receiver.consumer), None);
        while let Met::Message(_) = receiver.receive() {}
        assert_eq!(ring.settle(), 2, "every block comes back");
    });
}
