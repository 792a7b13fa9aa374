//! Address space that a guest donates. A wrong donation is refused or harms only the guest.

use std::sync::Arc;

use super::KIND;
use crate::guest_support::Guest;
use crate::guest_support::bus::{Bus, publish, subscribed};
use crate::guest_support::child::in_child_async;
use crate::guest_support::codes::{LIMIT, OUT_OF_BOUNDS, WRONG_SIZE};
use blockcast_broker::{ComponentLimits, ExitReason, GuestEngine};

/// Runs `body` as the guest's `run`, with a subscription in `$s` to a publisher of 64 blocks of 4 KiB, which
/// publishes `block` again and again.
async fn run_with(limits: impl FnOnce(&mut ComponentLimits), body: &str) -> (ExitReason, Guest) {
    let engine = GuestEngine::new().expect("an engine");
    let bus = Bus::new();
    let mut writer = bus.writer("topic", 4096, 64);
    let body = format!(
        r#"(func (export "run") (result i32) (local $s i32) (local $t i32) (local $a i32) (local $n i32)
          (local.set $s (call $subscribe)) {body} (i32.const 0))"#
    );
    let guest = KIND.guest(&engine, Arc::new(bus.clone()), &body).limits(limits);
    let running = guest.spawn();
    while !running.is_finished() {
        publish(&mut writer, b"block");
        tokio::task::yield_now().await;
    }
    (running.await.expect("no panic").reason, guest)
}

async fn finishes(body: &str) {
    let (reason, guest) = run_with(|_| (), body).await;
    assert_eq!(reason, ExitReason::Finished, "{:?}", guest.log.lock());
}

/// Code that calls `add-storage` for an area and checks the result.
fn donate(address: u64, size: u64, expected: i32) -> String {
    format!(
        "(call $expect (i32.const {}) (call $add_storage (local.get $s) (i32.const {address}) (i32.const {size})) (i32.const {expected}))",
        address >> 16
    )
}

#[tokio::test]
async fn hostile_unaligned_and_empty_donations_are_refused() {
    for (address, size) in [(4096, 65536), (65536, 100), (65536, 0), (1, 65536), (65536, 65537)] {
        finishes(&donate(address, size, WRONG_SIZE)).await;
    }
}

#[tokio::test]
async fn hostile_donations_outside_the_memory_are_refused() {
    // The memory has 4 pages.
    for (address, size) in
        [(4 << 16, 65536), (3 << 16, 2 << 16), (0, 5 << 16), (0xffff_0000, 65536), (65536, 0xffff_0000)]
    {
        finishes(&donate(address, size, OUT_OF_BOUNDS)).await;
    }
}

#[tokio::test]
async fn hostile_donations_that_wrap_around_are_refused() {
    for (address, size) in [(0xffff_0000, 0xffff_0000), (0x8000_0000, 0x8000_0000), (0xffff_0000, 0x2_0000)] {
        finishes(&donate(address, size, OUT_OF_BOUNDS)).await;
    }
}

#[tokio::test]
async fn hostile_donations_that_overlap_any_other_are_refused() {
    let mut body = donate(2 << 16, 1 << 16, 0);
    for (address, size) in [(2 << 16, 1 << 16), (1 << 16, 2 << 16), (2 << 16, 2 << 16), (0, 4 << 16)] {
        body += &donate(address, size, OUT_OF_BOUNDS);
    }
    body += "(local.set $s (call $subscribe))";
    body += &donate(2 << 16, 1 << 16, OUT_OF_BOUNDS);
    body += &donate(3 << 16, 1 << 16, 0);
    finishes(&body).await;
}

#[tokio::test]
async fn hostile_donations_beyond_the_budget_are_refused() {
    let body = donate(65536, 65536, 0) + &donate(2 << 16, 65536, LIMIT);
    let (reason, _) = run_with(|limits| limits.windows = 65536, &body).await;
    assert_eq!(reason, ExitReason::Finished);
}

#[tokio::test]
async fn a_donation_too_small_for_an_arena_is_kept_and_poll_asks_for_more() {
    // 64 blocks of 4 KiB are 4 pages.
    let body = r#"
      (call $expect (i32.const 1) (call $subscription.minimum-size (local.get $s)) (i32.const 262144))
      (local.set $a (memory.grow (i32.const 8)))
      (call $expect (i32.const 2) (call $add_storage (local.get $s) (i32.shl (local.get $a) (i32.const 16)) (i32.const 65536)) (i32.const 0))
      (call $expect (i32.const 3) (call $poll (local.get $s) (i32.const 2048) (i32.const 32) (i64.const 0)) (i32.const -1))
      (call $expect (i32.const 4) (call $subscription.minimum-size (local.get $s)) (i32.const 262144))
      (call $expect (i32.const 5) (call $add_storage (local.get $s) (i32.shl (i32.add (local.get $a) (i32.const 1)) (i32.const 16)) (i32.const 262144)) (i32.const 0))
      (call $expect (i32.const 6) (call $subscription.minimum-size (local.get $s)) (i32.const 0))
      (call $expect (i32.const 7) (i32.load8_u (i32.load offset=16 (call $next (local.get $s)))) (i32.const 98))
    "#;
    finishes(body).await;
}

