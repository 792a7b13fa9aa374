//! Guests that build large messages in the very block that subscribers read.

mod hostile;

use std::ops::Range;
use std::sync::Arc;

use super::KIND;
use crate::guest_support::bus::Bus;
use crate::guest_support::child::{in_child_async, run_async, test_name};
use crate::guest_support::codes::{CLOSED, WRONG_SIZE};
use crate::guest_support::wat::expect;
use crate::guest_support::{Guest, assert_violation, process};
use blockcast_blocks::Reader;
use blockcast_broker::{ComponentLimits, ComponentReport, ExitReason, GuestEngine};

/// The requested size of a block: not a whole number of pages.
const BLOCK: usize = 524_000;
/// The size that the host rounds it to, for pages of 4, 16 or 64 KiB.
const CAPACITY: u32 = 512 << 10;
const BLOCKS: u32 = 4;

/// The size from which these guests build messages in place.
const IN_PLACE: u32 = 256 << 10;

/// The messages that a subscriber saw: their lengths, and the byte that each consists of.
type Seen = Vec<(usize, u8)>;

fn receive(reader: &mut Reader, seen: &mut Seen) {
    while let Ok(message) = reader.receive() {
        let bytes = message.bytes();
        let first = bytes.first().copied().unwrap_or(0);
        assert!(bytes.iter().all(|&byte| byte == first), "a message of {} bytes is intact", bytes.len());
        seen.push((bytes.len(), first));
    }
}

/// Runs a guest with a publisher of four blocks of 524,000 bytes in `$p`, and a subscriber to it.
async fn publishing(
    bus: Bus,
    limits: impl FnOnce(&mut ComponentLimits),
    body: &str,
) -> (ComponentReport, Guest, Seen) {
    let engine = GuestEngine::new().expect("an engine");
    let body = format!(
        r#"(func (export "run") (result i32)
          (local $p i32) (local $q i32) (local $a i32) (local $b i32) (local $c i32) (local $i i32)
          (local.set $p (call $open_publisher (i32.const {BLOCK}) (i32.const {BLOCKS})))
          (loop $alone
            (drop (call $wait (i64.const 1000000)))
            (br_if $alone (i32.eqz (call $publisher.subscriber-count (local.get $p)))))
          {body}
          (i32.const 0))"#
    );
    let guest = KIND
        .guest(&engine, Arc::new(bus.clone()), &body)
        .limits(|limits| limits.in_place = IN_PLACE)
        .limits(limits);
    let running = guest.spawn();
    while !bus.has_publisher("topic") {
        tokio::task::yield_now().await;
    }
    let mut reader = bus.reader("topic");
    let mut seen = Seen::new();
    while !running.is_finished() {
        receive(&mut reader, &mut seen);
        tokio::task::yield_now().await;
    }
    receive(&mut reader, &mut seen);
    (running.await.expect("no panic"), guest, seen)
}

/// Runs `body`, which must finish or violate one of the bytes `violated`, and must leave nothing behind.
async fn end(
    bus: Bus,
    limits: impl FnOnce(&mut ComponentLimits),
    body: &str,
    violated: Option<Range<u64>>,
    messages: &[(usize, u8)],
) {
    let before = process::resources();
    let (report, guest, seen) = publishing(bus, limits, body).await;
    match violated {
        Some(bytes) => assert_violation(&report.reason, "topic", bytes, body),
        None => assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock()),
    }
    assert_eq!(seen, messages);
    // The guest keeps the bus, which keeps the channels.
    drop(guest);
    assert_eq!(process::resources(), before);
}

fn finishes(test: &str, body: &str, messages: &[(usize, u8)]) {
    run_async(test, end(Bus::new(), |_| (), body, None, messages));
}

fn violates(test: &str, bytes: Range<u64>, body: &str, messages: &[(usize, u8)]) {
    let body = format!("{body} (loop $forever (br $forever))");
    run_async(test, end(Bus::new(), |_| (), &body, Some(bytes), messages));
}

