//! Forks: a child gets nothing of its parent's channels.
//!
//! Channels are shared memory, and `fork` would share them with the child. A publisher dropped in the child
//! would end the parent's topic, and one used there would inject messages. So
//!
//! - the memory of a channel is not inherited (`MADV_DONTFORK`), however the process forks;
//! - in a child of `fork(2)`, before that returns, a handler (`pthread_atfork`) [fills](InChild) the places,
//!   so that no other mapping gets there while the child still has pointers to them;
//! - each end knows the [`Process`] that created it, and refuses to work in another one. If that must cost
//!   nothing, the handler changes a word that the hot path reads anyway, so that it checks further: the event
//!   counts and the limit in a control segment, and [flags](ForkFlag) elsewhere.
//!
//! ```text
//!   parent                          child
//!   ────────────────────────────    ─────────────────────────────────────────────
//!   arena     shared, read-write    inaccessible
//!   control   shared, read-write    its own zeros, whose event counts say: check further
//!   flag      unset                 set
//! ```
//!
//! A child of `_Fork`, `clone` or the like runs no handlers: it has holes instead, and may only call `exec`
//! or `_exit`, as after `vfork`. Programs that are started with `posix_spawn` or [`std::process::Command`]
//! are not affected.
//!
//! Emulators such as qemu-user ignore `MADV_DONTFORK`: children inherit the memory, and the handler replaces
//! it. There, the first point holds only for `fork(2)`, after the handler.

use std::cell::{Cell, UnsafeCell};
use std::convert::Infallible;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::io::{self, Errno};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// Forks between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Whether the system ignores advice, so that children inherit what they should not.
static INHERITS_ALL: AtomicBool = AtomicBool::new(false);

static REGISTRY: Registry = Registry {
    locked: AtomicBool::new(false),
    entries: UnsafeCell::new(Vec::new()),
    unused: UnsafeCell::new(Vec::new()),
};

/// Identifies a process among its forked relatives. Values that were created in one of them are not used in
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(u32);

impl Process {
    /// The calling process.
    #[inline]
    #[must_use]
    pub fn current() -> Self {
        install();
        // Ordering: Relaxed; changed only while the process has one thread.
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether the process was forked from one that had created such values. It has none of its parent's
    /// threads.
    #[must_use]
    pub fn is_forked(self) -> bool {
        self.0 != 0
    }

    /// Whether this is the calling process: it was not forked since. One load.
    #[inline(always)]
    #[must_use]
    pub fn is_current(self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }
}

/// The replacement that a child finds for memory that it does not inherit.
#[derive(Clone, Copy)]
pub(crate) enum InChild {
    /// Inaccessible address space.
    Nothing,
    /// Zeros of its own. The function is called with their address.
    #[cfg_attr(loom, allow(dead_code, reason = "control segments of models lie on the heap"))]
    Zeros(unsafe fn(NonNull<u8>)),
}

/// Memory that children do not inherit. Drop this before unmapping the memory.
#[derive(Debug)]
pub(crate) struct Uninherited(usize);

impl Uninherited {
    /// Excludes `len` mapped bytes from `base` on, whole pages.
    ///
    /// # Safety
    /// They stay mapped as long as the value lives, in mappings of their own, and belong to the caller. A
    /// function in `in_child` can be called with the first byte when they are zeros, and touches no others.
    pub(crate) unsafe fn new(base: NonNull<u8>, len: usize, in_child: InChild) -> io::Result<Self> {
        if !install() {
            return Err(Errno::NOMEM);
        }
        let entry = Entry::Memory { base, len, in_child, of: Process::current() };
        // No process forks between the two: a child neither has a hole that it does not fill nor fills what
        // it has inherited.
        // SAFETY: the caller's own mapping, which only children see differently.
        let exclude = || unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxDontFork) };
        Ok(Self(REGISTRY.add(entry, exclude)?))
    }
}

