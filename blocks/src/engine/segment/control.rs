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
//! ├ Slot × slots ───────────────────┤
//! │ word       block address, length│ slot of sequence s: s mod slots
//! │ time                            │
//! ├ Side ───────────────────────────┤ the part that subscribers of the publisher's process write; see `side.rs`
//! ├ kept × blocks ──────────────────┤ descriptors of claimed messages whose slots were given up
//! ├ missing × slots ────────────────┤ if the publisher is a relay: missing messages before each one
//! ├ size classes ───────────────────┤ part of the preamble
//! └─────────────────────────────────┘
//! ```
//! All positions are offsets and sequence numbers, never pointers.
//!
//! Only the publisher's process writes to this file. A subscribing process maps it read-only, and has its
//! side of the channel in an annex.

use std::ptr::NonNull;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::abi::DirectPublisher;
use crate::direct::{Slot, may_have_waiters};
use crate::engine::remote::{Annexes, RemotePublisher};
use crate::engine::segment::preamble::Geometry;
use crate::engine::segment::side::Side;
use crate::engine::segment::words::{Cursor, Header, KeptDescriptor, UNUSED};
use crate::engine::wake::event_count::QuietRounds;
use crate::engine::wake::rung::Rings;
use crate::engine::wake::signal::Signal;
use crate::engine::wake::watch::{self, WatchList};
use crate::primitive::{
    AtomicU64, LoadAcquire as _, Ordering, asymmetric_barriers, essential, fence, heavy_barrier,
    machine_barrier,
};

#[cfg(not(loom))]
mod files;
#[cfg(loom)]
mod heap;

#[cfg(not(loom))]
use files::Memory;
#[cfg(loom)]
use heap::Memory;

/// A handle to a control segment: plain pointers for the hot path, and the memory that keeps them valid.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Control {
    // The fields that every message needs come first.
    header: NonNull<Header>,
    slots: NonNull<Slot>,
    /// Number of slots minus 1.
    mask: u64,
    /// The side of this process.
    side: Side,
    kept: NonNull<KeptDescriptor>,
    missing: NonNull<AtomicU64>,
    geometry: Geometry,
    memory: Arc<Memory>,
}

/// Where the publisher of a channel is.
#[derive(Debug)]
enum Publisher {
    /// In this process; others may be attached.
    Here(Annexes),
    /// In another process.
    Remote(RemotePublisher),
}

