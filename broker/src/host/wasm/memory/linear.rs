//! Linear memories of guests, allocated by the broker so that it knows where they are.
//!
//! ```text
//!   base                         size                     reserved             reserved + guard
//!    │ ordinary memory and windows │ grows by mprotect       │ never accessible     │
//!    ├─────────────────────────────┼─────────────────────────┼──────────────────────┤
//!    │ read, write (windows: read) │ no access               │ no access            │
//! ```
//!
//! Each memory is one mapping, made when the guest is instantiated. It has two owners: the engine, which
//! addresses it from compiled code, and the broker's side of the guest, which maps windows into it. When both
//! are gone, it is unmapped. It never moves, so addresses inside it can be computed once.
//!
//! The engine requests a memory through [`MemoryCreator`] without saying for which guest. So instantiation
//! runs inside [`PendingMemory::scope`], where the creator leaves the memory that it made.
//!
//! A guest has at most one linear memory with pages, because a host function does not learn which memory its
//! caller's addresses refer to. Toolchains emit further memories without pages, for modules that use none.
//! Such a memory plays no part until it grows. Only the first memory with pages may have any: another one
//! that starts with pages is refused, and one that starts without never grows.

use std::future::Future;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use blockcast_blocks::{Process, large_page_size};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use crate::host::wasm::sys;

/// The address space of one guest's linear memory, guard included. Unmapped on drop.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    base: NonNull<u8>,
    /// Accessible bytes; a multiple of the page size that never shrinks.
    size: AtomicUsize,
    /// The most bytes that it may grow to.
    reserved: usize,
    /// Mapped bytes, guard included.
    mapped: usize,
    process: Process,
}

// SAFETY: the pointer stands for an address range that the value owns exclusively. All access goes through
// raw pointers whose users the store of the memory serialises. `size` is atomic.
unsafe impl Send for GuestMemory {}
// SAFETY: as above; no method returns a reference into the memory.
unsafe impl Sync for GuestMemory {}

impl GuestMemory {
    /// Reserves `reserved + guard` bytes and makes the first `size` accessible, zeroed.
    fn new(size: usize, reserved: usize, guard: usize) -> Result<Self, String> {
        let reserved = reserved.max(size);
        let mapped = reserved.checked_add(guard).ok_or("a linear memory larger than the address space")?;
        // So that a multiple of a large page in the guest is one in this process too.
        let base = sys::reserve_aligned(mapped, large_page_size())
            .map_err(|error| format!("no address space for a linear memory: {error}"))?;
        let process = Process::current();
        let memory = Self { base, size: AtomicUsize::new(0), reserved, mapped, process };
        memory.grow_to(size)?;
        Ok(memory)
    }

    fn grow_to(&self, size: usize) -> Result<(), String> {
        let old = self.size.load(Ordering::Relaxed);
        if size > self.reserved || size < old || !size.is_multiple_of(sys::page_size()) {
            return Err(format!("a linear memory of {old} bytes cannot become one of {size} bytes"));
        }
        if size > old {
            // SAFETY: `old..size` is page aligned (checked for `size`, an invariant of `old`) and inside the
            // reservation that `self` owns.
            unsafe { sys::make_writable(self.base.as_ptr().wrapping_add(old), size - old) }
                .map_err(|error| format!("no memory to grow a linear memory to {size} bytes: {error}"))?;
        }
        self.size.store(size, Ordering::Relaxed);
        Ok(())
    }

    /// The address in this process of the guest's address 0.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Bytes that the guest can address now. A multiple of 64 KiB, at most 4 GiB.
    pub(crate) fn size(&self) -> u64 {
        // Ordering: Relaxed. The size changes only on the thread that runs the guest, and host functions read
        // it there; moving the guest between threads orders both.
        self.size.load(Ordering::Relaxed) as u64
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        if !self.process.is_current() {
            // A forked child did not inherit all of it, so something else may be mapped there.
            return;
        }
        // SAFETY: `base..base + mapped` came from `reserve`, and windows replace only mappings inside that
        // range. Both owners are gone, so nothing refers to it.
        let released = unsafe { sys::release(self.base, self.mapped) };
        debug_assert!(released.is_ok(), "unmapping a whole reservation");
    }
}

/// The engine's share of a [`GuestMemory`].
struct EngineMemory {
    memory: Arc<GuestMemory>,
    siblings: Arc<GuestMemories>,
}

// SAFETY: the pointer is stable for the life of the value and `byte_size` bytes from it are accessible. The
// rest of the reservation and the guard behind it stay inaccessible, as compiled code requires: windows only
// replace pages below the current size.
unsafe impl LinearMemory for EngineMemory {
    fn byte_size(&self) -> usize {
        self.memory.size.load(Ordering::Relaxed)
    }

    fn byte_capacity(&self) -> usize {
        self.memory.reserved
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        if new_size > 0 && !self.siblings.claim(&self.memory) {
            return Err(wasmtime::Error::msg(SECOND_MEMORY));
        }
        self.memory.grow_to(new_size).map_err(wasmtime::Error::msg)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.memory.base()
    }
}

tokio::task_local! {
    static PENDING: Arc<GuestMemories>;
}

/// The memories of one guest.
#[derive(Debug, Default)]
struct GuestMemories {
    /// The memory that has pages, or may get them.
    memory: OnceLock<Arc<GuestMemory>>,
    /// The first memory without pages.
    empty: OnceLock<Arc<GuestMemory>>,
}

