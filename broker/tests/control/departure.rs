//! Departed publishers and subscribers leave nothing behind, even if nobody joins or reads their topic
//! afterwards.

use blockcast_blocks::Bytes;
use blockcast_broker::Broker;
use blockcast_publisher::PublisherOptions;
use blockcast_subscriber::{Overflow, RecvError, SubscriberOptions};

use crate::guest_support::child::in_child;

/// The limit of open files: far fewer than the number of publishers that the test opens.
const FILES: u64 = 128;

/// How many publishers and subscribers come and go.
const MANY: usize = 3000;

/// Counts the mappings of the process, accessible or not, except those like a heap's: private, writable, and
/// without a file. An emulator may list a heap page by page. A leaked channel has at least two others.
fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("readable");
    maps.lines().filter(|mapping| !mapping.contains(" rw-p 00000000 00:00 0")).count()
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
    let nothing_is_left = |case: &str| {
        assert!(files() < before + 16, "{case}: {} open files", files());
        // The allocator may have mapped memory meanwhile, but far less often than this.
        assert!(mappings() < maps + MANY / 10, "{case}: {} mappings", mappings());
    };

    come_and_go(&broker, "without subscribers", 3);
    nothing_is_left("without subscribers");

    let policies = [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest];
    let options = |overflow| SubscriberOptions::new().overflow(overflow);
    let idle = policies.map(|overflow| broker.subscriber::<Bytes>("idle", options(overflow)).expect("opens"));
    come_and_go(&broker, "idle", 0);
    nothing_is_left("idle subscribers");
    for mut subscriber in idle {
        assert_eq!(subscriber.try_recv_ref().expect_err("all publishers have left"), RecvError::Ended);
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
fn thousands_that_come_and_go_leave_no_open_files_and_no_mappings() {
    in_child!("thousands_that_come_and_go_leave_no_open_files_and_no_mappings", body);
}
