//! The control segment of a channel: head, watermark, descriptors, cursors and hold counts, in a memfd of
//! their own that no guest ever maps.
//!
//! ```text
//! ┌ Header ─────────────────────────┐
//! │ head       next sequence        │ written by the publisher, once per publish
//! │ watermark  oldest live sequence │ written by the publisher, once per reclamation
//! │ messages   gate: who waits for a message                closed flag
//! │ space      gate: who waits for a block
//! │ held       counted holds in all │
//! ├ Slot × slots ───────────────────┤
//! │ word       block address, length│ slot of sequence s: s mod slots
//! │ time                            │
//! ├ Cursor × subscribers ───────────┤ one pair of cache lines each
//! │ low, high  the interval of sequences that the subscriber may be attached to
//! │ counters   written by that subscriber only
//! ├ holds × blocks ─────────────────┤ owned samples beyond the interval, counted per block
//! ├ kept × blocks ──────────────────┤ descriptors of claimed messages whose slots were given up
//! └─────────────────────────────────┘
//! ```
//! All positions are offsets and sequence numbers, never pointers.

use std::ptr::NonNull;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::abi::PublishingLine;
use crate::direct::Slot;
use crate::engine::wake::event_count::EventCount;
use crate::primitive::{
    AtomicU32, AtomicU64, Ordering, asymmetric_barriers, essential, fence, heavy_barrier,
};
#[cfg(not(loom))]
use crate::sys;

/// `low` of a cursor that nobody uses: it claims nothing.
pub(crate) const UNUSED: u64 = u64::MAX;
/// `high` of a reliable subscriber: it claims everything from `low` on.
pub(crate) const UNBOUNDED: u64 = u64::MAX;

/// Counted holds on one block. Far below the count's range, since others may count on before we end.
const MAX_HOLDS: u32 = u32::MAX / 2;

/// How many of each thing a control segment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Descriptor slots, a power of two.
    pub(crate) slots: u32,
    pub(crate) cursors: u32,
    pub(crate) blocks: u32,
}

/// Where the parts of a control segment begin after its header, in bytes, and its length in whole pages.
#[cfg(not(loom))]
#[derive(Clone, Copy, Debug)]
struct Places {
    len: usize,
    slots: usize,
    cursors: usize,
    holds: usize,
    kept: usize,
}

impl Geometry {
    /// Bytes that a control segment takes, in whole pages. `None` if there is no such segment.
    pub(crate) fn bytes(self) -> Option<u64> {
        #[cfg(not(loom))]
        return Some(self.places()?.len as u64);
        #[cfg(loom)]
        return Some(0);
    }

    #[cfg(not(loom))]
    fn places(self) -> Option<Places> {
        use std::alloc::Layout;

        if !self.slots.is_power_of_two() || self.cursors == 0 || self.blocks == 0 {
            return None;
        }
        let whole = Layout::new::<Header>();
        let (whole, slots) = whole.extend(Layout::array::<Slot>(self.slots as usize).ok()?).ok()?;
        let cursors = Layout::array::<CachePadded<Cursor>>(self.cursors as usize).ok()?;
        let (whole, cursors) = whole.extend(cursors).ok()?;
        let (whole, holds) = whole.extend(Layout::array::<AtomicU32>(self.blocks as usize).ok()?).ok()?;
        let (whole, kept) = whole.extend(Layout::array::<Kept>(self.blocks as usize).ok()?).ok()?;
        Some(Places { len: sys::whole_pages(whole.size())?, slots, cursors, holds, kept })
    }
}

/// What publisher and subscribers share beside slots and cursors.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) head: CachePadded<Head>,
    pub(crate) state: CachePadded<State>,
    /// Notified by subscribers that release, waited on by the publisher.
    pub(crate) space: CachePadded<EventCount>,
    pub(crate) pool: CachePadded<PoolLine>,
    /// Counted holds on all blocks together; at least as long not 0 as one of the blocks' own counts.
    pub(crate) held: CachePadded<AtomicU64>,
}

