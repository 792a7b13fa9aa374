//! The threads that a component starts: [`Threads`]. Its code stays loaded while one of them runs.
//!
//! The system does not tell which threads run a library's code, and safe Rust may start a thread and return
//! from `run`. So the library's calls to `pthread_create` are redirected to [`create`], which records the
//! thread's id:
//!
//! ```text
//!  library: pthread_create ──▶ create ──▶ pthread_create ──▶ begin (records id) ──▶ library's function
//! ```
//! A thread belongs to the run whose thread has started it. It is gone once the system no longer knows its
//! id: only then have its destructors finished. Threads that another library starts on behalf of this one are
//! not tracked.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::{Mutex, PoisonError};

use libc::{pid_t, pthread_attr_t, pthread_t};

/// The function that a thread runs.
type Start = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

unsafe extern "C" {
    // Like libc's declaration, except that the function may unwind: `pthread_exit` ends a thread that way.
    fn pthread_create(
        thread: *mut pthread_t,
        attributes: *const pthread_attr_t,
        start: Start,
        argument: *mut c_void,
    ) -> c_int;
}

/// The threads of one run, except the one that the host has started.
#[derive(Debug, Default)]
pub(super) struct Threads(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    /// Threads that have been created but do not run yet.
    starting: usize,
    /// Ids of the other threads. Some may be gone.
    running: Vec<pid_t>,
}

thread_local! {
    /// The list to which threads started by this thread are added.
    // A bare pointer, so that thread-local destructors can use it, too.
    static CURRENT: Cell<*const Threads> = const { Cell::new(std::ptr::null()) };
}

/// The task of a new thread.
struct Beginning {
    threads: *const Threads,
    start: Start,
    argument: *mut c_void,
}

impl Threads {
    /// Adds all threads that the calling thread starts with [`create`] from now on.
    ///
    /// # Safety
    /// `self` is not moved or dropped until the calling thread and all of these threads are gone.
    pub(super) unsafe fn adopt(&self) {
        CURRENT.set(self);
    }

    /// Adds a thread that none of these threads has started.
    pub(super) fn add(&self, thread: pid_t) {
        self.with(|list| list.running.push(thread));
    }

    /// Number of threads that still exist. Takes a system call for each.
    pub(super) fn count(&self) -> usize {
        self.with(|list| {
            list.running.retain(|&thread| is_alive(thread));
            list.starting + list.running.len()
        })
    }

    fn with<R>(&self, access: impl FnOnce(&mut List) -> R) -> R {
        access(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `pthread_create` for a library's code.
///
/// # Safety
/// The same as for `pthread_create`.
pub(super) unsafe extern "C" fn create(
    thread: *mut pthread_t,
    attributes: *const pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    let current = CURRENT.get();
    // SAFETY: `adopt` guarantees that it lives until this thread is gone.
    let Some(threads) = (unsafe { current.as_ref() }) else {
        // SAFETY: the caller guarantees this.
        return unsafe { pthread_create(thread, attributes, start, argument) };
    };
    let beginning = Box::into_raw(Box::new(Beginning { threads: current, start, argument }));
    threads.with(|list| list.starting += 1);
    // SAFETY: the caller guarantees the rest; `begin` gets the argument that it expects.
    let refused = unsafe { pthread_create(thread, attributes, begin, beginning.cast()) };
    if refused != 0 {
        threads.with(|list| list.starting -= 1);
        // SAFETY: it comes from a box, and no thread got it.
        drop(unsafe { Box::from_raw(beginning) });
    }
    refused
}

/// The first step of a library's thread.
///
/// # Safety
/// `beginning` comes from a box, and nobody else uses it.
unsafe extern "C-unwind" fn begin(beginning: *mut c_void) -> *mut c_void {
    // SAFETY: the caller guarantees this.
    let Beginning { threads, start, argument } = *unsafe { Box::from_raw(beginning.cast::<Beginning>()) };
    // SAFETY: this thread is one of them, so they live until it is gone.
    unsafe { &*threads }.with(|list| {
        list.starting -= 1;
        // SAFETY: a system call without arguments.
        list.running.push(unsafe { libc::gettid() });
    });
    CURRENT.set(threads);
    // SAFETY: the library has asked `pthread_create` for this call. If it unwinds, nothing is left to drop
    // here.
    unsafe { start(argument) }
}

/// Whether the process has a thread with this id. It may be another thread if the system has reused the id.
fn is_alive(thread: pid_t) -> bool {
    // SAFETY: signal 0 only checks whether a signal could be sent.
    let found = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, 0) };
    found == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    unsafe extern "C-unwind" fn waits(end: *mut c_void) -> *mut c_void {
        // SAFETY: the test passes a receiver.
        let end = unsafe { Box::from_raw(end.cast::<mpsc::Receiver<()>>()) };
        let _ = end.recv();
        std::ptr::null_mut()
    }

    #[test]
    fn a_thread_counts_until_the_system_has_forgotten_it() {
        let threads = Threads::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // SAFETY: `threads` lives until all threads are joined.
                unsafe { threads.adopt() };
                let (ends, end) = mpsc::channel();
                let argument = Box::into_raw(Box::new(end)).cast();
                let mut thread = 0;
                // SAFETY: the function takes a receiver, and `thread` is a valid place for the result.
                assert_eq!(unsafe { create(&raw mut thread, std::ptr::null(), waits, argument) }, 0);
                assert_eq!(threads.count(), 1);
                ends.send(()).expect("it waits");
                // SAFETY: the thread was just created and is joined once.
                assert_eq!(unsafe { libc::pthread_join(thread, std::ptr::null_mut()) }, 0);
                // The system wakes the joining thread before it forgets the id.
                while threads.count() > 0 {
                    std::thread::yield_now();
                }
            });
        });
    }
}