#[tokio::test]
async fn the_memory_may_exceed_its_limit_by_the_requested_window_and_no_more() {
    let body = r#"
      (call $expect (i32.const 1) (memory.grow (i32.const 1)) (i32.const -1))
      (call $expect (i32.const 2) (call $subscription.minimum-size (local.get $s)) (i32.const 262144))
      (call $expect (i32.const 3) (memory.grow (i32.const 5)) (i32.const -1))
      (call $expect (i32.const 4) (i32.load8_u (i32.load offset=16 (call $next (local.get $s)))) (i32.const 98))
      (call $expect (i32.const 5) (memory.grow (i32.const 1)) (i32.const -1))
    "#;
    let (reason, guest) = run_with(|limits| limits.memory = 4 << 16, body).await;
    assert_eq!(reason, ExitReason::Finished, "{:?}", guest.log.lock());
}

#[tokio::test]
async fn memory_is_zeroed_and_writable_once_the_subscription_is_dropped() {
    let body = r#"
      (local.set $a (i32.load offset=16 (call $next (local.get $s))))
      (call $expect (i32.const 1) (i32.load8_u (local.get $a)) (i32.const 98))
      (call $subscription.drop (local.get $s))
      (call $expect (i32.const 2) (i32.load8_u (local.get $a)) (i32.const 0))
      (i32.store (local.get $a) (i32.const 7))
      (call $expect (i32.const 3) (i32.load (local.get $a)) (i32.const 7))
      ;; The same range can be donated again, which discards what was written there.
      (global.set $seen (i64.const 0))
      (local.set $s (call $subscribe))
      (call $expect (i32.const 4) (call $add_storage (local.get $s) (i32.and (local.get $a) (i32.const 0xffff0000)) (i32.const 262144)) (i32.const 0))
      (call $expect (i32.const 5) (i32.load8_u (i32.load offset=16 (call $next (local.get $s)))) (i32.const 98))
    "#;
    finishes(body).await;
}

#[tokio::test]
async fn memory_grows_while_windows_are_mapped() {
    let body = r#"
      (local.set $a (i32.load offset=16 (call $next (local.get $s))))
      (local.set $n (memory.grow (i32.const 100)))
      (i32.store (i32.shl (local.get $n) (i32.const 16)) (i32.const 7))
      (call $expect (i32.const 1) (i32.load8_u (local.get $a)) (i32.const 98))
      (call $expect (i32.const 2) (i32.load8_u (i32.load offset=16 (call $next (local.get $s)))) (i32.const 98))
    "#;
    finishes(body).await;
}

