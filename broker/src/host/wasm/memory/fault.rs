//! Handles writes of a guest into blocks that it may only read.
//!
//! Windows are mapped read-only, so such a write faults. The fault may come from the guest's own code, or
//! from engine code that writes on its behalf: `memory.fill`, `memory.copy`, or the result of a host call
//! whose return area the guest placed in a window. Engine code cannot be unwound, so without help the fault
//! would end the process. Therefore every guest's store has a signal handler ([`install`]), which
//!
//! 1. records the first such fault in the guest's [`WindowTable`] and advances the engine's epoch, so that
//!    the guest is interrupted at its next loop or call, and ends at its next host call at the latest;
//! 2. gives the guest a private copy of the touched piece of the window, so that the write completes without
//!    reaching anyone: the block and everybody else's view of it stay unchanged.
//!
//! A piece spans several pages, so that a fill of a whole window, which nothing interrupts, finishes soon. At
//! most [`PRIVATE_PIECES`] pieces are private at a time, because each costs memory and up to two of the
//! process's limited mappings. The oldest becomes shared and read-only again. A single instruction touches
//! fewer pieces than that, so the interrupted write always makes progress. If the process has no mapping
//! left, the whole window becomes private instead, which needs none. If the process is even one mapping over
//! its limit, the guest releases spare ones.
//!
//! The handler runs only for faults that occur while its store runs (the engine tracks that in thread-local
//! storage), on the thread that runs it. It takes no lock and allocates nothing: the table is fixed and
//! atomic.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};

use wasmtime::unix::StoreExt;
use wasmtime::{Engine, Store};

use crate::host::wasm::sys;

/// The most windows that a guest can have at a time.
pub(crate) const MAX_WINDOWS: usize = 128;

/// The most pieces of windows that are private at a time, for a guest that violates read-only memory.
const PRIVATE_PIECES: usize = 16;

/// Bytes of a piece, a multiple of every page size.
const PIECE: usize = 256 << 10;

/// Spare mappings of a guest: as many as preparing a thread takes.
const SPARES: usize = 3;

/// One window as the handler sees it. Free while `len` is 0.
#[derive(Debug, Default)]
struct Slot {
    start: AtomicUsize,
    len: AtomicUsize,
    file: AtomicI32,
    /// Offset of the window's first byte in the file.
    offset: AtomicU64,
}

impl Slot {
    /// The offset of `address` in the window, if it lies there.
    fn position(&self, address: usize) -> Option<usize> {
        // Ordering: pairs with the Release stores in `insert` and `remove`.
        let len = self.len.load(Ordering::Acquire);
        let position = address.wrapping_sub(self.start.load(Ordering::Relaxed));
        (position < len).then_some(position)
    }

    /// The piece that contains `position`: its offset in the window, its address and its length.
    fn piece(&self, position: usize) -> (usize, usize, usize) {
        let piece = position & !(PIECE - 1);
        let len = self.len.load(Ordering::Relaxed).saturating_sub(piece).min(PIECE);
        (piece, self.start.load(Ordering::Relaxed).wrapping_add(piece), len)
    }

    /// The offset in the file of the byte at `position` of the window.
    fn in_file(&self, position: usize) -> u64 {
        self.offset.load(Ordering::Relaxed) + position as u64
    }
}

/// A write into a read-only window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Slot of the window.
    pub(crate) slot: usize,
    /// The byte at which the processor stopped, counted from the start of the window: for a topic, from the
    /// start of its arena. A write of several bytes need not start with its first one.
    pub(crate) offset: u64,
}

impl Violation {
    const PRESENT: u64 = 1 << 63;

    fn to_bits(self) -> u64 {
        Self::PRESENT | ((self.slot as u64) << 32) | (self.offset & 0xffff_ffff)
    }

    fn from_bits(bits: u64) -> Option<Self> {
        (bits & Self::PRESENT != 0)
            .then_some(Self { slot: ((bits & !Self::PRESENT) >> 32) as usize, offset: bits & 0xffff_ffff })
    }
}

