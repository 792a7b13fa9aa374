//! `topics.wait`: puts a guest to sleep until something may have changed for it.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::host::wasm::abi::values::WakeReasons;
use crate::host::wasm::state::GuestState;

/// Suspends the guest until something may have changed for it.
pub(super) async fn wait(state: &mut GuestState, timeout: u64) -> wasmtime::Result<WakeReasons> {
    // Even a guest that finds something every time lets other tasks run on its thread now and then.
    tokio::task::consume_budget().await;
    state.enter()?;
    let mut timer: Pin<Box<dyn Future<Output = ()> + Send>> = match timeout {
        u64::MAX => Box::pin(std::future::pending()),
        0 => Box::pin(std::future::ready(())),
        nanos => Box::pin(tokio::time::sleep(Duration::from_nanos(nanos))),
    };
    // A guest that was refused publishing because of its rate learns when it can continue.
    let mut publishable: Pin<Box<dyn Future<Output = ()> + Send>> = match state.meter.publishable_in() {
        Some(time) => Box::pin(tokio::time::sleep(time)),
        None => Box::pin(std::future::pending()),
    };
    let gave_up_turn = timeout != 0 && state.should_yield();
    if gave_up_turn {
        tokio::task::yield_now().await;
    }
    let mut slept = false;
    let reasons = std::future::poll_fn(|cx| -> Poll<wasmtime::Result<WakeReasons>> {
        state.show_stats();
        // Registers first, so that no change between checking and sleeping is missed.
        state.signal().register(cx.waker());
        let mut reasons = WakeReasons::empty();
        let mut progress = false;
        for (_, subscription) in &mut state.subscriptions {
            progress |= subscription.arm(cx.waker());
        }
        // A subscription may keep the messages of too many publishers.
        if let Err(error) = state.policy.settle() {
            return Poll::Ready(Err(error.into()));
        }
        for (_, publisher) in state.publishers.iter_mut() {
            progress |= publisher.arm(cx);
        }
        if publishable.as_mut().poll(cx).is_ready() {
            state.meter.unthrottle();
            progress = true;
            publishable = Box::pin(std::future::pending());
        }
        if progress {
            reasons |= WakeReasons::PROGRESS;
        }
        // A cancelled guest gets no chance to finish first.
        let asked = state.setup.control.is_shutdown_requested() && !state.setup.control.is_cancelled();
        if asked && (progress || !state.shutdown_seen) {
            state.shutdown_seen = true;
            reasons |= WakeReasons::SHUTDOWN;
        }
        if timer.as_mut().poll(cx).is_ready() {
            reasons |= WakeReasons::TIMEOUT;
        }
        if reasons == WakeReasons::empty() {
            slept = true;
            return Poll::Pending;
        }
        Poll::Ready(Ok(reasons))
    })
    .await?;
    if gave_up_turn && slept {
        state.idle_yield.was_in_vain();
    }
    Ok(reasons)
}
