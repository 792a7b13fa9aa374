//! Claim against reclaim: a publisher that goes on past its subscribers never writes to a block that one of
//! them reads, and each learns exactly what it lost.

use loom::thread;

use super::quietly;
use super::ring::{Met, Receiver, Ring};
use crate::engine::ring::consumer::{Consumer, Pace};
use crate::primitive::{interruptible, offline};

/// How messages are published.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// One by one.
    Publisher,
    /// One by one, in the block that came free last.
    Hottest,
    /// Directly, with two blocks reserved at a time.
    Direct,
    /// All together.
    Batch,
}

/// A publisher of `messages` against one subscriber that tries `looks` times, then drains the ring.
fn publisher_against(blocks: u32, messages: u64, looks: u32, pace: Pace) {
    published_against(By::Publisher, blocks, messages, looks, pace);
}

/// Like [`publisher_against`], with messages that are published otherwise.
fn published_against(by: By, blocks: u32, messages: u64, looks: u32, pace: Pace) {
    quietly(move || {
        let mut ring = match by {
            By::Hottest => Ring::of_hottest(blocks, 1, 0),
            By::Publisher | By::Direct | By::Batch => Ring::new(blocks, 1, 0),
        };
        let mut direct = (by == By::Direct).then(|| ring.direct());
        let mut receiver = ring.join(0, pace, 0);
        let subscriber = thread::spawn(move || {
            let (mut received, mut lost) = (0, 0);
            for _ in 0..looks {
                match receiver.receive() {
                    Met::Message(sequence) => {
                        assert_eq!(sequence, received + lost, "in order, nothing lost silently");
                        received += 1;
                    }
                    Met::Lost(count) => lost += count,
                    Met::Empty => break,
                    Met::Ended => unreachable!("the publisher lives"),
                }
            }
            (receiver, received, lost)
        });
        let mut published = if by == By::Batch { ring.publish_batch(messages) } else { 0 };
        for _ in 0..if by == By::Batch { 0 } else { messages } {
            published += u64::from(match &mut direct {
                Some(direct) => ring.publish_directly(direct, 2).is_some(),
                None => ring.publish(),
            });
        }
        ring.producer.recall();
        let (mut receiver, mut received, mut lost) = subscriber.join().unwrap();
        loop {
            match receiver.receive() {
                Met::Message(_) => received += 1,
                Met::Lost(count) => lost += count,
                Met::Empty => break,
                Met::Ended => unreachable!("the publisher lives"),
            }
        }
        assert_eq!(received + lost, published);
        let _ = receiver.consumer.leave();
        assert_eq!(ring.settle(), blocks, "every block comes back");
    });
}

const OVERTAKABLE: Pace = Pace::Overtakable { window: 1, depth: u64::MAX };

#[test]
fn claim_no_block_is_written_while_an_overtaken_subscriber_reads_it() {
    publisher_against(2, 4, 2, OVERTAKABLE);
}

#[test]
fn claim_no_block_is_written_directly_while_an_overtaken_subscriber_reads_it() {
    published_against(By::Direct, 2, 4, 2, OVERTAKABLE);
}

#[test]
fn claim_of_a_wide_window_keeps_what_it_covers() {
    publisher_against(3, 5, 2, Pace::Overtakable { window: 2, depth: u64::MAX });
}

#[test]
fn claim_of_a_subscriber_that_keeps_the_oldest_survives_overwritten_slots() {
    publisher_against(3, 5, 3, Pace::Keeping { depth: 1 });
    publisher_against(4, 5, 2, Pace::Keeping { depth: 2 });
}

#[test]
fn claim_looks_back_at_the_same_descriptor_or_at_none() {
    quietly(|| {
        let mut ring = Ring::new(2, 1, 0);
        let mut receiver = ring.join(0, OVERTAKABLE, 0);
        let subscriber = thread::spawn(move || {
            if let Met::Message(sequence) = receiver.take() {
                let taken = receiver.consumer.current();
                if let Some((word, _)) = receiver.consumer.look_back(sequence) {
                    assert_eq!(word, taken.word, "a later message's descriptor");
                }
            }
        });
        for _ in 0..4 {
            ring.publish();
        }
        subscriber.join().unwrap();
    });
}

