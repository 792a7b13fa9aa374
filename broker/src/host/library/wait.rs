//! Blocks a native component's thread until there is something for it to do.

use std::ffi::c_void;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use blockcast_blocks::abi::{FOREVER, WAKE_CANCELLED, WAKE_PROGRESS, WAKE_SHUTDOWN, WAKE_TIMEOUT};
use blockcast_blocks::park;

use super::instance::{Instance, find};
use crate::component::exit::ExitReason;

/// `wait`. Returns at once if the run has ended.
pub(super) unsafe extern "C" fn wait(context: *mut c_void, timeout_ns: u64) -> u32 {
    find(context, |instance| wait_in(instance, timeout_ns)).unwrap_or(WAKE_CANCELLED)
}

fn wait_in(instance: &Instance, timeout_ns: u64) -> u32 {
    if instance.waiting.swap(true, Ordering::Acquire) {
        return 0; // only one thread at a time may wait
    }
    let _alone = Alone(instance);
    let began = Instant::now();
    // A deadline beyond the clock's range never comes.
    let deadline = match timeout_ns {
        FOREVER => None,
        nanos => began.checked_add(Duration::from_nanos(nanos)),
    };
    // A component that exceeded its publishing rate is woken when it may publish again.
    let publishable = match instance.call(|state| Ok(state.meter.publishable_in())) {
        Ok(wait) => wait.and_then(|wait| began.checked_add(wait)),
        Err(_) => return WAKE_CANCELLED,
    };
    let next = [deadline, publishable].into_iter().flatten().min();
    let mut poll = |cx: &mut Context<'_>| poll_reasons(instance, cx, deadline, publishable);
    match park::until(next, &mut poll) {
        Some(reasons) => reasons,
        // The deadline has passed: poll once more to find out whose it was.
        None => match poll(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(reasons) => reasons,
            Poll::Pending => 0,
        },
    }
}

/// Polls the reasons for `wait` to return.
fn poll_reasons(
    instance: &Instance,
    cx: &mut Context<'_>,
    deadline: Option<Instant>,
    publishable: Option<Instant>,
) -> Poll<u32> {
    let control = &instance.setup.control;
    // Registered before anything is checked, so that no change is missed.
    control.signal().register(cx.waker());
    let reasons = instance.always(|state| {
        let mut progress = state.arm(cx);
        if publishable.is_some_and(|at| Instant::now() >= at) {
            state.meter.unthrottle();
            progress = true;
        }
        let mut reasons = if progress { WAKE_PROGRESS } else { 0 };
        // A cancelled component does not get the chance to finish first.
        if control.is_shutdown_requested()
            && !control.is_cancelled()
            && (progress || !state.shutdown_reported)
        {
            state.shutdown_reported = true;
            reasons |= WAKE_SHUTDOWN;
        }
        // A subscription may hold the messages of too many closed publishers.
        if state.limit_policy.settle().is_err()
            && let Some(limit) = state.limit_policy.ending()
        {
            instance.end(ExitReason::Killed(limit));
        }
        reasons
    });
    if control.is_cancelled() {
        instance.end(ExitReason::Cancelled); // the watcher may be slower
    }
    if instance.is_over() {
        return Poll::Ready(WAKE_CANCELLED);
    }
    let mut reasons = reasons.unwrap_or(0);
    if deadline.is_some_and(|at| Instant::now() >= at) {
        reasons |= WAKE_TIMEOUT;
    }
    // Ordering: pairs with the store in `wake`, which then calls the waker registered above.
    let woken = instance.woken.swap(false, Ordering::SeqCst);
    if reasons != 0 || woken { Poll::Ready(reasons) } else { Poll::Pending }
}

/// The right to wait.
struct Alone<'r>(&'r Instance);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // Ordering: pairs with the swap of the next thread that waits.
        self.0.waiting.store(false, Ordering::Release);
    }
}
