//! Publish and reclaim against join and leave: a subscriber misses nothing that is published after its join
//! returned, whatever the publisher reclaims meanwhile, and keeps nothing once it has left.

use loom::thread;

use super::quietly;
use super::ring::{Met, Receiver, Ring};
use crate::engine::ring::consumer::Pace;
use crate::primitive::offline;

/// Receives all messages, which come in order from `next` on.
fn drain(receiver: &mut Receiver, mut next: Option<u64>) -> Option<u64> {
    loop {
        match receiver.receive() {
            Met::Message(sequence) => {
                assert!(next.is_none_or(|next| next == sequence), "{sequence} after {next:?}");
                next = Some(sequence + 1);
            }
            Met::Lost(count) => next = next.map(|next| next + count),
            Met::Empty => return next,
            Met::Ended => unreachable!("the publisher lives"),
        }
    }
}

/// One subscriber joins while another one (of that pace, if there is one) is served.
fn joiner(pace: Pace, history: u32, beside: Option<Pace>) {
    quietly(move || {
        let mut ring = Ring::new(2, 2, history.min(1));
        let beside = beside.map(|pace| ring.join(1, pace, 0));
        let (control, cells) = (ring.control.clone(), ring.cells.clone());
        let joining = thread::spawn(move || {
            let consumer =
                crate::engine::ring::consumer::Consumer::join(&control, 0, pace, u64::from(history))
                    .expect("a barrier");
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
        let (mut receiver, next) = joining.join().unwrap();
        let next = drain(&mut receiver, next);
        if let Some(mut beside) = beside {
            drain(&mut beside, Some(0));
            let _ = beside.consumer.leave();
        }
        // The join has returned: what comes now must arrive.
        assert!(ring.publish());
        let last = ring.producer.head() - 1;
        assert!(next.is_none_or(|next| next == last), "{last} was published, {next:?} is next");
        assert_eq!(receiver.take(), Met::Message(last));
        let _ = receiver.consumer.leave();
        assert_eq!(ring.settle(), 2 - history.min(1), "every block comes back but the history's");
    });
}

#[test]
fn join_a_reliable_subscriber_misses_nothing_after_it_joined() {
    joiner(Pace::Reliable, 0, None);
}

#[test]
fn join_a_subscriber_that_is_counted_misses_nothing() {
    quietly(|| {
        let mut ring = Ring::new(4, 1, 0);
        let (control, cells) = (ring.control.clone(), ring.cells.clone());
        let joining = thread::spawn(move || {
            let consumer = crate::engine::ring::consumer::Consumer::join(&control, 0, Pace::Reliable, 0)
                .expect("a barrier");
            Receiver { consumer, cells }
        });
        assert!(ring.publish());
        let counted = ring.control.side().used_cursors().iter().any(|cursor| cursor.joined_at().is_some());
        assert!(ring.publish());
        offline();
        let mut receiver = joining.join().unwrap();
        let first = match receiver.receive() {
            Met::Message(sequence) => Some(sequence),
            _ => None,
        };
        assert!(!counted || first.is_some_and(|first| first <= 1), "counted, and begins with {first:?}");
        let _ = receiver.consumer.leave();
    });
}

#[test]
fn join_with_history_reads_no_block_that_is_reclaimed() {
    joiner(Pace::Reliable, 2, None);
    joiner(Pace::Overtakable { window: 1, depth: u64::MAX }, 2, None);
}

#[test]
fn join_beside_an_overtaken_subscriber_steps_the_watermark_back() {
    joiner(Pace::Reliable, 2, Some(Pace::Overtakable { window: 1, depth: u64::MAX }));
}

#[test]
fn join_a_publisher_gets_back_what_a_leaver_kept() {
    quietly(|| {
        let mut ring = Ring::new(2, 1, 0);
        let mut receiver = ring.join(0, Pace::Reliable, 0);
        assert!(ring.publish() && ring.publish());
        let leaving = thread::spawn(move || {
            assert_eq!(receiver.take(), Met::Message(0));
            let _ = receiver.consumer.leave();
        });
        ring.publish();
        leaving.join().unwrap();
        assert!(ring.publish(), "nobody keeps a block any more");
        assert_eq!(ring.settle(), 2);
    });
}
