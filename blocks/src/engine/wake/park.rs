//! Blocks the calling thread until a poll is ready, or until the thread's work is cancelled.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::parker::Parker;
use super::watch::WatchList;
use crate::primitive::{AtomicU32, Ordering};
pub use crate::spin::spin;

/// A thread's waker, and the word that it sleeps on.
struct Bed {
    parker: Arc<Parker>,
    waker: Waker,
}

impl Bed {
    fn new() -> Self {
        let parker = Arc::new(Parker::new());
        Self { waker: Waker::from(Arc::clone(&parker)), parker }
    }
}

thread_local! {
    static BED: Bed = Bed::new();
    /// The counters of other processes for which this thread's current poll may wait.
    static WATCHED: RefCell<Option<WatchList>> = const { RefCell::new(None) };
    /// Cancels this thread's work.
    static CANCELLATION: RefCell<Option<Cancellation>> = const { RefCell::new(None) };
}

/// Polls until ready, parking the thread in between. Returns `None` if `deadline` passes first.
///
/// Each thread creates its waker once, so waiting does not allocate, except in destructors of thread-local
/// variables. Polls at least once, even after the deadline. In [cancelled](Cancellation) work this does not
/// wait: it unwinds, or returns `None` if it cannot.
///
/// A message or a block of another process also wakes the thread, if `poll` waits for it with the context's
/// own waker. Therefore, the next call of this function polls everything that is still of interest again.
pub fn until<T>(deadline: Option<Instant>, poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    sleep_until(deadline, true, poll)
}

fn sleep_until<T>(
    deadline: Option<Instant>,
    can_be_cancelled: bool,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    let (waker, last) = match BED.try_with(|bed| bed.waker.clone()) {
        Ok(waker) => (waker, None),
        // The destructor of another thread-local variable waits.
        Err(_) => {
            let bed = Bed::new();
            (bed.waker.clone(), Some(bed))
        }
    };
    let mut cx = Context::from_waker(&waker);
    let mut list = WatchList::default();
    loop {
        list.remove_changed(&waker);
        let polled = {
            let _watching = Watching::begin(&mut list);
            poll(&mut cx)
        };
        if let Poll::Ready(value) = polled {
            return Some(value);
        }
        if can_be_cancelled && is_cancelled() {
            unwind();
            return None;
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return None;
        }
        match &last {
            Some(bed) => bed.parker.park(&list, left),
            None => BED.with(|bed| bed.parker.park(&list, left)),
        }
    }
}

/// Polls a future until it is ready, parking the thread in between. In [cancelled](Cancellation) work this
/// unwinds instead of waiting, or continues if it cannot unwind.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    for can_be_cancelled in [true, false] {
        if let Some(output) = sleep_until(None, can_be_cancelled, |cx| future.as_mut().poll(cx)) {
            return output;
        }
    }
    unreachable!("without a deadline, only cancellation ends this early")
}

/// Sets the list to which a poll adds counters.
struct Watching<'l> {
    list: &'l mut WatchList,
    /// The list of the wait in whose poll this one takes place.
    outer: Option<WatchList>,
}

impl<'l> Watching<'l> {
    fn begin(list: &'l mut WatchList) -> Self {
        let inner = std::mem::take(list);
        let outer = WATCHED.try_with(|watched| watched.replace(Some(inner))).ok().flatten();
        Self { list, outer }
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        let outer = self.outer.take();
        if outer.is_some() {
            // The outer wait may have been woken meanwhile, which this thread took for its inner one.
            let _ = BED.try_with(|bed| bed.parker.unpark());
        }
        if let Ok(Some(inner)) = WATCHED.try_with(|watched| watched.replace(outer)) {
            *self.list = inner;
        }
    }
}

/// Calls `action` with the counters for which the current poll of this thread may wait, if it polls with
/// `waker`. Otherwise something else polls, which a sleeping thread would not reach.
pub(crate) fn with_watch_list<R>(waker: &Waker, action: impl FnOnce(Option<&mut WatchList>) -> R) -> R {
    let is_own = BED.try_with(|bed| std::ptr::eq(waker.data(), Arc::as_ptr(&bed.parker).cast()));
    // They may be gone in the destructor of another thread-local variable.
    let list = if is_own == Ok(true) { WATCHED.try_with(RefCell::take).ok().flatten() } else { None };
    let Some(mut list) = list else { return action(None) };
    let result = action(Some(&mut list));
    WATCHED.with(|watched| watched.replace(Some(list)));
    result
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
    /// The parker of the thread that runs the work, while it does.
    thread: Mutex<Option<Arc<Parker>>>,
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
        *self.thread() = BED.try_with(|bed| Arc::clone(&bed.parker)).ok();
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

    fn thread(&self) -> std::sync::MutexGuard<'_, Option<Arc<Parker>>> {
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

/// Whether what this thread does was cancelled. Waiting in a destructor of the thread's own variables cannot
/// be.
fn is_cancelled() -> bool {
    let look = |current: &RefCell<Option<Cancellation>>| {
        current.borrow().as_ref().is_some_and(Cancellation::is_cancelled)
    };
    CANCELLATION.try_with(look).unwrap_or(false)
}

/// Unwinds where that is possible.
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

    /// Waits when it is dropped, and sends the result.
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

    /// When it is dropped, waits for the other thread to wake it, and sends the result.
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
