//! WASI programs: the parts that they are granted, which offer no way around limits and read-only blocks.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::guest_support::assert_trapped;
use crate::guest_support::bus::{Bus, publish, subscribed};
use crate::guest_support::child::in_child_async;
use crate::guest_support::wat::violator;
use crate::guest_support::{Guest, assert_violates, process, wasi};
use blockcast_broker::{
    ComponentLimits, ExitReason, GuestEngine, GuestProgram, GuestSource, Limit, LoadError, Rate, WasiPart,
};

const MS: Duration = Duration::from_millis(1);

/// The program in C, relative to `examples/guests`.
const C: &str = "c/wasi-program.wasm";

/// A program with this body of `run`.
fn program(run: &str) -> Guest {
    of_body(&format!(r#"(data (i32.const 4096) "hello\nworld") (func (export "run") (result i32) {run})"#))
}

fn of_body(body: &str) -> Guest {
    let engine = GuestEngine::new().expect("an engine");
    on(&engine, &Bus::new(), body)
}

fn on(engine: &Arc<GuestEngine>, bus: &Bus, body: &str) -> Guest {
    let source = GuestSource::bytes("program", wasi::program(body).into_bytes());
    let program = GuestProgram::load(engine, &source).unwrap_or_else(|error| panic!("{error}\n{body}"));
    let mut guest = Guest::of_program(program, Arc::new(bus.clone()));
    guest.setup.wasi = WasiPart::ALL.to_vec();
    guest
}

fn lines(guest: &Guest) -> Vec<String> {
    guest.log.lock().unwrap().clone()
}

#[tokio::test]
async fn a_program_writes_lines_into_its_log() {
    let guest = program(
        r#"(call $write (call $stdout) (i32.const 4096) (i32.const 11) (i32.const 1088))
        (call $write (call $stderr) (i32.const 4096) (i32.const 6) (i32.const 1088))
        (call $write (call $stdout) (i32.const 4096) (i32.const 6) (i32.const 1088))
        (i32.const 0)"#,
    );
    assert_eq!(guest.run().await.reason, ExitReason::Finished);
    assert_eq!(lines(&guest), ["hello", "hello", "worldhello"]);
}

#[tokio::test]
async fn an_unterminated_last_line_is_logged() {
    let guest = program(
        r#"(call $write (call $stdout) (i32.const 4096) (i32.const 3) (i32.const 1088)) (i32.const 0)"#,
    );
    assert_eq!(guest.run().await.reason, ExitReason::Finished);
    assert_eq!(lines(&guest), ["hel"]);
}

#[tokio::test]
async fn the_exit_of_a_program_determines_its_end() {
    for (run, reason) in [
        ("(i32.const 0)", ExitReason::Finished),
        ("(i32.const 1)", ExitReason::Failed("it did not say why".to_owned())),
        ("(call $fail (i32.const 16) (i32.const 5)) (i32.const 1)", ExitReason::Failed("topic".to_owned())),
        ("(call $exit (i32.const 0)) unreachable", ExitReason::Finished),
        ("(call $exit (i32.const 1)) unreachable", ExitReason::Failed("it exited with status 1".to_owned())),
    ] {
        assert_eq!(program(run).run().await.reason, reason, "{run}");
    }
    assert_trapped(&program("unreachable").run().await.reason, "unreachable");
}

#[tokio::test]
async fn no_part_of_wasi_is_granted_by_default_and_missing_parts_are_named() {
    let mut guest = program("(i32.const 0)");
    assert_eq!(guest.program.wasi().collect::<Vec<_>>(), WasiPart::ALL);
    guest.setup.wasi = Vec::new();
    let ExitReason::NotStarted(text) = guest.run().await.reason else { panic!("started") };
    assert!(text.contains("wasi:cli/"), "{text}");
    for part in WasiPart::ALL {
        guest.setup.wasi = WasiPart::ALL.into_iter().filter(|&granted| granted != part).collect();
        let ExitReason::NotStarted(text) = guest.run().await.reason else { panic!("started without {part}") };
        assert!(text.contains(&format!("\"{part}\"")), "{text}");
    }
}

#[tokio::test]
async fn a_program_learns_its_name_sleeps_and_gets_random_bytes() {
    let guest = program(
        r#"(local $slept i64) (local $pollable i32)
        ;; The arguments are a list of one string, the name.
        (global.set $next_allocation (i32.const 8192))
        (call $arguments (i32.const 1088))
        (call $expect (i32.const 1) (i32.load (i32.const 1092)) (i32.const 1))
        (local.set $slept (call $clock))
        (local.set $pollable (call $sleep (i64.const 20000000)))
        (call $block (local.get $pollable))
        (call $expect (i32.const 2) (i64.ge_u (i64.sub (call $clock) (local.get $slept)) (i64.const 20000000)) (i32.const 1))
        (i32.store (i32.const 4200) (local.get $pollable))
        (call $wait_for (i32.const 4200) (i32.const 1) (i32.const 1088))
        (call $expect (i32.const 3) (i32.load (i32.const 1092)) (i32.const 1))
        (call $random (i64.const 64) (i32.const 1088))
        (call $expect (i32.const 4) (i32.load (i32.const 1092)) (i32.const 64))
        (i32.const 0)"#,
    );
    let reason = guest.run().await.reason;
    assert_eq!(reason, ExitReason::Finished, "{:?}", lines(&guest));
}

#[tokio::test]
async fn a_program_receives_messages() {
    let bus = Bus::new();
    let mut writer = bus.writer("topic", 64, 8);
    let engine = GuestEngine::new().expect("an engine");
    let body = r#"(func (export "run") (result i32) (local $s i32) (local $r i32) (local $out i32)
      (local.set $s (call $subscribe))
      (local.set $out (call $stdout))
      (loop $messages
        (local.set $r (call $next (local.get $s)))
        (if (i32.eqz (local.get $r)) (then (return (i32.const 0))))
        ;; Writes directly from the block.
        (call $write (local.get $out) (i32.load offset=16 (local.get $r))
          (i32.and (i32.load offset=20 (local.get $r)) (i32.const 0x7fffffff)) (i32.const 1088))
        (br $messages))
      unreachable)"#;
    let guest = on(&engine, &bus, body);
    let running = guest.spawn();
    subscribed(&writer, 1).await;
    for line in ["one\n", "two\n"] {
        assert!(publish(&mut writer, line.as_bytes()));
    }
    drop(writer);
    assert_eq!(running.await.expect("no panic").reason, ExitReason::Finished);
    assert_eq!(lines(&guest), ["one", "two"]);
}

/// Runs a program of `examples/guests` that was compiled for WASI. Returns its end and its lines.
async fn compiled(file: &str, task: &str) -> (ExitReason, Vec<String>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/guests").join(file);
    let engine = GuestEngine::new().expect("an engine");
    let program = GuestProgram::load(&engine, &GuestSource::File(file)).expect("loads");
    let mut guest = Guest::of_program(program, Arc::new(Bus::new()));
    guest.setup.wasi = WasiPart::ALL.to_vec();
    guest.setup.parameters.insert("task".to_owned(), task.to_owned());
    let reason = guest.run().await.reason;
    (reason, lines(&guest))
}

#[tokio::test]
async fn a_program_in_c_that_was_compiled_for_wasi_runs_unchanged() {
    let (reason, mut lines) = compiled(C, "greet").await;
    // The C library buffers standard output, so the order may differ.
    lines.sort();
    assert_eq!(
        (reason, lines),
        (ExitReason::Finished, vec!["and good bye".into(), "hello from test".into()])
    );
    let failed = ExitReason::Failed("it exited with status 1".to_owned());
    assert_eq!(compiled(C, "fail").await, (failed, vec!["no end of line".to_owned()]));
    for (task, expected) in [
        ("sleep", &["slept for long enough"][..]),
        ("files", &["no file", "no input"]),
        ("random", &["random"]),
    ] {
        let (reason, lines) = compiled(C, task).await;
        assert_eq!(
            (reason, &lines[..]),
            (ExitReason::Finished, &expected.iter().map(|&line| line.to_owned()).collect::<Vec<_>>()[..])
        );
    }
    let (reason, lines) = compiled(C, "nonsense").await;
    assert_trapped(&reason, "unreachable");
    assert_eq!(lines, ["there is no task nonsense"]);
}

#[tokio::test]
async fn a_program_in_rust_with_a_main_runs_unchanged() {
    let file = "wasi/rust-program.wasm";
    let usual = ["hello from test", "slept long enough: true", "can read a file: false", "random: true"];
    let (reason, lines) = compiled(file, "").await;
    assert_eq!((reason, &lines[..]), (ExitReason::Finished, &usual.map(str::to_owned)[..]));
    let failed = ExitReason::Failed("it exited with status 1".to_owned());
    assert_eq!(compiled(file, "exit").await.0, failed, "all codes except 0 are reported as 1");
    let (reason, lines) = compiled(file, "panic").await;
    assert_trapped(&reason, "unreachable");
    assert!(lines.iter().any(|line| line == "as asked"), "{lines:?}");
}

#[tokio::test]
async fn a_program_that_logs_too_much_loses_lines_and_finishes() {
    let began = Instant::now();
    let (reason, lines) = compiled(C, "talk").await;
    assert_eq!(reason, ExitReason::Finished);
    assert!(lines.len() >= 1000 && lines[999] == "line 999");
    // A thousand at once, and then a thousand per second.
    assert!(lines.len() <= 1010 + began.elapsed().as_millis() as usize, "{} lines", lines.len());
}

#[test]
fn hostile_program_cannot_import_sockets_or_unknown_interfaces() {
    for import in ["wasi:sockets/tcp@0.2.0", "wasi:http/outgoing-handler@0.2.0", "wasi:nn/tensor@0.2.0"] {
        let engine = GuestEngine::new().expect("an engine");
        let code = format!(r#"(component (import "{import}" (instance (export "f" (func)))))"#);
        let error = GuestProgram::load(&engine, &GuestSource::bytes("program", code.into_bytes()))
            .expect_err("refused");
        assert!(
            matches!(&error, LoadError::UnknownImport { import: named, .. } if named == import),
            "{error}"
        );
    }
}

/// Runs a program that would sleep for an hour.
async fn sleeper(limits: impl FnOnce(&mut ComponentLimits), stop: impl FnOnce(&Guest)) -> ExitReason {
    let hour = 3_600_000_000_000_u64;
    let guest =
        program(&format!("(call $block (call $sleep (i64.const {hour}))) (i32.const 0)")).limits(limits);
    let running = guest.spawn();
    tokio::time::sleep(20 * MS).await;
    stop(&guest);
    running.await.expect("no panic").reason
}

#[tokio::test]
async fn hostile_sleeper_is_cancelled_at_once() {
    assert_eq!(sleeper(|_| (), |guest| guest.setup.control.cancel()).await, ExitReason::Cancelled);
}

#[tokio::test]
async fn hostile_sleeper_ends_with_its_run_time() {
    let reason = sleeper(|limits| limits.run_time = Some(50 * MS), |_| ()).await;
    assert_eq!(reason, ExitReason::Killed(Limit::RunTime));
}

#[tokio::test]
async fn hostile_sleeper_ends_with_its_shutdown_grace() {
    let reason =
        sleeper(|limits| limits.shutdown_grace = 20 * MS, |guest| guest.setup.control.request_shutdown())
            .await;
    assert_eq!(reason, ExitReason::Killed(Limit::ShutdownGrace));
}

#[tokio::test]
async fn hostile_endless_poll_of_a_ready_pollable_ends_with_the_computing_time() {
    let guest = program(
        r#"(i32.store (i32.const 4200) (call $sleep (i64.const 0)))
        (loop $forever (call $wait_for (i32.const 4200) (i32.const 1) (i32.const 1088)) (br $forever))
        unreachable"#,
    )
    .limits(|limits| limits.compute = Some(100 * MS));
    assert_eq!(guest.run().await.reason, ExitReason::Killed(Limit::Compute));
}

#[tokio::test]
async fn hostile_flood_of_output_is_cut_short_and_does_not_stop_others() {
    // Writes 4096 empty lines at a time, a thousand times.
    let guest = program(
        r#"(local $out i32) (local $i i32)
        (local.set $out (call $stdout))
        (memory.fill (i32.const 8192) (i32.const 10) (i32.const 4096))
        (loop $again
          (call $write (local.get $out) (i32.const 8192) (i32.const 4096) (i32.const 1088))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $i) (i32.const 1000))))
        (i32.const 0)"#,
    )
    .limits(|limits| limits.log_lines = Rate::per_second(0).burst(1000));
    let running = guest.spawn();
    // This task runs on the same thread.
    tokio::time::timeout(Duration::from_secs(60), tokio::task::yield_now()).await.expect("it gets its turn");
    assert_eq!(running.await.expect("no panic").reason, ExitReason::Finished);
    assert_eq!(lines(&guest).len(), 1000);
}

