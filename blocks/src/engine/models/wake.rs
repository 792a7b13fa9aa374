//! Park against wake through event count and signal. A thread that waits for a message, a block or the end
//! really sleeps here, so that a lost wake-up is a deadlock, which loom reports.

use std::sync::Arc;
use std::task::{Wake, Waker};

use loom::sync::Notify;
use loom::thread;

use super::ring::{Met, Ring};
use crate::engine::ring::consumer::Pace;
use crate::engine::wake::signal::Signal;
use crate::primitive::{offline, with_process_wide_barrier};

/// A thread's bed.
struct Bed(Notify);

impl Wake for Bed {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

fn bed() -> (Arc<Bed>, Waker) {
    let bed = Arc::new(Bed(Notify::new()));
    (Arc::clone(&bed), Waker::from(bed))
}

/// Subscribers that sleep until they have all `messages`, or until the end if the channel is `closed` then.
fn for_messages(subscribers: u32, messages: u64, closed: bool, process_wide_barrier: bool) {
    for_messages_by(false, subscribers, messages, closed, process_wide_barrier);
}

/// With `direct`, the messages are published directly.
fn for_messages_by(direct: bool, subscribers: u32, messages: u64, closed: bool, process_wide_barrier: bool) {
    loom::model(move || {
        let mut ring = Ring::new(2, subscribers, 0);
        let signals: Vec<_> = (0..subscribers).map(|_| Signal::new()).collect();
        let sleepers: Vec<_> = (0..subscribers)
            .zip(signals.clone())
            .map(|(cursor, signal)| {
                let mut receiver = ring.join(cursor, Pace::Reliable, 0);
                thread::spawn(move || {
                    let (bed, waker) = bed();
                    let mut received = 0;
                    while closed || received < messages {
                        match receiver.receive() {
                            Met::Message(_) => received += 1,
                            Met::Empty => {
                                signal.register(&waker);
                                let _ = receiver.consumer.control().header().state.messages.arm();
                                if !receiver.consumer.is_ready() {
                                    bed.0.wait();
                                }
                            }
                            Met::Ended => break,
                            Met::Lost(_) => unreachable!("reliable"),
                        }
                    }
                    received
                })
            })
            .collect();
        let mut directly = direct.then(|| ring.direct());
        for _ in 0..messages {
            let wakes = match &mut directly {
                Some(direct) => ring.publish_directly(direct, 2),
                None => ring.take_block().map(|unit| ring.publish_block(unit)),
            };
            if wakes.expect("as many blocks as messages") {
                signals.iter().for_each(|signal| signal.wake());
            }
        }
        if process_wide_barrier {
            offline();
        }
        if closed {
            // As when a writer is dropped: wake everybody.
            ring.producer.close();
            signals.iter().for_each(|signal| signal.wake());
        }
        for sleeper in sleepers {
            assert_eq!(sleeper.join().unwrap(), messages);
        }
    });
}

#[test]
fn wake_a_subscriber_that_waits_for_messages() {
    for_messages(1, 2, false, false);
    for_messages(2, 1, false, false);
}

#[test]
fn wake_a_subscriber_that_waits_for_the_end() {
    for_messages(1, 1, true, false);
}

#[test]
fn wake_a_subscriber_behind_a_process_wide_barrier() {
    with_process_wide_barrier(|| {
        for_messages(1, 2, false, true);
        for_messages(2, 1, false, true);
        for_messages(1, 1, true, true);
    });
}

#[test]
fn wake_a_subscriber_that_waits_for_what_is_published_directly() {
    for_messages_by(true, 1, 2, false, false);
    with_process_wide_barrier(|| for_messages_by(true, 1, 2, false, true));
}

#[test]
fn wake_a_publisher_that_waits_for_blocks() {
    loom::model(|| {
        let mut ring = Ring::new(2, 1, 0);
        let signal = Signal::new();
        let mut receiver = ring.join(0, Pace::Reliable, 0);
        assert!(ring.publish() && ring.publish());
        let subscriber = thread::spawn({
            let signal = Arc::clone(&signal);
            move || {
                for sequence in 0..2 {
                    assert_eq!(receiver.take(), Met::Message(sequence));
                    if receiver.consumer.release(sequence + 1) {
                        signal.wake();
                    }
                }
            }
        });
        let (bed, waker) = bed();
        let unit = loop {
            if let Some(unit) = ring.take_block() {
                break unit;
            }
            signal.register(&waker);
            let _ = ring.control.header().space.arm();
            if let Some(unit) = ring.take_block() {
                break unit;
            }
            bed.0.wait();
        };
        let _ = ring.publish_block(unit);
        subscriber.join().unwrap();
    });
}