impl Uninherited {
    /// Lets children inherit the memory from now on, after `change` has made it harmless. The process does
    /// not fork meanwhile.
    #[cfg_attr(loom, allow(dead_code, reason = "not part of any model"))]
    pub(crate) fn end(&self, change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        REGISTRY.lock();
        let changed = change();
        if changed.is_ok() {
            // SAFETY: we have the lock.
            let entries = unsafe { &mut *REGISTRY.entries.get() };
            entries[self.0] = None;
        }
        REGISTRY.unlock();
        changed
    }
}

impl Drop for Uninherited {
    fn drop(&mut self) {
        REGISTRY.remove(self.0);
    }
}

/// A flag that is set in every child.
#[derive(Debug)]
pub struct ForkFlag {
    flag: Arc<AtomicBool>,
    entry: usize,
    process: Process,
}

impl ForkFlag {
    /// Sets `flag` in children that are forked while the value lives.
    #[must_use]
    pub fn new(flag: Arc<AtomicBool>) -> Self {
        let process = Process::current();
        let Ok(entry) = REGISTRY.add(Entry::Flag(NonNull::from(&*flag)), || Ok::<_, Infallible>(()));
        Self { flag, entry, process }
    }

    /// Whether this is not the process that created the flag.
    #[inline]
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        !self.process.is_current()
    }

    /// The flag.
    #[inline(always)]
    #[must_use]
    pub fn flag(&self) -> &AtomicBool {
        &self.flag
    }
}

impl Drop for ForkFlag {
    fn drop(&mut self) {
        REGISTRY.remove(self.entry);
    }
}

/// Something to do in a child.
enum Entry {
    Memory {
        base: NonNull<u8>,
        len: usize,
        in_child: InChild,
        of: Process,
    },
    /// Kept by its [`ForkFlag`].
    Flag(NonNull<AtomicBool>),
}

/// Everything that must be done in a child.
///
/// A thread can take its lock before a fork and release it in the child, which is not possible with those of
/// the standard library.
struct Registry {
    locked: AtomicBool,
    entries: UnsafeCell<Vec<Option<Entry>>>,
    unused: UnsafeCell<Vec<usize>>,
}

// SAFETY: only the holder of the lock reaches its contents; entries lead to memory that is used in the child
// only, by its one thread.
unsafe impl Sync for Registry {}

impl Registry {
    /// Adds an entry if `prepare` succeeds. The process does not fork meanwhile.
    fn add<E>(&self, entry: Entry, prepare: impl FnOnce() -> Result<(), E>) -> Result<usize, E> {
        self.lock();
        if let Err(error) = prepare() {
            self.unlock();
            return Err(error);
        }
        // SAFETY: we have the lock.
        let (entries, unused) = unsafe { (&mut *self.entries.get(), &mut *self.unused.get()) };
        let index = unused.pop().unwrap_or_else(|| {
            entries.push(None);
            // Reserve now, so that removing an entry does not allocate.
            unused.reserve(entries.len());
            entries.len() - 1
        });
        entries[index] = Some(entry);
        self.unlock();
        Ok(index)
    }

    fn remove(&self, index: usize) {
        self.lock();
        // SAFETY: we have the lock.
        let (entries, unused) = unsafe { (&mut *self.entries.get(), &mut *self.unused.get()) };
        entries[index] = None;
        unused.push(index);
        self.unlock();
    }

    fn lock(&self) {
        // Ordering: Acquire pairs with the Release of the previous holder.
        while self.locked.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
    }

    fn unlock(&self) {
        self.locked.store(false, Ordering::Release);
    }
}

/// Installs the handlers, once. Returns `false` if the system refused.
fn install() -> bool {
    /// Nobody has installed them, or is about to.
    const MISSING: u32 = 0;
    const INSTALLED: u32 = u32::MAX;
    // Otherwise: the process that is about to install them. It is not a lock of the standard library, since a
    // child for which another thread of its parent was about to do it would wait for that thread forever.
    static STATE: AtomicU32 = AtomicU32::new(MISSING);
    loop {
        // Ordering: Acquire pairs with the Release of who has installed them.
        let state = STATE.load(Ordering::Acquire);
        if state == INSTALLED {
            return true;
        }
        let process = std::process::id();
        if state == process {
            std::thread::yield_now();
        } else if STATE.compare_exchange(state, process, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            // Ordering: Relaxed; made visible by the Release of `STATE`, before any memory is registered.
            INHERITS_ALL.store(ignores_advice(), Ordering::Relaxed);
            // SAFETY: the three functions are sound to call around a fork; see there.
            let installed =
                unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) == 0 };
            STATE.store(if installed { INSTALLED } else { MISSING }, Ordering::Release);
            return installed;
        }
    }
}