/// Code that loans `size` bytes in `$b`, attached at `$at`, and fills them with `byte`.
fn fill(size: u32, byte: u8) -> String {
    format!("(local.set $b (call $filled_loan (local.get $p) (i32.const {size}) (i32.const {byte})))\n")
}

fn publish(size: u32) -> String {
    format!("(call $publish_block (local.get $p) (local.get $b) (i32.const {size}))")
}

const DROP: &str = "(call $block.drop (local.get $b))\n";

#[test]
fn large_messages_are_built_in_place_and_not_copied() {
    in_child_async!("large_messages_are_built_in_place_and_not_copied", async {
        let body = [
            &expect(10, "(call $publisher.block-size (local.get $p))", CAPACITY as i32),
            &expect(11, "(call $publisher.in-place-from (local.get $p))", IN_PLACE as i32),
            "(loop $messages
               (loop $again
                 (local.set $b (call $filled_loan (local.get $p) (i32.const 300000) (i32.add (local.get $i) (i32.const 64))))
                 (if (i32.eq (local.get $b) (i32.const -8)) (then
                   (drop (call $wait (i64.const -1)))
                   (br $again))))",
            &expect(12, "(i32.load (i32.const 1096))", CAPACITY as i32),
            &expect(13, &publish(300_000), 0),
            DROP,
            "(local.set $i (i32.add (local.get $i) (i32.const 1)))
             (br_if $messages (i32.lt_u (local.get $i) (i32.const 100))))",
        ]
        .concat();
        let (report, guest, seen) = publishing(Bus::new(), |_| (), &body).await;
        assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock());
        assert_eq!(seen, (64..164).map(|byte| (300_000, byte)).collect::<Seen>());
        assert_eq!(report.stats.published, 100);
        assert_eq!(report.stats.publish_copied_bytes, 0);
    });
}

#[test]
fn small_loans_are_copied_once_and_arrive_unchanged() {
    in_child_async!("small_loans_are_copied_once_and_arrive_unchanged", async {
        let body = [
            fill(1000, 40),
            expect(10, "(i32.load (i32.const 1096))", 1024),
            expect(11, &publish(900), 0),
            expect(12, &publish(900), CLOSED),
            DROP.to_owned(),
            fill(200_000, 41),
            // Detaches first, then publishes.
            expect(13, "(call $detach (local.get $b) (i32.const 200000))", 0),
            "(i32.store (global.get $at) (i32.const 0x29292929))".to_owned(),
            expect(14, &publish(200_001), WRONG_SIZE),
            expect(15, &publish(200_000), 0),
            DROP.to_owned(),
        ]
        .concat();
        let (report, guest, seen) = publishing(Bus::new(), |_| (), &body).await;
        assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock());
        assert_eq!(seen, [(900, 40), (200_000, 41)]);
        assert_eq!(report.stats.publish_copied_bytes, 200_900);
    });
}

#[test]
fn several_loans_can_be_filled_at_once_and_published_in_any_order() {
    let body = [
        fill(400_000, 50),
        "(local.set $c (local.get $b)) (local.set $a (global.get $at))".to_owned(),
        fill(400_000, 51),
        "(local.set $i (local.get $b))".to_owned(),
        // The first one is still writable, and writing to it does not touch its neighbour.
        "(memory.fill (local.get $a) (i32.const 52) (i32.const 400000))".to_owned(),
        expect(10, &publish(400_000), 0),
        "(local.set $b (local.get $c))".to_owned(),
        "(i32.store8 offset=399999 (local.get $a) (i32.const 52))".to_owned(),
        expect(11, &publish(400_000), 0),
        DROP.to_owned(),
        "(local.set $b (local.get $i))".to_owned(),
        DROP.to_owned(),
    ]
    .concat();
    finishes(
        test_name!("several_loans_can_be_filled_at_once_and_published_in_any_order"),
        &body,
        &[(400_000, 51), (400_000, 52)],
    );
}

