//! Runs a future to its end in the calling thread.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::runtime::Runtime;

/// The thread polls, or is about to sleep.
const AT_WORK: u8 = 0;
/// The thread was woken and must poll again.
const WOKEN: u8 = 1;
/// The thread is in the host's `wait`.
const LEADS: u8 = 2;
/// The thread is parked.
const PARKED: u8 = 3;

/// The state of a thread that runs a future. Any thread can wake it.
pub(super) struct Woken {
    state: AtomicU8,
    thread: Thread,
    runtime: Runtime,
}

impl Woken {
    fn new(runtime: Runtime) -> Self {
        Self { state: AtomicU8::new(WOKEN), thread: thread::current(), runtime }
    }

    /// Whether the future was woken since the last call.
    fn take(&self) -> bool {
        // Ordering: Acquire pairs with the Release in `wake_by_ref`: what was done before waking is seen by
        // the poll.
        self.state.swap(AT_WORK, Ordering::AcqRel) == WOKEN
    }

    /// Returns `false` if the thread was woken meanwhile and must not sleep.
    pub(super) fn begin_to_lead(&self) -> bool {
        self.begin(LEADS)
    }

    /// Returns `false` if the thread was woken meanwhile and must not sleep.
    pub(super) fn begin_to_park(&self) -> bool {
        self.begin(PARKED)
    }

    fn begin(&self, state: u8) -> bool {
        self.state.compare_exchange(AT_WORK, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Records that the thread does not sleep any more.
    pub(super) fn go_on(&self) {
        let _ = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| (state != WOKEN).then_some(AT_WORK));
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Ordering: Release pairs with the Acquire in `take`.
        match self.state.swap(WOKEN, Ordering::AcqRel) {
            LEADS => self.runtime.wake(),
            PARKED => self.thread.unpark(),
            _ => {}
        }
    }
}

/// Runs `future` to its end. Blocks the thread, in the host's `wait` or parked, whenever there is nothing to
/// do.
///
/// Any thread may wake the context's waker. A future that waits for something that neither a host call nor
/// another part of the component causes blocks until the component is cancelled.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = Runtime::current();
    let mut future = pin!(future);
    let woken = Arc::new(Woken::new(runtime.clone()));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    loop {
        while woken.take() {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
        }
        runtime.idle(&woken);
    }
}
