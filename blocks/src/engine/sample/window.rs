//! Owned samples, and how they stay cheap: the [`AttachmentWindow`].
//!
//! A sample that is dropped soon costs one compare-exchange: while it lives, its subscriber's interval covers
//! it. Only a sample that would hold back the interval becomes a *counted hold* on its block. That happens
//! - when as many messages were received after it as a quarter of the pool has blocks, counting the size with
//!   the fewest blocks, or 32 messages;
//! - when a receive finds nothing and messages after the sample are not kept;
//! - before its subscriber sleeps, and when its subscriber is dropped.
//!
//! If the subscriber may be overtaken, a sample becomes a counted hold as soon as anything was received after
//! it. So a stalled subscriber keeps its samples and the message received last, and nothing else.
//!
//! If the pool has fewer than 8 blocks, every sample is a counted hold from the start: its block returns when
//! it is dropped, not at its subscriber's next receive.
//!
//! A subscriber that may lose messages must not stop the publisher, so its samples are
//! [limited](SampleLimit). Before it receives another message, its samples become counted holds and are
//! charged: to the subscriber's own allowance, or to the one that all such subscribers share.
//!
//! Samples refer to [`SampleEntry`] values, which belong to the subscriber. The window knows the entry of
//! each of the newest messages that is a sample:
//!
//! ```text
//! sequence s ──▶ s mod WINDOW ──▶ entry of s   attached, covered by the interval
//!                                 another's     received by reference; dropped, and the entry used again
//! ```

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use crate::descriptor::Packed;
use crate::engine::channel::{Channel, Holder};
use crate::engine::ring::consumer::Consumer;
use crate::engine::sample::raw::{RawSample, SampleEntry};
use crate::options::{Overflow, ReaderOptions};
use crate::primitive::{AtomicU32, Ordering};
use crate::stats::HolderStats;
use crate::units::Sequence;

/// Maximum number of messages that an interval covers for samples.
pub(crate) const WINDOW: usize = if cfg!(loom) { 2 } else { 32 };

/// Entries that a window starts with.
const ENTRIES: usize = if cfg!(loom) { 2 } else { 8 };

/// No sample is attached by interval.
const NONE: u64 = u64::MAX;

/// From this number of blocks on, samples are attached by interval.
const FEW_BLOCKS: u32 = 8;

/// How many samples a subscriber may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SampleLimit {
    /// Any number.
    None,
    /// This many, at least 1.
    Own(u32),
    /// `own`, plus a share of what all such subscribers may keep together: a quarter of `spare` blocks.
    Shared { own: u32, spare: u32 },
}

impl SampleLimit {
    pub(crate) fn new(channel: &Channel, options: ReaderOptions) -> Self {
        match (options.samples, options.overflow) {
            (Some(u32::MAX), _) | (None, Overflow::Block) => Self::None,
            (Some(samples), _) => Self::Own(samples.max(1)),
            (None, _) => {
                let spare = channel.spare_blocks();
                Self::Shared { own: u32::from(spare >= 4), spare }
            }
        }
    }
}

/// State that one subscriber shares with its samples.
#[derive(Debug)]
pub(crate) struct Attachments {
    pub(crate) channel: Arc<Channel>,
    /// Whether samples are limited, so that `kept` is counted.
    limited: bool,
    /// Counted holds.
    kept: AtomicU32,
    /// Number of them that are charged to the shared allowance.
    charged: AtomicU32,
    /// The subscriber's name in statistics; may be empty.
    name: String,
    /// Keeps the entries until the subscriber, which adds to them, and the last sample are gone. `Arc`s,
    /// since unlike boxes they may be moved while there are pointers into them.
    entries: Mutex<Vec<Arc<[SampleEntry]>>>,
}

impl Holder for Attachments {
    /// The kept messages, if there are any. One load per entry, and a lock that is otherwise only taken to
    /// add entries.
    fn stats(&self) -> Option<HolderStats> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = entries.iter().flat_map(|entries| entries.iter()).filter_map(SampleEntry::kept);
        let (messages, oldest) =
            kept.fold((0, u64::MAX), |(messages, oldest), sequence| (messages + 1, oldest.min(sequence)));
        let oldest = Sequence::new(oldest);
        (messages > 0).then(|| HolderStats { name: self.name.clone(), messages, oldest })
    }
}

