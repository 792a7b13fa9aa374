//! How much of an arena a guest sees: all of it, or only the messages that it is attached to.

use std::sync::Arc;

use crate::guest_support::Guest;
use crate::guest_support::bus::{Bus, publish};
use crate::guest_support::child::in_child_async;
use crate::guest_support::codes::DENIED;
use blockcast_broker::{ComponentReport, ExitReason, GuestEngine, Isolation};

/// A guest that opens a subscription with a history of two. Its window of `len` bytes begins at `$w`, and
/// `$seen` reports how many of these bytes are not zero.
fn guest(len: usize, body: &str) -> String {
    format!(
        r#"
        (global $w (mut i32) (i32.const 0))
        (global $s (mut i32) (i32.const 0))
        (func $seen
          (local $at i32) (local $count i64)
          (local.set $at (global.get $w))
          (loop $bytes
            (local.set $count (i64.add (local.get $count) (i64.extend_i32_u (i32.ne (i32.load8_u (local.get $at)) (i32.const 0)))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $bytes (i32.lt_u (local.get $at) (i32.add (global.get $w) (i32.const {len})))))
          (call $report (i32.const 110) (local.get $count)))
        (func $one (param $released i64)
          (call $expect (i32.const 20) (call $poll (global.get $s) (i32.const 4096) (i32.const 32) (local.get $released)) (i32.const 1)))
        (func $release (param $before i64)
          (call $expect (i32.const 21) (call $poll (global.get $s) (i32.const 0) (i32.const 0) (local.get $before)) (i32.const 0)))
        (func $hold (param $index i64) (result i32)
          (call $subscription.hold (global.get $s) (local.get $index) (i32.const 1088)) (call $result))
        (func $unhold (param $hold i32)
          (call $subscription.unhold (global.get $s) (local.get $hold) (i32.const 1088))
          (call $expect (i32.const 22) (call $unit) (i32.const 0)))
        (func (export "run") (result i32)
          (local $h i32) (local $g i32)
          (global.set $s (call $open_with (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 2)))
          (if (i32.lt_s (global.get $s) (i32.const 0)) (then (return (i32.const 1))))
          (global.set $w (call $donate (global.get $s)))
          {body}
          (i32.const 0))"#
    )
}

/// Runs a guest on a publisher of four blocks, which first published messages that fill a block, and then two
/// of the given lengths. Returns the guest's report.
async fn see(
    isolation: Isolation,
    block: usize,
    lens: [usize; 2],
    body: &str,
) -> (Vec<u64>, ComponentReport) {
    let engine = GuestEngine::new().expect("an engine");
    let bus = Bus::new();
    let mut writer = bus.writer_with("topic", block, 4, |config| config.history = 2);
    for _ in 0..8 {
        assert!(publish(&mut writer, &vec![9; block]));
    }
    for (number, len) in lens.into_iter().enumerate() {
        assert!(publish(&mut writer, &vec![number as u8 + 1; len]));
    }
    let len = writer.channel().arena().len();
    let guest = Guest::new(&engine, Arc::new(bus.clone()), &guest(len, body))
        .limits(|limits| limits.isolation = isolation);
    let report = guest.run().await;
    assert_eq!(report.reason, ExitReason::Finished, "{:?}", guest.log.lock());
    (guest.reported('n'), report)
}

/// Block sizes, and the lengths of two messages each: within a page, across pages, mapped, and with blocks
/// that share pages.
const SHAPES: [(usize, [usize; 2]); 6] = [
    (64, [40, 24]),
    (4096, [3000, 4096]),
    (10_000, [9000, 5001]),
    (100_000, [90_000, 70_001]),
    (200_000, [190_000, 140_001]),
    (1 << 20, [1 << 20, 131_072]),
];

/// Looks at nothing, the first message, nothing, the second message, the second held twice, held once, and
/// nothing.
const LOOKS: &str = "
    (call $seen)
    (call $one (i64.const 0)) (call $seen)
    (call $release (i64.const 1)) (call $seen)
    (call $one (i64.const 1)) (call $seen)
    (local.set $h (call $hold (i64.const 1))) (local.set $g (call $hold (i64.const 1)))
    (call $release (i64.const 2)) (call $seen)
    (call $unhold (local.get $h)) (call $seen)
    (call $unhold (local.get $g)) (call $seen)";

#[test]
fn hostile_reads_around_a_message_find_zeros_in_strict_isolation() {
    in_child_async!("hostile_reads_around_a_message_find_zeros_in_strict_isolation", async {
        for (block, lens) in SHAPES {
            for isolation in [Isolation::Strict, Isolation::Copied] {
                let (seen, _) = see(isolation, block, lens, LOOKS).await;
                let [first, second] = lens.map(|len| len as u64);
                let expected = [0, first, 0, second, second, second, 0];
                assert_eq!(seen, expected, "{isolation:?}, blocks of {block} bytes");
            }
        }
    });
}

#[test]
fn arena_isolation_always_shows_the_whole_arena() {
    in_child_async!("arena_isolation_always_shows_the_whole_arena", async {
        for (block, lens) in SHAPES {
            let (seen, report) = see(Isolation::Arena, block, lens, LOOKS).await;
            // Unused blocks are zero, and large blocks are reused before others.
            assert_eq!(seen, [seen[0]; 7], "blocks of {block} bytes");
            assert!(seen[0] >= 3 * block as u64, "blocks of {block} bytes: {seen:?}");
            assert_eq!(report.stats.delivery_copied_bytes, 0);
        }
    });
}

#[test]
fn strict_isolation_copies_short_messages_and_the_ends_of_long_ones() {
    in_child_async!("strict_isolation_copies_short_messages_and_the_ends_of_long_ones", async {
        let both = "(call $one (i64.const 0)) (call $one (i64.const 1))";
        for (block, lens) in SHAPES {
            let (_, report) = see(Isolation::Strict, block, lens, both).await;
            let page = blockcast_blocks::page_size();
            for len in lens {
                assert_eq!(len >= Isolation::STRICT_MAPPED as usize, block >= 200_000);
            }
            let copied = report.stats.delivery_copied_bytes as usize;
            if block >= 200_000 {
                assert!(copied < 4 * page, "{copied}");
            } else {
                assert_eq!(copied, lens[0] + lens[1]);
            }
        }
    });
}

#[test]
fn copied_isolation_maps_nothing() {
    in_child_async!("copied_isolation_maps_nothing", async {
        let both =
            "(call $one (i64.const 0)) (call $one (i64.const 1)) (i32.store (global.get $w) (i32.const 7))";
        for (block, lens) in SHAPES {
            // It also writes to the message, which would be a violation if it were mapped.
            let (_, report) = see(Isolation::Copied, block, lens, both).await;
            assert_eq!(report.stats.delivery_copied_bytes as usize, lens[0] + lens[1]);
        }
    });
}

#[test]
fn messages_that_share_a_page_are_hidden_one_at_a_time() {
    in_child_async!("messages_that_share_a_page_are_hidden_one_at_a_time", async {
        let body = "(call $one (i64.const 0)) (call $one (i64.const 0)) (call $seen)
            (call $release (i64.const 1)) (call $seen) (call $release (i64.const 2)) (call $seen)";
        for (block, lens) in SHAPES {
            for isolation in [Isolation::Strict, Isolation::Copied] {
                let (seen, _) = see(isolation, block, lens, body).await;
                let [first, second] = lens.map(|len| len as u64);
                assert_eq!(seen, [first + second, second, 0], "{isolation:?}, blocks of {block} bytes");
            }
        }
    });
}

#[test]
fn leaving_hides_messages_that_are_not_held_in_strict_isolation() {
    in_child_async!("leaving_hides_messages_that_are_not_held_in_strict_isolation", async {
        let body = "(call $one (i64.const 0)) (call $one (i64.const 0))
            (local.set $h (call $hold (i64.const 0)))
            (call $subscription.leave (global.get $s)) (call $seen)
            (call $unhold (local.get $h)) (call $seen)";
        for (block, lens) in SHAPES {
            let (seen, _) = see(Isolation::Strict, block, lens, body).await;
            assert_eq!(seen, [lens[0] as u64, 0], "blocks of {block} bytes");
        }
    });
}

#[test]
fn a_strictly_isolated_guest_cannot_join_an_unsealed_topic() {
    in_child_async!("a_strictly_isolated_guest_cannot_join_an_unsealed_topic", async {
        let engine = GuestEngine::new().expect("an engine");
        let body = format!(
            r#"(func (export "run") (result i32)
              (call $expect (i32.const 1) (call $open_with (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 0)) (i32.const {DENIED}))
              (i32.const 0))"#
        );
        let guest = Guest::new(&engine, Arc::new(Bus::unsealed()), &body)
            .limits(|limits| limits.isolation = Isolation::Strict);
        assert_eq!(guest.run().await.reason, ExitReason::Finished, "{:?}", guest.log.lock());
    });
}

#[tokio::test]
async fn one_poll_copies_a_bounded_number_of_bytes() {
    const LEN: usize = 10 << 20;
    // The batch has room for both.
    let poll = "(call $poll (global.get $s) (i32.const 4096) (i32.const 64) (i64.const 0))";
    let body = format!(
        "(call $expect (i32.const 1) {poll} (i32.const 1)) (call $expect (i32.const 2) {poll} (i32.const 1))"
    );
    let (_, report) = see(Isolation::Copied, LEN, [LEN, LEN], &body).await;
    assert_eq!((report.stats.received, report.stats.delivery_copied_bytes), (2, 2 * LEN as u64));
}
