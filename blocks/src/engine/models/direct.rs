//! Direct publishing beside the publisher that owns the blocks: nothing is lost, and no slot or block is used
//! twice, no matter who reclaims meanwhile.

use std::sync::Arc;

use loom::sync::Mutex;
use loom::thread;

use super::quietly;
use super::ring::{Met, Ring};
use crate::engine::ring::consumer::Pace;
use crate::engine::ring::producer::Reach;

#[test]
fn direct_and_ordinary_publishing_take_turns() {
    quietly(|| {
        let mut ring = Ring::new(2, 1, 0);
        let mut receiver = ring.join(0, Pace::Reliable, 0);
        let subscriber = thread::spawn(move || {
            let mut received = 0;
            for _ in 0..2 {
                match receiver.receive() {
                    Met::Message(sequence) => {
                        assert_eq!(sequence, received, "in order");
                        received += 1;
                    }
                    Met::Empty => break,
                    Met::Lost(_) | Met::Ended => unreachable!("reliable, and the publisher lives"),
                }
            }
            (receiver, received)
        });
        let mut direct = ring.direct();
        for directly in [true, false, true] {
            if directly {
                // If there are two, one of them comes back.
                if ring.reserve(&mut direct, 2) == 0 {
                    break;
                }
                let _ = ring.cells.publish_directly(&mut direct);
            } else {
                ring.producer.recall();
                let Some(unit) = ring.take_block() else { break };
                let _ = ring.publish_block(unit);
                direct.refresh();
            }
        }
        ring.producer.recall();
        let published = ring.producer.head();
        let (mut receiver, mut received) = subscriber.join().unwrap();
        while let Met::Message(sequence) = receiver.receive() {
            assert_eq!(sequence, received, "in order");
            received += 1;
        }
        assert_eq!(received, published);
        let _ = receiver.consumer.leave();
        assert_eq!(ring.settle(), 2, "every block comes back");
    });
}

fn every_block_comes_back_once(ring: &mut Ring, blocks: u32) {
    assert_eq!(ring.settle(), blocks);
    let mut units: Vec<u32> = std::iter::from_fn(|| ring.take_block()).collect();
    units.sort_unstable();
    assert_eq!(units, (0..blocks).collect::<Vec<_>>());
}

#[test]
fn direct_publishing_goes_on_while_another_thread_reclaims() {
    quietly(|| {
        const BLOCKS: u32 = 3;
        let mut ring = Ring::new(BLOCKS, 1, 0);
        // A slot that was never written names block 0, so that block must be used last.
        let units = [0; BLOCKS as usize].map(|_| ring.take_block().expect("all are free"));
        units.iter().for_each(|&unit| ring.producer.give_back(unit));
        let mut direct = ring.direct();
        let ring = Arc::new(Mutex::new(ring));
        let another = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                // Like a component that checks for a block before it sleeps.
                let mut ring = ring.lock().unwrap();
                ring.producer.adopt();
                ring.producer.reclaim(Reach::Passed);
                if let Some(unit) = ring.producer.pop_oldest() {
                    ring.producer.give_back(unit);
                }
            }
        });
        for _ in 0..2 {
            let cells = {
                let mut ring = ring.lock().unwrap();
                assert_ne!(ring.reserve(&mut direct, 1), 0, "nobody keeps any");
                ring.cells.clone()
            };
            let _ = cells.publish_directly(&mut direct);
        }
        another.join().unwrap();
        let mut ring = ring.lock().unwrap();
        ring.producer.adopt();
        assert_eq!((ring.producer.head(), ring.producer.reserved()), (2, 0));
        every_block_comes_back_once(&mut ring, BLOCKS);
    });
}

#[test]
fn direct_publishing_keeps_its_blocks_while_another_thread_reclaims() {
    quietly(|| {
        const BLOCKS: u32 = 3;
        let mut ring = Ring::new(BLOCKS, 1, 0);
        let mut direct = ring.direct();
        assert_eq!(ring.reserve(&mut direct, 2), 2);
        let cells = ring.cells.clone();
        let ring = Arc::new(Mutex::new(ring));
        let another = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                let mut ring = ring.lock().unwrap();
                ring.producer.adopt();
                ring.producer.reclaim(Reach::Passed);
                while let Some(unit) = ring.producer.pop_oldest() {
                    ring.producer.give_back(unit);
                }
            }
        });
        assert!(cells.publish_directly(&mut direct).is_some());
        assert!(cells.publish_directly(&mut direct).is_some());
        assert!(cells.publish_directly(&mut direct).is_none(), "two were reserved");
        another.join().unwrap();
        let mut ring = ring.lock().unwrap();
        ring.producer.recall();
        assert_eq!((ring.producer.head(), ring.producer.reserved()), (2, 0));
        every_block_comes_back_once(&mut ring, BLOCKS);
    });
}