/// The windows of one guest, readable from a signal handler without locks.
///
/// The thread that runs the guest writes it, between the guest's instructions. The handler reads it on that
/// same thread.
#[derive(Debug)]
pub(crate) struct WindowTable {
    slots: [Slot; MAX_WINDOWS],
    /// The first violation, as [`Violation::to_bits`], or 0.
    violation: AtomicU64,
    /// Addresses of the pieces that are private copies now; 0 marks a free entry.
    private: [AtomicUsize; PRIVATE_PIECES],
    /// Index in `private` of the entry to reuse next.
    next_private: AtomicUsize,
    /// Spare mappings, to release when the process has no other left; 0 marks one that is gone.
    spares: [AtomicUsize; SPARES],
    page_size: usize,
}

impl Default for WindowTable {
    fn default() -> Self {
        Self::new()
    }
}

impl WindowTable {
    pub(crate) fn new() -> Self {
        Self {
            slots: std::array::from_fn(|_| Slot::default()),
            violation: AtomicU64::new(0),
            private: std::array::from_fn(|_| AtomicUsize::new(0)),
            next_private: AtomicUsize::new(0),
            // Without spares the guest still runs.
            spares: std::array::from_fn(|_| {
                AtomicUsize::new(sys::spare().map_or(0, |spare| spare.as_ptr() as usize))
            }),
            page_size: sys::page_size(),
        }
    }

    /// Adds a window and returns its slot, or `None` if all slots are taken.
    ///
    /// # Safety
    /// Until the slot is removed, `start..start + len` is page aligned and part of a live reservation of the
    /// guest whose handler uses this table, `offset` is page aligned, and `file` stays open and has at least
    /// `offset + len` bytes.
    pub(crate) unsafe fn insert(
        &self,
        start: usize,
        len: usize,
        file: BorrowedFd<'_>,
        offset: u64,
    ) -> Option<usize> {
        let slot = self.slots.iter().position(|slot| slot.len.load(Ordering::Relaxed) == 0)?;
        let entry = &self.slots[slot];
        entry.start.store(start, Ordering::Relaxed);
        entry.file.store(file.as_raw_fd(), Ordering::Relaxed);
        entry.offset.store(offset, Ordering::Relaxed);
        // Ordering: a handler that sees this length also sees start, file and offset.
        entry.len.store(len, Ordering::Release);
        Some(slot)
    }

    /// Frees a slot. Faults in its range are no longer violations.
    pub(crate) fn remove(&self, slot: usize) {
        let entry = &self.slots[slot];
        let start = entry.start.load(Ordering::Relaxed);
        let len = entry.len.swap(0, Ordering::Release);
        for page in &self.private {
            if page.load(Ordering::Relaxed).wrapping_sub(start) < len {
                page.store(0, Ordering::Relaxed);
            }
        }
    }

    /// The first write into a window, if any.
    pub(crate) fn violation(&self) -> Option<Violation> {
        // Ordering: Relaxed. The handler ran on this thread, or moving the guest to this thread ordered it
        // before.
        Violation::from_bits(self.violation.load(Ordering::Relaxed))
    }

