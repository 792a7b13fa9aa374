//! Memory blocks that a guest creates: the rules of the interface, and the errors of misuse.

use std::sync::Arc;

use super::KIND;
use crate::guest_support::bus::Bus;
use crate::guest_support::child::in_child_async;
use crate::guest_support::codes::{BUSY, DENIED, LIMIT, NO_STORAGE, OUT_OF_BOUNDS, WRONG_SIZE};
use crate::guest_support::wat::expect;
use crate::guest_support::{Guest, assert_violation, process};
use blockcast_broker::{ComponentLimits, ComponentReport, ExitReason, GuestEngine, Limit};

/// Runs `body` as the guest's `run`.
async fn run_with(limits: impl FnOnce(&mut ComponentLimits), body: &str) -> (ComponentReport, Guest) {
    let engine = GuestEngine::new().expect("an engine");
    let body = format!(
        r#"(func (export "run") (result i32)
          (local $a i32) (local $b i32) (local $c i32) (local $d i32) (local $i i32) (local $n i32)
          {body} (i32.const 0))"#
    );
    let guest = KIND.guest(&engine, Arc::new(Bus::new()), &body).limits(limits);
    let report = guest.run().await;
    (report, guest)
}

/// Runs `body` in a process of its own. The guest must end with the expected reason and leave nothing behind.
fn ends(test: &str, limits: impl FnOnce(&mut ComponentLimits), body: &str, expected: ExitReason) {
    in_child_async!(test, async {
        // The first run sets up what the process keeps for later runs.
        run_with(|_| (), "").await;
        let before = process::resources();
        let (report, guest) = run_with(limits, body).await;
        assert_eq!(report.reason, expected, "{:?}", guest.log.lock());
        assert_eq!(process::resources(), before);
        assert_eq!(before.arenas, []);
    });
}

macro_rules! finish {
    ($($name:ident: $body:expr;)*) => {$(
        #[test]
        fn $name() {
            ends(stringify!($name), |_| (), &$body, ExitReason::Finished);
        }
    )*};
}

/// Creates a block of 100,000 bytes in `$b`, with room to attach it once.
const BLOCK: &str = "(local.set $b (call $block.new (i32.const 100000))) (call $make_room (local.get $b))\n";
const WRITE: &str = "(local.set $a (call $attach (local.get $b) (i32.const 1)))\n";
const WRITE_SHARED: &str = "(local.set $a (call $attach (local.get $b) (i32.const 3)))\n";

fn attach(block: char, access: u32) -> String {
    format!("(call $attach (local.get ${block}) (i32.const {access}))")
}

fn detach(block: char, consumed: i64) -> String {
    format!("(call $detach (local.get ${block}) (i32.const {consumed}))")
}

const SIZE: &str = "(i32.load (i32.const 1096))";

