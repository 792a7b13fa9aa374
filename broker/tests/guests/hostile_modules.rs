//! Core modules that break rules that only core modules have. [`modules`](super::modules) tests what they
//! share with components.

use std::sync::Arc;
use std::time::Duration;

use crate::guest_support::assert_trapped;
use crate::guest_support::bus::Bus;
use crate::guest_support::child::in_child_async;
use crate::guest_support::wat::violator;
use crate::guest_support::{Form, Guest, assert_violates, process};
use blockcast_broker::{ExitReason, GuestEngine, GuestProgram, GuestSource, Limit, LoadError};

/// The computing time of a guest. Endless guests use it up, the others need almost none.
const COMPUTE: Duration = Duration::from_secs(1);
/// How long a guest may take to start. Some guests here never do; the others need some time on a busy
/// machine.
const START_UP: Duration = Duration::from_secs(5);
const RUN: &str = r#"(func (export "run") (result i32) (i32.const 0))"#;
const MEMORY: &str = r#"(memory (export "memory") 1)"#;

fn load(code: &str) -> Result<GuestProgram, LoadError> {
    let engine = GuestEngine::new().expect("an engine");
    GuestProgram::load(&engine, &GuestSource::bytes("the guest", code.as_bytes()))
}

fn refused(code: &str) -> LoadError {
    load(code).expect_err("refused")
}

/// Runs a module with the imports and helpers of `wat::module`.
async fn end_of(body: &str) -> ExitReason {
    let engine = GuestEngine::new().expect("an engine");
    run(Guest::of_form(Form::Module, &engine, Arc::new(Bus::new()), body)).await
}

/// Runs a module without additions.
async fn end_of_bare(code: &str) -> ExitReason {
    run(Guest::of_program(load(code).expect("loads"), Arc::new(Bus::new()))).await
}

async fn run(mut guest: Guest) -> ExitReason {
    guest.setup.parameters.insert("topic".to_owned(), "a value of some length".to_owned());
    guest.limits(|limits| (limits.compute, limits.start_up) = (Some(COMPUTE), START_UP)).run().await.reason
}

#[test]
fn hostile_imports_that_the_host_lacks_are_named() {
    for (import, name) in [
        (r#"(import "env" "memory" (memory 1))"#, "env::memory"),
        (
            r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))"#,
            "wasi_snapshot_preview1::proc_exit",
        ),
    ] {
        let error = refused(&format!("(module {import} {RUN})"));
        assert!(matches!(&error, LoadError::UnknownImport { import, .. } if import == name), "{error}");
    }
    let error = refused(&format!(
        r#"(module (import "blockcast:blocks/topics@0.1.0" "[method]subscription.peek" (func)) {MEMORY} {RUN})"#
    ));
    assert!(matches!(&error, LoadError::Mismatch { reason, .. } if reason.contains("peek")), "{error}");
}

#[test]
fn hostile_imports_of_the_wrong_type_are_a_mismatch() {
    for import in [
        r#"(import "blockcast:blocks/topics@0.1.0" "[method]subscription.poll" (func (param i32 i32 i32 i32 i32)))"#,
        r#"(import "blockcast:blocks/topics@0.1.0" "[method]subscription.poll" (func))"#,
        r#"(import "blockcast:blocks/topics@0.1.0" "[method]subscription.poll" (func (param i32 i32 i32 i64)))"#,
        r#"(import "blockcast:blocks/topics@0.1.0" "[resource-drop]subscription" (func (param i64)))"#,
        r#"(import "blockcast:blocks/topics@0.1.0" "wait" (func (param i64) (result i64)))"#,
        r#"(import "blockcast:blocks/session@0.1.0" "now" (func (result i32)))"#,
        r#"(import "blockcast:blocks/session@0.1.0" "now" (global i64))"#,
        r#"(import "blockcast:blocks/session@0.1.0" "parameter" (func (param i32 i32) (result i32)))"#,
    ] {
        let error = refused(&format!("(module {import} {MEMORY} {RUN})"));
        assert!(matches!(&error, LoadError::Mismatch { .. }), "{import}: {error}");
    }
}