    /// Handles a fault at `address`: if it lies in a window, records the violation and makes the piece
    /// writable as a private copy. Async-signal-safe.
    fn resolve(&self, address: usize) -> Resolution {
        let Some((slot, entry, position)) = self
            .slots
            .iter()
            .enumerate()
            .find_map(|(index, slot)| slot.position(address).map(|position| (index, slot, position)))
        else {
            return Resolution::NotOurs;
        };
        let bits = Violation { slot, offset: position as u64 }.to_bits();
        let first = self.violation.compare_exchange(0, bits, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let (piece, start, len) = entry.piece(position);
        if self.private.iter().any(|private| private.load(Ordering::Relaxed) == start) {
            // The piece is writable already, so the fault has another cause, and the instruction would fault
            // forever.
            return Resolution::Failed;
        }
        let next = self.next_private.load(Ordering::Relaxed) % PRIVATE_PIECES;
        let place = &self.private[next];
        self.restore(place.swap(0, Ordering::Relaxed));
        let file = entry.file.load(Ordering::Relaxed);
        // SAFETY: by the contract of `insert`, the descriptor is open while the slot is taken.
        let file = unsafe { borrow(file) };
        // SAFETY: whole pages of a window, whose range and file the contract of `insert` describes. Only the
        // interrupted write has pointers into them, and it resumes on the same bytes.
        let copied =
            unsafe { sys::replace_by_private_copy(start as *mut u8, len, file, entry.in_file(piece)) };
        if copied.is_ok() {
            place.store(start, Ordering::Relaxed);
            self.next_private.store(next + 1, Ordering::Relaxed);
        } else if !(self.make_private(entry) || self.let_go_of_spares() && self.make_private(entry)) {
            return Resolution::Failed;
        }
        if first { Resolution::FirstViolation } else { Resolution::Resolved }
    }

    /// Makes a whole window private, for a process that has no mapping left to split it.
    fn make_private(&self, entry: &Slot) -> bool {
        let (start, len) = (entry.start.load(Ordering::Relaxed), entry.len.load(Ordering::Relaxed));
        // SAFETY: by the contract of `insert`, the descriptor is open while the slot is taken.
        let file = unsafe { borrow(entry.file.load(Ordering::Relaxed)) };
        // SAFETY: the range and file of the window itself, as in `resolve`.
        unsafe { sys::replace_by_private_copy(start as *mut u8, len, file, entry.in_file(0)) }.is_ok()
    }

    /// Releases the spare mappings. Returns `false` if they were released before.
    pub(crate) fn let_go_of_spares(&self) -> bool {
        let mut any = false;
        for spare in &self.spares {
            let spare = NonNull::new(spare.swap(0, Ordering::Relaxed) as *mut u8);
            // SAFETY: `sys::spare` made this mapping of one page; only the caller that swaps its address out
            // uses it.
            any |= spare.is_some_and(|spare| unsafe { sys::release(spare, self.page_size) }.is_ok());
        }
        any
    }

    /// Makes a private piece shared and read-only again. If that fails, the piece stays private, which is
    /// harmless.
    fn restore(&self, start: usize) {
        if start == 0 {
            return;
        }
        for slot in &self.slots {
            if let Some(position) = slot.position(start) {
                let (piece, start, len) = slot.piece(position);
                // SAFETY: by the contract of `insert`, the descriptor is open while the slot is taken.
                let file = unsafe { borrow(slot.file.load(Ordering::Relaxed)) };
                // SAFETY: whole pages of a window, as in `resolve`.
                let _ = unsafe { sys::replace_by_view(start as *mut u8, len, file, slot.in_file(piece)) };
                return;
            }
        }
    }
}

impl Drop for WindowTable {
    fn drop(&mut self) {
        self.let_go_of_spares();
    }
}

/// # Safety
/// `file` is an open descriptor and stays open while the result is used.
unsafe fn borrow<'a>(file: RawFd) -> BorrowedFd<'a> {
    // SAFETY: promised by the caller.
    unsafe { BorrowedFd::borrow_raw(file) }
}

/// The outcome of [`WindowTable::resolve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    /// The address is not in a window.
    NotOurs,
    /// The piece is writable now, and this was the guest's first violation.
    FirstViolation,
    /// The piece is writable now.
    Resolved,
    /// The piece could not be made writable. A plain store by the guest still ends as an ordinary trap.
    Failed,
}

