//! The part of a channel that the subscribers of one process write: their [`Side`].
//!
//! ```text
//! ┌ SideWords ──────────────────────┐
//! │ joined     cursors in use       │
//! │ held       all counted holds    │
//! │ waiting    armed word           │
//! ├ Cursor × subscribers ───────────┤ one pair of cache lines each
//! │ low, high  the interval of sequences that the subscriber may be attached to
//! │ counters   written by that subscriber only
//! ├ holds × blocks ─────────────────┤ owned samples beyond the interval, counted per block
//! └─────────────────────────────────┘
//! ```
//! The publisher's own process has its side in the control segment. Every other process has one in an
//! [annex](super::annex), a file that only this process writes. The publisher reads all of them. Nothing that
//! a process writes is ever undone by another: if it dies, its side is dropped as a whole.

use std::ptr::NonNull;

use crossbeam_utils::CachePadded;

use crate::engine::segment::words::{Cursor, SideWords};
use crate::primitive::{AtomicU32, Ordering, essential};

/// The largest number of counted holds on one block. Far below the count's range, since others may count on
/// before we end.
const MAX_HOLDS: u32 = u32::MAX / 2;

/// A handle to a side: plain pointers. Valid as long as the memory of the control segment or annex in which
/// it lies, which the owner of the handle keeps.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Side {
    cursors: NonNull<CachePadded<Cursor>>,
    holds: NonNull<AtomicU32>,
    words: NonNull<SideWords>,
    /// Number of cursors.
    seats: u32,
    blocks: u32,
}

/// Where the parts of a side begin, in bytes from the start of its file.
#[cfg(not(loom))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SideOffsets {
    words: usize,
    cursors: usize,
    holds: usize,
}

#[cfg(not(loom))]
impl SideOffsets {
    /// Appends a side to a layout. `None` if it has no cursors or no blocks, or exceeds the address space.
    pub(super) fn after(
        whole: std::alloc::Layout,
        seats: u32,
        blocks: u32,
    ) -> Option<(std::alloc::Layout, Self)> {
        use std::alloc::Layout;

        if seats == 0 || blocks == 0 {
            return None;
        }
        let (whole, words) = whole.extend(Layout::new::<SideWords>()).ok()?;
        let (whole, cursors) =
            whole.extend(Layout::array::<CachePadded<Cursor>>(seats as usize).ok()?).ok()?;
        let (whole, holds) = whole.extend(Layout::array::<AtomicU32>(blocks as usize).ok()?).ok()?;
        Some((whole, Self { words, cursors, holds }))
    }
}

impl Side {
    /// The side at `base`, which is laid out like that.
    ///
    /// # Safety
    /// `base` is the page-aligned start of a mapping that has all of these parts, and that stays for as long
    /// as the handle, or a copy of it, is used.
    #[cfg(not(loom))]
    pub(super) unsafe fn at(base: NonNull<u8>, offsets: SideOffsets, seats: u32, blocks: u32) -> Self {
        // SAFETY: the offsets were laid out within the mapping.
        let (cursors, holds, words) =
            unsafe { (base.add(offsets.cursors), base.add(offsets.holds), base.add(offsets.words)) };
        Self { cursors: cursors.cast(), holds: holds.cast(), words: words.cast(), seats, blocks }
    }

    /// Writes the first value of every word.
    ///
    /// # Safety
    /// The mapping is writable and zero, and nobody else accesses it yet.
    #[cfg(not(loom))]
    pub(super) unsafe fn initialise(self) {
        // SAFETY: in bounds and aligned, as laid out (`at`). The same holds for each write below.
        unsafe { self.words.write(SideWords::new()) };
        for index in 0..self.seats as usize {
            // SAFETY: as above, `index < seats`.
            unsafe { self.cursors.add(index).write(CachePadded::new(Cursor::new())) };
        }
        // Hold counts start as zeros, which the file consists of.
    }

    #[inline(always)]
    pub(crate) fn words(&self) -> &SideWords {
        // SAFETY: initialised, or all bytes of its atomics are values; alive as stated at the type.
        unsafe { self.words.as_ref() }
    }

    /// The cursors that have ever been used.
    #[inline(always)]
    pub(crate) fn used_cursors(&self) -> &[CachePadded<Cursor>] {
        // Ordering: Relaxed; a joiner raises the count before its fence, and the publisher's deciding scan
        // stands behind one (see `producer.rs`).
        let used = self.words().joined.cursors_used.load(Ordering::Relaxed).min(self.seats);
        // SAFETY: `used <= seats`, all of which were laid out and initialised.
        unsafe { std::slice::from_raw_parts(self.cursors.as_ptr(), used as usize) }
    }

    /// The address of a cursor.
    ///
    /// # Panics
    /// If the index is out of range.
    pub(super) fn cursor(&self, index: u32) -> NonNull<CachePadded<Cursor>> {
        assert!(index < self.seats, "cursor index out of range");
        // SAFETY: in range, so within what was laid out.
        unsafe { self.cursors.add(index as usize) }
    }

    /// The hold counts of all blocks.
    #[inline(always)]
    pub(crate) fn holds(&self) -> &[AtomicU32] {
        // SAFETY: laid out with `blocks` counts, alive as stated at the type.
        unsafe { std::slice::from_raw_parts(self.holds.as_ptr(), self.blocks as usize) }
    }

    /// Counts one more hold on `block`, which an interval covers or somebody holds meanwhile.
    pub(crate) fn hold(&self, block: u32) {
        // Ordering: Relaxed; ordered before the publisher's look by the Release store that gives the
        // interval up, or by the release of the other hold.
        self.words().held.fetch_add(1, Ordering::Relaxed);
        let before = self.holds()[block as usize].fetch_add(1, Ordering::Relaxed);
        if before > MAX_HOLDS {
            // Only a program that forgets samples again and again comes this far. A count that wraps would
            // free the block under them, so end the process, as `Arc` does.
            std::process::abort();
        }
    }

    /// Gives up one hold on `block`.
    pub(crate) fn unhold(&self, block: u32) {
        // Ordering: Release pairs with the publisher's Acquire looks: we have read what we held. The total
        // goes last: while it is not 0 the publisher reads each count.
        let release = essential!(release_hold, Ordering::Release);
        self.holds()[block as usize].fetch_sub(1, release);
        self.words().held.fetch_sub(1, release);
    }
}

/// A side on the heap, for one run of a model: loom's atomics are larger than real ones and must be dropped.
#[cfg(loom)]
#[derive(Debug)]
pub(crate) struct HeapSide {
    words: Box<SideWords>,
    cursors: Box<[CachePadded<Cursor>]>,
    holds: Box<[AtomicU32]>,
}

#[cfg(loom)]
impl HeapSide {
    pub(super) fn new(seats: u32, blocks: u32) -> Self {
        Self {
            words: Box::new(SideWords::new()),
            cursors: (0..seats).map(|_| CachePadded::new(Cursor::new())).collect(),
            holds: (0..blocks).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// A handle, for as long as this value lives.
    pub(super) fn handle(&self) -> Side {
        Side {
            cursors: NonNull::from(&*self.cursors).cast(),
            holds: NonNull::from(&*self.holds).cast(),
            words: NonNull::from(&*self.words),
            seats: self.cursors.len() as u32,
            blocks: self.holds.len() as u32,
        }
    }
}
