//! How guests start and end, and that they leave nothing behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::KIND;
use crate::guest_support::assert_trapped;
use crate::guest_support::bus::{Bus, publish};
use crate::guest_support::child::in_child_async;
use crate::guest_support::{Form, Guest, process};
use blockcast_broker::{ExitReason, GuestEngine, GuestProgram, Limit, LoadError};

const MS: Duration = Duration::from_millis(1);

fn guest(body: &str) -> Guest {
    let engine = GuestEngine::new().expect("an engine");
    KIND.guest(&engine, Arc::new(Bus::new()), body)
}

/// Limits the computing time, not the time on the clock. Endless guests use it up, the others need almost
/// none.
async fn end_of(body: &str) -> ExitReason {
    guest(body).limits(|limits| limits.compute = Some(1000 * MS)).run().await.reason
}

#[tokio::test]
async fn a_guest_that_returns_has_finished_or_failed_with_its_message() {
    assert_eq!(end_of(r#"(func (export "run") (result i32) (i32.const 0))"#).await, ExitReason::Finished);
    let fails =
        r#"(func (export "run") (result i32) (call $fail (i32.const 16) (i32.const 5)) (i32.const 1))"#;
    assert_eq!(end_of(fails).await, ExitReason::Failed("topic".to_owned()));
}

#[tokio::test]
async fn a_trap_reports_its_cause_its_place_and_the_guests_message() {
    let body = r#"(func $inner unreachable)
      (func (export "run") (result i32) (call $fail (i32.const 16) (i32.const 5)) (call $inner) (i32.const 1))"#;
    let reason = end_of(body).await;
    assert_trapped(&reason, "topic");
    assert_trapped(&reason, "unreachable");
    let ExitReason::Trapped { backtrace, .. } = reason else { unreachable!() };
    assert!(backtrace.contains("inner"), "{backtrace}");
}

#[tokio::test]
async fn hostile_endless_loop_ends_with_its_computing_time() {
    let reason =
        end_of(r#"(func (export "run") (result i32) (loop $forever (br $forever)) unreachable)"#).await;
    assert_eq!(reason, ExitReason::Killed(Limit::Compute));
}

#[tokio::test]
async fn hostile_endless_host_calls_end_with_the_computing_time() {
    let body =
        r#"(func (export "run") (result i32) (loop $forever (drop (call $now)) (br $forever)) unreachable)"#;
    assert_eq!(end_of(body).await, ExitReason::Killed(Limit::Compute));
}

#[tokio::test]
async fn hostile_endless_recursion_is_a_trap() {
    let body =
        r#"(func $deeper (call $deeper)) (func (export "run") (result i32) (call $deeper) (i32.const 0))"#;
    assert_trapped(&end_of(body).await, "stack exhausted");
}

#[tokio::test]
async fn hostile_endless_start_function_ends_with_the_start_up_time() {
    let body = r#"(func $start (loop $forever (br $forever))) (start $start)
      (func (export "run") (result i32) (i32.const 0))"#;
    let guest = guest(body).limits(|limits| limits.start_up = 50 * MS);
    assert_eq!(guest.run().await.reason, ExitReason::Killed(Limit::StartUp));
}

#[tokio::test]
async fn hostile_start_function_is_refused_topics_and_windows() {
    let body = r#"
      (func $start
        (call $expect (i32.const 1) (call $open_with (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 0)) (i32.const -5))
        (call $expect (i32.const 2) (call $open_publisher (i32.const 64) (i32.const 2)) (i32.const -5)))
      (start $start)
      (func (export "run") (result i32) (i32.const 0))"#;
    assert_eq!(end_of(body).await, ExitReason::Finished);
}

#[tokio::test]
async fn hostile_memory_growth_is_refused_at_the_limit() {
    let body = r#"
      (func (export "run") (result i32)
        (loop $grow (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
        (call $report (i32.const 112) (i64.extend_i32_u (memory.size)))
        (i32.const 0))"#;
    let guest = guest(body).limits(|limits| limits.memory = 20 * 65536);
    assert_eq!(guest.run().await.reason, ExitReason::Finished);
    assert_eq!(guest.reported('p'), [20]);
}

#[tokio::test]
async fn hostile_initial_memory_beyond_the_limit_prevents_the_start() {
    let guest =
        guest(r#"(func (export "run") (result i32) (i32.const 0))"#).limits(|limits| limits.memory = 65536);
    let reason = guest.run().await.reason;
    assert!(matches!(&reason, ExitReason::NotStarted(text) if text.contains("memory")), "{reason:?}");
}

#[tokio::test]
async fn hostile_second_memory_is_refused() {
    let body = r#"(memory 1) (func (export "run") (result i32) (i32.const 0))"#;
    // Refused without running it.
    let engine = GuestEngine::new().expect("an engine");
    let refused = GuestProgram::load(&engine, &KIND.form.source("test", body)).expect_err("refused");
    assert!(matches!(&refused, LoadError::NoMemory { .. }), "{refused}");
}

#[tokio::test]
async fn a_component_may_have_empty_memories_that_never_grow() {
    if KIND.form == Form::Module {
        // The host finds a module's memory by its name, and a module may have only one.
        return;
    }
    let body = r#"(memory $empty 0)
      (func (export "run") (result i32)
        (if (i32.ne (memory.grow $empty (i32.const 1)) (i32.const -1)) (then unreachable))
        (if (memory.size $empty) (then unreachable))
        (call $report (i32.const 112) (i64.const 7))
        (i32.const 0))"#;
    let guest = guest(body);
    assert_eq!(guest.run().await.reason, ExitReason::Finished);
    assert_eq!(guest.reported('p'), [7], "host calls still reach the memory with pages");
}

#[tokio::test]
async fn hostile_forged_and_stale_handles_are_traps() {
    let forged = r#"(func (export "run") (result i32) (drop (call $subscription.minimum-size (i32.const 77))) (i32.const 0))"#;
    assert_trapped(&end_of(forged).await, "handle");
    let wrong_type = r#"(func (export "run") (result i32)
      (drop (call $publisher.block-size (call $subscribe))) (i32.const 0))"#;
    assert_trapped(&end_of(wrong_type).await, "handle");
    let stale = r#"(func (export "run") (result i32) (local $s i32)
      (local.set $s (call $subscribe))
      (call $subscription.drop (local.get $s))
      (drop (call $subscription.minimum-size (local.get $s))) (i32.const 0))"#;
    assert_trapped(&end_of(stale).await, "handle");
    let twice = r#"(func (export "run") (result i32) (local $s i32)
      (local.set $s (call $subscribe))
      (call $subscription.drop (local.get $s)) (call $subscription.drop (local.get $s)) (i32.const 0))"#;
    assert_trapped(&end_of(twice).await, "handle");
}

#[tokio::test]
async fn hostile_flood_of_log_lines_is_cut_short() {
    let body = r#"(func (export "run") (result i32) (local $i i32)
      (loop $again
        (call $log (i32.const 2) (i32.const 16) (i32.const 5))
        (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5000))))
      (i32.const 0))"#;
    let guest = guest(body);
    let began = Instant::now();
    assert_eq!(guest.run().await.reason, ExitReason::Finished);
    let allowed = 1000 + began.elapsed().as_millis() as usize;
    assert!(guest.log.lock().unwrap().len() <= allowed + 10);
}