impl GuestMemories {
    /// Makes `memory` the one that may have pages. Returns `false` if another one is.
    fn claim(&self, memory: &Arc<GuestMemory>) -> bool {
        Arc::ptr_eq(self.memory.get_or_init(|| Arc::clone(memory)), memory)
    }
}

/// Receives the memory of the guest that is being instantiated.
#[derive(Clone, Debug, Default)]
pub(crate) struct PendingMemory(Arc<GuestMemories>);

impl PendingMemory {
    /// Runs `instantiation`. A linear memory that is created during one of its polls ends up here.
    pub(crate) async fn scope<F: Future>(&self, instantiation: F) -> F::Output {
        PENDING.scope(Arc::clone(&self.0), instantiation).await
    }

    /// The guest's memory, if it has one.
    #[inline]
    pub(crate) fn memory(&self) -> Option<&Arc<GuestMemory>> {
        self.0.memory.get()
    }

    /// Ends instantiation: if none of the guest's memories has pages, the first one becomes the guest's.
    pub(crate) fn settle(&self) {
        if let Some(empty) = self.0.empty.get() {
            self.0.claim(empty);
        }
    }
}

/// Why a guest with several memories does not start.
pub(crate) const SECOND_MEMORY: &str =
    "a guest may have one linear memory with pages, and this one has several";

/// Creates the linear memories of an engine whose guests run under the broker.
#[derive(Debug)]
pub(crate) struct GuestMemoryCreator;

// SAFETY: the memory reserves the requested size plus the guard, is zeroed (fresh anonymous pages) and never
// moves.
unsafe impl MemoryCreator for GuestMemoryCreator {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved_size_in_bytes: Option<usize>,
        guard_size_in_bytes: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let reserved = reserved_size_in_bytes.unwrap_or(minimum);
        let siblings =
            PENDING.try_with(Arc::clone).map_err(|_| "a linear memory outside of a guest".to_owned())?;
        if minimum > 0 && siblings.memory.get().is_some() {
            return Err(SECOND_MEMORY.to_owned());
        }
        let memory = Arc::new(GuestMemory::new(minimum, reserved, guard_size_in_bytes)?);
        if minimum > 0 {
            siblings.claim(&memory);
        } else {
            siblings.empty.get_or_init(|| Arc::clone(&memory));
        }
        Ok(Box::new(EngineMemory { memory, siblings }))
    }
}

#[cfg(test)]
impl GuestMemory {
    /// A memory of `size` bytes that belongs to no engine.
    pub(crate) fn for_test(size: usize) -> Arc<Self> {
        Arc::new(Self::new(size, 1 << 32, 1 << 16).expect("address space for a test"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory_type() -> MemoryType {
        MemoryType::new(1, None)
    }

    #[test]
    fn memory_is_zeroed_grows_in_place_and_refuses_to_shrink() {
        let memory = GuestMemory::new(1 << 16, 1 << 20, 1 << 16).expect("address space");
        let base = memory.base();
        memory.grow_to(1 << 17).expect("grows");
        assert_eq!(memory.size(), 1 << 17);
        assert_eq!(memory.base(), base);
        // SAFETY: the last accessible byte.
        assert_eq!(unsafe { base.add((1 << 17) - 1).read() }, 0);
        assert!(memory.grow_to(1 << 16).is_err());
        assert!(memory.grow_to((1 << 20) + (1 << 16)).is_err());
        assert!(memory.grow_to((1 << 17) + 1).is_err());
        assert_eq!(memory.size(), 1 << 17);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn memory_is_reported_to_its_own_scope_and_a_second_one_is_refused() {
        let outside = GuestMemoryCreator.new_memory(memory_type(), 1 << 16, None, Some(1 << 20), 1 << 16);
        assert!(outside.is_err());
        let pending = PendingMemory::default();
        let (first, second) = pending
            .scope(async {
                tokio::task::yield_now().await;
                let create =
                    || GuestMemoryCreator.new_memory(memory_type(), 1 << 16, None, Some(1 << 20), 1 << 16);
                (create(), create())
            })
            .await;
        let reported = pending.memory().expect("reported");
        assert_eq!(first.expect("created").as_ptr(), reported.base());
        assert!(second.is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn of_several_memories_only_the_first_with_pages_has_any() {
        for empty_first in [true, false] {
            let pending = PendingMemory::default();
            let create =
                |size| GuestMemoryCreator.new_memory(memory_type(), size, None, Some(1 << 20), 1 << 16);
            let (mut empty, mut full) = pending
                .scope(async {
                    let before = empty_first.then(|| create(0).expect("created"));
                    let full = create(1 << 16).expect("created");
                    (before.unwrap_or_else(|| create(0).expect("created")), full)
                })
                .await;
            pending.settle();
            assert_eq!(pending.memory().expect("reported").base(), full.as_ptr());
            assert!(empty.grow_to(1 << 16).is_err() && empty.byte_size() == 0);
            full.grow_to(1 << 17).expect("grows");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_memory_that_begins_without_pages_grows_if_it_is_the_only_one() {
        for settled in [true, false] {
            let pending = PendingMemory::default();
            let create = || GuestMemoryCreator.new_memory(memory_type(), 0, None, Some(1 << 20), 1 << 16);
            let mut memory = pending.scope(async { create().expect("created") }).await;
            if settled {
                pending.settle();
            }
            memory.grow_to(1 << 16).expect("grows");
            assert_eq!(pending.memory().expect("reported").base(), memory.as_ptr());
        }
    }
}
