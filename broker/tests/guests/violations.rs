//! A guest that writes to a block that it reads is ended, and nobody else is affected.

use std::sync::Arc;

use super::KIND;
use crate::guest_support::bus::{Bus, publish, subscribed};
use crate::guest_support::child::in_child_async;
use crate::guest_support::wat::violator;
use crate::guest_support::{assert_violation, process};
use blockcast_broker::{ExitReason, GuestEngine, GuestProgram, LoadError};

const BLOCK: usize = 4096;
const BLOCKS: u32 = 64;
const MESSAGES: usize = 200;

/// A guest that counts all messages and sums their first bytes.
const WITNESS: &str = r#"
    (func (export "run") (result i32)
      (local $s i32) (local $r i32) (local $count i64) (local $sum i64)
      (local.set $s (call $subscribe))
      (loop $messages
        (local.set $r (call $next (local.get $s)))
        (if (i32.eqz (local.get $r)) (then
          (call $report (i32.const 99) (local.get $count))
          (call $report (i32.const 115) (local.get $sum))
          (return (i32.const 0))))
        (local.set $count (i64.add (local.get $count) (i64.const 1)))
        (local.set $sum (i64.add (local.get $sum) (i64.load8_u (i32.load offset=16 (local.get $r)))))
        (br $messages))
      unreachable)
"#;

/// Runs the violator together with a guest and a native subscriber, and checks that they receive everything
/// unchanged.
async fn run_violator(body: String) -> ExitReason {
    let engine = GuestEngine::new().expect("an engine");
    let before = process::resources();
    let reason = {
        let bus = Bus::new();
        let mut writer = bus.writer("topic", BLOCK, BLOCKS);
        let mut guest = KIND.guest(&engine, Arc::new(bus.clone()), &body);
        guest.setup.parameters.insert("topic".to_owned(), "a value of some length".to_owned());
        let witness = KIND.guest(&engine, Arc::new(bus.clone()), WITNESS);
        let mut own = bus.reader("topic");
        let (violating, witnessing) = (guest.spawn(), witness.spawn());
        subscribed(&writer, 3).await;
        let mut received = 0;
        for number in 0..MESSAGES {
            while !publish(&mut writer, &[number as u8; BLOCK]) {
                tokio::task::yield_now().await;
            }
            if let Ok(message) = own.receive() {
                assert!(
                    message.bytes().iter().all(|&byte| byte == received as u8),
                    "message {received} is intact"
                );
                received += 1;
            }
        }
        drop(writer);
        while let Ok(message) = own.receive() {
            assert!(
                message.bytes().iter().all(|&byte| byte == received as u8),
                "message {received} is intact"
            );
            received += 1;
        }
        assert_eq!(received, MESSAGES);
        let report = witnessing.await.expect("no panic");
        assert_eq!(report.reason, ExitReason::Finished);
        assert_eq!(witness.reported('c'), [MESSAGES as u64]);
        assert_eq!(witness.reported('s'), [(0..MESSAGES).map(|number| number as u64 & 0xff).sum::<u64>()]);
        violating.await.expect("no panic").reason
    };
    assert_eq!(process::resources(), before);
    reason
}

/// The most bytes that the host writes for a result.
const RESULT: u64 = 64;

macro_rules! violations {
    ($($name:ident, $bytes:expr, $violation:expr;)*) => {$(
        #[test]
        fn $name() {
            in_child_async!(stringify!($name), async {
                assert_violation(&run_violator(violator($violation)).await, "topic", $bytes, $violation);
            });
        }
    )*};
}

