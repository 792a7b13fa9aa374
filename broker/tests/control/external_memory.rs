//! Arenas in memory that the program provides.

use std::os::fd::{AsFd, OwnedFd};

use crate::guest_support::Form;
use blockcast_blocks::{Bytes, ChannelError};
use blockcast_broker::{ArenaMemory, Broker, ExitReason, Grants, MemoryError, OpenError};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::SubscriberOptions;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

fn memfd(len: u64) -> OwnedFd {
    let file = memfd_create("mine", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).expect("a memfd");
    ftruncate(&file, len).expect("sized");
    file
}

fn memory(file: &OwnedFd) -> ArenaMemory {
    let file = file.try_clone().expect("a descriptor");
    // SAFETY: the tests write to their files only through the publishers.
    unsafe { ArenaMemory::new(file) }.expect("a memfd")
}

fn options() -> PublisherOptions {
    PublisherOptions::new().block_size(4096).blocks(8)
}

fn send(publisher: &mut Publisher<Bytes>, bytes: &[u8]) {
    publisher.try_loan().expect("a block").send(bytes).expect("fits");
}

#[test]
fn messages_are_stored_in_the_external_memory() {
    let file = memfd(1 << 20);
    let broker = Broker::new();
    let mut subscriber = broker.subscriber::<Bytes>("t", SubscriberOptions::new()).expect("a new topic");
    let mut publisher = broker.publisher_over::<Bytes>("t", options(), memory(&file)).expect("large enough");
    for number in 0..100_u8 {
        send(&mut publisher, &[number; 100]);
        let message = subscriber.try_recv_ref().expect("published");
        let mut seen = [0xff; 100];
        let offset = message.descriptor().offset;
        assert_eq!(rustix::io::pread(file.as_fd(), &mut seen, offset), Ok(100));
        assert_eq!((message.bytes(), seen), (&[number; 100][..], [number; 100]));
    }
}

#[test]
fn external_memory_that_is_too_small_is_refused_with_the_size_it_needs() {
    let broker = Broker::new();
    let refused =
        broker.publisher_over::<Bytes>("t", options(), memory(&memfd(8 * 4096 - 1))).expect_err("too small");
    let OpenError::Channel { reason: ChannelError::Memory(reason), .. } = refused else {
        panic!("{refused}")
    };
    let needed = (8 * 4096_u64).next_multiple_of(blockcast_blocks::page_size() as u64);
    assert_eq!(reason, MemoryError::TooSmall { needed, bytes: 8 * 4096 - 1 });
}

/// Sums the first bytes of all messages, and fails if the sum is wrong.
const READER: &str = r#"
  (func (export "run") (result i32) (local $s i32) (local $r i32) (local $sum i64)
    (local.set $s (call $subscribe))
    (loop $messages
      (local.set $r (call $next (local.get $s)))
      (if (i32.eqz (local.get $r)) (then (return (i64.ne (local.get $sum) (i64.const 4950)))))
      (local.set $sum (i64.add (local.get $sum) (i64.load8_u (i32.load offset=16 (local.get $r)))))
      (br $messages))
    unreachable)
"#;

#[test]
fn a_guest_reads_messages_in_external_memory() {
    let broker = Broker::new();
    let program = broker.load(&Form::Component.source("reader", READER)).expect("loads");
    let file = memfd(1 << 20);
    let mut publisher =
        broker.publisher_over::<Bytes>("topic", options(), memory(&file)).expect("large enough");
    let guest = broker.spawn_guest(&program, Grants::new().subscribe("topic"), []).expect("starts");
    // Bounds the waits for the subscriber and for 100 messages.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(600);
    while publisher.subscriber_count() == 0 {
        assert!(std::time::Instant::now() < until && guest.report().is_none(), "{:?}", guest.report());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    for number in 0..100_u8 {
        let loan = publisher.blocking_loan(Some(until)).expect("a block becomes free");
        loan.send(&[number; 100][..]).expect("fits");
    }
    drop(publisher);
    assert_eq!(guest.wait().reason, ExitReason::Finished);
}
