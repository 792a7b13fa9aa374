//! Guests' faults arrive as signals. Whatever the program does with signals, a fault ends only the guest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::guest_support::Guest;
use crate::guest_support::bus::{Bus, publish, subscribed};
use crate::guest_support::child::in_child;
use crate::guest_support::runtime;
use blockcast_broker::{Broker, Grants, StartError};
use blockcast_broker::{ExitReason, GuestEngine};
use tracing::span;

/// A load out of bounds.
const OUT_OF_BOUNDS: &str =
    r#"(func (export "run") (result i32) (drop (i32.load (i32.const -16))) (i32.const 0))"#;

/// Blocks all signals, like a program that handles them on one dedicated thread.
fn block_all_signals() {
    // SAFETY: all zeros is a valid signal set, and the set is filled before it is used.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()), 0);
    }
}

fn is_trapped(reason: &ExitReason) -> bool {
    matches!(reason, ExitReason::Trapped { message, .. } if message.contains("out of bounds"))
}

#[test]
fn a_program_that_blocks_all_signals_survives_faults_of_its_guests() {
    in_child!("a_program_that_blocks_all_signals_survives_faults_of_its_guests", || {
        block_all_signals();
        let engine = GuestEngine::new().expect("an engine");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().expect("a runtime");
        let guest = Guest::new(&engine, Arc::new(Bus::new()), OUT_OF_BOUNDS);
        let report = runtime.block_on(async { guest.spawn().await.expect("no panic") });
        assert!(is_trapped(&report.reason), "{:?}", report.reason);
        // The host writes to a block on behalf of the guest.
        let bus = Bus::new();
        let mut writer = bus.writer("topic", 4096, 8);
        let body = r#"(func (export "run") (result i32) (local $a i32)
            (local.set $a (i32.load offset=16 (call $next (call $subscribe))))
            (memory.fill (local.get $a) (i32.const 88) (i32.const 64))
            (loop $forever (br $forever)) (i32.const 0))"#;
        let guest = Guest::new(&engine, Arc::new(bus), body);
        let report = runtime.block_on(async {
            let running = guest.spawn();
            subscribed(&writer, 1).await;
            assert!(publish(&mut writer, &[7; 4096]));
            running.await.expect("no panic")
        });
        assert!(matches!(report.reason, ExitReason::ReadOnlyViolation { .. }), "{:?}", report.reason);
    });
}

#[test]
fn blocking_signals_on_a_thread_that_has_run_guests_does_not_end_the_process() {
    in_child!("blocking_signals_on_a_thread_that_has_run_guests_does_not_end_the_process", || {
        let engine = GuestEngine::new().expect("an engine");
        let runtime = runtime();
        let guest = Guest::new(&engine, Arc::new(Bus::new()), OUT_OF_BOUNDS);
        assert!(is_trapped(&runtime.block_on(guest.run()).reason));
        block_all_signals();
        assert!(is_trapped(&runtime.block_on(guest.run()).reason));
    });
}

/// Counts warnings.
struct Warnings(Arc<AtomicU32>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN && metadata.target().ends_with("signals")
    }

    fn event(&self, _event: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}
    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}
    fn enter(&self, _span: &span::Id) {}
    fn exit(&self, _span: &span::Id) {}
}

/// How often `handle` was called.
static CALLS: AtomicU32 = AtomicU32::new(0);

/// A crash handler that does not pass signals on.
extern "C" fn handle(_signal: libc::c_int) {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

fn set_handler(handler: libc::sighandler_t) {
    // SAFETY: `handler` is a function of the right signature or the default, and the test does not rely on
    // the previous handler.
    assert_ne!(unsafe { libc::signal(libc::SIGSEGV, handler) }, libc::SIG_ERR);
}

#[test]
fn a_handler_installed_after_the_engine_causes_one_warning() {
    in_child!("a_handler_installed_after_the_engine_causes_one_warning", || {
        let warnings = Arc::new(AtomicU32::new(0));
        tracing::subscriber::set_global_default(Warnings(Arc::clone(&warnings))).expect("the only one");
        let engine = GuestEngine::new().expect("an engine");
        let runtime = runtime();
        let body = r#"(func (export "run") (result i32) (i32.const 0))"#;
        let guest = Guest::new(&engine, Arc::new(Bus::new()), body);
        let run = || assert_eq!(runtime.block_on(guest.run()).reason, ExitReason::Finished);
        run();
        assert_eq!(warnings.load(Ordering::Relaxed), 0);
        set_handler(handle as *const () as libc::sighandler_t);
        run();
        run();
        assert_eq!(warnings.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_guest_does_not_start_if_its_first_fault_would_end_the_process() {
    in_child!("a_guest_does_not_start_if_its_first_fault_would_end_the_process", || {
        let engine = GuestEngine::new().expect("an engine");
        let runtime = runtime();
        let guest = Guest::new(&engine, Arc::new(Bus::new()), OUT_OF_BOUNDS);
        let broker = Broker::new();
        set_handler(libc::SIG_DFL);
        let reason = runtime.block_on(guest.run()).reason;
        assert!(matches!(&reason, ExitReason::NotStarted(text) if text.contains("SIGSEGV")), "{reason:?}");
        let refused = broker.spawn_guest(&guest.program, Grants::new(), []).expect_err("refused");
        assert!(matches!(refused, StartError::Signals(_)), "{refused}");
    });
}