#[tokio::test]
async fn hostile_flood_of_output_is_limited_on_every_way_into_the_log() {
    // Five lines in all, counted over both streams and the interface.
    let body = r#"(local $i i32) (local $out i32) (local $err i32)
        (local.set $out (call $stdout)) (local.set $err (call $stderr))
        (i32.store8 (i32.const 4096) (i32.const 10))
        (loop $again
          (call $write (local.get $out) (i32.const 4096) (i32.const 1) (i32.const 1088))
          (call $write (local.get $err) (i32.const 4096) (i32.const 1) (i32.const 1088))
          (call $log (i32.const 2) (i32.const 16) (i32.const 5))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $i) (i32.const 100))))
        (i32.const 0)"#;
    let rate = Rate::per_second(0).burst(5);
    let guest = program(body).limits(|limits| limits.log_lines = rate);
    let report = guest.run().await;
    assert_eq!(report.reason, ExitReason::Finished);
    assert_eq!(lines(&guest).len(), 5, "{:?}", lines(&guest));
    assert_eq!((report.stats.log_lines, report.stats.log_lines_dropped), (5, 295));

    // A program that only prints is also ended if its grant says so.
    let body = r#"(local $out i32) (local.set $out (call $stdout)) (i32.store8 (i32.const 4096) (i32.const 10))
        (loop $forever
          (call $write (local.get $out) (i32.const 4096) (i32.const 1) (i32.const 1088)) (br $forever))
        unreachable"#;
    let guest =
        program(body).limits(|limits| (limits.log_lines, limits.end_at) = (rate, vec![Limit::LogLines]));
    assert_eq!(guest.run().await.reason, ExitReason::Killed(Limit::LogLines));
    assert_eq!(lines(&guest).len(), 5);
}