finish! {
    written_bytes_are_read_once_and_consumed: [
        BLOCK, WRITE,
        &expect(10, SIZE, 100_000),
        "(i32.store (local.get $a) (i32.const 7)) (i32.store offset=99996 (local.get $a) (i32.const 8))",
        &expect(11, &detach('b', 100_000), 0),
        &expect(12, "(i32.load (local.get $a))", 0),
        "(local.set $a (call $attach (local.get $b) (i32.const 0)))",
        &expect(13, SIZE, 100_000),
        &expect(14, "(i32.load (local.get $a))", 7),
        &expect(15, "(i32.load offset=99996 (local.get $a))", 8),
        &expect(16, &detach('b', 99_996), 0),
        "(local.set $a (call $attach (local.get $b) (i32.const 0)))",
        &expect(17, SIZE, 4),
        &expect(18, "(i32.load (local.get $a))", 8),
        &expect(19, &detach('b', 4), 0),
        &expect(20, &attach('b', 0), BUSY),
    ].concat();

    several_readers_are_attached_at_once_at_different_addresses: [
        "(local.set $b (call $block.new (i32.const 1000)))",
        &expect(10, "(call $block.optimum-size (i32.const 3) (i32.const 1000))", 3 << 16),
        &expect(11, "(call $donate_blocks (call $grow (i32.const 0x30000)) (i32.const 0x30000))", 0),
        &expect(12, "(call $block.optimum-size (i32.const 3) (i32.const 1000))", 0),
        &expect(13, "(call $block.minimum-size (local.get $b))", 0),
        WRITE_SHARED,
        "(i32.store (local.get $a) (i32.const 7))",
        &expect(14, &detach('b', 10), 0),
        "(local.set $c (call $block.clone (local.get $b))) (local.set $d (call $block.clone (local.get $c)))
         (local.set $a (call $attach (local.get $b) (i32.const 2)))
         (local.set $i (call $attach (local.get $c) (i32.const 2)))",
        &expect(15, SIZE, 10),
        &expect(16, "(i32.load (local.get $i))", 7),
        &expect(17, "(i32.load (call $attach (local.get $d) (i32.const 2)))", 7),
        &expect(18, "(i32.eq (local.get $a) (local.get $i))", 0),
        // The writer's handle is dropped, the others can still read.
        "(call $block.drop (local.get $b))",
        &expect(19, "(i32.load (local.get $i))", 7),
        &expect(20, "(i32.load (local.get $a))", 0),
        &expect(21, &attach('c', 2), BUSY),
        &expect(22, &detach('c', 1), WRONG_SIZE),
        &expect(23, &detach('c', 0), 0),
        &expect(24, &detach('c', 0), 0),
        &expect(25, &attach('c', 1), BUSY),
        &expect(26, &detach('d', 0), 0),
        "(local.set $a (call $attach (local.get $c) (i32.const 3)))",
        &expect(27, "(i32.load (local.get $a))", 7),
    ].concat();

    a_partition_can_be_used_while_the_whole_block_is_being_written: [
        "(local.set $b (call $block.new (i32.const 300000)))
         (call $expect (i32.const 9) (call $donate_blocks (call $grow (i32.const 0x100000)) (i32.const 0x100000)) (i32.const 0))",
        WRITE,
        "(i32.store offset=70000 (local.get $a) (i32.const 70))
         (local.set $c (call $part (local.get $b) (i32.const 70000) (i32.const 100) (i32.const 2)))
         (local.set $d (call $part (local.get $b) (i32.const 200000) (i32.const 100000) (i32.const 3)))
         (local.set $i (call $attach (local.get $c) (i32.const 2)))",
        &expect(10, SIZE, 100),
        &expect(11, "(i32.load (local.get $i))", 70),
        "(i32.store offset=70000 (local.get $a) (i32.const 71))",
        &expect(12, "(i32.load (local.get $i))", 71),
        "(local.set $i (call $attach (local.get $d) (i32.const 3)))",
        &expect(13, SIZE, 100_000),
        "(i32.store offset=99996 (local.get $i) (i32.const 72))",
        &expect(14, "(i32.load offset=299996 (local.get $a))", 72),
        &expect(15, &detach('d', 100_000), 0),
        &expect(16, &detach('b', 300_000), 0),
        // A partition keeps the storage.
        "(call $block.drop (local.get $b)) (local.set $i (call $attach (local.get $d) (i32.const 2)))",
        &expect(17, "(i32.load offset=99996 (local.get $i))", 72),
    ].concat();

    local_memory_needs_no_room_and_is_shared: [
        "(i32.store (i32.const 5000) (i32.const 5)) (local.set $b (call $local (i32.const 5000) (i32.const 64)))",
        &expect(10, "(call $block.minimum-size (local.get $b))", 0),
        &expect(11, &attach('b', 2), 5000),
        &expect(12, SIZE, 64),
        "(local.set $c (call $part (local.get $b) (i32.const 60) (i32.const 4) (i32.const 2)))",
        &expect(13, &attach('c', 2), 5060),
        &expect(14, &detach('b', 0), 0),
        &expect(15, &attach('b', 3), 5000),
        &expect(16, &detach('b', 8), 0),
        &expect(17, &attach('b', 0), 5000),
        &expect(18, SIZE, 8),
    ].concat();

    address_space_can_be_reused_and_removed: [
        "(local.set $n (call $grow (i32.const 0x30000)))",
        &expect(10, "(call $donate_blocks (local.get $n) (i32.const 0x10000))", 0),
        &expect(11, "(call $donate_blocks (i32.add (local.get $n) (i32.const 0x20000)) (i32.const 0x10000))", 0),
        &expect(12, "(call $donate_blocks (i32.add (local.get $n) (i32.const 0x10000)) (i32.const 0x10000))", 0),
        // One block spans all three donations.
        "(local.set $b (call $block.new (i32.const 0x30000)))",
        &expect(13, "(call $block.minimum-size (local.get $b))", 0),
        WRITE,
        &expect(14, "(i32.sub (local.get $a) (local.get $n))", 0),
        "(i32.store offset=0x2fffc (local.get $a) (i32.const 1))",
        &expect(15, "(call $take_blocks_back (local.get $n) (i32.const 0x10000))", BUSY),
        &expect(16, &detach('b', 0), 0),
        &expect(17, "(call $take_blocks_back (local.get $n) (i32.const 0x1000))", WRONG_SIZE),
        &expect(18, "(call $take_blocks_back (i32.const 0) (i32.const 0x10000))", OUT_OF_BOUNDS),
        "(i32.store (i32.add (local.get $n) (i32.const 0x10000)) (i32.const 9))",
        &expect(19, "(call $take_blocks_back (i32.add (local.get $n) (i32.const 0x10000)) (i32.const 0x10000))", 0),
        &expect(20, "(i32.load (i32.add (local.get $n) (i32.const 0x10000)))", 0),
        &expect(21, "(call $take_blocks_back (local.get $n) (i32.const 0x30000))", OUT_OF_BOUNDS),
        &expect(22, &attach('b', 1), NO_STORAGE),
        &expect(23, "(call $donate_blocks (i32.add (local.get $n) (i32.const 0x10000)) (i32.const 0x10000))", 0),
        &expect(24, "(i32.sub (call $attach (local.get $b) (i32.const 1)) (local.get $n))", 0),
    ].concat();

    hostile_wrong_orders_are_errors: [
        "(local.set $b (call $block.new (i32.const 1000)))",
        &expect(10, &attach('b', 0), BUSY),
        &expect(11, &attach('b', 2), BUSY),
        &expect(12, &attach('b', 1), NO_STORAGE),
        &expect(13, &detach('b', 0), 0),
        &expect(14, &detach('b', 0xffff_ffff), 0),
        "(call $make_room (local.get $b))",
        WRITE,
        &expect(15, &attach('b', 1), BUSY),
        &expect(16, &attach('b', 0), BUSY),
        &expect(17, &detach('b', 1001), WRONG_SIZE),
        &expect(18, &detach('b', 0xffff_ffff), WRONG_SIZE),
        "(i32.store (local.get $a) (i32.const 5))",
        &expect(19, &detach('b', 1000), 0),
        &expect(20, &attach('b', 1), BUSY),
        &expect(21, &attach('b', 2), BUSY),
        "(local.set $c (call $block.clone (local.get $b)))",
        &expect(22, &format!("(i32.ge_s {} (i32.const 0))", attach('c', 0)), 1),
        &expect(23, &attach('b', 0), BUSY),
        &expect(24, &detach('c', 1001), WRONG_SIZE),
        &expect(25, &detach('b', 1000), 0),
        "(call $block.drop (local.get $c)) (call $block.drop (local.get $b))",
    ].concat();

    hostile_partitions_beyond_their_block_are_refused: [
        BLOCK,
        &expect(10, "(call $part (local.get $b) (i32.const 0) (i32.const 0) (i32.const 1))", WRONG_SIZE),
        &expect(11, "(call $part (local.get $b) (i32.const 100000) (i32.const 1) (i32.const 1))", OUT_OF_BOUNDS),
        &expect(12, "(call $part (local.get $b) (i32.const -1) (i32.const 2) (i32.const 1))", OUT_OF_BOUNDS),
        &expect(13, "(call $part (local.get $b) (i32.const 1) (i32.const -1) (i32.const 1))", OUT_OF_BOUNDS),
        "(local.set $c (call $part (local.get $b) (i32.const 10) (i32.const 10) (i32.const 0)))",
        &expect(14, &attach('c', 1), DENIED),
        &expect(15, &attach('c', 3), DENIED),
        &expect(16, &attach('c', 2), DENIED),
        &expect(17, "(call $part (local.get $c) (i32.const 0) (i32.const 1) (i32.const 2))", DENIED),
        &expect(18, "(call $part (local.get $c) (i32.const 0) (i32.const 11) (i32.const 0))", OUT_OF_BOUNDS),
    ].concat();

    hostile_local_memory_that_is_outside_or_donated_is_refused: [
        "(local.set $n (call $grow (i32.const 0x10000)))",
        &expect(10, "(call $donate_blocks (local.get $n) (i32.const 0x10000))", 0),
        &expect(11, "(call $local (local.get $n) (i32.const 4))", OUT_OF_BOUNDS),
        &expect(12, "(call $local (i32.sub (local.get $n) (i32.const 4)) (i32.const 8))", OUT_OF_BOUNDS),
        &expect(13, "(call $local (i32.const -1) (i32.const 2))", OUT_OF_BOUNDS),
        &expect(14, "(call $local (i32.const 0) (i32.const -1))", OUT_OF_BOUNDS),
    ].concat();

    hostile_donations_to_blocks_are_refused_like_those_to_topics: [
        expect(10, "(call $donate_blocks (i32.const 4096) (i32.const 65536))", WRONG_SIZE),
        expect(11, "(call $donate_blocks (i32.const 65536) (i32.const 0))", WRONG_SIZE),
        expect(12, "(call $donate_blocks (i32.const 0x30000) (i32.const 0x20000))", OUT_OF_BOUNDS),
        expect(13, "(call $donate_blocks (i32.const 0xffff0000) (i32.const 0x10000))", OUT_OF_BOUNDS),
        expect(14, "(call $donate_blocks (i32.const 0xffff0000) (i32.const 0xffff0000))", OUT_OF_BOUNDS),
        "(local.set $n (call $grow (i32.const 0x20000)))".to_owned(),
        expect(15, "(call $donate_blocks (local.get $n) (i32.const 0x20000))", 0),
        expect(16, "(call $donate_blocks (local.get $n) (i32.const 0x20000))", OUT_OF_BOUNDS),
        expect(17, "(call $donate_blocks (i32.add (local.get $n) (i32.const 0x10000)) (i32.const 0x10000))", OUT_OF_BOUNDS),
        expect(18, "(call $add_storage (call $subscribe) (local.get $n) (i32.const 0x10000))", OUT_OF_BOUNDS),
    ].concat();

    hostile_impossible_sizes_are_refused_on_attaching: [
        "(local.set $b (call $block.new (i32.const -1))) (local.set $c (call $block.new (i32.const 0)))",
        &expect(10, "(call $block.minimum-size (local.get $b))", u32::MAX as i32 & !0xffff),
        &expect(11, &attach('b', 1), LIMIT),
        &expect(12, &attach('c', 1), WRONG_SIZE),
        &expect(13, "(call $block.optimum-size (i32.const -1) (i32.const -1))", u32::MAX as i32 & !0xffff),
        &expect(14, "(call $block.optimum-size (i32.const 0) (i32.const 5))", 0),
    ].concat();
}