/// Written by the publisher on every publish.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Head {
    /// The sequence that will be published next.
    pub(crate) next: AtomicU64,
    /// Bytes published so far.
    pub(crate) bytes: AtomicU64,
}

/// How the publisher's pool is doing, for statistics. Written by the publisher when it reclaims.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct PoolLine {
    /// Blocks by now.
    pub(crate) blocks: AtomicU32,
    /// Blocks let go of, but still claimed or held.
    pub(crate) limbo: AtomicU32,
    /// Blocks on loans that were put aside or forgotten.
    pub(crate) loaned: AtomicU32,
    /// The oldest sequence among them, or [`UNUSED`].
    pub(crate) oldest_kept: AtomicU64,
    /// Loans that found no block.
    pub(crate) exhausted: AtomicU64,
}

/// The rarely written words that the publisher reads on every publish.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct State {
    /// Descriptors of older sequences may be overwritten. Written by the publisher only.
    pub(crate) watermark: AtomicU64,
    /// Notified by the publisher, waited on by subscribers.
    pub(crate) messages: EventCount,
    /// 1 once the publisher is gone.
    pub(crate) closed: AtomicU32,
    /// Sequences below are reclaimed, and those of them that somebody has claimed are listed as [`Kept`].
    /// Written by the publisher only; follows the watermark.
    pub(crate) settled: AtomicU64,
    /// Cursors at and above this index have never been used.
    pub(crate) cursors_used: AtomicU32,
    /// One byte more than the largest block has; 0 in a forked child, where the publisher has none.
    pub(crate) limit: AtomicU64,
    /// Subscribers that may be overtaken, which claim as they go: while there are any, reclaiming fences. Never 0
    /// where the system has no process-wide barrier.
    pub(crate) claimers: AtomicU32,
}

/// One subscriber's line: written by that subscriber, read by the publisher when it reclaims.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Cursor {
    /// Oldest sequence that the subscriber may be attached to, or [`UNUSED`].
    pub(crate) low: AtomicU64,
    /// First sequence past the claimed interval, or [`UNBOUNDED`].
    pub(crate) high: AtomicU64,
    /// First sequence that the subscriber has not begun to take, where it may lose what it only claimed;
    /// [`UNBOUNDED`] where it may not.
    pub(crate) taken: AtomicU64,
    /// The sequence that the subscriber started at: what lies between and was not lost, it has received.
    /// `UNUSED` while it joins.
    pub(crate) start: AtomicU64,
    /// Bytes taken.
    pub(crate) bytes: AtomicU64,
    /// Messages that the subscriber was told it lost.
    pub(crate) lost: AtomicU64,
    /// Owned samples that became counted holds, ever.
    pub(crate) holds: AtomicU64,
}

/// The descriptor of a block that was reclaimed while somebody had claimed its message: its slot in the ring
/// may be overwritten. One entry per block, written by the publisher only.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Kept {
    /// The message's sequence, or [`UNUSED`].
    pub(crate) sequence: AtomicU64,
    pub(crate) word: AtomicU64,
    pub(crate) time: AtomicU64,
}

