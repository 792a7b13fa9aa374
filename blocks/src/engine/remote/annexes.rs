//! The processes that take part in a channel besides its publisher's: [`Annexes`].

use std::fmt;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::Bell;
use crate::engine::segment::side::Side;
use crate::engine::segment::words::{Cursor, Header, UNBOUNDED, UNUSED};
#[cfg(not(loom))]
use crate::engine::segment::{annex::AnnexFile, files::SegmentError};
use crate::engine::snapshot::PromptSnapshot;
use crate::engine::wake::armed::{Answered, Wakers};
use crate::engine::wake::rung::{Heard, Rings, Rung};
use crate::primitive::{AtomicU32, LoadAcquire as _, Ordering, essential};
#[cfg(not(loom))]
use crate::stats::ReaderStats;

/// The limits of a process that takes part in a channel of another one. Both sides use the same terms: the
/// subscribing process follows them, and the publisher's process enforces them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnexTerms {
    /// Subscribers of the process at a time: 1 to 65,536.
    pub seats: u32,
    /// Whether the publisher waits for subscribers of the process that lose nothing. If not, these cannot
    /// join.
    pub may_block: bool,
    /// Maximum number of blocks that the process keeps although the publisher has passed them: by claims of
    /// overtaken subscribers, and by samples. `u32::MAX` means no limit. The publisher reuses any blocks
    /// beyond the limit. The subscribing process does not count them itself, so choose a number that an
    /// honest process cannot exceed.
    pub quota: u32,
    /// The process's name in statistics; may be empty.
    pub name: String,
}

impl Default for AnnexTerms {
    /// 16 subscribers with the same rights as those of the publisher's process.
    fn default() -> Self {
        Self { seats: 16, may_block: true, quota: u32::MAX, name: String::new() }
    }
}

/// Identifies an attached process among those of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AnnexId(pub(crate) u32);

impl fmt::Display for AnnexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a{}", self.0)
    }
}

/// The last counters of a process that was [detached](crate::Channel::detach).
#[cfg(not(loom))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnexStats {
    /// The process's subscribers that had not left.
    pub readers: Vec<ReaderStats>,
    /// Number of counted holds on blocks.
    pub holds: u64,
}

/// A process could not be attached.
#[cfg(not(loom))]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnexError {
    /// The file cannot be mapped safely, or the system refused.
    #[error(transparent)]
    File(#[from] SegmentError),
    /// The file is not an annex.
    #[error("the annex does not start with the magic number of one")]
    Magic,
    /// The numbers of subscribers or blocks in the annex differ from those of the terms and the channel.
    #[error(
        "the annex is for {seats} subscribers and {blocks} blocks, not for {expected_seats} and {expected_blocks}"
    )]
    Geometry {
        /// Number of subscribers that it has room for.
        seats: u32,
        /// Number of blocks whose holds it counts.
        blocks: u32,
        /// Number of subscribers by the terms.
        expected_seats: u32,
        /// Number of blocks of the channel.
        expected_blocks: u32,
    },
    /// The channel's publisher is in another process. Attach the annex there.
    #[error("the channel's publisher is in another process: attach the annex there")]
    Remote,
    /// The publisher was dropped.
    #[error("the publisher has ended")]
    Ended,
    /// The process was forked after the channel was created.
    #[error("the channel belongs to the process that was forked: open one in this process")]
    Forked,
}

/// Another process that takes part in a channel of this process.
#[derive(Debug)]
pub(crate) struct Annex {
    id: AnnexId,
    side: Side,
    terms: AnnexTerms,
    bell: Bell,
    /// The waits that the publisher has answered. Only the publisher uses it.
    answered: Answered,
    /// 1 if the publisher has yet to ring the bell for them. Only the publisher uses it.
    ring_due: AtomicU32,
    /// 1 once the process was detached.
    is_detached: AtomicU32,
    /// The value of the process's counter for which the bell of the publisher's process rang last.
    heard: Heard,
    /// Number of blocks charged to the quota. Only the publisher uses it.
    kept: AtomicU32,
    /// Keeps the side's memory.
    #[cfg(not(loom))]
    _file: AnnexFile,
    #[cfg(loom)]
    _memory: Arc<crate::engine::segment::side::HeapSide>,
}

