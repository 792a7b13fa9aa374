//! The control segment of a channel: head, watermark, descriptors, cursors and hold counts, in a memfd of
//! their own that no guest ever maps.
//!
//! ```text
//! ┌ Preamble ───────────────────────┐ what the segment is, and how large its parts are
//! ├ Header ─────────────────────────┐
//! │ head       next sequence        │ written by the publisher, once per publish
//! │ watermark  oldest live sequence │ written by the publisher, once per reclamation
//! │ messages   event count: waiting for a message          closed flag
//! │ space      event count: waiting for a block
//! │ held       all counted holds    │
//! ├ Slot × slots ───────────────────┤
//! │ word       block address, length│ slot of sequence s: s mod slots
//! │ time                            │
//! ├ Cursor × subscribers ───────────┤ one pair of cache lines each
//! │ low, high  the interval of sequences that the subscriber may be attached to
//! │ counters   written by that subscriber only
//! ├ holds × blocks ─────────────────┤ owned samples beyond the interval, counted per block
//! ├ kept × blocks ──────────────────┤ descriptors of claimed messages whose slots were given up
//! ├ size classes ───────────────────┤ part of the preamble
//! └─────────────────────────────────┘
//! ```
//! All positions are offsets and sequence numbers, never pointers.

#[cfg(not(loom))]
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::abi::DirectPublisher;
use crate::direct::Slot;
use crate::engine::segment::preamble::{Geometry, Preamble};
use crate::engine::segment::words::{Cursor, Header, KeptDescriptor, UNUSED};
use crate::primitive::{AtomicU32, Ordering, asymmetric_barriers, essential, fence, heavy_barrier};
#[cfg(not(loom))]
use crate::sys;

/// The largest number of counted holds on one block. Far below the count's range, since others may count on
/// before we end.
const MAX_HOLDS: u32 = u32::MAX / 2;

/// A handle to a control segment: plain pointers for the hot path, and the memory that keeps them valid.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Control {
    // The fields that every message needs come first.
    header: NonNull<Header>,
    slots: NonNull<Slot>,
    /// Number of slots minus 1.
    mask: u64,
    cursors: NonNull<CachePadded<Cursor>>,
    holds: NonNull<AtomicU32>,
    kept: NonNull<KeptDescriptor>,
    geometry: Geometry,
    _memory: Arc<Memory>,
}

// SAFETY: the pointers lead to atomics only (and padding), which `_memory` keeps alive wherever the handle
// goes.
unsafe impl Send for Control {}
// SAFETY: as above: every access through a shared handle is atomic.
unsafe impl Sync for Control {}

