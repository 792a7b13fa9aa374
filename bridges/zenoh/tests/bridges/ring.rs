//! Three brokers that are connected in a ring.

use std::slice::from_ref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use blockcast_broker::Broker;
use blockcast_publisher::Publisher;
use blockcast_subscriber::{RecvError, Subscriber};
use blockcast_zenoh::Bridge;

use crate::support::{
    Folder, Numbers, Side, all, deadline, options, publish, publisher, session, subscriber,
};

/// Messages of each publisher after the first ones.
const MESSAGES: u64 = 200;

/// Each publisher's numbers.
const RANGE: u64 = 1 << 32;

/// Everyone publishes, and everyone subscribes. Publishers begin before everyone has joined, and go on until
/// everyone has received something from everyone. From then on, nothing is lost.
fn exchange(brokers: &[&Broker]) {
    let mut subscribers: Vec<_> = brokers.iter().map(|broker| subscriber(broker, "numbers")).collect();
    let is_complete = &AtomicBool::new(false);
    let publish_all = |index: usize, mut numbers: Publisher<Numbers>| {
        let first = index as u64 * RANGE;
        let mut next = first;
        while !is_complete.load(Ordering::Relaxed) {
            publish(&mut numbers, next..next + 1);
            next += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
        publish(&mut numbers, next..next + MESSAGES);
        next + MESSAGES
    };
    let waiting = &AtomicUsize::new(brokers.len());
    let receive_all = |index: usize, mut numbers: Subscriber<Numbers>| {
        let mut next = [None; 3];
        let mut is_waiting = true;
        loop {
            match numbers.blocking_recv_ref(deadline()) {
                Ok(message) => {
                    let number = message.view()[0];
                    let expected = &mut next[(number / RANGE) as usize];
                    assert_eq!(expected.unwrap_or(number), number, "at {index}");
                    *expected = Some(number + 1);
                }
                // All publishers have ended: nothing comes twice.
                Err(RecvError::Ended) => return next.map(|next| next.expect("messages of everyone")),
                Err(error) => panic!("{error}"),
            }
            if is_waiting && next.iter().all(Option::is_some) {
                is_waiting = false;
                if waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
                    is_complete.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    let publishers: Vec<_> = brokers.iter().map(|broker| publisher(broker, "numbers")).collect();
    std::thread::scope(|scope| {
        let receiving: Vec<_> = subscribers
            .drain(..)
            .enumerate()
            .map(|(index, subscriber)| scope.spawn(move || receive_all(index, subscriber)))
            .collect();
        let publishing: Vec<_> = publishers
            .into_iter()
            .enumerate()
            .map(|(index, publisher)| scope.spawn(move || publish_all(index, publisher)))
            .collect();
        let ends: Vec<_> =
            publishing.into_iter().map(|thread| thread.join().expect("it has published")).collect();
        for thread in receiving {
            assert_eq!(thread.join().expect("it has received")[..], ends);
        }
    });
}

#[test]
fn in_a_ring_of_brokers_every_message_arrives_once() {
    let folder = Folder::new();
    let [a, b] = ["a", "b"].map(|name| folder.endpoint(name));
    let sessions = [session(from_ref(&a), &[]), session(from_ref(&b), from_ref(&a)), session(&[], &[a, b])];
    // Some messages share samples, and others do not.
    let mut batches = [32 << 10, 0, 100].into_iter();
    let sides = sessions.each_ref().map(|session| {
        let batch = batches.next().expect("one for each");
        Side::new(session, all(), options().back_pressure(true).batch(batch))
    });
    exchange(&sides.each_ref().map(|side| &side.broker));
}

/// A bridge for each link: nobody sends on what another bridge of the broker has brought.
#[test]
fn in_a_ring_of_bridges_every_message_arrives_once() {
    let folder = Folder::new();
    let brokers = [(); 3].map(|()| Broker::new());
    let mut bridges = Vec::new();
    for (one, other) in [(0, 1), (1, 2), (2, 0)] {
        let place = [folder.endpoint(&format!("{one}-{other}"))];
        for (broker, session) in [(one, session(&place, &[])), (other, session(&[], &place))] {
            let options = options().back_pressure(true);
            bridges.push(Bridge::new(&brokers[broker], session, all(), options).expect("it starts"));
        }
    }
    exchange(&brokers.each_ref());
}
