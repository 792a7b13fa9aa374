//! The threads that a component starts, so that its code stays loaded while one of them runs: [`Threads`].
//!
//! Nothing tells how many threads run a library's code, and safe Rust may start one and return from `run`. So the library's calls of
//! `pthread_create` are redirected to [`create`], which notes the thread's number:
//!
//! ```text
//!  library: pthread_create ──▶ create ──▶ pthread_create ──▶ begin (its number is noted) ──▶ the library's function
//! ```
//! A thread belongs to the run whose thread has started it. It is gone when the system does not know its number any more: only
//! then have its destructors run too. Threads that another library starts on behalf of this one are not seen.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::{Mutex, PoisonError};

use libc::{pid_t, pthread_attr_t, pthread_t};

/// What `pthread_create` calls.
type Start = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

unsafe extern "C" {
    // As in libc, but that the function may unwind: that is how `pthread_exit` ends a thread.
    fn pthread_create(
        thread: *mut pthread_t,
        attributes: *const pthread_attr_t,
        start: Start,
        argument: *mut c_void,
    ) -> c_int;
}

/// The threads of one run, except the one that the host has made.
#[derive(Debug, Default)]
pub(super) struct Threads(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    /// Created, and not running yet.
    starting: usize,
    /// The others, some of which may be gone.
    begun: Vec<pid_t>,
}

thread_local! {
    /// The threads to which those belong that this one starts.
    // A bare pointer, so that thread-local destructors find it too.
    static OWN: Cell<*const Threads> = const { Cell::new(std::ptr::null()) };
}

/// What a new thread is to do.
struct Beginning {
    threads: *const Threads,
    start: Start,
    argument: *mut c_void,
}

impl Threads {
    /// From now on the threads that this one starts by [`create`] belong to these.
    ///
    /// # Safety
    /// `self` stays where it is until this thread and all of these are gone.
    pub(super) unsafe fn adopt(&self) {
        OWN.set(self);
    }

    /// Adds a thread that was not started by one of them.
    pub(super) fn note(&self, thread: pid_t) {
        self.with(|list| list.begun.push(thread));
    }

    /// How many are left. A system call for each.
    pub(super) fn left(&self) -> usize {
        self.with(|list| {
            list.begun.retain(|&thread| is_alive(thread));
            list.starting + list.begun.len()
        })
    }

    fn with<R>(&self, look: impl FnOnce(&mut List) -> R) -> R {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `pthread_create` for a library's code.
///
/// # Safety
/// As for `pthread_create`.
pub(super) unsafe extern "C" fn create(
    thread: *mut pthread_t,
    attributes: *const pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    let own = OWN.get();
    // SAFETY: kept until this thread is gone (`adopt`).
    let Some(threads) = (unsafe { own.as_ref() }) else {
        // SAFETY: the caller's promise.
        return unsafe { pthread_create(thread, attributes, start, argument) };
    };
    let beginning = Box::into_raw(Box::new(Beginning { threads: own, start, argument }));
    threads.with(|list| list.starting += 1);
    // SAFETY: as the caller promises; `begin` is given what it takes.
    let refused = unsafe { pthread_create(thread, attributes, begin, beginning.cast()) };
    if refused != 0 {
        threads.with(|list| list.starting -= 1);
        // SAFETY: it comes from a box, and no thread has it.
        drop(unsafe { Box::from_raw(beginning) });
    }
    refused
}

/// What a thread of a library does first.
///
/// # Safety
/// `beginning` comes from a box that nobody else has.
unsafe extern "C-unwind" fn begin(beginning: *mut c_void) -> *mut c_void {
    // SAFETY: the caller's promise.
    let Beginning { threads, start, argument } = *unsafe { Box::from_raw(beginning.cast::<Beginning>()) };
    // SAFETY: this thread belongs to them, so they are kept until it is gone.
    unsafe { &*threads }.with(|list| {
        list.starting -= 1;
        // SAFETY: a system call without arguments.
        list.begun.push(unsafe { libc::gettid() });
    });
    OWN.set(threads);
    // SAFETY: what the library has asked `pthread_create` for. Nothing is left to drop here should it unwind.
    unsafe { start(argument) }
}

/// Whether there is a thread of this number in the process. It may be another one if the number was given out again.
fn is_alive(thread: pid_t) -> bool {
    // SAFETY: with signal 0 nothing is sent: it is only looked whether it could be.
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
    fn a_thread_is_left_until_the_system_has_forgotten_it() {
        let threads = Threads::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // SAFETY: `threads` lives until all of them are joined.
                unsafe { threads.adopt() };
                let (ends, end) = mpsc::channel();
                let argument = Box::into_raw(Box::new(end)).cast();
                let mut thread = 0;
                // SAFETY: the function takes a receiver, and the place for the number is ours.
                assert_eq!(unsafe { create(&raw mut thread, std::ptr::null(), waits, argument) }, 0);
                assert_eq!(threads.left(), 1);
                ends.send(()).expect("it waits");
                // SAFETY: it was just made, and is joined once.
                assert_eq!(unsafe { libc::pthread_join(thread, std::ptr::null_mut()) }, 0);
                // The system wakes who joins before it forgets the number.
                while threads.left() > 0 {
                    std::thread::yield_now();
                }
            });
        });
    }
}