impl Control {
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: initialised in `create` and alive as long as `_memory`.
        unsafe { self.header.as_ref() }
    }

    /// The descriptor slot of a sequence.
    #[inline(always)]
    pub(crate) fn slot(&self, sequence: u64) -> &Slot {
        let index = (sequence & self.mask) as usize;
        // SAFETY: `slots` is a power of two and `mask` one less, so the index is below it; `create`
        // initialised that many, alive as long as `_memory`.
        unsafe { &*self.slots.as_ptr().add(index) }
    }

    /// The words by which messages are announced, for direct publishing. Valid as long as a handle to the
    /// segment is kept.
    pub(crate) fn direct_publisher(&self) -> DirectPublisher {
        let Header { head, state, .. } = self.header();
        DirectPublisher {
            slots: self.slots.as_ptr().cast(),
            mask: self.mask,
            next: std::ptr::from_ref(&head.next).cast_mut().cast(),
            bytes: std::ptr::from_ref(&head.bytes).cast_mut().cast(),
            waiters: std::ptr::from_ref(state.messages.word()).cast(),
            ..DirectPublisher::NONE
        }
    }

    /// The cursors that have ever been used.
    pub(crate) fn used_cursors(&self) -> &[CachePadded<Cursor>] {
        // Ordering: Relaxed; a joiner raises the count before its fence, and the publisher's deciding scan
        // stands behind one (see `producer.rs`).
        let used = self.header().state.cursors_used.load(Ordering::Relaxed).min(self.geometry.cursors);
        // SAFETY: `used <= cursors`, all of which `create` initialised; alive as long as `_memory`.
        unsafe { std::slice::from_raw_parts(self.cursors.as_ptr(), used as usize) }
    }

    /// A cursor, together with its segment.
    ///
    /// # Panics
    /// If the index is out of range.
    pub(crate) fn cursor(&self, index: u32) -> CursorRef {
        assert!(index < self.geometry.cursors, "cursor index out of range");
        // SAFETY: in range, so within what `create` laid out.
        let line = unsafe { self.cursors.add(index as usize) };
        CursorRef { line, control: self.clone() }
    }

    /// Counts one more hold on `block`, which an interval covers or somebody holds meanwhile.
    pub(crate) fn hold(&self, block: u32) {
        // Ordering: Relaxed; ordered before the publisher's look by the Release store that gives the
        // interval up, or by the release of the other hold.
        self.header().held.fetch_add(1, Ordering::Relaxed);
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
        self.header().held.fetch_sub(1, release);
    }

    /// Descriptors of blocks that were reclaimed while claimed, by the block's number.
    pub(crate) fn kept(&self) -> &[KeptDescriptor] {
        // SAFETY: `create` initialised `blocks` entries, alive as long as `_memory`.
        unsafe { std::slice::from_raw_parts(self.kept.as_ptr(), self.geometry.blocks as usize) }
    }

    /// Whether anybody may still read a block of a channel that has
    /// [ended](crate::engine::ring::producer::Producer::close): somebody has not received everything, is
    /// attached to a message, or holds a block. Once this is `false` it stays `false`, unless somebody joins.
    #[cfg_attr(loom, allow(dead_code, reason = "a model calls it, not the channel"))]
    pub(crate) fn is_needed(&self) -> bool {
        // Ordering: Acquire; the last head, since the channel was seen to be closed.
        let head = self.header().head.next.load(Ordering::Acquire);
        // Ordering: Acquire pairs with the Release in `Consumer::release` and `CursorRef::vacate`: what was
        // read by interval was read, and what became a counted hold is counted in what is loaded below.
        let acquire = essential!(needed_acquire, Ordering::Acquire);
        // An unused cursor is behind nothing.
        if self.used_cursors().iter().any(|cursor| cursor.low.load(acquire) < head) {
            return true;
        }
        // Ordering: Acquire pairs with the Release decrement of the last holder: it has read its last byte.
        self.header().held.load(acquire) != 0
    }

    /// The hold counts of all blocks.
    #[inline(always)]
    pub(crate) fn holds(&self) -> &[AtomicU32] {
        // SAFETY: `create` initialised `blocks` counts, alive as long as `_memory`.
        unsafe { std::slice::from_raw_parts(self.holds.as_ptr(), self.geometry.blocks as usize) }
    }
}

/// A cursor of a control segment.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct CursorRef {
    line: NonNull<CachePadded<Cursor>>,
    control: Control,
}

// SAFETY: as for `Control`, to which it adds one more pointer to atomics in the same memory.
unsafe impl Send for CursorRef {}
// SAFETY: as above.
unsafe impl Sync for CursorRef {}

impl CursorRef {
    /// The cursor's words.
    #[inline(always)]
    pub(crate) fn line(&self) -> &Cursor {
        // SAFETY: points to a cursor that `create` initialised and that `control` keeps alive.
        unsafe { self.line.as_ref() }
    }

    #[inline(always)]
    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &Header {
        self.control.header()
    }

    /// Orders our earlier stores before our later loads, and likewise the publisher's, whether it fences or
    /// not. About 10 µs. Returns `false` if the system refused.
    pub(crate) fn fence_publisher(&self) -> bool {
        #[cfg(loom)]
        if crate::primitive::interrupts_itself() {
            return true;
        }
        if asymmetric_barriers() {
            return heavy_barrier();
        }
        // Ordering: pairs with the publisher's own fence.
        fence(Ordering::SeqCst);
        true
    }