#[tokio::test]
async fn hostile_writes_that_are_too_long_or_outside_the_memory_are_traps() {
    let write = |address: &str, len: &str| {
        format!(
            "(call $write (call $stdout) (i32.const {address}) (i32.const {len}) (i32.const 1088)) (i32.const 0)"
        )
    };
    assert_trapped(&program(&write("0", "4097")).run().await.reason, "4096");
    assert_trapped(&program(&write("-8", "100")).run().await.reason, "out of bounds");
    assert_trapped(&program(&write("262140", "100")).run().await.reason, "out of bounds");
}

#[tokio::test]
async fn hostile_demands_for_random_bytes_and_pollables_are_traps() {
    for len in ["1048577", "0x7fffffffffffffff", "-1"] {
        let guest = program(&format!("(call $random (i64.const {len}) (i32.const 1088)) (i32.const 0)"));
        assert_trapped(&guest.run().await.reason, "exceeds limit");
    }
    let guest =
        program("(loop $forever (drop (call $sleep (i64.const 1000000000000))) (br $forever)) unreachable");
    assert_trapped(&guest.run().await.reason, "table");
    assert_trapped(&program("(call $block (i32.const 77)) (i32.const 0)").run().await.reason, "handle");
}

#[test]
fn hostile_results_of_wasi_in_a_block_are_a_violation() {
    in_child_async!("hostile_results_of_wasi_in_a_block_are_a_violation", async {
        let before = process::resources();
        for violation in [
            // A return area.
            "(call $write (call $stdout) (i32.const 4096) (i32.const 3) (local.get $a))",
            "(call $random (i64.const 16) (local.get $a))",
            "(i32.store (i32.const 4200) (call $sleep (i64.const 1000000))) (call $wait_for (i32.const 4200) (i32.const 1) (local.get $a))",
            // A list.
            "(global.set $next_allocation (local.get $a)) (call $random (i64.const 16) (i32.const 1088))",
            "(global.set $next_allocation (local.get $a)) (call $random (i64.const 200000) (i32.const 1088))",
            "(global.set $next_allocation (local.get $a)) (call $arguments (i32.const 1088))",
            // A list that is written after the program was suspended.
            "(global.set $next_allocation (local.get $a)) (i32.store (i32.const 4200) (call $sleep (i64.const 1000000)))
             (call $wait_for (i32.const 4200) (i32.const 1) (i32.const 1088))",
        ] {
            let bus = Bus::new();
            let engine = GuestEngine::new().expect("an engine");
            let guest = on(&engine, &bus, &violator(violation));
            assert_violates(&bus, &guest, 0..200_000, violation).await;
        }
        assert_eq!(process::resources(), before);
    });
}

