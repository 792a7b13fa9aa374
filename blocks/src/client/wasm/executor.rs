//! Runs a future to its end in the guest's only thread.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::Runtime;

/// Records that the future was woken. A guest has one thread, so a flag suffices.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `future` to its end. Suspends the guest in the host's `wait` whenever there is nothing to do.
///
/// Combinators that only poll futures that were woken (`select!`, `join!`, `FuturesUnordered`) work. A future
/// that waits for something that neither a host call nor another part of it causes suspends the guest until
/// the shutdown.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    loop {
        while woken.0.swap(false, Ordering::Relaxed) {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
        }
        Runtime::current().wait_and_wake();
    }
}
