//! Misuse of loans that are built in place, and writes into blocks after publishing.

use std::sync::Arc;

use super::{
    BLOCK, BLOCKS, CAPACITY, DROP, IN_PLACE, KIND, end, fill, finishes, publish, publishing, violates,
};
use crate::guest_support::bus::Bus;
use crate::guest_support::child::{in_child_async, test_name};
use crate::guest_support::codes::{
    BUSY, CLOSED, EXHAUSTED, INVALID_HANDLE, INVALID_PAYLOAD, LIMIT, OUT_OF_BOUNDS, TOO_LARGE, WRONG_SIZE,
};
use crate::guest_support::process;
use crate::guest_support::wat::expect;
use blockcast_broker::GuestEngine;

#[test]
fn hostile_store_into_a_published_block_is_a_violation() {
    let body = [
        fill(400_000, 50),
        expect(10, &publish(400_000), 0),
        "(i32.store8 offset=7 (global.get $at) (i32.const 1))".to_owned(),
    ]
    .concat();
    violates(
        test_name!("hostile_store_into_a_published_block_is_a_violation"),
        7..8,
        &body,
        &[(400_000, 50)],
    );
}

#[test]
fn hostile_fill_of_a_published_block_is_a_violation() {
    let body = [
        fill(400_000, 50),
        expect(10, &publish(400_000), 0),
        "(memory.fill (global.get $at) (i32.const 1) (i32.const 400000))".to_owned(),
    ]
    .concat();
    violates(
        test_name!("hostile_fill_of_a_published_block_is_a_violation"),
        0..400_000,
        &body,
        &[(400_000, 50)],
    );
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
        test_name!("hostile_store_through_another_handle_after_publishing_is_a_violation"),
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
    violates(
        test_name!("hostile_store_after_detaching_and_before_publishing_is_a_violation"),
        9..10,
        &body,
        &[],
    );
}

#[test]
fn hostile_store_next_to_the_loan_is_a_violation() {
    in_child_async!("hostile_store_next_to_the_loan_is_a_violation", async {
        // One store into the block after the loan, and one that lies half inside the loan.
        for store in [
            "(i32.store8 offset=524288 (global.get $at) (i32.const 1))",
            "(i64.store offset=524284 (global.get $at) (i64.const -1))",
        ] {
            let body = [&fill(400_000, 50), store, "(loop $forever (br $forever))"].concat();
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
    violates(
        test_name!("hostile_return_area_in_a_published_block_is_a_violation"),
        0..400_000,
        &body,
        &[(400_000, 50)],
    );
}

#[test]
fn hostile_return_area_in_its_own_loan_harms_only_the_message() {
    // The guest asks for the result of `publish-block` in the very block that this call seals.
    let body = [
        fill(400_000, 50),
        "(call $publisher.publish-block (local.get $p) (local.get $b) (i32.const 400000) (global.get $at))"
            .to_owned(),
    ]
    .concat();
    violates(
        test_name!("hostile_return_area_in_its_own_loan_harms_only_the_message"),
        0..64,
        &body,
        &[(400_000, 50)],
    );
}

#[test]
fn hostile_loans_in_wrong_orders_are_errors() {
    let body = [
        "(local.set $b (call $loan (local.get $p) (i32.const 400000)))".to_owned(),
        // Nothing was written yet.
        expect(10, &publish(1), WRONG_SIZE),
        expect(11, "(call $attach (local.get $b) (i32.const 0))", BUSY),
        "(call $make_room (local.get $b)) (global.set $at (call $attach (local.get $b) (i32.const 1)))"
            .to_owned(),
        expect(12, &publish(524_289), WRONG_SIZE),
        expect(13, &publish(u32::MAX), WRONG_SIZE),
        expect(14, "(call $detach (local.get $b) (i32.const 524289))", WRONG_SIZE),
        // Not usable as a source, as a batch or as local memory, because the block belongs to the host.
        expect(15, "(call $publish (local.get $p) (global.get $at) (i32.const 10))", OUT_OF_BOUNDS),
        expect(
            16,
            "(call $poll (call $subscribe) (global.get $at) (i32.const 32) (i64.const 0))",
            OUT_OF_BOUNDS,
        ),
        expect(17, "(call $local (global.get $at) (i32.const 10))", OUT_OF_BOUNDS),
        // Another publisher's loan, a block that is not a loan, and a partition of a loan.
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
    finishes(test_name!("hostile_loans_in_wrong_orders_are_errors"), &body, &[(10, 53)]);
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
fn hostile_invalid_bytes_are_refused_after_sealing_and_can_be_corrected() {
    let test = "hostile_invalid_bytes_are_refused_after_sealing_and_can_be_corrected";
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
fn hostile_ends_with_open_loans_leave_nothing_behind() {
    let test = "hostile_ends_with_open_loans_leave_nothing_behind";
    in_child_async!(test, async {
        let before = process::resources();
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
            assert_eq!(process::resources(), before);
        }
    });
}

#[test]
fn hostile_guest_dropped_during_a_wait_leaves_no_loan_behind() {
    let test = "hostile_guest_dropped_during_a_wait_leaves_no_loan_behind";
    in_child_async!(test, async {
        let engine = GuestEngine::new().expect("an engine");
        let before = process::resources();
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
            assert_ne!(process::arena_mappings(), before.arenas);
            running.abort();
            assert!(running.await.expect_err("aborted").is_cancelled());
        }
        assert_eq!(process::resources(), before);
    });
}

#[test]
fn hostile_changes_after_publishing_never_reach_a_copied_message() {
    let body = [
        fill(1000, 50),
        expect(10, &publish(1000), 0),
        "(memory.fill (global.get $at) (i32.const 9) (i32.const 1000))".to_owned(),
        "(drop (call $wait (i64.const 5000000)))".to_owned(),
    ]
    .concat();
    finishes(
        test_name!("hostile_changes_after_publishing_never_reach_a_copied_message"),
        &body,
        &[(1000, 50)],
    );
}
