//! Running, waiting, waking, and how a run ends.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use futures::future::{FutureExt, select};

use super::super::super::{Subscription, park};
use super::super::Level;
use super::super::entry::run_app;
use super::super::runtime::Runtime;
use super::host::{Mock, Outcome, alone};
use crate::abi::{
    Host, LEVEL_ERROR, LEVEL_INFO, RUN_CANCELLED, RUN_FAILED, RUN_FINISHED, RUN_PANICKED, RUN_REFUSED,
    VERSION,
};
use crate::error::ReceiveError;
use crate::options::ReaderOptions;
use crate::payload::{Bytes, Payload};

async fn nothing(_runtime: Runtime) -> Outcome {
    Ok(())
}

fn subscription(runtime: &Runtime) -> Subscription {
    Subscription::open(runtime, "topic", &Bytes::schema(), ReaderOptions::default(), "").expect("it opens")
}

async fn ready(subscription: &mut Subscription) {
    poll_fn(|cx| subscription.poll_ready(cx)).await;
}

#[test]
fn a_table_that_does_not_fit_is_refused() {
    let mock = Mock::new();
    let fits = mock.table();
    let refused = |table: *const Host| {
        // SAFETY: null, or a table that is complete apart from its head.
        unsafe { run_app(table, nothing) }
    };
    assert_eq!(refused(std::ptr::null()), RUN_REFUSED);
    let newer = Host { version: VERSION + 1, ..fits };
    assert_eq!(refused(&raw const newer), RUN_REFUSED);
    let short = Host { size: 64, ..fits };
    assert_eq!(refused(&raw const short), RUN_REFUSED);
}

#[test]
fn an_app_is_told_parameters_and_tells_its_log() {
    let mock = Mock::new();
    let status = mock.run(async |runtime| {
        assert_eq!(runtime.parameter("greeting").as_deref(), Some("hello"));
        assert_eq!(runtime.parameter("other"), None);
        runtime.log(Level::Info, "a line");
        Ok(())
    });
    assert_eq!(status, RUN_FINISHED);
    assert_eq!(mock.state().log, [(LEVEL_INFO, "a line".to_owned())]);
}

#[test]
fn errors_and_panics_leave_their_text() {
    let mock = Mock::new();
    assert_eq!(mock.run(async |_| Err("no luck".to_owned())), RUN_FAILED);
    assert_eq!(mock.state().failed, "no luck");
    assert_eq!(mock.run(async |_| panic!("out of {}", "luck")), RUN_PANICKED);
    let failed = mock.state().failed.clone();
    assert!(failed.contains("out of luck") && failed.contains("running.rs"), "{failed}");
    // A panic that does not reach the hook.
    assert_eq!(mock.run(async |_| std::panic::resume_unwind(Box::new("quietly"))), RUN_PANICKED);
    assert_eq!(mock.state().failed, "panicked: quietly");
    assert_eq!(mock.run(nothing), RUN_FINISHED, "it can be run again");
}

#[test]
fn a_panic_in_another_thread_is_logged_and_ends_nothing() {
    let mock = Mock::new();
    let status = mock.run(async |_| {
        let _ = thread::spawn(|| panic!("beside")).join();
        Ok(())
    });
    assert_eq!(status, RUN_FINISHED);
    let state = mock.state();
    assert!(matches!(&state.log[..], [(LEVEL_ERROR, text)] if text.contains("beside")), "{:?}", state.log);
}

#[test]
fn it_runs_once_at_a_time() {
    let mock = Mock::new();
    let status = mock.run(async |_| {
        let table = mock.table();
        // SAFETY: the table is complete and outlives the call.
        let second = unsafe { run_app(&raw const table, nothing) };
        assert_eq!(second, RUN_REFUSED);
        Ok(())
    });
    assert_eq!((status, mock.state().failed.as_str()), (RUN_FINISHED, "it runs already"));
}

#[test]
fn a_future_goes_on_when_the_host_reports_progress() {
    let mock = &Mock::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            mock.until_waiting();
            mock.change(|state| state.incoming.push_back((b"late", 4, 0)));
        });
        let status = mock.run(async |runtime| {
            let mut subscription = subscription(&runtime);
            ready(&mut subscription).await;
            assert_eq!(subscription.receive().map(|message| message.bytes().len()), Ok(4));
            Ok(())
        });
        assert_eq!(status, RUN_FINISHED);
    });
}

#[test]
fn timers_and_messages_are_waited_for_together() {
    let mock = Mock::new();
    let begun = Instant::now();
    let status = mock.run(async |runtime| {
        let mut subscription = subscription(&runtime);
        let message = ready(&mut subscription).boxed();
        select(message, runtime.sleep(Duration::from_millis(30))).await;
        Ok(())
    });
    assert_eq!(status, RUN_FINISHED);
    assert!(begun.elapsed() >= Duration::from_millis(30));
}