#[test]
fn hostile_blocks_beyond_the_byte_limit_are_refused() {
    let body = [
        "(call $expect (i32.const 9) (call $donate_blocks (call $grow (i32.const 0x40000)) (i32.const 0x40000)) (i32.const 0))
         (local.set $b (call $block.new (i32.const 0x18000))) (local.set $c (call $block.new (i32.const 0x10000)))",
        WRITE,
        &expect(10, &attach('c', 1), LIMIT),
        "(call $block.drop (local.get $b))",
        &expect(11, &format!("(i32.ge_s {} (i32.const 0))", attach('c', 1)), 1),
    ]
    .concat();
    let limits = |limits: &mut ComponentLimits| limits.memory_block_bytes = 0x20000;
    ends("hostile_blocks_beyond_the_byte_limit_are_refused", limits, &body, ExitReason::Finished);
}

#[test]
fn hostile_questions_for_huge_sizes_do_not_lift_the_memory_limit() {
    let test = "hostile_questions_for_huge_sizes_do_not_lift_the_memory_limit";
    let body = [
        "(drop (call $block.optimum-size (i32.const -1) (i32.const -1)))
         (drop (call $block.minimum-size (call $block.new (i32.const -1))))",
        // The memory has 4 of 16 pages, and blocks may take 2 more.
        &expect(10, "(memory.grow (i32.const 15))", -1),
        &expect(11, "(memory.grow (i32.const 14))", 4),
    ]
    .concat();
    let limits = |limits: &mut ComponentLimits| {
        limits.memory = 1 << 20;
        limits.memory_block_bytes = 2 << 16;
    };
    ends(test, limits, &body, ExitReason::Finished);
}