impl Attachments {
    /// Counts a hold, before a sample owns it.
    fn note_kept(&self) {
        if self.limited {
            self.kept.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives up a counted hold.
    pub(crate) fn give_up_hold(&self, block: u32) {
        if self.limited {
            // Ordering: Relaxed; numbers that nothing else depends on. Never more are charged than are kept.
            self.kept.fetch_sub(1, Ordering::Relaxed);
            let one_less = |charged: u32| charged.checked_sub(1);
            if self.charged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
                self.channel.discharge_sample();
            }
        }
        self.channel.give_up_hold(block);
    }
}

/// The subscriber's private side of its samples.
#[derive(Debug)]
pub(crate) struct AttachmentWindow {
    /// The most recently used entry.
    latest: NonNull<SampleEntry>,
    /// The oldest sequence that may be attached by interval, or [`NONE`].
    first: u64,
    /// The largest number of messages received since the oldest attached one, including itself. Never more
    /// than [`WINDOW`], so that every message has a place of its own.
    reach: u64,
    by_sequence: Box<[NonNull<SampleEntry>; WINDOW]>,
    shared: Arc<Attachments>,
    entries: Vec<NonNull<SampleEntry>>,
    /// The index of `latest` in `entries`.
    turn: usize,
    /// Entries found in use since the search began a round.
    in_use: usize,
    limit: SampleLimit,
    /// Whether samples are limited and there may be some.
    keeps: bool,
    /// Whether samples are counted holds from the start.
    at_once: bool,
    unusual: bool,
}

// SAFETY: the pointers are to entries of `shared`, which are `Sync`.
unsafe impl Send for AttachmentWindow {}
// SAFETY: as above.
unsafe impl Sync for AttachmentWindow {}

impl AttachmentWindow {
    /// The window of `consumer`, which statistics call `name`.
    pub(crate) fn new(channel: Arc<Channel>, consumer: &Consumer, limit: SampleLimit, name: &str) -> Self {
        // If the publisher waits for the subscriber anyway, at most a quarter of the blocks of any size waits
        // for one of its samples. If the publisher goes on past subscribers, any number of them may stall
        // with a sample: no block waits for these.
        let fewest = channel.config().classes().iter().map(|class| class.blocks).min().unwrap_or(0);
        let quarter = u64::from(fewest / 4).clamp(1, WINDOW as u64);
        let reach = if consumer.is_reliable() { quarter } else { 1 };
        let at_once = !cfg!(loom) && channel.layout().blocks < FEW_BLOCKS;
        let shared = Arc::new(Attachments {
            channel,
            limited: limit != SampleLimit::None,
            kept: AtomicU32::new(0),
            charged: AtomicU32::new(0),
            name: name.to_owned(),
            entries: Mutex::default(),
        });
        let holder: Arc<dyn Holder> = shared.clone();
        shared.channel.remember(Arc::downgrade(&holder));
        let mut entries = Vec::new();
        add_entries(&shared, &mut entries, ENTRIES);
        let latest = entries[0];
        Self {
            latest,
            first: NONE,
            reach,
            by_sequence: Box::new([latest; WINDOW]),
            shared,
            entries,
            turn: 0,
            in_use: 0,
            limit,
            keeps: false,
            at_once,
            unusual: at_once || limit != SampleLimit::None,
        }
    }

    /// Whether the number of samples is limited.
    pub(crate) fn is_limited(&self) -> bool {
        self.limit != SampleLimit::None
    }

    /// Whether [`make_room`](Self::make_room) must be called before another message is received.
    #[inline(always)]
    pub(crate) fn may_be_full(&self) -> bool {
        self.keeps
    }

    /// Whether samples are limited, or counted from the start. Then [`attach_any`](Self::attach_any) attaches
    /// them.
    #[inline(always)]
    pub(crate) fn is_unusual(&self) -> bool {
        self.unusual
    }

