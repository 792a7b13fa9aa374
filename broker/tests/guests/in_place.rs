//! Guests that build large messages in the block that subscribers read.

use std::ops::Range;
use std::sync::Arc;

use super::KIND;
use crate::guest_support::bus::Bus;
use crate::guest_support::child::in_child_async;
use crate::guest_support::{Guest, assert_violation, process};
use blockcast_blocks::Reader;
use blockcast_broker::{ComponentLimits, ComponentReport, ExitReason, GuestEngine};

const BUSY: i32 = -2;
const WRONG_SIZE: i32 = -3;
const CLOSED: i32 = -7;
const EXHAUSTED: i32 = -8;
const TOO_LARGE: i32 = -9;
const INVALID_PAYLOAD: i32 = -10;
const INVALID_HANDLE: i32 = -11;
const OUT_OF_BOUNDS: i32 = -12;
const LIMIT: i32 = -13;

/// Bytes of a block, as asked for: no whole number of pages.
const BLOCK: usize = 524_000;
/// As the host makes it (pages have 4, 16 or 64 KiB).
const CAPACITY: u32 = 512 << 10;
const BLOCKS: u32 = 4;

/// From which size on these guests build in place.
const IN_PLACE: u32 = 256 << 10;

/// What a subscriber saw: length, and the byte that all of the message consists of.
type Seen = Vec<(usize, u8)>;

fn look(reader: &mut Reader, seen: &mut Seen) {
    while let Ok(message) = reader.receive() {
        let bytes = message.bytes();
        let first = bytes.first().copied().unwrap_or(0);
        assert!(bytes.iter().all(|&byte| byte == first), "a message of {} bytes is intact", bytes.len());
        seen.push((bytes.len(), first));
    }
}

/// Runs a guest with a publisher of four blocks of 524,000 bytes in `$p`, and a subscriber.
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
        look(&mut reader, &mut seen);
        tokio::task::yield_now().await;
    }
    look(&mut reader, &mut seen);
    (running.await.expect("no panic"), guest, seen)
}

/// Runs `body`, after which the process must be as before. The guest finishes, or violates one of these bytes.
async fn end(
    bus: Bus,
    limits: impl FnOnce(&mut ComponentLimits),
    body: &str,
    violated: Option<Range<u64>>,
    messages: &[(usize, u8)],
) {
    let before = (process::open_files(), process::reserved(), process::arena_mappings());
    let (report, guest, seen) = publishing(bus, limits, body).await;
    match violated {
        Some(bytes) => assert_violation(&report.reason, "topic", bytes, body),
        None => assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock()),
    }
    assert_eq!(seen, messages);
    // It has the bus, which keeps the channels.
    drop(guest);
    assert_eq!((process::open_files(), process::reserved(), process::arena_mappings()), before);
}

fn finishes(test: &str, body: &str, messages: &[(usize, u8)]) {
    in_child_async!(test, end(Bus::new(), |_| (), body, None, messages));
}

fn violates(test: &str, bytes: Range<u64>, body: &str, messages: &[(usize, u8)]) {
    let body = format!("{body} (loop $for_ever (br $for_ever))");
    in_child_async!(test, end(Bus::new(), |_| (), &body, Some(bytes), messages));
}

fn expect(number: u32, actual: &str, expected: i32) -> String {
    format!("(call $expect (i32.const {number}) {actual} (i32.const {expected}))\n")
}

