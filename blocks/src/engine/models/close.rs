//! Close against take: the last message, then the end.

use loom::thread;

use super::quietly;
use super::ring::{Met, Ring, channel_of};
use crate::descriptor::unit_of;
use crate::engine::ring::consumer::{Pace, unhold};
use crate::engine::wake::signal::Signal;
use crate::options::ReaderOptions;

fn closing(pace: Pace) {
    quietly(move || {
        let mut ring = Ring::new(2, 1, 0);
        let mut receiver = ring.join(0, pace, 0);
        let subscriber = thread::spawn(move || {
            let mut received = 0;
            for _ in 0..3 {
                match receiver.receive() {
                    Met::Message(_) => received += 1,
                    Met::Lost(count) => received += count,
                    Met::Empty => {}
                    Met::Ended => {
                        assert_eq!(received, 2, "the end comes after the last message");
                        return;
                    }
                }
            }
        });
        assert!(ring.publish() && ring.publish());
        ring.producer.close();
        subscriber.join().unwrap();
    });
}

#[test]
fn close_the_end_comes_after_the_last_message() {
    closing(Pace::Reliable);
    closing(Pace::Overtakable { window: 1, depth: u64::MAX });
}

#[test]
fn close_releases_the_memory_once_nobody_reads_it_any_more() {
    for pace in [Pace::Reliable, Pace::Overtakable { window: 1, depth: u64::MAX }] {
        quietly(move || {
            let mut ring = Ring::new(2, 1, 0);
            let mut receiver = ring.join(0, pace, 0);
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
            ring.producer.close();
            if !ring.control.is_needed() {
                ring.cells.release();
            }
            let receiver = subscriber.join().unwrap();
            assert!(!ring.control.is_needed(), "nothing is left to receive");
            drop(receiver);
        });
    }
}

#[test]
fn close_the_last_message_is_received_and_counted_once() {
    quietly(|| {
        let (channel, mut ring) = channel_of(2);
        let mut reader = channel.join(channel.schema(), ReaderOptions::default(), Signal::new()).unwrap();
        let subscriber = thread::spawn(move || {
            let mut received = u64::from(reader.receive().is_ok());
            received += u64::from(reader.receive().is_ok());
            (reader, received)
        });
        assert!(ring.publish());
        ring.producer.close();
        let (mut reader, mut received) = subscriber.join().unwrap();
        received += u64::from(reader.receive().is_ok());
        assert_eq!(received, 1);
        let stats = channel.stats();
        assert_eq!(stats.subscribers[0].received, stats.published);
        assert_eq!(stats.subscribers[0].bytes, stats.bytes);
    });
}