#[test]
fn hostile_memories_are_refused_before_anything_runs() {
    for (memory, text) in [
        ("", "no export"),
        ("(memory 1)", "no export"),
        (r#"(func (export "memory"))"#, "not a memory"),
        (r#"(memory (export "memory") 1) (memory 1)"#, "several"),
    ] {
        let error = refused(&format!("(module {memory} {RUN})"));
        assert!(
            matches!(&error, LoadError::NoMemory { reason, .. } if reason.contains(text)),
            "{memory}: {error}"
        );
    }
    for memory in [
        r#"(memory (export "memory") 1 2 shared)"#,
        r#"(memory (export "memory") i64 1)"#,
        r#"(memory (export "memory") 1 (pagesize 1))"#,
        r#"(memory (export "memory") 65537)"#,
    ] {
        let error = refused(&format!("(module {memory} {RUN})"));
        assert!(matches!(&error, LoadError::Invalid { kind: "module", .. }), "{memory}: {error}");
    }
}

#[test]
fn hostile_run_is_refused_if_it_has_the_wrong_type() {
    for (run, text) in [
        ("", "no export"),
        (r#"(func (export "run"))"#, "result"),
        (r#"(func (export "run") (result i64) (i64.const 0))"#, "result"),
        (r#"(func (export "run") (result i32 i32) (i32.const 0) (i32.const 0))"#, "result"),
        (r#"(func (export "run") (param i32) (result i32) (i32.const 0))"#, "parameters"),
        (r#"(global (export "run") i32 (i32.const 0))"#, "not a function"),
    ] {
        let error = refused(&format!("(module {MEMORY} {run})"));
        assert!(matches!(&error, LoadError::NoRun { reason, .. } if reason.contains(text)), "{run}: {error}");
    }
}

#[tokio::test]
async fn hostile_memory_beyond_the_limit_prevents_the_start() {
    let reason = end_of_bare(&format!(r#"(module (memory (export "memory") 65536) {RUN})"#)).await;
    assert!(matches!(&reason, ExitReason::NotStarted(_)), "{reason:?}");
}

#[tokio::test]
async fn hostile_start_function_that_never_returns_is_ended() {
    let body = format!("(func $forever (loop $again (br $again))) (start $forever) {RUN}");
    let reason = end_of(&body).await;
    // Either limit may be the first: on a busy machine the guest computes only a part of the time.
    assert!(matches!(reason, ExitReason::Killed(Limit::Compute | Limit::StartUp)), "{reason:?}");
}

#[tokio::test]
async fn hostile_start_function_that_waits_forever_is_ended() {
    let body = format!("(func $forever (drop (call $wait (i64.const -1)))) (start $forever) {RUN}");
    assert_eq!(end_of(&body).await, ExitReason::Killed(Limit::StartUp));
}

#[tokio::test]
async fn hostile_start_function_cannot_open_topics() {
    let body = format!(
        r#"(func $begin
          (call $log (i32.const 2) (i32.const 16) (i32.const 5))
          ;; denied
          (call $expect (i32.const 1) (call $open_with (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 0)) (i32.const -5)))
        (start $begin) {RUN}"#
    );
    assert_eq!(end_of(&body).await, ExitReason::Finished);
}

#[tokio::test]
async fn hostile_numbers_that_were_never_handles_are_traps() {
    for number in ["0", "-1", "2", "1048576", "1048577", "0x7fffffff", "0x80000001"] {
        let body = format!(
            r#"(func (export "run") (result i32)
              (drop (call $subscribe))
              (drop (call $subscription.minimum-size (i32.const {number}))) (i32.const 0))"#
        );
        assert_trapped(&end_of(&body).await, "stands for no subscription");
    }
}

#[tokio::test]
async fn hostile_handle_that_was_dropped_stays_invalid_when_its_slot_is_reused() {
    let body = r#"(func (export "run") (result i32) (local $old i32)
      (local.set $old (call $subscribe))
      (call $subscription.drop (local.get $old))
      (drop (call $subscribe))
      (drop (call $subscription.minimum-size (local.get $old))) (i32.const 0))"#;
    assert_trapped(&end_of(body).await, "stands for no subscription");
}

#[tokio::test]
async fn hostile_return_areas_outside_the_memory_trap_before_anything_is_done() {
    // The memory has 4 pages.
    for address in ["262140", "262144", "-8", "-4", "0x80000000"] {
        let body = format!(
            r#"(func (export "run") (result i32)
              (call $subscription.hold (call $subscribe) (i64.const 0) (i32.const {address})) (i32.const 0))"#
        );
        assert_trapped(&end_of(&body).await, "pointer out of bounds");
    }
    let bus = Bus::new();
    let engine = GuestEngine::new().expect("an engine");
    let body = r#"(func (export "run") (result i32) (local $p i32)
      (local.set $p (call $open_publisher (i32.const 64) (i32.const 2)))
      (call $publisher.publish (local.get $p) (i32.const 4096) (i32.const 8) (i32.const 262136)) (i32.const 0))"#;
    let guest = Guest::of_form(Form::Module, &engine, Arc::new(bus.clone()), body);
    let report = guest.run().await;
    assert_trapped(&report.reason, "pointer out of bounds");
    assert_eq!(report.stats.published, 0);
}

#[tokio::test]
async fn hostile_return_areas_that_are_not_aligned_are_traps() {
    for (call, address) in [
        ("$subscription.stats (call $subscribe)", 4100),
        ("$subscription.hold (call $subscribe) (i64.const 0)", 4098),
        ("$parameter (i32.const 16) (i32.const 5)", 4097),
    ] {
        let body = format!(
            r#"(func (export "run") (result i32) (call {call} (i32.const {address})) (i32.const 0))"#
        );
        assert_trapped(&end_of(&body).await, "not aligned");
    }
}

#[tokio::test]
async fn a_result_may_end_at_the_end_of_the_memory() {
    let body = r#"(func (export "run") (result i32)
      (call $subscription.stats (call $subscribe) (i32.const 262112))
      (call $subscription.hold (call $subscribe) (i64.const 0) (i32.const 262136))
      (call $expect (i32.const 1) (i32.load8_u (i32.const 262136)) (i32.const 1))
      (call $expect (i32.const 2) (i32.load8_u (i32.const 262140)) (i32.const 10))
      (i32.const 0))"#;
    assert_eq!(end_of(body).await, ExitReason::Finished);
}

/// A module with the allocator `realloc` that asks for a parameter.
fn asking(realloc: &str) -> String {
    format!(
        r#"(module
          (import "blockcast:blocks/session@0.1.0" "parameter" (func $parameter (param i32 i32 i32)))
          (import "blockcast:blocks/session@0.1.0" "now" (func $now (result i64)))
          {MEMORY} (data (i32.const 16) "topic") {realloc}
          (func (export "run") (result i32)
            (call $parameter (i32.const 16) (i32.const 5) (i32.const 1024))
            (i32.ne (i32.load8_u (i32.load offset=4 (i32.const 1024))) (i32.const 97))))"#
    )
}

#[tokio::test]
async fn hostile_allocators_are_traps() {
    let realloc = |body: &str| {
        asking(&format!(
            r#"(func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {body})"#
        ))
    };
    assert_eq!(end_of_bare(&realloc("(i32.const 2048)")).await, ExitReason::Finished);
    for (code, text) in [
        (asking(""), "without cabi_realloc"),
        (asking(r#"(global (export "cabi_realloc") i32 (i32.const 0))"#), "without cabi_realloc"),
        (asking(r#"(func (export "cabi_realloc") (result i32) (i32.const 0))"#), "has another type"),
        (realloc("(i32.const 65535)"), "pointer out of bounds"),
        (realloc("(i32.const -4)"), "pointer out of bounds"),
        (realloc("unreachable"), "unreachable"),
        (realloc("(drop (call $now)) (i32.const 2048)"), "from inside of cabi_realloc"),
        (
            realloc("(call $parameter (i32.const 16) (i32.const 5) (i32.const 1024)) (i32.const 2048)"),
            "from inside of cabi_realloc",
        ),
        (realloc("(call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1))"), "stack"),
    ] {
        assert_trapped(&end_of_bare(&code).await, text);
    }
    let endless = realloc("(loop $forever (br $forever)) unreachable");
    assert_eq!(end_of_bare(&endless).await, ExitReason::Killed(Limit::Compute));
}

#[test]
fn hostile_results_in_a_block_are_a_violation_and_the_block_is_unchanged() {
    let name = "hostile_results_in_a_block_are_a_violation_and_the_block_is_unchanged";
    in_child_async!(name, async {
        let before = process::resources();
        for violation in [
            "(call $subscription.stats (local.get $s) (local.get $a))",
            "(call $subscription.hold (local.get $s) (i64.const 0) (local.get $a))",
            "(call $parameter (i32.const 16) (i32.const 5) (local.get $a))",
            "(global.set $next_allocation (local.get $a)) (call $parameter (i32.const 16) (i32.const 5) (i32.const 1088))",
            "(call $subscription.add-storage (local.get $s) (i32.const 0) (i32.const 0) (local.get $a))",
        ] {
            let bus = Bus::new();
            let engine = GuestEngine::new().expect("an engine");
            let mut guest =
                Guest::of_form(Form::Module, &engine, Arc::new(bus.clone()), &violator(violation));
            guest.setup.parameters.insert("topic".to_owned(), "a value of some length".to_owned());
            assert_violates(&bus, &guest, 0..64, violation).await;
        }
        assert_eq!(process::resources(), before);
    });
}
