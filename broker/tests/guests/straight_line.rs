//! The engine never interrupts code without loops, so every host call checks whether the guest must end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::KIND;
use crate::guest_support::Guest;
use crate::guest_support::bus::Bus;
use blockcast_broker::{ComponentControl, ComponentLimits, ExitReason, GuestEngine, Level, Limit};

const MS: Duration = Duration::from_millis(1);

/// Number of calls in a row: enough to notice if the guest continues.
const CALLS: usize = 100;

const LOG: &str = "(call $log (i32.const 2) (i32.const 16) (i32.const 5))";

/// A guest that logs a line and then repeats `call` without a loop. The host calls `on_line` for each line.
fn guest(
    call: &str,
    on_line: impl Fn(&ComponentControl) + Send + Sync + 'static,
) -> (Guest, Arc<AtomicUsize>) {
    of_body(
        &format!(
            r#"(func (export "run") (result i32) (local $s i32) (local $p i32)
              (local.set $s (call $subscribe))
              (local.set $p (call $open_publisher (i32.const 64) (i32.const 200)))
              {LOG} {} (i32.const 0))"#,
            call.repeat(CALLS)
        ),
        on_line,
    )
}

fn of_body(
    body: &str,
    on_line: impl Fn(&ComponentControl) + Send + Sync + 'static,
) -> (Guest, Arc<AtomicUsize>) {
    let engine = GuestEngine::new().expect("an engine");
    let mut guest = KIND.guest(&engine, Arc::new(Bus::new()), body);
    let lines = Arc::new(AtomicUsize::new(0));
    let (counted, control) = (Arc::clone(&lines), Arc::clone(&guest.setup.control));
    guest.setup.log = Arc::new(move |_: Level, _: &str| {
        counted.fetch_add(1, Ordering::Relaxed);
        on_line(&control);
    });
    (guest, lines)
}

#[tokio::test]
async fn hostile_straight_line_calls_end_with_the_first_one_after_cancellation() {
    for call in [
        "(drop (call $now))",
        LOG,
        "(drop (call $shutdown-requested))",
        "(call $fail (i32.const 16) (i32.const 5))",
        "(call $parameter (i32.const 16) (i32.const 5) (i32.const 1088))",
        "(drop (call $wait (i64.const 0)))",
        "(drop (call $poll (local.get $s) (i32.const 0) (i32.const 0) (i64.const 0)))",
        "(drop (call $subscription.minimum-size (local.get $s)))",
        "(drop (call $publisher.free-blocks (local.get $p)))",
        "(call $publisher.publish (local.get $p) (i32.const 4096) (i32.const 4) (i32.const 1088))",
        "(call $block.drop (call $block.new (i32.const 8)))",
    ] {
        let (guest, lines) = guest(call, ComponentControl::cancel);
        let report = guest.run().await;
        assert_eq!(report.reason, ExitReason::Cancelled, "{call}");
        assert_eq!(lines.load(Ordering::Relaxed), 1, "{call}");
        assert!(report.stats.host_calls < 10, "{call}: {:?}", report.stats);
    }
}

/// Checks that a guest that makes a hundred calls of 10 ms each is ended by `limit` before the last one.
async fn ends(limit: Limit, set: fn(&mut ComponentLimits), on_line: fn(&ComponentControl)) {
    let (guest, lines) = guest(LOG, on_line);
    let report = guest.limits(set).run().await;
    assert_eq!(report.reason, ExitReason::Killed(limit));
    assert!(lines.load(Ordering::Relaxed) < CALLS, "{limit:?}");
}

#[tokio::test]
async fn hostile_straight_line_calls_end_with_the_granted_time() {
    let compute = |_: &ComponentControl| {
        let end = Instant::now() + 10 * MS;
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    };
    ends(Limit::Compute, |limits| limits.compute = Some(20 * MS), compute).await;
    let sleep = |_: &ComponentControl| std::thread::sleep(10 * MS);
    ends(Limit::RunTime, |limits| limits.run_time = Some(20 * MS), sleep).await;
    let shut_down = |control: &ComponentControl| {
        control.request_shutdown();
        std::thread::sleep(10 * MS);
    };
    ends(Limit::ShutdownGrace, |limits| limits.shutdown_grace = 20 * MS, shut_down).await;
}

#[tokio::test]
async fn hostile_straight_line_calls_in_a_start_function_end_with_its_time() {
    let body = format!(
        r#"(func $begin {}) (start $begin) (func (export "run") (result i32) (i32.const 0))"#,
        LOG.repeat(CALLS)
    );
    let (guest, lines) = of_body(&body, |_| std::thread::sleep(10 * MS));
    let report = guest.limits(|limits| limits.start_up = 20 * MS).run().await;
    assert_eq!(report.reason, ExitReason::Killed(Limit::StartUp));
    assert!(lines.load(Ordering::Relaxed) < CALLS);
}
