//! Blocks the calling thread until a poll is ready, or until the thread's work is cancelled.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use crate::primitive::{AtomicU32, Ordering};
pub use crate::spin::spin;

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
    static WAKER: Waker = waker();
    /// Cancels this thread's work.
    static CANCELLATION: RefCell<Option<Cancellation>> = const { RefCell::new(None) };
}

/// Polls until ready, parking the thread in between. Returns `None` if `deadline` passes first.
///
/// Each thread creates its waker once, so waiting does not allocate, except in destructors of thread-local
/// variables. Polls at least once, even after the deadline. In [cancelled](Cancellation) work this does not
/// wait: it unwinds, or returns `None` if it cannot.
pub fn until<T>(deadline: Option<Instant>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    // It may be gone if the destructor of another thread-local variable waits.
    let waker = WAKER.try_with(Waker::clone).unwrap_or_else(|_| waker());
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = poll(&mut cx) {
            return Some(value);
        }
        if is_cancelled() {
            unwind();
            return None;
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

/// Polls a future until it is ready, parking the thread in between. In [cancelled](Cancellation) work this
/// unwinds instead of waiting, or goes on if it cannot unwind.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Some(output) = until(None, |cx| future.as_mut().poll(cx)) {
            return output;
        }
        // It was cancelled. The thread is woken as usual: `until` has polled with this thread's waker.
        thread::park();
    }
}

/// Cancels a piece of work, from any thread. Wherever the work would [wait](until), its stack is unwound, as
/// by a panic that is not reported. What it holds is dropped on the way.
///
/// A thread that is already unwinding, or a program in which a panic aborts, cannot be unwound. There,
/// [`until`] returns at once, as if the deadline had passed.
#[derive(Clone, Default)]
pub struct Cancellation(Arc<Requested>);

#[derive(Default)]
struct Requested {
    cancelled: AtomicU32,
    /// The thread that runs the work, while it does.
    thread: Mutex<Option<Thread>>,
}

/// How work ended without returning.
pub enum Left {
    /// It was cancelled, while it waited or before it began.
    Cancelled,
    /// It panicked, with this payload.
    Panicked(Box<dyn Any + Send>),
}

/// The payload of the panic that unwinds.
struct Unwinding;

impl Cancellation {
    /// Creates the cancellation of work that nobody has cancelled yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the work where it waits, or the next time it would wait.
    pub fn cancel(&self) {
        // Ordering: Release, before the thread is woken, pairs with the Acquire in `is_cancelled`: the thread
        // checks before it parks, and unparking one that is about to park makes it go on.
        self.0.cancelled.store(1, Ordering::Release);
        if let Some(thread) = &*self.thread() {
            thread.unpark();
        }
    }

    /// Runs `work` in this thread.
    ///
    /// # Errors
    /// [`Left`] if it does not return.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T, Left> {
        *self.thread() = Some(thread::current());
        // There is none in destructors of thread-local variables, where waiting cannot be cancelled.
        let replace = |with| CANCELLATION.try_with(|current| current.replace(with)).ok().flatten();
        let outer = replace(Some(self.clone()));
        let outcome = if self.is_cancelled() {
            Err(Left::Cancelled)
        } else {
            catch_unwind(AssertUnwindSafe(work)).map_err(|payload| match payload.downcast::<Unwinding>() {
                Ok(_) => Left::Cancelled,
                Err(payload) => Left::Panicked(payload),
            })
        };
        replace(outer);
        *self.thread() = None;
        outcome
    }

    fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire) != 0
    }

    fn thread(&self) -> std::sync::MutexGuard<'_, Option<Thread>> {
        // Changed by single assignments, so it is whole after a panic.
        self.0.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancellation").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "Cancelled",
            Self::Panicked(_) => "Panicked",
        })
    }
}

/// Wakes this thread.
fn waker() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