// SAFETY: the pointers lead to atomics only (and padding), which `memory` keeps alive wherever the handle
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
        // SAFETY: initialised in `create` and alive as long as `memory`, or the one that the caller of
        // `replace_header` keeps.
        unsafe { self.header.as_ref() }
    }

    /// The descriptor slot of a sequence.
    #[inline(always)]
    pub(crate) fn slot(&self, sequence: u64) -> &Slot {
        let index = (sequence & self.mask) as usize;
        // SAFETY: `slots` is a power of two and `mask` one less, so the index is below it; `create`
        // initialised that many, alive as long as `memory`.
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

    /// Uses another header, through this handle only.
    ///
    /// # Safety
    /// The caller keeps the header for as long as the handle, or a clone of it, is used.
    pub(crate) unsafe fn replace_header(&mut self, header: &Arc<Header>) {
        self.header = NonNull::from(&**header);
    }

    /// The side of this process.
    #[inline(always)]
    pub(crate) fn side(&self) -> &Side {
        &self.side
    }

    /// The attached processes, if the publisher is in this one.
    pub(crate) fn annexes(&self) -> Option<&Annexes> {
        match self.memory.publisher() {
            Publisher::Here(annexes) => Some(annexes),
            Publisher::Remote(_) => None,
        }
    }

    /// The publisher, if it is in another process.
    #[inline]
    pub(crate) fn remote(&self) -> Option<&RemotePublisher> {
        match self.memory.publisher() {
            Publisher::Here(_) => None,
            Publisher::Remote(publisher) => Some(publisher),
        }
    }

    /// A cursor of this process, together with its segment.
    ///
    /// # Panics
    /// If the index is out of range.
    pub(crate) fn cursor(&self, index: u32) -> CursorRef {
        CursorRef { line: self.side.cursor(index), control: self.clone() }
    }

    /// Descriptors of blocks that were reclaimed while claimed, by the block's number.
    pub(crate) fn kept(&self) -> &[KeptDescriptor] {
        // SAFETY: `create` initialised `blocks` entries, alive as long as `memory`.
        unsafe { std::slice::from_raw_parts(self.kept.as_ptr(), self.geometry.blocks as usize) }
    }

    /// Messages that were missing when a sequence was published. `None` if the publisher is not a relay.
    pub(crate) fn missing(&self, sequence: u64) -> Option<&AtomicU64> {
        let index = (sequence & self.mask) as usize;
        // SAFETY: `create` initialised that many words, alive as long as `memory`, which all are atomics.
        let words =
            unsafe { std::slice::from_raw_parts(self.missing.as_ptr(), self.geometry.missing_words()) };
        words.get(index)
    }

    /// Whether the publisher was dropped, or its process has ended. Messages may be left.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        // Ordering: Acquire pairs with `Producer::close`: the head loaded after it is the last.
        self.header().state.closed.load_acquire() != 0 || self.is_publisher_gone()
    }

    /// Whether the publisher's process is known to have ended.
    #[inline]
    pub(crate) fn is_publisher_gone(&self) -> bool {
        // Ordering: Acquire pairs with the Release of who has learned it: a process that has ended writes
        // nothing any more, so whatever is loaded after this is the last value.
        self.side.words().waiting.publisher_gone.load(Ordering::Acquire) != 0
    }

    /// Announces a subscriber of this process, the party of `signal`, that is about to sleep, while the
    /// publisher is in another process. If a thread waits, it sleeps on the counter of `source`, which is
    /// added to its `list`. Returns `false` if the system refused the barrier that this takes: then the
    /// publisher may not see the announcement, and the caller must not sleep.
    #[must_use]
    pub(crate) fn arm_remotely(
        &self,
        source: Arc<dyn Rings>,
        list: Option<&mut WatchList>,
        signal: &Arc<Signal>,
    ) -> bool {
        let armed = &self.side.words().waiting.armed;
        watch::announce(armed, std::iter::once(source), list, signal, || {
            // Ordering: pairs with the fences in `Producer::wake_annexes` and `Producer::become_quiet`.
            essential!(remote_waiter_fence, fence(Ordering::SeqCst));
            let publisher_fences = self.header().remote.fenced.load_acquire() != 0;
            // Ordering: otherwise, pairs with the light barrier in `may_have_waiters`, in its process.
            publisher_fences || essential!(remote_wait_barrier, machine_barrier())
        })
    }

    /// Call this after releasing. Returns `true` if the publisher sleeps and the caller must wake it. If the
    /// publisher is in another process, this has woken it already.
    #[inline(always)]
    pub(crate) fn released(&self, rounds: &mut QuietRounds) -> bool {
        may_have_waiters(self.header().space.word()) && self.released_behind_fence(rounds)
    }

    #[cold]
    #[inline(never)]
    fn released_behind_fence(&self, rounds: &mut QuietRounds) -> bool {
        match self.remote() {
            None => self.header().space.waiter_behind_fence(rounds),
            Some(publisher) => {
                publisher.answer(self.header(), &self.side.words().waiting.rung);
                false
            }
        }
    }

    /// Whether anybody of this process may still read a block of a channel that has
    /// [ended](crate::engine::ring::producer::Producer::close): somebody has not received everything, is
    /// attached to a message, or holds a block. Once this is `false` it stays `false`, unless somebody joins.
    /// Other processes have mapped the blocks themselves.
    #[cfg_attr(loom, allow(dead_code, reason = "a model calls it, not the channel"))]
    pub(crate) fn is_needed(&self) -> bool {
        // Ordering: Acquire; the last head, since the channel was seen to be closed. The one of
        // another process proves nothing: subscribers that have not left may be attached.
        let head = if self.remote().is_some() { UNUSED } else { self.header().head.next.load_acquire() };
        // Ordering: Acquire pairs with the Release in `Consumer::release` and `CursorRef::vacate`: what was
        // read by interval was read, and what became a counted hold is counted in what is loaded below.
        let acquire = essential!(needed_acquire, Ordering::Acquire);
        // An unused cursor is behind nothing.
        if self.side.used_cursors().iter().any(|cursor| cursor.low.load(acquire) < head) {
            return true;
        }
        // Ordering: Acquire pairs with the Release decrement of the last holder: it has read its last byte.
        self.side.words().held.load(acquire) != 0
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

    pub(crate) fn control_mut(&mut self) -> &mut Control {
        &mut self.control
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
        if self.control.remote().is_some() {
            return machine_barrier();
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
            self.control.side.words().joined.claimers.fetch_sub(1, Ordering::Release);
        }
    }
}
