//! Subscribers of other processes against a publisher that reclaims, waits and wakes; processes that come and
//! go.

use loom::thread;

use super::quietly;
use super::ring::{Met, Receiver, Ring};
use crate::engine::remote::{AnnexTerms, Bell};
use crate::engine::ring::consumer::{Consumer, Pace};
use crate::primitive::{interruptible, offline};

const OVERTAKABLE: Pace = Pace::Overtakable { window: 1, depth: u64::MAX };

/// Receives the available messages. Returns the numbers of messages received and lost.
fn drain(receiver: &mut Receiver) -> (u64, u64) {
    let (mut received, mut lost) = (0, 0);
    loop {
        match receiver.receive() {
            Met::Message(_) => received += 1,
            Met::Lost(count) => lost += count,
            Met::Empty | Met::Ended => return (received, lost),
        }
    }
}

/// A process attaches and a subscriber of it joins, while the publisher publishes.
fn joiner(pace: Pace, history: u32) {
    joiner_to(Ring::new, history.min(1), pace, history);
}

/// Like [`joiner`], to a ring of this kind, whose publisher keeps only a history of `kept`.
fn joiner_to(ring: fn(u32, u32, u32) -> Ring, kept: u32, pace: Pace, history: u32) {
    quietly(move || {
        let mut ring = ring(2, 1, kept);
        let (control, side) = ring.open(&Bell::new());
        let (publisher, cells) = (ring.control.clone(), ring.cells.clone());
        let joining = thread::spawn(move || {
            publisher.attach(side, AnnexTerms::default(), Bell::new());
            let consumer = Consumer::join(&control, 0, pace, u64::from(history)).expect("a barrier");
            let mut receiver = Receiver { consumer, cells };
            let next = match receiver.receive() {
                Met::Message(sequence) => Some(sequence + 1),
                _ => None,
            };
            (receiver, next)
        });
        for _ in 0..3 {
            ring.publish();
        }
        offline();
        let (mut receiver, mut next) = joining.join().unwrap();
        loop {
            match receiver.receive() {
                Met::Message(sequence) => {
                    assert!(next.is_none_or(|next| next == sequence), "{sequence} after {next:?}");
                    next = Some(sequence + 1);
                }
                Met::Lost(count) => next = next.map(|next| next + count),
                Met::Empty => break,
                Met::Ended => unreachable!("the publisher lives"),
            }
        }
        // The join has returned: what comes now must arrive.
        assert!(ring.publish());
        let last = ring.producer.head() - 1;
        assert!(next.is_none_or(|next| next == last), "{last} was published, {next:?} is next");
        assert_eq!(receiver.take(), Met::Message(last));
        let _ = receiver.consumer.leave();
        assert_eq!(ring.settle(), 2 - kept, "every block comes back but the history's");
    });
}

#[test]
fn remote_subscriber_misses_nothing_after_it_joined() {
    joiner(Pace::Reliable, 0);
}

#[test]
fn remote_join_with_history_reads_no_block_that_is_reclaimed() {
    joiner(Pace::Reliable, 2);
    joiner(OVERTAKABLE, 2);
}

#[test]
fn remote_latest_block_is_taken_again_at_once_only_if_nobody_reads_it() {
    joiner_to(Ring::of_hottest, 0, Pace::Reliable, 1);
    joiner_to(Ring::of_hottest, 1, OVERTAKABLE, 2);
    publishes_against(Ring::of_hottest, 2, 3, 2, Pace::Reliable);
    publishes_against(Ring::of_hottest, 2, 3, 2, OVERTAKABLE);
}

/// A publisher of `messages` against a subscriber of another process that tries `looks` times.
fn publisher_against(blocks: u32, messages: u64, looks: u32, pace: Pace) {
    publishes_against(Ring::new, blocks, messages, looks, pace);
}

/// Like [`publisher_against`], with a ring of this kind.
fn publishes_against(ring: fn(u32, u32, u32) -> Ring, blocks: u32, messages: u64, looks: u32, pace: Pace) {
    quietly(move || {
        let mut ring = ring(blocks, 1, 0);
        let (mut receiver, _) = ring.join_remotely(pace, 0);
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
        let published = (0..messages).filter(|_| ring.publish()).count() as u64;
        let (mut receiver, received, lost) = subscriber.join().unwrap();
        let (more, more_lost) = drain(&mut receiver);
        assert_eq!(received + lost + more + more_lost, published);
        let _ = receiver.consumer.leave();
        assert_eq!(ring.settle(), blocks, "every block comes back");
    });
}

#[test]
fn remote_subscriber_reads_no_block_that_is_written() {
    publisher_against(2, 4, 3, Pace::Reliable);
    publisher_against(2, 4, 2, OVERTAKABLE);
}

#[test]
fn remote_subscriber_that_keeps_the_oldest_survives_overwritten_slots() {
    publisher_against(3, 5, 3, Pace::Keeping { depth: 1 });
}

#[test]
fn remote_claim_that_is_revoked_is_not_taken_any_more() {
    quietly(|| {
        let mut ring = Ring::new(2, 1, 0);
        ring.revokes = true;
        // Claims the whole pool.
        let (mut receiver, _) = ring.join_remotely(Pace::Overtakable { window: 2, depth: u64::MAX }, 0);
        let subscriber = thread::spawn(move || {
            interruptible();
            let (first, second) = (receiver.take(), receiver.receive());
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
        let (more, more_lost) = drain(&mut receiver);
        assert_eq!(received + lost + more + more_lost, published);
    });
}

#[test]
fn remote_hold_keeps_its_block_until_it_is_given_up() {
    use crate::descriptor::unit_of;
    use crate::engine::ring::consumer::unhold;

    quietly(|| {
        let mut ring = Ring::new(2, 1, 0);
        let (mut receiver, _) = ring.join_remotely(Pace::Reliable, 0);
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
        drain(&mut receiver);
        assert_eq!(ring.settle(), 2, "every block comes back");
    });
}

/// A subscriber dies while it is attached to a message and holds it, and its process is detached while the
/// publisher reclaims.
#[test]
fn remote_process_that_dies_keeps_nothing() {
    quietly(|| {
        let mut ring = Ring::new(2, 1, 0);
        let (mut receiver, id) = ring.join_remotely(Pace::Reliable, 0);
        assert!(ring.publish() && ring.publish());
        let publisher = ring.control.clone();
        let dying = thread::spawn(move || {
            assert_eq!(receiver.take(), Met::Message(0));
            let held = receiver.consumer.current();
            receiver.consumer.hold(crate::descriptor::unit_of(held.word));
            receiver.cells.check(held);
            // It is dead, and its pidfd has said so.
            publisher.annexes().expect("the publisher's").detach(publisher.header(), id);
        });
        ring.publish();
        dying.join().unwrap();
        assert!(ring.publish(), "nobody keeps a block any more");
        assert_eq!(ring.settle(), 2, "every block comes back");
    });
}