// SAFETY: the side's pointers lead to atomics only, in memory that the annex keeps.
unsafe impl Send for Annex {}
// SAFETY: as above: every access through a shared handle is atomic.
unsafe impl Sync for Annex {}

/// The interval of a cursor, within the limits that the publisher enforces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interval {
    pub(crate) low: u64,
    pub(crate) high: u64,
    pub(crate) taken: u64,
}

impl Annex {
    pub(crate) fn id(&self) -> AnnexId {
        self.id
    }

    pub(crate) fn side(&self) -> &Side {
        &self.side
    }

    #[cfg_attr(loom, allow(dead_code, reason = "for statistics"))]
    pub(crate) fn terms(&self) -> &AnnexTerms {
        &self.terms
    }

    /// Returns the intervals of its subscribers. Whatever the process writes there, there are at most as many
    /// as it has seats.
    pub(crate) fn intervals(&self) -> impl Iterator<Item = Interval> + '_ {
        self.side.used_cursors().iter().filter_map(|cursor| self.interval(cursor))
    }

    /// Returns the oldest message that each of its subscribers has not released, or [`UNUSED`].
    pub(crate) fn lows(&self) -> impl Iterator<Item = u64> + '_ {
        // Ordering: as in `interval`.
        self.side.used_cursors().iter().map(|cursor| cursor.low.load_acquire())
    }

    /// Returns the oldest message that one of its reliable subscribers has not released, if the publisher
    /// waits for it.
    #[cfg(not(loom))]
    pub(crate) fn oldest_awaited(&self) -> Option<u64> {
        let reliable = self.intervals().filter(|interval| interval.high == UNBOUNDED);
        reliable.map(|interval| interval.low).min()
    }

    fn interval(&self, cursor: &CachePadded<Cursor>) -> Option<Interval> {
        // Ordering: Acquire as for cursors of this process; see `Producer::target`.
        let low = cursor.low.load_acquire();
        if low == UNUSED {
            return None;
        }
        let high = cursor.high.load_acquire();
        let taken = cursor.taken.load(Ordering::Relaxed);
        // A reliable subscriber that the publisher does not wait for counts as one that claims everything.
        let high = if self.terms.may_block { high } else { high.min(UNBOUNDED - 1) };
        Some(Interval { low, high, taken })
    }

    /// Whether a subscriber of the process may claim messages as it goes.
    pub(crate) fn claims(&self) -> bool {
        self.side.words().joined.claimers.load_acquire() != 0
    }

    /// Whether the process holds any block by count.
    pub(crate) fn holds_any(&self) -> bool {
        self.side.words().held.load_acquire() != 0
    }

    /// Whether the process holds this block by count.
    pub(crate) fn holds(&self, block: usize) -> bool {
        essential!(ignore_remote_holds, self.side.holds()[block].load_acquire()) != 0
    }

    /// Charges one more block to the quota. Returns `false` if it is used up.
    pub(crate) fn charge(&self) -> bool {
        let kept = self.kept.load(Ordering::Relaxed);
        let charged = kept < self.terms.quota;
        if charged {
            self.kept.store(kept + 1, Ordering::Relaxed);
        }
        charged
    }

    /// Returns a charged block.
    pub(crate) fn discharge(&self) {
        self.kept.store(self.kept.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }

    /// Returns how to wake the subscribers that have begun to wait for messages since the last call. The
    /// publisher calls this after it has published, behind a light barrier. If the bell must ring, the caller
    /// calls [`ring_if_due`](Self::ring_if_due).
    #[inline(always)]
    pub(crate) fn new_waits(&self) -> Option<Wakers> {
        let wakers = self.answered.new_waits(&self.side.words().waiting.armed)?;
        self.ring_due.store(wakers.bell.into(), Ordering::Relaxed);
        Some(wakers)
    }

    /// Whether [`new_waits`](Self::new_waits) may return something.
    #[inline(always)]
    pub(crate) fn has_new_waits(&self) -> bool {
        self.answered.is_behind(&self.side.words().waiting.armed)
    }

    /// Rings its bell if that is still due.
    pub(crate) fn ring_if_due(&self) {
        if self.ring_due.load(Ordering::Relaxed) != 0 {
            self.ring_due.store(0, Ordering::Relaxed);
            self.bell.ring();
        }
    }

    /// Whether the process has woken the publisher since the last call.
    #[cfg_attr(loom, allow(dead_code, reason = "for the bell, which models answer by themselves"))]
    pub(crate) fn has_rung(&self) -> bool {
        self.heard.is_new(&self.side.words().waiting.rung)
    }

    /// Rings its bell, even if no subscriber of the process waits.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }
}