#[test]
fn hostile_donation_of_the_guests_own_data_harms_only_the_guest() {
    in_child_async!("hostile_donation_of_the_guests_own_data_harms_only_the_guest", async {
        // All of its memory, including the return areas of the helpers, becomes a window during the call.
        let (reason, _) = run_with(|_| (), &donate(0, 4 << 16, 0)).await;
        assert!(matches!(reason, ExitReason::ReadOnlyViolation { .. }), "{reason:?}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn arenas_are_mapped_side_by_side_even_across_donations() {
    let engine = GuestEngine::new().expect("an engine");
    let bus = Bus::new();
    // Each arena fills a page of wasm.
    let mut writers: Vec<_> =
        (1..=3).map(|_| bus.writer_with("topic", 4096, 16, |config| config.history = 1)).collect();
    for (number, writer) in writers.iter_mut().enumerate() {
        assert!(publish(writer, &vec![number as u8 + 1; 4096]));
    }
    let body = format!(
        r#"(func (export "run") (result i32) (local $s i32) (local $a i32) (local $n i32) (local $seen i32)
          (local.set $s (call $open_with (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 1)))
          (call $expect (i32.const 10) (call $subscription.minimum-size (local.get $s)) (i32.const 0x30000))
          (local.set $a (call $grow (i32.const 0x30000)))
          {}{}{}
          (call $expect (i32.const 11) (call $subscription.minimum-size (local.get $s)) (i32.const 0))
          ;; Reads all three as one range.
          (loop $bytes
            (if (i32.load8_u (i32.add (local.get $a) (local.get $n)))
              (then (local.set $seen (i32.add (local.get $seen) (i32.load8_u (i32.add (local.get $a) (local.get $n)))))))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $bytes (i32.lt_u (local.get $n) (i32.const 0x30000))))
          (call $expect (i32.const 12) (local.get $seen) (i32.const 24576))
          (i32.const 0))"#,
        "(call $expect (i32.const 20) (call $add_storage (local.get $s) (local.get $a) (i32.const 0x10000)) (i32.const 0))",
        "(call $expect (i32.const 21) (call $add_storage (local.get $s) (i32.add (local.get $a) (i32.const 0x20000)) (i32.const 0x10000)) (i32.const 0))",
        "(call $expect (i32.const 22) (call $add_storage (local.get $s) (i32.add (local.get $a) (i32.const 0x10000)) (i32.const 0x10000)) (i32.const 0))",
    );
    let guest = KIND.guest(&engine, Arc::new(bus.clone()), &body).limits(|limits| {
        limits.isolation = blockcast_broker::Isolation::Arena;
    });
    assert_eq!(guest.run().await.reason, ExitReason::Finished, "{:?}", guest.log.lock());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_arena_can_span_adjacent_donations() {
    let body = [
        "(local.set $a (call $grow (i32.const 0x40000)))",
        "(loop $parts
           (call $expect (i32.const 10) (call $add_storage (local.get $s) (i32.add (local.get $a) (local.get $n)) (i32.const 0x10000)) (i32.const 0))
           (local.set $n (i32.add (local.get $n) (i32.const 0x10000)))
           (br_if $parts (i32.lt_u (local.get $n) (i32.const 0x40000))))
         (call $expect (i32.const 11) (call $subscription.minimum-size (local.get $s)) (i32.const 0))
         (call $expect (i32.const 12) (i32.load8_u (i32.load offset=16 (call $next (local.get $s)))) (i32.const 98))",
    ];
    finishes(&body.concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_publisher_needs_no_further_donation() {
    let engine = GuestEngine::new().expect("an engine");
    let bus = Bus::new();
    let mut writer = bus.writer_with("topic", 4096, 2, |config| config.max_blocks = Some(64));
    let body = r#"(func (export "run") (result i32) (local $s i32) (local $i i32)
      (local.set $s (call $subscribe))
      (drop (call $donate (local.get $s)))
      (loop $messages
        (drop (call $wait (i64.const 1000000)))
        (local.set $i (i32.add (local.get $i) (call $poll (local.get $s) (i32.const 4096) (i32.const 1024) (i64.const 0))))
        (br_if $messages (i32.lt_s (local.get $i) (i32.const 32))))
      (call $expect (i32.const 10) (call $subscription.minimum-size (local.get $s)) (i32.const 0))
      (i32.const 0))"#;
    let guest = KIND.guest(&engine, Arc::new(bus.clone()), body);
    let running = guest.spawn();
    subscribed(&writer, 1).await;
    // The guest releases nothing, so each message needs a block of its own.
    for number in 0..32_u8 {
        assert!(publish(&mut writer, &[number; 4096]), "the pool grows");
    }
    assert_eq!(running.await.expect("no panic").reason, ExitReason::Finished, "{:?}", guest.log.lock());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_removal_of_storage_is_refused_while_something_is_mapped_there() {
    let remove = |address: &str, size: u32, expected: i32| {
        format!(
            "(call $subscription.remove-storage (local.get $s) {address} (i32.const {size}) (i32.const 1088))
             (call $expect (i32.const 30) (call $unit) (i32.const {expected}))"
        )
    };
    let body = [
        "(local.set $a (call $donate (local.get $s)))
         (local.set $n (call $grow (i32.const 0x20000)))
         (call $expect (i32.const 10) (call $add_storage (local.get $s) (local.get $n) (i32.const 0x20000)) (i32.const 0))",
        &remove("(local.get $a)", 65536, -2),
        &remove("(local.get $n)", 0, WRONG_SIZE),
        &remove("(local.get $n)", 4096, WRONG_SIZE),
        &remove("(i32.const 0)", 65536, OUT_OF_BOUNDS),
        &remove("(local.get $n)", 0x30000, OUT_OF_BOUNDS),
        &remove("(i32.const 0xffff0000)", 0xffff_0000, OUT_OF_BOUNDS),
        "(i32.store (local.get $n) (i32.const 5))",
        &remove("(local.get $n)", 65536, 0),
        "(call $expect (i32.const 31) (i32.load (local.get $n)) (i32.const 0))",
        &remove("(local.get $n)", 65536, OUT_OF_BOUNDS),
        // The range can be donated again, to another subscription.
        "(local.set $t (call $subscribe))
         (call $expect (i32.const 32) (call $add_storage (local.get $t) (local.get $n) (i32.const 0x10000)) (i32.const 0))",
    ];
    finishes(&body.concat()).await;
}