/// A loan in `$b`, attached at `$at`, of so many bytes, each of them `byte`.
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
fn small_loans_are_copied_once_and_arrive_the_same() {
    in_child_async!("small_loans_are_copied_once_and_arrive_the_same", async {
        let body = [
            fill(1000, 40),
            expect(10, "(i32.load (i32.const 1096))", 1024),
            expect(11, &publish(900), 0),
            expect(12, &publish(900), CLOSED),
            DROP.to_owned(),
            fill(200_000, 41),
            // Detached first, then published.
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
fn several_loans_are_filled_at_a_time_and_published_in_any_order() {
    let body = [
        fill(400_000, 50),
        "(local.set $c (local.get $b)) (local.set $a (global.get $at))".to_owned(),
        fill(400_000, 51),
        "(local.set $i (local.get $b))".to_owned(),
        // The first one is still writable, and its neighbour's pages are not touched.
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
        "several_loans_are_filled_at_a_time_and_published_in_any_order",
        &body,
        &[(400_000, 51), (400_000, 52)],
    );
}

#[test]
fn a_published_block_can_still_be_read_by_who_built_it() {
    let body = [
        fill(400_000, 50),
        expect(10, &publish(400_000), 0),
        expect(11, "(i32.load8_u offset=399999 (global.get $at))", 50),
    ]
    .concat();
    finishes("a_published_block_can_still_be_read_by_who_built_it", &body, &[(400_000, 50)]);
}

#[test]
fn a_loan_that_is_dropped_gives_its_block_back() {
    let mut body = String::new();
    for byte in 0..3 * BLOCKS {
        body += &fill(400_000, byte as u8);
        body += &expect(10, "(call $publisher.free-blocks (local.get $p))", 3);
        body += DROP;
    }
    body += &expect(11, "(call $publisher.free-blocks (local.get $p))", 4);
    body += &fill(400_000, 60);
    body += &expect(12, &publish(400_000), 0);
    finishes("a_loan_that_is_dropped_gives_its_block_back", &body, &[(400_000, 60)]);
}

#[test]
fn a_publisher_that_is_dropped_takes_its_loans_along() {
    let body = [
        fill(400_000, 50),
        "(local.set $c (local.get $b)) (local.set $a (global.get $at))".to_owned(),
        fill(1000, 51),
        "(call $publisher.drop (local.get $p))".to_owned(),
        // Zeroed memory now, which may be written.
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
    finishes("a_publisher_that_is_dropped_takes_its_loans_along", &body, &[]);
}

#[test]
fn hostile_store_into_a_published_block_is_a_violation() {
    let body = [
        fill(400_000, 50),
        expect(10, &publish(400_000), 0),
        "(i32.store8 offset=7 (global.get $at) (i32.const 1))".to_owned(),
    ]
    .concat();
    violates("hostile_store_into_a_published_block_is_a_violation", 7..8, &body, &[(400_000, 50)]);
}

#[test]
fn hostile_fill_of_a_published_block_is_a_violation() {
    let body = [
        fill(400_000, 50),
        expect(10, &publish(400_000), 0),
        "(memory.fill (global.get $at) (i32.const 1) (i32.const 400000))".to_owned(),
    ]
    .concat();
    violates("hostile_fill_of_a_published_block_is_a_violation", 0..400_000, &body, &[(400_000, 50)]);
}

#[test]
fn hostile_store_through_another_handle_after_publishing_is_a_violation() {
    let body = [
        fill(400_000, 50),
        "(local.set $c (call $block.clone (local.get $b)))
         (local.set $i (call $part (local.get $b) (i32.const 8192) (i32.const 4096) (i32.const 1)))
         (local.set $a (call $attach (local.get $i) (i32.const 1)))
         (memory.fill (local.get $a) (i32.const 50) (i32.const 4096))"
            .to_owned(),
        expect(10, &publish(400_000), 0),
        expect(11, "(call $attach (local.get $c) (i32.const 1))", CLOSED),
        expect(12, "(call $attach (local.get $i) (i32.const 1))", CLOSED),
        "(i32.store8 (local.get $a) (i32.const 1))".to_owned(),
    ]
    .concat();
    violates(
        "hostile_store_through_another_handle_after_publishing_is_a_violation",
        8192..8193,
        &body,
        &[(400_000, 50)],
    );
}

#[test]
fn hostile_store_after_detaching_and_before_publishing_is_a_violation() {
    let body = [
        fill(400_000, 50),
        expect(10, "(call $detach (local.get $b) (i32.const 400000))", 0),
        "(i32.store8 offset=9 (global.get $at) (i32.const 1))".to_owned(),
        format!("(drop {})", publish(400_000)),
    ]
    .concat();
    violates("hostile_store_after_detaching_and_before_publishing_is_a_violation", 9..10, &body, &[]);
}

#[test]
fn hostile_store_beside_the_loan_is_a_violation() {
    in_child_async!("hostile_store_beside_the_loan_is_a_violation", async {
        // Into the block after the loan, and with one store that lies half in the loan.
        for store in [
            "(i32.store8 offset=524288 (global.get $at) (i32.const 1))",
            "(i64.store offset=524284 (global.get $at) (i64.const -1))",
        ] {
            let body = [&fill(400_000, 50), store, "(loop $for_ever (br $for_ever))"].concat();
            end(Bus::new(), |_| (), &body, Some(u64::from(CAPACITY)..u64::from(CAPACITY) + 4), &[]).await;
        }
    });
}

#[test]
fn hostile_return_area_in_a_published_block_is_a_violation() {
    let body = [
        fill(400_000, 50),
        expect(10, &publish(400_000), 0),
        "(call $publisher.loan (local.get $p) (i32.const 1000) (global.get $at))".to_owned(),
    ]
    .concat();
    violates("hostile_return_area_in_a_published_block_is_a_violation", 0..400_000, &body, &[(400_000, 50)]);
}

#[test]
fn hostile_return_area_in_its_own_loan_harms_only_the_message() {
    // The answer to `publish-block` is written where the guest wants it: into the block that this very call has sealed.
    let body = [
        fill(400_000, 50),
        "(call $publisher.publish-block (local.get $p) (local.get $b) (i32.const 400000) (global.get $at))"
            .to_owned(),
    ]
    .concat();
    violates("hostile_return_area_in_its_own_loan_harms_only_the_message", 0..64, &body, &[(400_000, 50)]);
}

#[test]
fn hostile_loans_in_wrong_orders_are_errors() {
    let body = [
        "(local.set $b (call $loan (local.get $p) (i32.const 400000)))".to_owned(),
        // Nothing was written.
        expect(10, &publish(1), WRONG_SIZE),
        expect(11, "(call $attach (local.get $b) (i32.const 0))", BUSY),
        "(call $make_room (local.get $b)) (global.set $at (call $attach (local.get $b) (i32.const 1)))"
            .to_owned(),
        expect(12, &publish(524_289), WRONG_SIZE),
        expect(13, &publish(u32::MAX), WRONG_SIZE),
        expect(14, "(call $detach (local.get $b) (i32.const 524289))", WRONG_SIZE),
        // As a source, a batch, local memory: it is the host's.
        expect(15, "(call $publish (local.get $p) (global.get $at) (i32.const 10))", OUT_OF_BOUNDS),
        expect(
            16,
            "(call $poll (call $subscribe) (global.get $at) (i32.const 32) (i64.const 0))",
            OUT_OF_BOUNDS,
        ),
        expect(17, "(call $local (global.get $at) (i32.const 10))", OUT_OF_BOUNDS),
        // Not a loan, another publisher's loan, a part of a loan.
        "(local.set $q (call $open_publisher (i32.const 524000) (i32.const 2)))".to_owned(),
        expect(18, "(call $publish_block (local.get $q) (local.get $b) (i32.const 1))", INVALID_HANDLE),
        "(local.set $c (call $block.new (i32.const 100)))".to_owned(),
        expect(19, "(call $publish_block (local.get $p) (local.get $c) (i32.const 0))", INVALID_HANDLE),
        "(local.set $c (call $part (local.get $b) (i32.const 0) (i32.const 10) (i32.const 1)))".to_owned(),
        expect(20, "(call $publish_block (local.get $p) (local.get $c) (i32.const 0))", INVALID_HANDLE),
        expect(21, "(call $loan (local.get $p) (i32.const 524289))", TOO_LARGE),
        expect(22, "(call $loan (local.get $p) (i32.const -1))", TOO_LARGE),
        "(memory.fill (global.get $at) (i32.const 53) (i32.const 10))".to_owned(),
        expect(23, &publish(10), 0),
        expect(24, &publish(10), CLOSED),
        expect(25, "(call $part (local.get $b) (i32.const 0) (i32.const 10) (i32.const 1))", CLOSED),
        DROP.to_owned(),
    ]
    .concat();
    finishes("hostile_loans_in_wrong_orders_are_errors", &body, &[(10, 53)]);
}

#[test]
fn hostile_loans_beyond_blocks_and_limits_are_refused() {
    in_child_async!("hostile_loans_beyond_blocks_and_limits_are_refused", async {
        let body = [
            "(loop $loans
               (local.set $b (call $loan (local.get $p) (i32.const 400000)))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $loans (i32.ge_s (local.get $b) (i32.const 0))))"
                .to_owned(),
            expect(10, "(local.get $b)", EXHAUSTED),
            expect(11, "(local.get $i)", BLOCKS as i32 + 1),
            expect(12, "(call $publish (local.get $p) (i32.const 0) (i32.const 10))", EXHAUSTED),
        ]
        .concat();
        end(Bus::new(), |_| (), &body, None, &[]).await;
        let body = [
            fill(400_000, 1),
            fill(400_000, 1),
            expect(10, "(call $loan (local.get $p) (i32.const 400000))", LIMIT),
            DROP.to_owned(),
            fill(400_000, 1),
        ]
        .concat();
        end(Bus::new(), |limits| limits.loans = 2, &body, None, &[]).await;
    });
}

#[test]
fn hostile_bytes_that_are_invalid_are_refused_after_sealing_and_can_be_put_right() {
    let test = "hostile_bytes_that_are_invalid_are_refused_after_sealing_and_can_be_put_right";
    in_child_async!(test, async {
        for size in [1000, 400_000] {
            let body = [
                fill(size, b'!'),
                expect(10, &publish(size), INVALID_PAYLOAD),
                expect(11, &publish(size), WRONG_SIZE),
                "(global.set $at (call $attach (local.get $b) (i32.const 1)))".to_owned(),
                format!("(memory.fill (global.get $at) (i32.const 34) (i32.const {size}))"),
                expect(12, &publish(size), 0),
            ]
            .concat();
            end(Bus::new(), |_| (), &body, None, &[(size as usize, 34)]).await;
        }
    });
}

#[test]
fn hostile_traps_and_ends_while_loaning_leave_nothing_behind() {
    let test = "hostile_traps_and_ends_while_loaning_leave_nothing_behind";
    in_child_async!(test, async {
        let before = (process::open_files(), process::reserved(), process::arena_mappings());
        for (end, size) in [
            ("unreachable", 400_000),
            ("unreachable", 1000),
            ("(i32.store8 offset=600000 (global.get $at) (i32.const 1))", 400_000),
            ("(drop (call $wait (i64.const 1000)))", 400_000),
        ] {
            let body = [fill(size, 50), fill(size, 51), end.to_owned()].concat();
            let (_, guest, seen) = publishing(Bus::new(), |_| (), &body).await;
            drop(guest);
            assert_eq!(seen, []);
            assert_eq!((process::open_files(), process::reserved(), process::arena_mappings()), before);
        }
    });
}

#[test]
fn hostile_guest_dropped_in_the_middle_of_a_wait_leaves_no_loan_behind() {
    let test = "hostile_guest_dropped_in_the_middle_of_a_wait_leaves_no_loan_behind";
    in_child_async!(test, async {
        let engine = GuestEngine::new().expect("an engine");
        let before = (process::open_files(), process::reserved(), process::arena_mappings());
        {
            let bus = Bus::new();
            let body = format!(
                r#"(func (export "run") (result i32) (local $p i32) (local $b i32)
                  (local.set $p (call $open_publisher (i32.const {BLOCK}) (i32.const {BLOCKS})))
                  {}
                  (local.set $b (call $block.new (i32.const 100000)))
                  (call $make_room (local.get $b))
                  (drop (call $attach (local.get $b) (i32.const 1)))
                  (call $report (i32.const 97) (i64.const 1))
                  (drop (call $wait (i64.const -1))) (i32.const 0))"#,
                fill(400_000, 50)
            );
            let guest =
                KIND.guest(&engine, Arc::new(bus.clone()), &body).limits(|limits| limits.in_place = IN_PLACE);
            let running = guest.spawn();
            while guest.reported('a').is_empty() {
                assert!(!running.is_finished());
                tokio::task::yield_now().await;
            }
            assert_ne!(process::arena_mappings(), before.2);
            running.abort();
            assert!(running.await.expect_err("aborted").is_cancelled());
        }
        assert_eq!((process::open_files(), process::reserved(), process::arena_mappings()), before);
    });
}

#[test]
fn hostile_changes_from_behind_never_reach_a_copied_message() {
    let body = [
        fill(1000, 50),
        expect(10, &publish(1000), 0),
        "(memory.fill (global.get $at) (i32.const 9) (i32.const 1000))".to_owned(),
        "(drop (call $wait (i64.const 5000000)))".to_owned(),
    ]
    .concat();
    finishes("hostile_changes_from_behind_never_reach_a_copied_message", &body, &[(1000, 50)]);
}

#[test]
fn an_unsealed_block_stays_writable_and_nothing_is_validated() {
    let body = [
        fill(400_000, b'!'),
        expect(10, &publish(400_000), 0),
        "(i32.store8 offset=7 (global.get $at) (i32.const 33))".to_owned(),
        expect(11, "(i32.load8_u offset=7 (global.get $at))", 33),
    ]
    .concat();
    in_child_async!("an_unsealed_block_stays_writable_and_nothing_is_validated", async move {
        end(Bus::unsealed(), |_| (), &body, None, &[(400_000, b'!')]).await;
    });
}

#[test]
fn the_threshold_is_a_setting() {
    let test = "the_threshold_is_a_setting";
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