/// Handle to a control segment: plain pointers for the hot path, and what keeps them valid.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Control {
    // What every message needs stands first.
    header: NonNull<Header>,
    slots: NonNull<Slot>,
    /// Slots less one.
    mask: u64,
    cursors: NonNull<CachePadded<Cursor>>,
    holds: NonNull<AtomicU32>,
    kept: NonNull<Kept>,
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

    /// The words by which a publisher's line announces messages. Valid as long as a handle to the segment is kept.
    pub(crate) fn publishing_line(&self) -> PublishingLine {
        let Header { head, state, .. } = self.header();
        PublishingLine {
            slots: self.slots.as_ptr().cast(),
            mask: self.mask,
            next: std::ptr::from_ref(&head.next).cast_mut().cast(),
            bytes: std::ptr::from_ref(&head.bytes).cast_mut().cast(),
            waiters: std::ptr::from_ref(state.messages.word()).cast(),
            ..PublishingLine::NONE
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

    /// One cursor with the segment that it is in.
    ///
    /// # Panics
    /// If there are not that many cursors.
    pub(crate) fn seat(&self, index: u32) -> CursorRef {
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
            // Only samples that are forgotten again and again come this far. A count that wraps would free
            // the block under them, so end the process, as `Arc` does.
            std::process::abort();
        }
    }

    /// Gives up one hold on `block`.
    pub(crate) fn unhold(&self, block: u32) {
        // Ordering: Release pairs with the publisher's Acquire looks: we have read what we held. The total
        // goes last: while it is not 0 the publisher looks at each count.
        let release = essential!(release_hold, Ordering::Release);
        self.holds()[block as usize].fetch_sub(1, release);
        self.header().held.fetch_sub(1, release);
    }

    /// Descriptors of blocks that were reclaimed while claimed, by the block's number.
    pub(crate) fn kept(&self) -> &[Kept] {
        // SAFETY: `create` initialised `blocks` entries, alive as long as `_memory`.
        unsafe { std::slice::from_raw_parts(self.kept.as_ptr(), self.geometry.blocks as usize) }
    }

    /// Whether anybody may still read a block of a channel that has [ended](crate::engine::ring::producer::Producer::close): somebody has
    /// not received all of it, is attached to a message, or holds a block. Once that is over it is over for good, if
    /// nobody joins meanwhile.
    #[cfg_attr(loom, allow(dead_code, reason = "a model calls it, not the channel"))]
    pub(crate) fn is_needed(&self) -> bool {
        // Ordering: Acquire; the last head, since the channel was seen to be closed.
        let head = self.header().head.next.load(Ordering::Acquire);
        // Ordering: Acquire pairs with the Release in `Consumer::let_go` and `CursorRef::vacate`: what was read by interval was
        // read, and what became a counted hold is counted in what is loaded below.
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

/// A control segment seen from one of its cursors.
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
    /// The cursor's line.
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

    /// Orders our earlier stores before our later loads, and the publisher's likewise, whether it fences or not.
    /// About 10 µs. False if the system failed to.
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

    /// Lets go of everything and of the cursor.
    pub(crate) fn vacate(&self, claimer: bool) {
        // Ordering: Release, as in `Consumer::let_go`.
        self.line().low.store(UNUSED, Ordering::Release);
        if claimer {
            // Ordering: Release: whoever finds no claimer finds the cursor unused.
            self.header().state.claimers.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Header {
    fn new() -> Self {
        Self {
            head: CachePadded::new(Head { next: AtomicU64::new(0), bytes: AtomicU64::new(0) }),
            state: CachePadded::new(State {
                watermark: AtomicU64::new(0),
                settled: AtomicU64::new(0),
                messages: EventCount::new(),
                closed: AtomicU32::new(0),
                cursors_used: AtomicU32::new(0),
                limit: AtomicU64::new(0),
                claimers: AtomicU32::new(u32::from(!asymmetric_barriers())),
            }),
            space: CachePadded::new(EventCount::new()),
            pool: CachePadded::new(PoolLine {
                blocks: AtomicU32::new(0),
                limbo: AtomicU32::new(0),
                loaned: AtomicU32::new(0),
                oldest_kept: AtomicU64::new(UNUSED),
                exhausted: AtomicU64::new(0),
            }),
            held: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// In a forked child: whoever looks at a gate finds that there is more to look at. The limit is 0 already.
    ///
    /// # Safety
    /// There are zeros, as many as a header has bytes, which nobody else accesses.
    #[cfg(not(loom))]
    unsafe fn look_closer(start: NonNull<u8>) {
        // SAFETY: atomics, of which zeros are values.
        let Self { state, space, .. } = unsafe { start.cast::<Self>().as_ref() };
        state.messages.look_closer();
        space.look_closer();
    }
}

impl Kept {
    fn new() -> Self {
        Self { sequence: AtomicU64::new(UNUSED), word: AtomicU64::new(0), time: AtomicU64::new(0) }
    }
}

impl Slot {
    fn new() -> Self {
        Self { word: AtomicU64::new(0), time: AtomicU64::new(0) }
    }
}

impl Cursor {
    fn new() -> Self {
        Self {
            low: AtomicU64::new(UNUSED),
            high: AtomicU64::new(0),
            taken: AtomicU64::new(UNBOUNDED),
            start: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            holds: AtomicU64::new(0),
        }
    }

    /// Where the subscriber started, if there is one whose join is over: whatever is published from now on, it
    /// receives.
    pub(crate) fn joined_at(&self) -> Option<u64> {
        // Ordering: who sees the `low` of a join sees that `start` is not known, or the last store of that join.
        let used = self.low.load(Ordering::Acquire) != UNUSED;
        let start = self.start.load(Ordering::Acquire);
        (used && start != UNUSED).then_some(start)
    }
}

/// What keeps a control segment's memory. Its file is closed: nobody maps it again.
#[cfg(not(loom))]
#[derive(Debug)]
struct Memory {
    // Dropped before the mapping.
    _uninherited: sys::fork::Uninherited,
    _mapping: sys::mapping::Reservation,
}

#[cfg(not(loom))]
impl Control {
    /// Makes a control segment in a sealed memfd. Eight system calls.
    pub(crate) fn create(geometry: Geometry) -> rustix::io::Result<Self> {
        use std::os::fd::AsFd;

        let places = geometry.places().ok_or(rustix::io::Errno::INVAL)?;
        let Places { len, slots: slots_at, cursors: cursors_at, holds: holds_at, kept: kept_at } = places;
        let file = sys::memfd::sized("blockcast-control", len)?;
        let mapping = sys::mapping::Reservation::new(len)?;
        // SAFETY: the reservation is new, so nothing refers into it.
        unsafe { mapping.map(0, len, file.as_fd(), true) }?;
        sys::memfd::seal(&file)?;
        let base = mapping.base();
        // SAFETY: the offsets were laid out within `len` bytes from a page-aligned base.
        let (header, slots, cursors, holds, kept) = unsafe {
            (
                base.cast::<Header>(),
                base.add(slots_at).cast::<Slot>(),
                base.add(cursors_at).cast::<CachePadded<Cursor>>(),
                base.add(holds_at).cast::<AtomicU32>(),
                base.add(kept_at).cast::<Kept>(),
            )
        };
        // SAFETY: in bounds and aligned as laid out above; nobody else knows the mapping yet. The same
        // holds for each write below.
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
            unsafe { kept.add(index).write(Kept::new()) };
        }
        let in_child = sys::fork::InChild::Zeros(Header::look_closer);
        // SAFETY: the whole mapping, which is dropped after the value; it has a header at least.
        let _uninherited = unsafe { sys::fork::Uninherited::new(base, mapping.len(), in_child) }?;
        let _memory = Arc::new(Memory { _uninherited, _mapping: mapping });
        let mask = u64::from(geometry.slots - 1);
        Ok(Self { header, slots, cursors, holds, kept, mask, geometry, _memory })
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
    kept: Box<[Kept]>,
}

#[cfg(loom)]
impl Control {
    /// Makes a control segment for one run of a model.
    pub(crate) fn create(geometry: Geometry) -> rustix::io::Result<Self> {
        let memory = Arc::new(Memory {
            header: Box::new(Header::new()),
            slots: (0..geometry.slots).map(|_| Slot::new()).collect(),
            cursors: (0..geometry.cursors).map(|_| CachePadded::new(Cursor::new())).collect(),
            holds: (0..geometry.blocks).map(|_| AtomicU32::new(0)).collect(),
            kept: (0..geometry.blocks).map(|_| Kept::new()).collect(),
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
