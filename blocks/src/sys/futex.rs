//! Futexes: threads that sleep until a word changes, in memory of this process or in files that processes
//! share. A mapping from which a thread may only read is good enough to sleep on.

use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Wait, WaitFlags, WaitPtr, WaitvFlags};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Words that one thread can sleep on at a time (`FUTEX_WAITV_MAX`).
pub(crate) const MAX_WORDS: usize = 128;

const UNKNOWN: u8 = 0;
const OFFERED: u8 = 1;
const MISSING: u8 = 2;

/// Whether the kernel can put a thread to sleep on several words.
static SEVERAL: AtomicU8 = AtomicU8::new(UNKNOWN);

/// A word, and the value at which a thread sleeps on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'w> {
    pub(crate) word: &'w AtomicU32,
    pub(crate) value: u32,
}

/// Whether a thread can sleep on several words, of this process and of others (`futex_waitv`, Linux 5.16; a
/// sandbox may refuse the call). One system call, the first time.
pub(crate) fn waits_on_several() -> bool {
    #[cfg(test)]
    if REFUSED.get() {
        return false;
    }
    // Ordering: Relaxed; every thread finds the same.
    match SEVERAL.load(Ordering::Relaxed) {
        UNKNOWN => {
            // No word at all is an error, of which a kernel without the call knows nothing.
            let probed = futex::waitv(&[], WaitvFlags::empty(), None, ClockId::Monotonic);
            let offered = probed == Err(Errno::INVAL);
            SEVERAL.store(if offered { OFFERED } else { MISSING }, Ordering::Relaxed);
            offered
        }
        known => known == OFFERED,
    }
}

/// Sleeps until [`wake_own`] wakes the word, until it has another value, or for `timeout`. May return
/// earlier.
pub(crate) fn wait(own: Expected<'_>, timeout: Option<Duration>) {
    let timeout = timeout.map(timespec);
    // With any result, the caller checks its condition again.
    let _ = futex::wait(own.word, Flags::PRIVATE, own.value, timeout.as_ref());
}

/// Like [`wait`], but sleeps on words that other processes may [wake](wake_shared), too: on as many as there
/// is room for in [`MAX_WORDS`], besides the first one. Returns `false` if the system refused: from then on
/// it [cannot](waits_on_several) do this.
pub(crate) fn wait_on_several<'w>(
    own: Expected<'_>,
    shared: impl Iterator<Item = Expected<'w>>,
    timeout: Option<Duration>,
) -> bool {
    let mut words = [Wait::new(); MAX_WORDS];
    words[0] = describe(own, WaitFlags::PRIVATE);
    let mut count = 1;
    for (place, expected) in words[1..].iter_mut().zip(shared) {
        *place = describe(expected, WaitFlags::empty());
        count += 1;
    }
    let until = timeout.map(|timeout| {
        let now = clock_gettime(ClockId::Monotonic);
        now.checked_add(timespec(timeout)).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
    });
    let woken = futex::waitv(&words[..count], WaitvFlags::empty(), until.as_ref(), ClockId::Monotonic);
    let is_usual = matches!(woken, Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT));
    if !is_usual {
        SEVERAL.store(MISSING, Ordering::Relaxed);
    }
    is_usual
}

/// Wakes the thread that sleeps on a word of this process's own memory.
pub(crate) fn wake_own(word: &AtomicU32) {
    // It fails for no word that is mapped.
    let _ = futex::wake(word, Flags::PRIVATE, 1);
}

/// Wakes all threads of all processes that sleep on a word of a file.
pub(crate) fn wake_shared(word: &AtomicU32) {
    // As above.
    let _ = futex::wake(word, Flags::empty(), i32::MAX.unsigned_abs());
}

fn describe(expected: Expected<'_>, scope: WaitFlags) -> Wait {
    let mut wait = Wait::new();
    wait.val = expected.value.into();
    // The kernel only reads it.
    wait.uaddr = WaitPtr::new(ptr::from_ref(expected.word).cast_mut().cast());
    wait.flags = WaitFlags::SIZE_U32 | scope;
    wait
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
thread_local! {
    static REFUSED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `action` on this thread as if the kernel could not put it to sleep on several words.
#[cfg(test)]
pub(crate) fn while_refused<T>(action: impl FnOnce() -> T) -> T {
    REFUSED.set(true);
    let done = action();
    REFUSED.set(false);
    done
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::*;

    fn expect(word: &AtomicU32, value: u32) -> Expected<'_> {
        Expected { word, value }
    }

    #[test]
    fn a_thread_does_not_sleep_on_words_that_have_changed() {
        let (own, shared) = (AtomicU32::new(1), AtomicU32::new(2));
        wait(expect(&own, 0), None);
        if waits_on_several() {
            assert!(wait_on_several(expect(&own, 0), std::iter::empty(), None));
            assert!(wait_on_several(expect(&own, 1), [expect(&shared, 0)].into_iter(), None));
        }
    }

    #[test]
    fn a_timeout_ends_every_sleep() {
        let (own, shared) = (AtomicU32::new(1), AtomicU32::new(2));
        let timeout = Duration::from_millis(3);
        for several in [false, true] {
            let began = Instant::now();
            // Signals may end a sleep early.
            while began.elapsed() < timeout {
                if several && waits_on_several() {
                    assert!(wait_on_several(
                        expect(&own, 1),
                        [expect(&shared, 2)].into_iter(),
                        Some(timeout)
                    ));
                } else {
                    wait(expect(&own, 1), Some(timeout));
                }
            }
        }
        // As good as none.
        own.store(0, Ordering::Relaxed);
        wait(expect(&own, 1), Some(Duration::MAX));
        if waits_on_several() {
            assert!(wait_on_several(expect(&own, 1), std::iter::empty(), Some(Duration::MAX)));
        }
    }

    #[test]
    fn any_of_as_many_words_as_there_may_be_wakes() {
        if !waits_on_several() {
            return;
        }
        let words: Vec<_> = (0..MAX_WORDS).map(|_| AtomicU32::new(0)).collect();
        for index in [0, 1, MAX_WORDS - 1] {
            thread::scope(|scope| {
                let sleeper = scope.spawn(|| {
                    while words[index].load(Ordering::Acquire) == 0 {
                        let shared = words[1..].iter().map(|word| expect(word, 0));
                        assert!(wait_on_several(expect(&words[0], 0), shared, None));
                    }
                });
                words[index].store(1, Ordering::Release);
                if index == 0 {
                    wake_own(&words[0])
                } else {
                    wake_shared(&words[index])
                }
                sleeper.join().expect("it wakes");
            });
            words[index].store(0, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_refusal_is_pretended_for_one_thread_only() {
        let known = waits_on_several();
        assert!(!while_refused(waits_on_several));
        assert_eq!(waits_on_several(), known);
    }
}