    /// Like [`attach`](Self::attach), even if samples are limited or counted from the start.
    pub(crate) fn attach_any(&mut self, consumer: &Consumer, packed: Packed) -> RawSample {
        self.keeps |= self.is_limited();
        if self.at_once { self.count(consumer, packed) } else { self.attach(consumer, packed) }
    }

    /// The number of messages that may be received together.
    pub(crate) fn batch_limit(&self, consumer: &Consumer) -> usize {
        match self.limit {
            SampleLimit::Shared { spare, .. } => consumer.batch_limit(spare),
            _ => usize::MAX,
        }
    }

    /// Makes sure that another message may be received: turns samples that are attached by interval into
    /// counted holds, and charges them.
    ///
    /// # Errors
    /// The number of kept samples, if that is too many.
    pub(crate) fn make_room(&mut self, consumer: &Consumer) -> Result<(), u32> {
        self.count_all(consumer);
        let kept = || self.shared.kept.load(Ordering::Relaxed);
        let full = match self.limit {
            SampleLimit::None => false,
            SampleLimit::Own(most) => kept() >= most,
            SampleLimit::Shared { own, spare } => {
                let charged = &self.shared.charged;
                loop {
                    // Samples may be dropped meanwhile, so there may be fewer than this says, but not more.
                    if kept() <= own.saturating_add(charged.load(Ordering::Relaxed)) {
                        break false;
                    }
                    if !self.shared.channel.charge_sample(spare / 4) {
                        break true;
                    }
                    charged.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let kept = kept();
        self.keeps = kept > 0;
        if full && kept > 0 { Err(kept) } else { Ok(()) }
    }

    /// Whether a sample may be attached by interval.
    #[inline(always)]
    pub(crate) fn is_used(&self) -> bool {
        self.first != NONE
    }

    /// Attaches the message that `consumer` received last and has not released. Never fails: samples beyond
    /// the window's reach become counted holds. Allocates if half as many samples are kept as there are
    /// entries.
    #[inline(always)]
    pub(crate) fn attach(&mut self, consumer: &Consumer, packed: Packed) -> RawSample {
        let sequence = packed.sequence;
        if self.first == NONE {
            self.first = sequence;
        }
        self.skip(consumer, sequence);
        let entry = self.free_entry();
        self.by_sequence[sequence as usize % WINDOW] = entry;
        // SAFETY: `shared` keeps its entries.
        unsafe { entry.as_ref() }.attach(packed)
    }

    /// Turns a message that `consumer`'s interval covers into a counted hold.
    #[inline(never)]
    pub(crate) fn count(&mut self, consumer: &Consumer, packed: Packed) -> RawSample {
        // SAFETY: `shared` keeps its entries.
        let entry = unsafe { self.free_entry().as_ref() };
        let sample = entry.attach_counted(packed);
        consumer.hold(entry.block(&self.shared.channel));
        self.shared.note_kept();
        self.keeps |= self.is_limited();
        // The strong reference that a counted sample owns.
        std::mem::forget(Arc::clone(&self.shared));
        sample
    }

    /// The oldest sequence that is still attached, if any. Samples beyond the window's reach become counted
    /// holds, so that they do not keep the blocks after them.
    #[inline]
    pub(crate) fn oldest(&mut self, consumer: &Consumer) -> Option<u64> {
        if self.first == NONE {
            return None;
        }
        self.skip(consumer, consumer.next());
        if self.first == consumer.next() {
            self.first = NONE;
        }
        (self.first != NONE).then_some(self.first)
    }

    /// Like [`oldest`](Self::oldest), right after [`attach`](Self::attach).
    #[inline(always)]
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Turns samples into counted holds if the interval would otherwise also cover messages that nobody
    /// keeps.
    pub(crate) fn count_before_gap(&mut self, consumer: &Consumer) {
        if self.first == NONE {
            return;
        }
        let mut start = consumer.next();
        while start != self.first && self.is_attached(start - 1) {
            start -= 1;
        }
        for sequence in self.first..start {
            if self.is_attached(sequence) {
                self.count_attached(consumer, sequence);
            }
        }
        self.first = if start == consumer.next() { NONE } else { start };
    }

    /// Turns all samples into counted holds, so that the interval covers none.
    pub(crate) fn count_all(&mut self, consumer: &Consumer) {
        if self.first == NONE {
            return;
        }
        for sequence in self.first..consumer.next() {
            if self.is_attached(sequence) {
                self.count_attached(consumer, sequence);
            }
        }
        self.first = NONE;
    }

    /// Moves `first` to the oldest sequence below `end` that is attached and within reach, or to `end`.
    #[inline(always)]
    fn skip(&mut self, consumer: &Consumer, end: u64) {
        let mut first = self.first;
        while first != end {
            if self.is_attached(first) {
                if consumer.next() - first <= self.reach {
                    break;
                }
                self.count_attached(consumer, first);
            }
            first += 1;
        }
        self.first = first;
    }

    #[inline(always)]
    fn entry(&self, sequence: u64) -> &SampleEntry {
        // SAFETY: `shared` keeps its entries.
        unsafe { self.by_sequence[sequence as usize % WINDOW].as_ref() }
    }

    #[inline(always)]
    fn is_attached(&self, sequence: u64) -> bool {
        self.entry(sequence).is_attached(sequence)
    }

    #[cold]
    #[inline(never)]
    fn count_attached(&mut self, consumer: &Consumer, sequence: u64) {
        let entry = self.entry(sequence);
        let block = entry.block(&self.shared.channel);
        // Count first: from the exchange on, the sample may give up the hold.
        consumer.hold(block);
        self.shared.note_kept();
        let strong = Arc::clone(&self.shared);
        if entry.count() {
            // The samples own it now.
            std::mem::forget(strong);
            self.keeps |= self.is_limited();
        } else {
            self.shared.give_up_hold(block);
        }
    }

    /// In a forked child: keeps the entries for good, because samples may refer to them. The child has no
    /// part in the channel, where their holds would be counted.
    pub(crate) fn leak_entries(&self) {
        std::mem::forget(Arc::clone(&self.shared));
    }

    #[inline(always)]
    fn free_entry(&mut self) -> NonNull<SampleEntry> {
        // SAFETY: `shared` keeps its entries.
        if !unsafe { self.latest.as_ref() }.is_free() {
            // As a rule the next one is: samples are dropped in the order in which they were received.
            match self.entries.get(self.turn + 1) {
                // SAFETY: as above.
                Some(&next) if unsafe { next.as_ref() }.is_free() => {
                    self.turn += 1;
                    self.latest = next;
                }
                _ => self.find_free_entry(),
            }
        }
        self.latest
    }

    /// Makes `latest` a free entry: the next one in turn, or a new one. A round ends with the last entry.
    ///
    /// An entry found in use during a round was in use when the round began. So entries are only added if
    /// more than half of them were in use at the same time. There are never more than four times as many
    /// entries as samples were kept at once, and the search finds a free one after two steps on average.
    #[inline(never)]
    fn find_free_entry(&mut self) {
        let len = self.entries.len();
        loop {
            self.turn += 1;
            if self.turn >= len {
                self.turn = 0;
                if std::mem::take(&mut self.in_use) > len / 2 {
                    add_entries(&self.shared, &mut self.entries, len);
                    (self.turn, self.latest) = (len, self.entries[len]);
                    return;
                }
            }
            let entry = self.entries[self.turn];
            // SAFETY: `shared` keeps its entries.
            if unsafe { entry.as_ref() }.is_free() {
                self.latest = entry;
                return;
            }
            self.in_use += 1;
        }
    }
}

/// Creates `count` entries and lists them.
fn add_entries(shared: &Arc<Attachments>, list: &mut Vec<NonNull<SampleEntry>>, count: usize) {
    let base = shared.channel.arena().base();
    // The entries' pointer may become an `Arc` again, so it is made from one and not from a reference, which
    // would only reach the value.
    let owner = NonNull::new(Arc::as_ptr(shared).cast_mut()).expect("the pointer of an `Arc` is not null");
    let entries: Arc<[SampleEntry]> =
        (0..count).map(|_| SampleEntry::new(base, owner, shared.channel.process())).collect();
    list.extend(entries.iter().map(NonNull::from));
    shared.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entries);
}

#[cfg(all(test, not(loom)))]
mod tests;
