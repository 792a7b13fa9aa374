//! A relay reports that messages are missing, while subscribers receive.

use loom::thread;

use super::quietly;
use super::ring::{Met, Ring};
use crate::engine::ring::consumer::Pace;

/// Missing messages between the first message and the second.
const MISSING: u64 = 3;

#[test]
fn relay_losses_are_reported_once_and_between_the_right_messages() {
    for pace in [Pace::Reliable, Pace::Overtakable { window: 1, depth: u64::MAX }] {
        quietly(move || {
            let mut ring = Ring::of_relay(2, 1, 0);
            let mut receiver = ring.join(0, pace, 0);
            let subscriber = thread::spawn(move || {
                let mut met = Vec::new();
                for _ in 0..3 {
                    match receiver.receive() {
                        Met::Empty => {}
                        other => met.push(other),
                    }
                }
                (receiver, met)
            });
            assert!(ring.publish());
            ring.producer.report_missing(MISSING);
            assert!(ring.publish());
            ring.producer.close();
            let (mut receiver, mut met) = subscriber.join().unwrap();
            while met.last() != Some(&Met::Ended) {
                met.push(receiver.receive());
            }
            assert_eq!(met, [Met::Message(0), Met::Lost(MISSING), Met::Message(1), Met::Ended]);
        });
    }
}

#[test]
fn relay_losses_come_before_the_end() {
    quietly(|| {
        let mut ring = Ring::of_relay(2, 1, 0);
        let mut receiver = ring.join(0, Pace::Reliable, 0);
        let subscriber = thread::spawn(move || {
            let mut met: Vec<_> = (0..2).map(|_| receiver.receive()).collect();
            met.retain(|met| *met != Met::Empty);
            (receiver, met)
        });
        assert!(ring.publish());
        ring.producer.report_missing(MISSING);
        ring.producer.close();
        let (mut receiver, mut met) = subscriber.join().unwrap();
        while met.last() != Some(&Met::Ended) {
            met.push(receiver.receive());
        }
        assert_eq!(met, [Met::Message(0), Met::Lost(MISSING), Met::Ended]);
    });
}