#[test]
fn claim_that_is_revoked_is_not_taken_any_more() {
    quietly(|| {
        let mut ring = Ring::new(2, 1, 0);
        ring.revokes = true;
        // Claims the whole pool.
        let mut receiver = ring.join(0, Pace::Overtakable { window: 2, depth: u64::MAX }, 0);
        let subscriber = thread::spawn(move || {
            interruptible();
            let first = receiver.take();
            let second = receiver.receive();
            offline();
            (receiver, first, second)
        });
        let published = (0..3).filter(|_| ring.publish()).count() as u64;
        assert!(published >= 2);
        let (mut receiver, first, second) = subscriber.join().unwrap();
        let (mut received, mut lost) = (0, 0);
        for met in [first, second] {
            match met {
                Met::Message(_) => received += 1,
                Met::Lost(count) => lost += count,
                _ => {}
            }
        }
        loop {
            match receiver.receive() {
                Met::Message(_) => received += 1,
                Met::Lost(count) => lost += count,
                _ => break,
            }
        }
        assert_eq!(received + lost, published);
        let _ = receiver.consumer.leave();
        assert_eq!(ring.settle(), 2, "every block comes back");
    });
}

#[test]
fn claim_that_is_taken_back_is_taken_again_or_lost() {
    quietly(|| {
        let mut ring = Ring::new(2, 1, 0);
        ring.revokes = true;
        let mut receiver = ring.join(0, Pace::Overtakable { window: 2, depth: u64::MAX }, 0);
        let mut published = u64::from(ring.publish()) + u64::from(ring.publish());
        let subscriber = thread::spawn(move || {
            interruptible();
            let (mut received, mut lost) = (0, 0);
            let mut count = |met| match met {
                Met::Message(_) => received += 1,
                Met::Lost(count) => lost += count,
                _ => {}
            };
            let (first, second) = (receiver.take(), receiver.take());
            count(first);
            if let (Met::Message(_), Met::Message(_)) = (first, second) {
                // As after a panic while the first message of a batch was being read.
                receiver.consumer.unreceive(1, 8);
            } else {
                count(second);
            }
            let _ = receiver.consumer.release(receiver.consumer.next());
            count(receiver.receive());
            offline();
            (receiver, received, lost)
        });
        published += u64::from(ring.publish());
        let (mut receiver, mut received, mut lost) = subscriber.join().unwrap();
        loop {
            match receiver.receive() {
                Met::Message(_) => received += 1,
                Met::Lost(count) => lost += count,
                _ => break,
            }
        }
        assert_eq!(received + lost, published, "each is received or counted as lost, and once");
        let _ = receiver.consumer.leave();
        assert_eq!(ring.settle(), 2, "every block comes back");
    });
}

#[test]
fn claim_a_reliable_subscriber_receives_every_message_in_order() {
    publisher_against(2, 4, 3, Pace::Reliable);
}

#[test]
fn claim_messages_of_a_batch_are_received_in_order() {
    published_against(By::Batch, 2, 4, 3, Pace::Reliable);
    published_against(By::Batch, 2, 4, 2, OVERTAKABLE);
}

/// A subscriber joins with history, while the block of the only message is taken again for the next one.
fn joins_beside_a_latest_block(history: u32) {
    quietly(move || {
        let mut ring = Ring::of_hottest(2, 1, history);
        let (control, cells) = (ring.control.clone(), ring.cells.clone());
        assert!((0..=history).all(|_| ring.publish()));
        let joining = thread::spawn(move || {
            let consumer = Consumer::join(&control, 0, Pace::Reliable, u64::from(history) + 1);
            let mut receiver = Receiver { consumer: consumer.expect("a barrier"), cells };
            let first = receiver.receive();
            (receiver, first)
        });
        ring.publish();
        offline();
        let (mut receiver, first) = joining.join().unwrap();
        let mut next = match first {
            Met::Message(sequence) => Some(sequence + 1),
            _ => None,
        };
        while let Met::Message(sequence) = receiver.receive() {
            assert!(next.is_none_or(|next| next == sequence), "{sequence} after {next:?}");
            next = Some(sequence + 1);
        }
        let _ = receiver.consumer.leave();
        assert_eq!(ring.settle(), 2 - history, "every block comes back but the history's");
    });
}

#[test]
fn claim_a_latest_block_is_taken_again_at_once_only_if_nobody_reads_it() {
    joins_beside_a_latest_block(0);
    joins_beside_a_latest_block(1);
    published_against(By::Hottest, 2, 3, 2, Pace::Reliable);
    published_against(By::Hottest, 2, 3, 2, OVERTAKABLE);
}