#[test]
fn a_waker_that_another_thread_calls_ends_the_wait() {
    let mock = &Mock::new();
    for _ in 0..200 {
        let status = mock.run(async |_| {
            let (sender, receiver) = oneshot::channel();
            let thread = thread::spawn(move || sender.send(5));
            assert_eq!(receiver.await, Ok(5));
            assert!(thread.join().is_ok());
            Ok(())
        });
        assert_eq!(status, RUN_FINISHED);
    }
}

#[test]
fn a_shutdown_is_seen() {
    let mock = &Mock::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            mock.until_waiting();
            mock.change(|state| state.shutdown = true);
        });
        let status = mock.run(async |runtime| {
            runtime.shutdown().await;
            Ok(())
        });
        assert_eq!(status, RUN_FINISHED);
    });
}

/// One thread waits in the host, the other blocks in a receive. Whichever is in the host's `wait` wakes the
/// other.
#[test]
fn a_thread_that_blocks_beside_the_run_is_woken() {
    for _ in 0..50 {
        let mock = &Mock::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                mock.until_waiting();
                mock.change(|state| state.incoming.push_back((b"late", 4, 0)));
            });
            let status = mock.run(async |runtime| {
                let (sender, receiver) = oneshot::channel();
                let other = runtime.clone();
                let thread = thread::spawn(move || {
                    let mut subscription = subscription(&other);
                    let deadline = Instant::now() + Duration::from_secs(10);
                    let length = park::until(Some(deadline), |cx| {
                        subscription
                            .poll_ready(cx)
                            .map(|()| subscription.receive().map(|message| message.bytes().len()))
                    });
                    let _ = sender.send(length);
                });
                assert_eq!(receiver.await, Ok(Some(Ok(4))));
                assert!(thread.join().is_ok());
                Ok(())
            });
            assert_eq!((status, mock.state().failed.as_str()), (RUN_FINISHED, ""));
        });
    }
}

#[test]
fn another_thread_takes_over_when_the_run_goes_on_with_its_own_work() {
    let mock = &Mock::new();
    let status = mock.run(async |runtime| {
        let other = runtime.clone();
        let thread = thread::spawn(move || {
            let mut subscription = subscription(&other);
            park::until(None, |cx| subscription.poll_ready(cx));
            subscription.receive().map(|message| message.bytes().len())
        });
        // Leads for a while, then blocks in something that the host knows nothing of.
        runtime.sleep(Duration::from_millis(20)).await;
        mock.until_waiting();
        mock.change(|state| state.incoming.push_back((b"late", 4, 0)));
        assert_eq!(thread.join().map_err(|_| "it panicked".to_owned())?, Ok(4));
        Ok(())
    });
    assert_eq!((status, mock.state().failed.as_str()), (RUN_FINISHED, ""));
}

/// Tells when it is dropped.
struct Told<'t>(&'t AtomicBool);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_cancelled_app_that_waits_unwinds_and_drops_what_it_has() {
    let dropped = AtomicBool::new(false);
    let mock = &Mock::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            mock.until_waiting();
            mock.change(|state| state.cancelled = true);
        });
        let status = mock.run(async |runtime| {
            let _told = Told(&dropped);
            let mut subscription = subscription(&runtime);
            loop {
                ready(&mut subscription).await;
            }
        });
        assert_eq!(status, RUN_CANCELLED);
    });
    assert!(dropped.load(Ordering::Relaxed));
    let state = mock.state();
    assert_eq!((state.subscriptions, state.failed.as_str()), (0, ""));
}

#[test]
fn a_cancelled_app_that_only_calls_is_left_at_a_call() {
    let mock = Mock::new();
    let status = mock.run(async |runtime| {
        let mut subscription = subscription(&runtime);
        assert_eq!(subscription.receive().err(), Some(ReceiveError::Empty));
        mock.state().cancelled = true;
        loop {
            let _ = subscription.receive();
        }
    });
    assert_eq!((status, mock.state().subscriptions), (RUN_CANCELLED, 0));
}

#[test]
fn outside_of_a_run_there_is_no_host_and_nothing_hangs() {
    let _one = alone();
    let none = Runtime::detached();
    assert_eq!((none.parameter("greeting"), none.shutdown_requested()), (None, false));
    let opened = Subscription::open(&none, "topic", &Bytes::schema(), ReaderOptions::default(), "");
    assert_eq!(opened.err().map(|error| error.text()), Some("the topic or the broker is closed"));
    assert_eq!(park::until(Some(Instant::now() + Duration::from_millis(5)), |_| Poll::<()>::Pending), None);
}