#[test]
fn a_published_block_can_still_be_read_by_its_publisher() {
    let body = [
        fill(400_000, 50),
        expect(10, &publish(400_000), 0),
        expect(11, "(i32.load8_u offset=399999 (global.get $at))", 50),
    ]
    .concat();
    finishes(test_name!("a_published_block_can_still_be_read_by_its_publisher"), &body, &[(400_000, 50)]);
}

#[test]
fn dropping_a_loan_returns_its_block() {
    let mut body = String::new();
    for byte in 0..3 * BLOCKS {
        body += &fill(400_000, byte as u8);
        body += &expect(10, "(call $publisher.free-blocks (local.get $p))", 3);
        body += DROP;
    }
    body += &expect(11, "(call $publisher.free-blocks (local.get $p))", 4);
    body += &fill(400_000, 60);
    body += &expect(12, &publish(400_000), 0);
    finishes(test_name!("dropping_a_loan_returns_its_block"), &body, &[(400_000, 60)]);
}

#[test]
fn dropping_a_publisher_closes_its_loans() {
    let body = [
        fill(400_000, 50),
        "(local.set $c (local.get $b)) (local.set $a (global.get $at))".to_owned(),
        fill(1000, 51),
        "(call $publisher.drop (local.get $p))".to_owned(),
        // Now the range is zeroed memory that may be written.
        expect(10, "(i32.load (local.get $a))", 0),
        "(i32.store (local.get $a) (i32.const 1))".to_owned(),
        expect(11, "(call $attach (local.get $c) (i32.const 1))", CLOSED),
        expect(12, "(call $detach (local.get $c) (i32.const 1))", 0),
        expect(13, "(call $block.minimum-size (local.get $c))", 0),
        "(local.set $q (call $open_publisher (i32.const 524000) (i32.const 2)))".to_owned(),
        expect(14, "(call $publish_block (local.get $q) (local.get $c) (i32.const 0))", CLOSED),
        "(call $block.drop (local.get $c))".to_owned(),
    ]
    .concat();
    finishes(test_name!("dropping_a_publisher_closes_its_loans"), &body, &[]);
}

#[test]
fn an_unsealed_block_stays_writable_and_is_not_validated() {
    let body = [
        fill(400_000, b'!'),
        expect(10, &publish(400_000), 0),
        "(i32.store8 offset=7 (global.get $at) (i32.const 33))".to_owned(),
        expect(11, "(i32.load8_u offset=7 (global.get $at))", 33),
    ]
    .concat();
    in_child_async!("an_unsealed_block_stays_writable_and_is_not_validated", async move {
        end(Bus::unsealed(), |_| (), &body, None, &[(400_000, b'!')]).await;
    });
}

#[test]
fn the_size_from_which_messages_are_built_in_place_can_be_set() {
    let test = "the_size_from_which_messages_are_built_in_place_can_be_set";
    in_child_async!(test, async {
        let body = [
            expect(10, "(call $publisher.in-place-from (local.get $p))", 1000),
            fill(1000, 50),
            expect(11, &publish(1000), 0),
            fill(999, 50),
            expect(12, &publish(999), 0),
        ]
        .concat();
        let (report, guest, seen) = publishing(Bus::new(), |limits| limits.in_place = 1000, &body).await;
        assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock());
        assert_eq!(seen, [(1000, 50), (999, 50)]);
        assert_eq!(report.stats.publish_copied_bytes, 999);
        let body = [expect(10, "(call $publisher.in-place-from (local.get $p))", -1), fill(400_000, 50)]
            .concat()
            + &expect(11, &publish(400_000), 0);
        let (report, guest, _) = publishing(Bus::new(), |limits| limits.in_place = u32::MAX, &body).await;
        assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock());
        assert_eq!(report.stats.publish_copied_bytes, 400_000);
    });
}