#[tokio::test]
async fn hostile_straight_line_wasi_calls_end_with_the_first_one_after_cancellation() {
    let write = "(call $write (local.get $out) (i32.const 4096) (i32.const 6) (i32.const 1088))";
    for call in [
        write,
        "(drop (call $clock))",
        "(call $drop_pollable (call $sleep (i64.const 1)))",
        "(drop (call $stderr))",
        "(call $block (call $sleep (i64.const 0)))",
    ] {
        let mut guest = program(&format!(
            "(local $out i32) (local.set $out (call $stdout)) {write} {} (i32.const 0)",
            call.repeat(20)
        ));
        let (log, control) = (Arc::clone(&guest.log), Arc::clone(&guest.setup.control));
        guest.setup.log = Arc::new(move |_, line: &str| {
            log.lock().unwrap().push(line.to_owned());
            control.cancel();
        });
        assert_eq!(guest.run().await.reason, ExitReason::Cancelled, "{call}");
        assert_eq!(lines(&guest), ["hello"], "{call}");
    }
}

#[tokio::test]
async fn wasi_calls_count_as_host_calls() {
    let guest = program(&format!("{} (i32.const 0)", "(drop (call $clock))".repeat(50)));
    assert_eq!(guest.run().await.stats.host_calls, 50);
    let guest = guest.limits(|limits| limits.host_calls = Some(Rate::per_second(0).burst(10)));
    assert_eq!(guest.run().await.reason, ExitReason::Killed(Limit::HostCalls));
}

#[tokio::test]
async fn hostile_marks_in_a_printed_line_are_escaped() {
    let guest = of_body(
        r#"(data (i32.const 4096) "a\0d\1b[2J\e2\80\aeb\n") (func (export "run") (result i32)
          (call $write (call $stdout) (i32.const 4096) (i32.const 11) (i32.const 1088)) (i32.const 0))"#,
    );
    assert_eq!(guest.run().await.reason, ExitReason::Finished);
    assert_eq!(lines(&guest), [r"a\r\u{1b}[2J\u{202e}b"]);
}
