//! The words that publisher and subscribers share: [`Header`] and [`KeptDescriptor`], which the publisher's
//! process writes, and [`SideWords`] and [`Cursor`], which a subscribing process writes.

#[cfg(not(loom))]
use std::ptr::NonNull;

use crossbeam_utils::CachePadded;

use crate::direct::Slot;
#[cfg(not(loom))]
use crate::engine::segment::preamble::Preamble;
use crate::engine::wake::armed::Armed;
use crate::engine::wake::event_count::EventCount;
use crate::engine::wake::rung::Rung;
use crate::primitive::{AtomicU32, AtomicU64, LoadAcquire as _, Ordering, asymmetric_barriers};

/// `low` of a cursor that nobody uses: it claims nothing.
pub(crate) const UNUSED: u64 = u64::MAX;
/// `high` of a reliable subscriber: it claims everything from `low` on.
pub(crate) const UNBOUNDED: u64 = u64::MAX;

/// The words of the publisher, except its slots. Other processes only read them.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) head: CachePadded<Head>,
    pub(crate) state: CachePadded<State>,
    /// Notified by subscribers of the publisher's process that release, waited on by the publisher.
    pub(crate) space: CachePadded<EventCount>,
    pub(crate) remote: CachePadded<RemoteWords>,
    pub(crate) pool: CachePadded<PoolLine>,
}

/// The publisher's words for waiting and for waking, of which only other processes take note.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct RemoteWords {
    /// Counts the waits for a block that a subscriber of another process may release. Meanwhile `space` is
    /// not quiet either.
    pub(crate) space_armed: Armed,
    /// Changes when subscribers of other processes are woken.
    pub(crate) rung: Rung,
    /// 1 while the publisher fences between a message and its look for those who wait.
    pub(crate) fenced: AtomicU32,
}

/// The words of the subscribers of one process, except their cursors and hold counts. The publisher's process
/// reads them.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct SideWords {
    pub(crate) joined: CachePadded<Joined>,
    /// Counted holds on all blocks together. Not 0 for at least as long as the count of any block.
    pub(crate) held: CachePadded<AtomicU64>,
    pub(crate) waiting: CachePadded<Waiting>,
}

/// Which cursors of a process are in use.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Joined {
    /// Cursors at and above this index have never been used.
    pub(crate) cursors_used: AtomicU32,
    /// Subscribers that may be overtaken, which claim as they go. While there are any, reclaiming fences.
    /// Never 0 if the system has no process-wide barrier.
    pub(crate) claimers: AtomicU32,
}

/// The words for waiting and waking in a process that is not the publisher's.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Waiting {
    /// Counts the waits of the process's subscribers for messages.
    pub(crate) armed: Armed,
    /// Changes when the publisher is woken.
    pub(crate) rung: Rung,
    /// 1 once the process knows that the publisher's has ended.
    pub(crate) publisher_gone: AtomicU32,
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

/// The state of the publisher's pool, for statistics. Written by the publisher when it reclaims.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct PoolLine {
    /// Current number of blocks.
    pub(crate) blocks: AtomicU32,
    /// Blocks that were given up, but are still claimed or held.
    pub(crate) limbo: AtomicU32,
    /// Blocks on loans that were suspended or forgotten.
    pub(crate) loaned: AtomicU32,
    /// The oldest sequence among them, or [`UNUSED`].
    pub(crate) oldest_kept: AtomicU64,
    /// Loans that found no block.
    pub(crate) exhausted: AtomicU64,
    /// Bytes published before sequence `counted_to`. Both are as of the latest reclamation, or of the moment
    /// at which the publisher noticed that a process was attached.
    pub(crate) counted_bytes: AtomicU64,
    pub(crate) counted_to: AtomicU64,
}

/// The rarely written words that the publisher reads on every publish.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct State {
    /// Descriptors of older sequences may be overwritten. Only the publisher writes it.
    pub(crate) watermark: AtomicU64,
    /// Notified by the publisher, waited on by subscribers.
    pub(crate) messages: EventCount,
    /// 1 once the publisher was dropped.
    pub(crate) closed: AtomicU32,
    /// Sequences below are reclaimed, and those of them that somebody has claimed are listed as
    /// [`KeptDescriptor`]. Only the publisher writes it; it follows the watermark.
    pub(crate) settled: AtomicU64,
    /// How often a process was attached or detached.
    pub(crate) annexes: AtomicU32,
    /// Bytes of the largest block plus 1; 0 in a forked child, where the publisher has no blocks.
    pub(crate) limit: AtomicU64,
    /// Messages that the publisher, a relay, has reported as missing so far. Only the publisher writes it.
    pub(crate) missing: AtomicU64,
}

