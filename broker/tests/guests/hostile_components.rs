//! Components that break rules that only components have. The other files test what they share with core
//! modules.

use std::sync::Arc;
use std::time::Duration;

use crate::guest_support::assert_trapped;
use crate::guest_support::bus::Bus;
use crate::guest_support::child::in_child_async;
use crate::guest_support::{Guest, process, wat};
use blockcast_broker::{ExitReason, GuestEngine, GuestProgram, GuestSource, Limit, LoadError};

/// The computing time of a guest. Endless guests use it up, the others need almost none.
const COMPUTE: Duration = Duration::from_secs(1);
/// How long a guest may take to start: far longer than a busy machine needs.
const START_UP: Duration = Duration::from_secs(600);

/// The allocator of the tests' components, and the lifting of their `run`.
const REALLOC: &str = r#"(func (export "realloc") (param i32 i32 i32 i32) (result i32) (global.get $next))"#;
const LIFT: &str = r#"(canon lift (core func $main "run"))"#;

/// Replaces the only occurrence of `old`.
fn replaced(component: &str, old: &str, new: &str) -> String {
    assert_eq!(component.matches(old).count(), 1, "{old}");
    component.replace(old, new)
}

async fn end_of(code: String) -> ExitReason {
    let engine = GuestEngine::new().expect("an engine");
    let source = GuestSource::bytes("hostile", code.clone().into_bytes());
    let program = GuestProgram::load(&engine, &source).unwrap_or_else(|error| panic!("{error}\n{code}"));
    let mut guest = Guest::of_program(program, Arc::new(Bus::new()))
        .limits(|limits| (limits.compute, limits.start_up) = (Some(COMPUTE), START_UP));
    guest.setup.parameters.insert("topic".to_owned(), "a value of some length".to_owned());
    guest.run().await.reason
}

/// A component that asks for a parameter, for which the host calls `realloc`.
fn asking(realloc: &str) -> String {
    let body = r#"(func (export "run") (result i32)
      (call $parameter (i32.const 16) (i32.const 5) (i32.const 1088))
      (i32.ne (i32.load8_u (i32.load (i32.const 1092))) (i32.const 97)))"#;
    let by = format!(r#"(func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc})"#);
    replaced(&wat::component(body), REALLOC, &by)
}

#[test]
fn hostile_allocators_of_components_are_traps() {
    in_child_async!("hostile_allocators_of_components_are_traps", async {
        assert_eq!(end_of(asking("(i32.const 8192)")).await, ExitReason::Finished);
        for (realloc, text) in [
            // The memory has 4 pages.
            ("(i32.const 262140)", "beyond end"),
            ("(i32.const 262144)", "beyond end"),
            ("(i32.const -8)", "beyond end"),
            ("unreachable", "unreachable"),
            ("(call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1))", "stack"),
        ] {
            assert_trapped(&end_of(asking(realloc)).await, text);
        }
        let endless = asking("(loop $forever (br $forever)) unreachable");
        assert_eq!(end_of(endless).await, ExitReason::Killed(Limit::Compute));
    });
}

#[test]
fn hostile_growth_of_the_memory_while_the_host_writes_is_handled() {
    in_child_async!("hostile_growth_of_the_memory_while_the_host_writes_is_handled", async {
        // The allocator grows the memory and returns the new pages, or the address just after them.
        let grown = "(i32.shl (memory.grow (i32.const 1)) (i32.const 16))";
        assert_eq!(end_of(asking(grown)).await, ExitReason::Finished);
        let after = "(drop (memory.grow (i32.const 1))) (i32.shl (memory.size) (i32.const 16))";
        assert_trapped(&end_of(asking(after)).await, "beyond end");
    });
}

#[test]
fn hostile_post_return_function_is_ended_like_any_other() {
    in_child_async!("hostile_post_return_function_is_ended_like_any_other", async {
        let after = |code: &str| {
            let body = format!(
                r#"(func (export "run") (result i32) (i32.const 0)) (func (export "after") (param i32) {code})"#
            );
            let by = r#"(canon lift (core func $main "run") (post-return (core func $main "after")))"#;
            replaced(&wat::component(&body), LIFT, by)
        };
        assert_eq!(end_of(after("")).await, ExitReason::Finished);
        assert_trapped(&end_of(after("unreachable")).await, "unreachable");
        // It may not call the host.
        assert_trapped(&end_of(after("(drop (call $now))")).await, "");
        let endless = end_of(after("(loop $forever (br $forever))")).await;
        assert_eq!(endless, ExitReason::Killed(Limit::Compute));
    });
}

#[test]
fn hostile_number_of_instances_is_refused_at_the_start() {
    in_child_async!("hostile_number_of_instances_is_refused_at_the_start", async {
        let before = (process::open_files(), process::reserved());
        let many = "(core instance (instantiate $more))".repeat(200);
        let code = wat::component(r#"(func (export "run") (result i32) (i32.const 0))"#);
        let whole = code.trim_end().strip_suffix(')').expect("a component");
        let code = format!("{whole} (core module $more (table 1000 funcref)) {many})");
        let reason = end_of(code).await;
        assert!(matches!(&reason, ExitReason::NotStarted(text) if text.contains("instance")), "{reason:?}");
        assert_eq!((process::open_files(), process::reserved()), before);
    });
}

#[test]
fn hostile_run_of_the_wrong_type_is_refused() {
    for (body, ty) in [
        (r#"(func (export "run") (result i64) (i64.const 0))"#, "(result u64)"),
        (r#"(func (export "run"))"#, ""),
        (
            r#"(func (export "run") (param i32) (result i32) (i32.const 0))"#,
            r#"(param "a" u32) (result u32)"#,
        ),
    ] {
        let code = replaced(
            &wat::component(body),
            r#"(func (export "run") (result u32)"#,
            &format!(r#"(func (export "run") {ty}"#),
        );
        let engine = GuestEngine::new().expect("an engine");
        let error = GuestProgram::load(&engine, &GuestSource::bytes("hostile", code.into_bytes()))
            .expect_err("refused");
        assert!(matches!(error, LoadError::NoRun { .. }), "{error:.300}");
    }
}