/// Makes `store` survive writes into the windows of `table`.
///
/// The windows' ranges must belong to the guest that runs in `store`.
pub(crate) fn install<T: 'static>(store: &mut Store<T>, engine: &Engine, table: Arc<WindowTable>) {
    let engine = engine.clone();
    let handler = move |signal: libc::c_int, info: *const libc::siginfo_t, _context: *const libc::c_void| {
        // Reading beyond the end of a file would raise SIGBUS. Arenas are sealed against shrinking, so that
        // is not our fault.
        if signal != libc::SIGSEGV || info.is_null() {
            return false;
        }
        // SAFETY: the thread's own errno location, valid as long as the thread.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: as above.
        let saved = unsafe { errno.read() };
        // SAFETY: not null, and the kernel filled it in for a SIGSEGV, so the address field is the active
        // one.
        let address = unsafe { (*info).si_addr() } as usize;
        let resolution = table.resolve(address);
        if resolution == Resolution::FirstViolation {
            // An atomic increment, documented to be signal-safe. To other guests, a tick comes early.
            engine.increment_epoch();
        }
        // SAFETY: as above.
        unsafe { errno.write(saved) };
        matches!(resolution, Resolution::FirstViolation | Resolution::Resolved)
    };
    // SAFETY: the handler is async-signal-safe. It reads and writes atomics of a table that it keeps alive,
    // and makes raw system calls. It does not allocate, lock or panic: indices are reduced or come from the
    // table.
    unsafe { store.set_signal_handler(handler) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::wasm::memory::linear::GuestMemory;
    use std::fs::File;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::FileExt;

    /// More pieces than can be private at a time, and a part of one.
    const SIZE: usize = 2 * PRIVATE_PIECES * PIECE + (64 << 10);

    struct Mapped {
        table: WindowTable,
        memory: Arc<GuestMemory>,
        file: OwnedFd,
        slot: usize,
    }

    fn mapped() -> Mapped {
        let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).expect("a memfd");
        rustix::fs::ftruncate(&file, SIZE as u64).expect("sized");
        let memory = GuestMemory::for_test(2 * SIZE);
        let table = WindowTable::new();
        // SAFETY: inside the memory, which lives as long as the table.
        unsafe { sys::replace_by_view(memory.base(), SIZE, file.as_fd(), 0) }.expect("mapped");
        // SAFETY: the range just mapped; file and memory live as long as the table.
        let slot =
            unsafe { table.insert(memory.base() as usize, SIZE, file.as_fd(), 0) }.expect("a free slot");
        Mapped { table, memory, file, slot }
    }

    #[test]
    fn a_write_lands_in_a_private_copy_and_the_first_one_is_remembered() {
        let Mapped { table, memory, file, slot } = mapped();
        let base = memory.base() as usize;
        assert_eq!(table.resolve(base + SIZE), Resolution::NotOurs);
        assert_eq!(table.violation(), None);
        assert_eq!(table.resolve(base + 5000), Resolution::FirstViolation);
        // SAFETY: the page was just made writable.
        unsafe { ((base + 5000) as *mut u8).write(7) };
        assert_eq!(table.resolve(base + PIECE + 100_000), Resolution::Resolved);
        assert_eq!(table.violation(), Some(Violation { slot, offset: 5000 }));
        let mut seen = [9];
        File::from(file).read_exact_at(&mut seen, 5000).expect("readable");
        assert_eq!(seen, [0], "the file is unchanged");
    }

    #[test]
    fn a_fault_in_a_piece_that_is_writable_already_is_not_swallowed() {
        let Mapped { table, memory, file: _open, .. } = mapped();
        let base = memory.base() as usize;
        assert_eq!(table.resolve(base), Resolution::FirstViolation);
        assert_eq!(table.resolve(base + PIECE - 1), Resolution::Failed);
    }

    #[test]
    fn private_pieces_are_bounded_and_older_ones_are_shared_again() {
        let Mapped { table, memory, file, .. } = mapped();
        let base = memory.base() as usize;
        for piece in (0..SIZE).step_by(PIECE) {
            assert_ne!(table.resolve(base + piece + 5000), Resolution::Failed);
            // Its first byte, and its last one in the same window.
            for position in [piece, (piece + PIECE).min(SIZE) - 1] {
                // SAFETY: the piece was just made writable.
                unsafe { ((base + position) as *mut u8).write(7) };
            }
        }
        // SAFETY: the first page of the window, readable.
        assert_eq!(unsafe { (base as *const u8).read_volatile() }, 0, "shared again");
        File::from(file).write_all_at(&[5], 0).expect("writable");
        // SAFETY: as above.
        assert_eq!(unsafe { (base as *const u8).read_volatile() }, 5, "sees the file");
    }

    #[test]
    fn a_removed_window_is_no_longer_ours_and_its_slot_is_free() {
        let Mapped { table, memory, file, slot } = mapped();
        let base = memory.base() as usize;
        table.remove(slot);
        assert_eq!(table.resolve(base), Resolution::NotOurs);
        // SAFETY: still mapped, and everything lives as long as the table.
        assert_eq!(unsafe { table.insert(base, SIZE, file.as_fd(), 0) }, Some(slot));
    }
}