#[tokio::test]
async fn hostile_texts_that_are_huge_invalid_or_outside_the_memory_are_traps() {
    let outside = r#"(func (export "run") (result i32) (call $log (i32.const 2) (i32.const -8) (i32.const 100)) (i32.const 0))"#;
    assert_trapped(&end_of(outside).await, "out of bounds");
    let huge = r#"(func (export "run") (result i32)
      (drop (memory.grow (i32.const 100)))
      (call $log (i32.const 2) (i32.const 0) (i32.const 2000000)) (i32.const 0))"#;
    assert_trapped(&end_of(huge).await, "too much");
    let no_text = r#"(func (export "run") (result i32)
      (i32.store8 (i32.const 4096) (i32.const 255))
      (call $log (i32.const 2) (i32.const 4096) (i32.const 1)) (i32.const 0))"#;
    assert_trapped(&end_of(no_text).await, "utf-8");
    let no_level = r#"(func (export "run") (result i32) (call $log (i32.const 77) (i32.const 16) (i32.const 5)) (i32.const 0))"#;
    assert_trapped(&end_of(no_level).await, "discriminant");
}

#[tokio::test]
async fn a_waiting_guest_is_cancelled_at_once() {
    let waits = r#"(func (export "run") (result i32) (drop (call $subscribe)) (drop (call $wait (i64.const -1))) (i32.const 0))"#;
    let guest = guest(waits);
    let running = guest.spawn();
    tokio::time::sleep(20 * MS).await;
    guest.setup.control.cancel();
    assert_eq!(running.await.expect("no panic").reason, ExitReason::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_computing_guest_is_cancelled_within_a_few_ticks() {
    let guest = guest(r#"(func (export "run") (result i32) (loop $forever (br $forever)) unreachable)"#);
    let running = guest.spawn();
    tokio::time::sleep(20 * MS).await;
    guest.setup.control.cancel();
    assert_eq!(running.await.expect("no panic").reason, ExitReason::Cancelled);
}

#[tokio::test]
async fn a_shutdown_request_ends_one_wait_and_starts_the_grace_period() {
    let finishes = r#"(func (export "run") (result i32)
      (call $expect (i32.const 1) (call $shutdown-requested) (i32.const 0))
      (call $report (i32.const 114) (i64.const 1))
      (call $expect (i32.const 2) (call $wait (i64.const -1)) (i32.const 4))
      (call $expect (i32.const 3) (call $shutdown-requested) (i32.const 1))
      (call $expect (i32.const 4) (call $wait (i64.const 1000)) (i32.const 2))
      (i32.const 0))"#;
    let guest_ = guest(finishes);
    let running = guest_.spawn();
    while guest_.reported('r').is_empty() {
        assert!(!running.is_finished(), "{:?}", guest_.log.lock());
        tokio::time::sleep(MS).await;
    }
    guest_.setup.control.request_shutdown();
    assert_eq!(running.await.expect("no panic").reason, ExitReason::Finished);

    let goes_on = r#"(func (export "run") (result i32) (loop $again (drop (call $wait (i64.const -1))) (br $again)) unreachable)"#;
    let guest = guest(goes_on).limits(|limits| limits.shutdown_grace = 20 * MS);
    let running = guest.spawn();
    guest.setup.control.request_shutdown();
    assert_eq!(running.await.expect("no panic").reason, ExitReason::Killed(Limit::ShutdownGrace));
}

#[tokio::test]
async fn the_run_time_limit_ends_a_guest_that_waits() {
    let guest =
        guest(r#"(func (export "run") (result i32) (drop (call $wait (i64.const -1))) (i32.const 0))"#)
            .limits(|limits| limits.run_time = Some(20 * MS));
    assert_eq!(guest.run().await.reason, ExitReason::Killed(Limit::RunTime));
}

#[tokio::test]
async fn a_wait_times_out_and_a_wait_of_zero_returns_at_once() {
    let body = r#"(func (export "run") (result i32)
      (call $expect (i32.const 1) (call $wait (i64.const 2000000)) (i32.const 2))
      (call $expect (i32.const 2) (call $wait (i64.const 0)) (i32.const 2))
      (i32.const 0))"#;
    assert_eq!(end_of(body).await, ExitReason::Finished);
}

/// Every way to end while messages are attached and held.
const ENDS: [&str; 6] = [
    "(i32.const 0) return",
    "unreachable",
    "(loop $forever (br $forever))",
    "(drop (call $wait (i64.const -1)))",
    "(call $subscription.drop (local.get $s))",
    "(call $subscription.leave (local.get $s)) unreachable",
];

#[test]
fn a_guest_leaves_nothing_behind_however_it_ends() {
    in_child_async!("a_guest_leaves_nothing_behind_however_it_ends", async {
        let engine = GuestEngine::new().expect("an engine");
        let mut first = None;
        for round in 0..4 {
            for end in ENDS {
                let bus = Bus::new();
                let mut writer = bus.writer("topic", 4096, 4);
                let body = format!(
                    r#"(func (export "run") (result i32) (local $s i32)
                      (local.set $s (call $subscribe))
                      (drop (call $next (local.get $s)))
                      (call $subscription.hold (local.get $s) (i64.const 0) (i32.const 1088))
                      (call $expect (i32.const 1) (call $result) (i32.const 0))
                      (drop (call $next (local.get $s)))
                      {end}
                      (i32.const 0))"#
                );
                let guest = KIND
                    .guest(&engine, Arc::new(bus.clone()), &body)
                    .limits(|limits| (limits.compute, limits.run_time) = (Some(20 * MS), Some(400 * MS)));
                let running = guest.spawn();
                // On a busy machine, its time may be used up before it subscribes.
                while writer.channel().stats().subscribers.is_empty() && !running.is_finished() {
                    tokio::task::yield_now().await;
                }
                for _ in 0..2 {
                    assert!(publish(&mut writer, b"block"));
                }
                running.await.expect("no panic");
                drop(guest);
                assert_eq!(writer.reclaim(), 4, "all blocks have returned after {end}");
                drop((writer, bus));
                let now = process::resources();
                assert_eq!(now.arenas, [], "mappings are gone after {end}");
                // The first round also starts threads of the runtime.
                if round == 1 {
                    first = Some(now);
                } else if let Some(first) = &first {
                    assert_eq!(&now, first, "after {end}");
                }
            }
        }
    });
}