    /// Releases everything, and the cursor.
    pub(crate) fn vacate(&self, claimer: bool) {
        // Ordering: Release, as in `Consumer::release`.
        self.line().low.store(UNUSED, Ordering::Release);
        if claimer {
            // Ordering: Release: a thread that finds no claimer finds the cursor unused.
            self.header().state.claimers.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Keeps the memory of a control segment.
#[cfg(not(loom))]
#[derive(Debug)]
struct Memory {
    // Dropped before the mapping.
    _uninherited: sys::fork::Uninherited,
    _mapping: sys::mapping::Reservation,
}

#[cfg(not(loom))]
impl Control {
    /// Creates a control segment in a sealed memfd, and returns it with the file. Eight system calls.
    pub(crate) fn create(preamble: &Preamble) -> rustix::io::Result<(Self, OwnedFd)> {
        let geometry = preamble.geometry;
        let offsets = geometry.offsets().ok_or(rustix::io::Errno::INVAL)?;
        let file = sys::memfd::sized("blockcast-control", offsets.len)?;
        let mapping = sys::mapping::Reservation::new(offsets.len)?;
        // SAFETY: the reservation is new, so nothing refers into it.
        unsafe { mapping.map(0, offsets.len, file.as_fd(), true) }?;
        sys::memfd::seal(&file)?;
        let base = mapping.base();
        // SAFETY: the offsets were laid out within `offsets.len` bytes from a page-aligned base.
        let (header, slots, cursors, holds, kept, classes) = unsafe {
            (
                base.add(offsets.header).cast::<Header>(),
                base.add(offsets.slots).cast::<Slot>(),
                base.add(offsets.cursors).cast::<CachePadded<Cursor>>(),
                base.add(offsets.holds).cast::<AtomicU32>(),
                base.add(offsets.kept).cast::<KeptDescriptor>(),
                base.add(offsets.classes),
            )
        };
        let (first, last) = (preamble.encode(offsets.len as u64), preamble.encode_classes());
        // SAFETY: in bounds and aligned as laid out above; nobody else knows the mapping yet. The same
        // holds for each write below.
        unsafe { base.copy_from_nonoverlapping(NonNull::from(&first).cast(), first.len()) };
        // SAFETY: as above, as many bytes as the geometry's classes have.
        unsafe { classes.copy_from_nonoverlapping(NonNull::from(&*last).cast(), last.len()) };
        // SAFETY: as above.
        unsafe { header.write(Header::new()) };
        for index in 0..geometry.slots as usize {
            // SAFETY: as above, `index < slots`.
            unsafe { slots.add(index).write(Slot::new()) };
        }
        for index in 0..geometry.cursors as usize {
            // SAFETY: as above, `index < cursors`.
            unsafe { cursors.add(index).write(CachePadded::new(Cursor::new())) };
        }
        for index in 0..geometry.blocks as usize {
            // SAFETY: as above, `index < blocks`.
            unsafe { holds.add(index).write(AtomicU32::new(0)) };
            // SAFETY: as above, `index < blocks`.
            unsafe { kept.add(index).write(KeptDescriptor::new()) };
        }
        let in_child = sys::fork::InChild::Zeros(Header::look_closer);
        // SAFETY: the whole mapping, which is dropped after the value; it has a preamble and a header at
        // least.
        let _uninherited = unsafe { sys::fork::Uninherited::new(base, mapping.len(), in_child) }?;
        let _memory = Arc::new(Memory { _uninherited, _mapping: mapping });
        let mask = u64::from(geometry.slots - 1);
        Ok((Self { header, slots, cursors, holds, kept, mask, geometry, _memory }, file))
    }
}

/// Under loom the segment lives on the heap: loom's atomics are larger than real ones and must be dropped.
#[cfg(loom)]
#[derive(Debug)]
struct Memory {
    header: Box<Header>,
    slots: Box<[Slot]>,
    cursors: Box<[CachePadded<Cursor>]>,
    holds: Box<[AtomicU32]>,
    kept: Box<[KeptDescriptor]>,
}

#[cfg(loom)]
impl Control {
    /// Creates a control segment for one run of a model.
    pub(crate) fn create(preamble: &Preamble) -> rustix::io::Result<Self> {
        let geometry = preamble.geometry;
        let memory = Arc::new(Memory {
            header: Box::new(Header::new()),
            slots: (0..geometry.slots).map(|_| Slot::new()).collect(),
            cursors: (0..geometry.cursors).map(|_| CachePadded::new(Cursor::new())).collect(),
            holds: (0..geometry.blocks).map(|_| AtomicU32::new(0)).collect(),
            kept: (0..geometry.blocks).map(|_| KeptDescriptor::new()).collect(),
        });
        Ok(Self {
            header: NonNull::from(&*memory.header),
            slots: NonNull::from(&*memory.slots).cast(),
            cursors: NonNull::from(&*memory.cursors).cast(),
            holds: NonNull::from(&*memory.holds).cast(),
            kept: NonNull::from(&*memory.kept).cast(),
            mask: u64::from(geometry.slots - 1),
            geometry,
            _memory: memory,
        })
    }
}
