//! Hold against reclaim: a block that somebody holds is not handed out, and comes back when the last hold is
//! gone. The attachment window: a sample that is dropped while its subscriber turns it into a counted hold is
//! given up exactly once.

use std::sync::Arc;

use loom::thread;

use super::quietly;
use super::ring::{Met, Ring, channel_of};
use crate::descriptor::unit_of;
use crate::engine::ring::consumer::{Pace, unhold};
use crate::engine::sample::window::{AttachmentWindow, SampleLimit};

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
            let _ = receiver.consumer.release(1);
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

#[test]
fn hold_keeps_the_latest_block_from_being_taken_again() {
    quietly(|| {
        let mut ring = Ring::of_hottest(2, 1, 0);
        let mut receiver = ring.join(0, Pace::Reliable, 0);
        assert!(ring.publish());
        let subscriber = thread::spawn(move || {
            assert_eq!(receiver.take(), Met::Message(0));
            let held = receiver.consumer.current();
            receiver.consumer.hold(unit_of(held.word));
            let _ = receiver.consumer.release(1);
            receiver.cells.check(held);
            let _ = unhold(receiver.consumer.control(), unit_of(held.word));
            receiver
        });
        for _ in 0..2 {
            ring.publish();
        }
        let mut receiver = subscriber.join().unwrap();
        while let Met::Message(_) = receiver.receive() {}
        assert_eq!(ring.settle(), 2, "every block comes back");
    });
}

#[test]
fn hold_of_a_former_subscriber_is_seen_by_a_publisher_that_no_longer_fences() {
    quietly(|| {
        let mut ring = Ring::new(2, 1, 0);
        // Joined with message 0 claimed, and claims message 1 as it goes.
        let mut receiver = ring.join(0, Pace::Overtakable { window: 1, depth: u64::MAX }, 0);
        assert!(ring.publish() && ring.publish());
        assert_eq!(receiver.receive(), Met::Message(0));
        let subscriber = thread::spawn(move || {
            if receiver.take() != Met::Message(1) {
                return;
            }
            let held = receiver.consumer.current();
            receiver.consumer.hold(unit_of(held.word));
            let _ = receiver.consumer.leave();
            receiver.cells.check(held);
            let _ = unhold(receiver.consumer.control(), unit_of(held.word));
        });
        for _ in 0..2 {
            ring.publish();
        }
        subscriber.join().unwrap();
    });
}

/// Another thread reads and drops a sample (cloned before, if `cloned`) while its subscriber counts and
/// releases it, and while the publisher wants its block.
fn sample_dropped_elsewhere(cloned: bool) {
    quietly(move || {
        let (channel, mut ring) = channel_of(2);
        let mut receiver = ring.join(0, Pace::Reliable, 0);
        let mut window =
            AttachmentWindow::new(Arc::clone(&channel), &receiver.consumer, SampleLimit::None, "");
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
            let _ = receiver.consumer.release(1);
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
        let mut window =
            AttachmentWindow::new(Arc::clone(&channel), &receiver.consumer, SampleLimit::None, "");
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
            let _ = receiver.consumer.release(low);
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
