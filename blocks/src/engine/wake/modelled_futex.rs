//! Futexes for models: the kernel compares and sleeps in one step.

use std::time::Duration;

use loom::sync::{Condvar, Mutex};

use crate::primitive::{AtomicU32, Ordering};

/// Maximum number of words that one thread can sleep on.
pub(crate) const MAX_WORDS: usize = 8;

/// A word, and the value at which a thread sleeps on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'w> {
    pub(crate) word: &'w AtomicU32,
    pub(crate) value: u32,
}

/// How often each word was woken, by its address.
struct Kernel {
    wakes: Mutex<Vec<(usize, u32)>>,
    woken: Condvar,
}

loom::lazy_static! {
    static ref KERNEL: Kernel = Kernel { wakes: Mutex::new(Vec::new()), woken: Condvar::new() };
}

fn count(wakes: &[(usize, u32)], word: &AtomicU32) -> u32 {
    let address = std::ptr::from_ref(word).addr();
    wakes.iter().find(|(known, _)| *known == address).map_or(0, |(_, count)| *count)
}

pub(crate) fn waits_on_several() -> bool {
    true
}

pub(crate) fn wait(own: Expected<'_>, timeout: Option<Duration>) {
    wait_on_several(own, std::iter::empty(), timeout);
}

/// Sleeps until one of the words is woken, unless one of them has another value. Nothing else ends the sleep.
pub(crate) fn wait_on_several<'w>(
    own: Expected<'w>,
    shared: impl Iterator<Item = Expected<'w>>,
    _timeout: Option<Duration>,
) -> bool {
    let words: Vec<_> = std::iter::once(own).chain(shared).collect();
    let mut wakes = KERNEL.wakes.lock().expect("no panic inside");
    if words.iter().any(|expected| expected.word.load(Ordering::Relaxed) != expected.value) {
        return true;
    }
    let before: Vec<_> = words.iter().map(|expected| count(&wakes, expected.word)).collect();
    while words.iter().zip(&before).all(|(expected, before)| count(&wakes, expected.word) == *before) {
        wakes = KERNEL.woken.wait(wakes).expect("no panic inside");
    }
    true
}

pub(crate) fn wake_own(word: &AtomicU32) {
    wake_shared(word);
}

pub(crate) fn wake_shared(word: &AtomicU32) {
    let address = std::ptr::from_ref(word).addr();
    let mut wakes = KERNEL.wakes.lock().expect("no panic inside");
    match wakes.iter_mut().find(|(known, _)| *known == address) {
        Some((_, count)) => *count += 1,
        None => wakes.push((address, 1)),
    }
    drop(wakes);
    KERNEL.woken.notify_all();
}
