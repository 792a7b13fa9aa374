//! Blocking a native component's thread until there is something for it to do.

use std::ffi::c_void;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use blockcast_blocks::abi::{FOREVER, WAKE_CANCELLED, WAKE_PROGRESS, WAKE_SHUTDOWN, WAKE_TIMEOUT};
use blockcast_blocks::park;

use super::instance::{Instance, find};
use crate::component::exit::ExitReason;

/// `wait`. In a run that has ended there is nothing to wait for.
pub(super) unsafe extern "C" fn wait(context: *mut c_void, timeout_ns: u64) -> u32 {
    find(context, |instance| wait_in(instance, timeout_ns)).unwrap_or(WAKE_CANCELLED)
}

fn wait_in(instance: &Instance, timeout_ns: u64) -> u32 {
    if instance.waiting.swap(true, Ordering::Acquire) {
        return 0; // one thread at a time
    }
    let _alone = Alone(instance);
    let began = Instant::now();
    // Too far away for the clock is as good as never.
    let deadline = match timeout_ns {
        FOREVER => None,
        nanos => began.checked_add(Duration::from_nanos(nanos)),
    };
    // One that was refused publishing because of its rate learns when it can go on.
    let publishable = match instance.call(|state| Ok(state.meter.publishable_in())) {
        Ok(wait) => wait.and_then(|wait| began.checked_add(wait)),
        Err(_) => return WAKE_CANCELLED,
    };
    let next = [deadline, publishable].into_iter().flatten().min();
    let mut look = |cx: &mut Context<'_>| look(instance, cx, deadline, publishable);
    match park::until(next, &mut look) {
        Some(reasons) => reasons,
        // The time has come: look once more, and say for whom.
        None => match look(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(reasons) => reasons,
            Poll::Pending => 0,
        },
    }
}

/// Why `wait` returns, if it does.
fn look(
    instance: &Instance,
    cx: &mut Context<'_>,
    deadline: Option<Instant>,
    publishable: Option<Instant>,
) -> Poll<u32> {
    let control = &instance.setup.control;
    // Registered before anything is looked at, so that no change in between is missed.
    control.signal().register(cx.waker());
    let looked = instance.always(|state| {
        let mut progress = state.arm(cx);
        if publishable.is_some_and(|at| Instant::now() >= at) {
            state.meter.unthrottle();
            progress = true;
        }
        let mut reasons = if progress { WAKE_PROGRESS } else { 0 };
        // One that is to end at once gets no chance to finish first.
        if control.is_shutdown_requested() && !control.is_cancelled() && (progress || !state.shutdown_seen) {
            state.shutdown_seen = true;
            reasons |= WAKE_SHUTDOWN;
        }
        // A subscription may keep the messages of too many publishers.
        if state.excess.settle().is_err()
            && let Some(limit) = state.excess.ending()
        {
            instance.end(ExitReason::Killed(limit));
        }
        reasons
    });
    if control.is_cancelled() {
        instance.end(ExitReason::Cancelled); // whoever watches it may be slower
    }
    if instance.is_over() {
        return Poll::Ready(WAKE_CANCELLED);
    }
    let mut reasons = looked.unwrap_or(0);
    if deadline.is_some_and(|at| Instant::now() >= at) {
        reasons |= WAKE_TIMEOUT;
    }
    // Ordering: pairs with the store in `wake`, after which the waker that was registered above is called.
    let woken = instance.woken.swap(false, Ordering::SeqCst);
    if reasons != 0 || woken { Poll::Ready(reasons) } else { Poll::Pending }
}

/// The right to wait.
struct Alone<'r>(&'r Instance);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // Ordering: pairs with the swap of whoever waits next.
        self.0.waiting.store(false, Ordering::Release);
    }
}