/// One subscriber's words: written by that subscriber, read by the publisher when it reclaims.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Cursor {
    /// Oldest sequence that the subscriber may be attached to, or [`UNUSED`].
    pub(crate) low: AtomicU64,
    /// First sequence past the claimed interval, or [`UNBOUNDED`].
    pub(crate) high: AtomicU64,
    /// First sequence that the subscriber has not begun to take, if it may lose messages that it only
    /// claimed. Otherwise [`UNBOUNDED`].
    pub(crate) taken: AtomicU64,
    /// The sequence that the subscriber started at. It has received everything since that was not lost.
    /// [`UNUSED`] while it joins.
    pub(crate) start: AtomicU64,
    /// Bytes received.
    pub(crate) bytes: AtomicU64,
    /// Lost messages that were reported to the subscriber.
    pub(crate) lost: AtomicU64,
    /// Owned samples that became counted holds.
    pub(crate) holds: AtomicU64,
    /// Where the latest jump leads. Once `low` is there, [`jump_lost`](Self::jump_lost) counts.
    pub(crate) jump_to: AtomicU64,
    /// Lost messages, with those of the latest jump.
    pub(crate) jump_lost: AtomicU64,
    /// Messages that never reached the publisher, a relay, and that were reported to the subscriber.
    pub(crate) missing: AtomicU64,
}

/// The descriptor of a block that was reclaimed while somebody had claimed its message: its slot in the ring
/// may be overwritten. One entry per block, written by the publisher only.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct KeptDescriptor {
    /// The message's sequence, or [`UNUSED`].
    pub(crate) sequence: AtomicU64,
    pub(crate) word: AtomicU64,
    pub(crate) time: AtomicU64,
}

impl Header {
    pub(crate) fn new() -> Self {
        Self {
            head: CachePadded::new(Head { next: AtomicU64::new(0), bytes: AtomicU64::new(0) }),
            state: CachePadded::new(State {
                watermark: AtomicU64::new(0),
                settled: AtomicU64::new(0),
                messages: EventCount::new(),
                closed: AtomicU32::new(0),
                annexes: AtomicU32::new(0),
                limit: AtomicU64::new(0),
                missing: AtomicU64::new(0),
            }),
            space: CachePadded::new(EventCount::new()),
            remote: CachePadded::new(RemoteWords {
                space_armed: Armed::new(),
                rung: Rung::new(),
                fenced: AtomicU32::new(0),
            }),
            pool: CachePadded::new(PoolLine {
                blocks: AtomicU32::new(0),
                limbo: AtomicU32::new(0),
                loaned: AtomicU32::new(0),
                oldest_kept: AtomicU64::new(UNUSED),
                exhausted: AtomicU64::new(0),
                counted_bytes: AtomicU64::new(0),
                counted_to: AtomicU64::new(0),
            }),
        }
    }

    /// Prepares the segment of a forked child: a check for waiters finds that there is more to check.
    /// The limit is 0 already.
    ///
    /// # Safety
    /// `segment` starts with zeros, as many as preamble and header have bytes, which nobody else accesses.
    #[cfg(not(loom))]
    pub(super) unsafe fn look_closer(segment: NonNull<u8>) {
        // SAFETY: the header follows the preamble.
        let start = unsafe { segment.add(Preamble::LEN) };
        // SAFETY: atomics, of which zeros are values.
        let Self { state, space, .. } = unsafe { start.cast::<Self>().as_ref() };
        state.messages.look_closer();
        space.look_closer();
    }
}

impl SideWords {
    pub(super) fn new() -> Self {
        let claimers = u32::from(!asymmetric_barriers());
        Self {
            joined: CachePadded::new(Joined {
                cursors_used: AtomicU32::new(0),
                claimers: AtomicU32::new(claimers),
            }),
            held: CachePadded::new(AtomicU64::new(0)),
            waiting: CachePadded::new(Waiting {
                armed: Armed::new(),
                rung: Rung::new(),
                publisher_gone: AtomicU32::new(0),
            }),
        }
    }
}

impl KeptDescriptor {
    pub(super) fn new() -> Self {
        Self { sequence: AtomicU64::new(UNUSED), word: AtomicU64::new(0), time: AtomicU64::new(0) }
    }
}

impl Slot {
    pub(super) fn new() -> Self {
        Self { word: AtomicU64::new(0), time: AtomicU64::new(0) }
    }
}

impl Cursor {
    pub(crate) fn new() -> Self {
        Self {
            low: AtomicU64::new(UNUSED),
            high: AtomicU64::new(0),
            taken: AtomicU64::new(UNBOUNDED),
            start: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            holds: AtomicU64::new(0),
            jump_to: AtomicU64::new(UNUSED),
            jump_lost: AtomicU64::new(0),
            missing: AtomicU64::new(0),
        }
    }

    /// Where the subscriber started, if there is one that has joined. It receives whatever is published from
    /// now on.
    pub(crate) fn joined_at(&self) -> Option<u64> {
        // Ordering: who sees the `low` of a join sees that `start` is not known, or the last store of that
        // join.
        let used = self.low.load_acquire() != UNUSED;
        let start = self.start.load_acquire();
        (used && start != UNUSED).then_some(start)
    }

    /// Lost messages: exact at every instruction of the subscriber, which may have died at any.
    pub(crate) fn lost_messages(&self) -> u64 {
        // Ordering: Acquire pairs with the stores of `Consumer::jump`, each of which is a Release.
        let low = self.low.load_acquire();
        if low >= self.jump_to.load_acquire() {
            self.jump_lost.load(Ordering::Relaxed)
        } else {
            self.lost.load(Ordering::Relaxed)
        }
    }
}