/// Whether what this thread does was cancelled. Waiting in a destructor of the thread's own variables cannot
/// be.
fn is_cancelled() -> bool {
    let look = |current: &RefCell<Option<Cancellation>>| {
        current.borrow().as_ref().is_some_and(Cancellation::is_cancelled)
    };
    CANCELLATION.try_with(look).unwrap_or(false)
}

/// Unwinds, where that is possible.
#[cold]
fn unwind() {
    if cfg!(panic = "unwind") && !thread::panicking() {
        resume_unwind(Box::new(Unwinding));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Tells when it is dropped, after it has tried to wait.
    struct Waits(mpsc::Sender<Option<()>>);

    impl Drop for Waits {
        fn drop(&mut self) {
            let _ = self.0.send(until(None, |_| Poll::<()>::Pending));
        }
    }

    #[test]
    fn cancelled_work_that_waits_is_unwound_and_its_destructors_do_not_wait() {
        for blocks_on in [false, true] {
            let cancellation = Cancellation::new();
            let (dropped, was_dropped) = mpsc::channel();
            let (begun, has_begun) = mpsc::channel();
            let work = {
                let cancellation = cancellation.clone();
                thread::spawn(move || {
                    cancellation.run(|| {
                        let _waits = Waits(dropped);
                        begun.send(()).unwrap();
                        if blocks_on {
                            block_on(std::future::pending::<()>());
                        } else {
                            until(None, |_| Poll::<()>::Pending);
                        }
                    })
                })
            };
            has_begun.recv().unwrap();
            cancellation.cancel();
            assert!(matches!(work.join().unwrap(), Err(Left::Cancelled)));
            assert_eq!(was_dropped.recv().unwrap(), None);
            assert!(matches!(cancellation.run(|| ()), Err(Left::Cancelled)), "it stays cancelled");
        }
    }

    /// Waits when it is dropped, for the other thread to wake it, and tells what came of that.
    struct WaitsLast {
        wakers: mpsc::Sender<Waker>,
        awoken: mpsc::Receiver<u32>,
        told: mpsc::Sender<(Option<u32>, bool)>,
    }

    impl Drop for WaitsLast {
        fn drop(&mut self) {
            let awoken = until(None, |cx| match self.awoken.try_recv() {
                Ok(number) => Poll::Ready(number),
                Err(_) => {
                    let _ = self.wakers.send(cx.waker().clone());
                    Poll::Pending
                }
            });
            let ran = Cancellation::new().run(|| ()).is_ok();
            let _ = self.told.send((awoken, ran));
        }
    }

    thread_local!(static LAST: RefCell<Option<WaitsLast>> = const { RefCell::new(None) });

    #[test]
    fn a_destructor_of_a_thread_local_variable_can_wait() {
        let (wakers, waker) = mpsc::channel();
        let (awake, awoken) = mpsc::channel();
        let (told, tells) = mpsc::channel();
        let thread = thread::spawn(move || {
            LAST.set(Some(WaitsLast { wakers, awoken, told }));
            // Variables that are used first are dropped last: this thread's waker goes before.
            assert_eq!(until(None, |_| Poll::Ready(1)), Some(1));
            assert!(Cancellation::new().run(|| ()).is_ok());
        });
        let waker: Waker = waker.recv().unwrap();
        awake.send(7).unwrap();
        waker.wake();
        assert_eq!(tells.recv().unwrap(), (Some(7), true));
        thread.join().unwrap();
    }

    #[test]
    fn work_that_does_not_wait_returns_or_panics_as_usual() {
        let cancellation = Cancellation::new();
        assert!(matches!(cancellation.run(|| 7), Ok(7)));
        let panicked = cancellation.run(|| resume_unwind(Box::new("as asked")));
        let Err(Left::Panicked(payload)) = panicked else { panic!("{panicked:?}") };
        assert_eq!(payload.downcast_ref(), Some(&"as asked"));
        cancellation.cancel();
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(until(Some(soon), |_| Poll::<()>::Pending), None, "this thread was not cancelled");
        assert_eq!(block_on(async { 7 }), 7);
    }
}