impl Rings for Annex {
    fn rung(&self) -> &Rung {
        &self.side.words().waiting.rung
    }

    fn is_over(&self) -> bool {
        // Ordering: Relaxed; the thread that detaches it wakes the publisher afterwards.
        self.is_detached.load(Ordering::Relaxed) != 0
    }
}

/// The attached processes. Threads attach and detach while the publisher publishes.
#[derive(Debug)]
pub(crate) struct Annexes {
    list: PromptSnapshot<Annex>,
    /// Number of processes attached so far.
    ids: AtomicU32,
}

impl Annexes {
    pub(crate) fn new() -> Self {
        Self { list: PromptSnapshot::new(), ids: AtomicU32::new(0) }
    }

    /// Attaches a process. From now on the publisher wakes its subscribers, and respects the claims that they
    /// make behind a barrier that reaches the publisher.
    pub(crate) fn attach(
        &self,
        header: &Header,
        side: Side,
        terms: AnnexTerms,
        bell: Bell,
        #[cfg(not(loom))] file: AnnexFile,
        #[cfg(loom)] memory: Arc<crate::engine::segment::side::HeapSide>,
    ) -> AnnexId {
        // Ordering: Relaxed; only uniqueness matters. It starts at 1.
        let id = AnnexId(self.ids.fetch_add(1, Ordering::Relaxed).wrapping_add(1));
        self.list.change(|annexes| {
            annexes.push(Arc::new(Annex {
                id,
                side,
                terms,
                bell,
                answered: Answered::new(),
                ring_due: AtomicU32::new(0),
                is_detached: AtomicU32::new(0),
                heard: Heard::new(),
                kept: AtomicU32::new(0),
                #[cfg(not(loom))]
                _file: file,
                #[cfg(loom)]
                _memory: memory,
            }));
            header.state.messages.set_remote();
        });
        announce_change(header);
        id
    }

    /// Detaches a process, and returns its annex. The annex and the bell stay open until the publisher
    /// notices.
    pub(crate) fn detach(&self, header: &Header, id: AnnexId) -> Option<Arc<Annex>> {
        let detached = self.list.change(|annexes| {
            let at = annexes.iter().position(|annex| annex.id == id)?;
            let detached = annexes.swap_remove(at);
            detached.is_detached.store(1, Ordering::Relaxed);
            if annexes.is_empty() {
                header.state.messages.clear_remote();
            }
            Some(detached)
        });
        announce_change(header);
        detached
    }

    /// Replaces `copy` by the current list.
    pub(crate) fn copy_to(&self, copy: &mut Vec<Arc<Annex>>) {
        self.list.read(|annexes| {
            copy.clear();
            copy.extend(annexes.iter().cloned());
        });
    }

    /// Calls `each` with every attached process.
    pub(crate) fn each(&self, each: impl FnMut(&Arc<Annex>)) {
        self.list.read(|annexes| annexes.iter().for_each(each));
    }
}

/// Tells the publisher that the list has changed.
fn announce_change(header: &Header) {
    // Ordering: Release pairs with the fence in `Producer::renew_annexes`: the new list is visible.
    header.state.annexes.fetch_add(1, essential!(detach_release, Ordering::Release));
}
