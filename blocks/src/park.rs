//! Blocking the calling thread until a poll is ready.

use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use crate::sys;

/// Rounds of spinning before a thread parks: about 10 µs, a third of what parking and being woken costs.
/// None where there is only one processor, since the other side could not run meanwhile.
///
/// What counts is the machine's processors, not those that this thread may run on: a thread that is pinned to
/// one of several waits for a side that runs on another.
static SPINS: LazyLock<u32> = LazyLock::new(|| if sys::processors() > 1 { 1000 } else { 0 });

/// Looks until `ready`, for about 10 µs; `None` if that was not enough.
pub fn spin(mut ready: impl FnMut() -> bool) -> Option<()> {
    for _ in 0..*SPINS {
        if ready() {
            return Some(());
        }
        std::hint::spin_loop();
    }
    None
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static WAKER: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

/// Polls until ready, parking the thread in between; `None` if `deadline` passes first.
///
/// The thread's waker is made once per thread, so waiting does not allocate. Polling happens at least once,
/// also after the deadline.
pub fn until<T>(deadline: Option<Instant>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    let waker = WAKER.with(Waker::clone);
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = poll(&mut cx) {
            return Some(value);
        }
        match deadline {
            None => thread::park(),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return None;
                }
                thread::park_timeout(left);
            }
        }
    }
}