/// Whether the system accepts advice that does not exist. Linux refuses it, whatever the addresses. An
/// emulator that accepts it does nothing about advice that exists, either.
fn ignores_advice() -> bool {
    const NONE: i32 = i32::MAX;
    // SAFETY: advice about no bytes.
    unsafe { libc::madvise(std::ptr::null_mut(), 0, NONE) == 0 }
}

thread_local! {
    /// Whether this thread has the registry's lock in order to fork. The handlers are called twice if a child
    /// had to install them again, since nothing says whether its parent was done: the second calls do
    /// nothing.
    static FORKS_NOW: Cell<bool> = const { Cell::new(false) };
}

/// In the parent, before it forks: nobody changes the registry meanwhile.
unsafe extern "C" fn before() {
    if FORKS_NOW.replace(true) {
        return;
    }
    // If another thread were in the middle of making it, the child would wait for that thread forever.
    crossbeam_epoch::default_collector();
    REGISTRY.lock();
}

/// In the parent, after it has forked.
unsafe extern "C" fn in_parent() {
    if FORKS_NOW.replace(false) {
        REGISTRY.unlock();
    }
}

/// In the child, which only has this thread. Neither allocates nor takes a lock: other threads of the parent
/// may have held them.
unsafe extern "C" fn in_child() {
    if !FORKS_NOW.replace(false) {
        return;
    }
    let parent = Process(FORKS.load(Ordering::Relaxed));
    FORKS.store(parent.0.wrapping_add(1), Ordering::Relaxed);
    // SAFETY: `before` has taken the lock, and there is no other thread.
    for entry in unsafe { &*REGISTRY.entries.get() }.iter().flatten() {
        match *entry {
            // What the parent has from its own parent was filled then.
            Entry::Memory { of, .. } if of != parent => {}
            Entry::Memory { base, len, in_child, .. } => {
                // SAFETY: what was registered and is not unregistered, in a child.
                unsafe { fill(base, len, in_child) };
            }
            // SAFETY: its `ForkFlag` keeps it.
            Entry::Flag(flag) => unsafe { flag.as_ref() }.store(true, Ordering::Relaxed),
        }
    }
    REGISTRY.unlock();
}

/// Fills the place of memory that was not inherited, or replaces what was.
///
/// # Safety
/// There is nothing of this process but what it has inherited against the advice, and the condition of
/// `in_child` holds.
unsafe fn fill(base: NonNull<u8>, len: usize, in_child: InChild) {
    let access = match in_child {
        InChild::Nothing => ProtFlags::empty(),
        InChild::Zeros(_) => ProtFlags::READ | ProtFlags::WRITE,
    };
    // If children inherit all, the place was never free for another mapping: it still holds the channel.
    // Ordering: Relaxed; set before the memory was registered, whose lock this thread has.
    let place = match INHERITS_ALL.load(Ordering::Relaxed) {
        true => MapFlags::FIXED,
        false => MapFlags::FIXED_NOREPLACE,
    };
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | place;
    // SAFETY: it replaces nothing but the child's view of the channel, which it cannot use any more.
    let filled = unsafe { mmap_anonymous(base.as_ptr().cast(), len, access, flags) };
    if filled != Ok(base.as_ptr().cast()) {
        // Another handler has mapped something there, or there is no memory. The child's pointers into the
        // channel would lead to foreign memory, so it cannot continue.
        std::process::abort();
    }
    if let InChild::Zeros(show) = in_child {
        // SAFETY: zeros, as the caller of `Uninherited::new` has promised for.
        unsafe { show(base) };
    }
}