// Each with the bytes that the write covers. The violation names one of them.
violations! {
    hostile_store_is_a_violation, 1..2, "(i32.store8 offset=1 (local.get $a) (i32.const 88))";
    hostile_store_across_two_pages_is_a_violation, 4092..4100, "(i64.store offset=4092 (local.get $a) (i64.const -1))";
    hostile_vector_store_is_a_violation, 16..32, "(v128.store offset=16 (local.get $a) (v128.const i64x2 1 2))";
    hostile_store_before_a_trap_is_a_violation, 0..1, "(i32.store8 (local.get $a) (i32.const 88)) unreachable";
    hostile_store_before_the_return_is_a_violation, 0..1, "(i32.store8 (local.get $a) (i32.const 88)) (return (i32.const 0))";
    hostile_store_before_a_host_call_is_a_violation, 0..1,
        "(i32.store8 (local.get $a) (i32.const 88)) (drop (call $wait (i64.const -1)))";
    hostile_constant_fill_is_a_violation, 0..64, "(memory.fill (local.get $a) (i32.const 88) (i32.const 64))";
    hostile_dynamic_fill_of_the_whole_arena_is_a_violation, 0..4096 * 64,
        "(memory.fill (local.get $a) (i32.const 88) (i32.mul (i32.const 4096) (i32.const 64)))";
    hostile_constant_copy_is_a_violation, 0..16, "(memory.copy (local.get $a) (i32.const 16) (i32.const 16))";
    hostile_dynamic_copy_is_a_violation, 0..70_000,
        "(local.set $i (i32.const 70000)) (memory.copy (local.get $a) (i32.const 16) (local.get $i))";
    hostile_copy_within_the_window_is_a_violation, 0..40_960,
        "(memory.copy (local.get $a) (i32.add (local.get $a) (i32.const 4096)) (i32.const 40960))";
    hostile_init_from_a_data_segment_is_a_violation, 0..12,
        "(memory.init $passive (local.get $a) (i32.const 0) (i32.const 12))";
    hostile_return_area_in_a_block_is_a_violation, 0..RESULT,
        "(call $subscription.poll (local.get $s) (i32.const 2048) (i32.const 32) (i64.const 0) (local.get $a))";
    hostile_allocation_for_the_host_in_a_block_is_a_violation, 0..RESULT,
        "(global.set $next_allocation (local.get $a)) (call $parameter (i32.const 16) (i32.const 5) (i32.const 1088))";
    hostile_stores_all_over_the_arena_are_a_violation, 0..1,
        "(loop $stores
           (i32.store8 (i32.add (local.get $a) (i32.and (i32.mul (local.get $i) (i32.const 8192)) (i32.const 0x3ffff))) (i32.const 88))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br $stores))";
    hostile_read_and_write_of_one_word_is_a_violation, 0..4,
        "(i32.store (local.get $a) (i32.add (i32.load (local.get $a)) (i32.const 1)))";
}

#[test]
fn hostile_areas_in_a_window_are_refused_before_anything_is_written() {
    in_child_async!("hostile_areas_in_a_window_are_refused_before_anything_is_written", async {
        let violation = r#"
          ;; out-of-bounds: as a batch, partly as a batch, as the source of a message
          (call $expect (i32.const 10) (call $poll (local.get $s) (local.get $a) (i32.const 32) (i64.const 0)) (i32.const -12))
          (call $expect (i32.const 11) (call $poll (local.get $s) (i32.sub (local.get $a) (i32.const 32)) (i32.const 64) (i64.const 0))
            (i32.const -12))
          (call $expect (i32.const 12) (call $publish (call $open_publisher (i32.const 64) (i32.const 2)) (local.get $a) (i32.const 8))
            (i32.const -12))
          ;; Texts there are ignored.
          (call $log (i32.const 0) (local.get $a) (i32.const 8))
          (call $fail (local.get $a) (i32.const 8))
          (return (i32.const 1))
        "#;
        let expected = ExitReason::Failed("it did not say why".to_owned());
        assert_eq!(run_violator(violator(violation)).await, expected);
    });
}

#[test]
fn hostile_atomic_write_is_a_violation_or_its_code_is_refused() {
    in_child_async!("hostile_atomic_write_is_a_violation_or_its_code_is_refused", async {
        let body = violator("(drop (i32.atomic.rmw.add (local.get $a) (i32.const 1)))");
        let engine = GuestEngine::new().expect("an engine");
        match GuestProgram::load(&engine, &KIND.form.source("test", &body)) {
            // The engine is built without threads and refuses atomic instructions.
            Err(error) => assert!(matches!(error, LoadError::Invalid { .. }), "{error}"),
            Ok(_) => {
                assert_violation(&run_violator(body).await, "topic", 0..4, "an atomic addition");
            }
        }
    });
}
