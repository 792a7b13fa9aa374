//! What publishers and subscribers that have gone leave behind, while nobody joins their topic or looks at it.

use blockcast_blocks::Bytes;
use blockcast_broker::Broker;
use blockcast_publisher::PublisherOptions;
use blockcast_subscriber::{Overflow, RecvError, SubscriberOptions};

use crate::guest_support::child::in_child;

/// Open files that the process may have: far fewer than publishers are opened.
const FILES: u64 = 128;

/// Publishers and subscribers that come and go.
const MANY: usize = 3000;

/// Mappings of arenas and control segments, accessible or not: those of a channel that is left behind are two at least.
fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").expect("readable").lines().count()
}

fn files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("readable").count()
}

fn come_and_go(broker: &Broker, topic: &str, messages: u8) {
    for _ in 0..MANY {
        let options = PublisherOptions::new().blocks(4).block_size(64);
        let mut publisher = broker.publisher::<Bytes>(topic, options).expect("opens");
        for message in 0..messages {
            publisher.try_loan().expect("a block").send(&[message]).expect("fits");
        }
    }
}

fn body() {
    let limit = libc::rlimit { rlim_cur: FILES, rlim_max: FILES };
    // SAFETY: the limit is a valid value that lives until the call returns.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    let broker = Broker::new();
    let (before, maps) = (files(), mappings());
    let nothing_is_left = |what: &str| {
        assert!(files() < before + 16, "{what}: {} open files", files());
        // What the allocator has mapped meanwhile is little beside what so many channels would have.
        assert!(mappings() < maps + MANY / 10, "{what}: {} mappings", mappings());
    };

    come_and_go(&broker, "without subscribers", 3);
    nothing_is_left("without subscribers");

    let policies = [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest];
    let options = |overflow| SubscriberOptions::new().overflow(overflow);
    let idle = policies.map(|overflow| broker.subscriber::<Bytes>("idle", options(overflow)).expect("opens"));
    come_and_go(&broker, "idle", 0);
    nothing_is_left("subscribers that never look");
    for mut subscriber in idle {
        assert_eq!(subscriber.try_recv_ref().expect_err("all have gone"), RecvError::Ended);
    }

    let mut unread =
        policies.map(|overflow| broker.subscriber::<Bytes>("unread", options(overflow)).expect("opens"));
    come_and_go(&broker, "unread", 1);
    assert!(files() < before + 16, "unread messages: {} open files", files());
    for subscriber in &mut unread[1..] {
        for _ in 0..MANY {
            assert_eq!(subscriber.try_recv_ref().expect("none is lost").view(), [0]);
        }
    }
    drop(unread);
    nothing_is_left("subscribers that have left with unread messages");

    let mut publisher =
        broker.publisher::<Bytes>("subscribers", PublisherOptions::new().max_subscribers(4)).expect("opens");
    for _ in 0..MANY {
        let subscriber = broker.subscriber::<Bytes>("subscribers", Default::default()).expect("opens");
        publisher.try_loan().expect("a block").send(&[1]).expect("fits");
        drop(subscriber);
    }
    nothing_is_left("subscribers that have left");
}

#[test]
fn thousands_that_come_and_go_leave_neither_files_nor_mappings_though_nobody_looks() {
    in_child!("thousands_that_come_and_go_leave_neither_files_nor_mappings_though_nobody_looks", body);
}