#[test]
fn hostile_creators_of_endless_blocks_are_ended() {
    in_child_async!("hostile_creators_of_endless_blocks_are_ended", async {
        for body in [
            "(loop $more (drop (call $block.new (i32.const 1))) (br $more))",
            "(local.set $b (call $block.new (i32.const 1))) (loop $more (drop (call $block.clone (local.get $b))) (br $more))",
        ] {
            let (report, _) = run_with(|_| (), body).await;
            assert_eq!(report.reason, ExitReason::Killed(Limit::MemoryBlocks), "{body}");
        }
        // Functions that can return errors do so instead.
        let body = [
            "(local.set $b (call $local (i32.const 0) (i32.const 8)))
             (loop $more (br_if $more (i32.ge_s (call $part (local.get $b) (i32.const 0) (i32.const 1) (i32.const 0)) (i32.const 0))))",
            &expect(10, "(call $local (i32.const 0) (i32.const 8))", LIMIT),
            &expect(11, "(call $loan (call $open_publisher (i32.const 64) (i32.const 2)) (i32.const 8))", LIMIT),
        ]
        .concat();
        let (report, guest) = run_with(|_| (), &body).await;
        assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock());
    });
}

#[test]
fn hostile_stale_and_forged_handles_are_traps() {
    in_child_async!("hostile_stale_and_forged_handles_are_traps", async {
        for body in [
            "(call $block.drop (i32.const 12345))",
            "(drop (call $attach (i32.const 12345) (i32.const 1)))",
            "(drop (call $attach (i32.const 0) (i32.const 1)))",
            "(drop (call $attach (i32.const -1) (i32.const 1)))",
            "(local.set $b (call $block.new (i32.const 1))) (call $block.drop (local.get $b)) (call $block.drop (local.get $b))",
            "(local.set $b (call $block.new (i32.const 1))) (call $block.drop (local.get $b)) (drop (call $detach (local.get $b) (i32.const 0)))",
            // A subscription is not a block, and a block is not a publisher.
            "(drop (call $attach (call $subscribe) (i32.const 1)))",
            "(drop (call $loan (call $block.new (i32.const 1)) (i32.const 1)))",
        ] {
            let (report, _) = run_with(|_| (), body).await;
            assert!(matches!(report.reason, ExitReason::Trapped { .. }), "{body}: {:?}", report.reason);
        }
        assert_eq!(process::arena_mappings(), []);
    });
}

#[test]
fn hostile_stores_to_blocks_attached_for_reading_are_violations() {
    in_child_async!("hostile_stores_to_blocks_attached_for_reading_are_violations", async {
        for (bytes, violation) in [
            (5..6, "(i32.store8 offset=5 (local.get $a) (i32.const 1))"),
            (0..100_000, "(memory.fill (local.get $a) (i32.const 1) (i32.const 100000))"),
            // Writes by the host.
            (
                8..64,
                "(call $block.attach (local.get $b) (i32.const 2) (i32.add (local.get $a) (i32.const 8)))",
            ),
            (
                0..64,
                "(global.set $next_allocation (local.get $a)) (call $parameter (i32.const 16) (i32.const 5) (i32.const 1088))",
            ),
        ] {
            let body = [
                BLOCK,
                WRITE_SHARED,
                &expect(10, &detach('b', 100_000), 0),
                "(local.set $a (call $attach (local.get $b) (i32.const 2)))",
                violation,
                "(loop $forever (br $forever))",
            ]
            .concat();
            let engine = GuestEngine::new().expect("an engine");
            let body = format!(
                r#"(func (export "run") (result i32) (local $a i32) (local $b i32) {body} unreachable)"#
            );
            let mut guest = KIND.guest(&engine, Arc::new(Bus::new()), &body);
            guest.setup.parameters.insert("topic".to_owned(), "a value of some length".to_owned());
            assert_violation(&guest.run().await.reason, "", bytes, violation);
        }
        assert_eq!(process::arena_mappings(), []);
    });
}

#[test]
fn hostile_host_data_in_a_block_being_written_harms_only_the_guest() {
    // The guest may place return areas and allocations in memory that it may write to.
    let body = [
        BLOCK,
        WRITE,
        "(call $block.attach (local.get $b) (i32.const 1) (i32.add (local.get $a) (i32.const 8)))",
        &expect(10, "(i32.load8_u offset=8 (local.get $a))", 1),
        &expect(11, "(call $poll (call $subscribe) (local.get $a) (i32.const 32) (i64.const 0))", OUT_OF_BOUNDS),
        "(global.set $next_allocation (local.get $a)) (call $parameter (i32.const 16) (i32.const 5) (i32.const 1088))",
    ]
    .concat();
    ends(
        "hostile_host_data_in_a_block_being_written_harms_only_the_guest",
        |_| (),
        &body,
        ExitReason::Finished,
    );
}

#[test]
fn hostile_traps_while_attached_leave_nothing_behind() {
    let body = [BLOCK, WRITE, "(i32.store (local.get $a) (i32.const 5)) unreachable"].concat();
    in_child_async!("hostile_traps_while_attached_leave_nothing_behind", async move {
        run_with(|_| (), "").await;
        let before = process::resources();
        let (report, _) = run_with(|_| (), &body).await;
        assert!(matches!(report.reason, ExitReason::Trapped { .. }), "{:?}", report.reason);
        assert_eq!(process::resources(), before);
    });
}
