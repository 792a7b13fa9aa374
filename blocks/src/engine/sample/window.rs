//! Owned samples, and how they stay cheap: the [`AttachmentWindow`].
//!
//! A sample that is dropped soon costs one compare-exchange: while it lives, its subscriber's interval
//! covers it. Only a sample that would hold back the interval is turned into a *counted hold* on its block:
//! when so many messages were received after it as a quarter of the pool has blocks, of the size of which there are fewest (32
//! at most), when a receive finds nothing and messages after it are not kept, before its subscriber sleeps, and when its
//! subscriber is dropped. Where the subscriber may be overtaken, already when anything was received after it: whoever
//! stalls then keeps its samples and the message received last, and nothing beside.
//!
//! Where the pool has fewer than 8 blocks every sample is a counted hold from the start: its block returns when it is
//! dropped, not at its subscriber's next receive.
//!
//! A subscriber that may lose messages must not stop the publisher, so its samples are [limited](SampleLimit). Before it
//! receives another message, its samples are counted holds and paid for: by what every such subscriber may keep, or out of
//! what all of them may keep together.
//!
//! Samples are handles on [`Record`]s, which belong to the subscriber. The window knows the record of each of the
//! newest messages that is a sample:
//!
//! ```text
//! sequence s ──▶ s mod WINDOW ──▶ record of s   attached, covered by the interval
//!                                 another's     received by reference; dropped, and the record used again
//! ```

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use crate::descriptor::Packed;
use crate::engine::channel::{Channel, Holder};
use crate::engine::ring::consumer::Consumer;
use crate::engine::sample::raw::{RawSample, Record};
use crate::options::{Overflow, ReaderOptions};
use crate::primitive::{AtomicU32, Ordering};
use crate::stats::HolderStats;
use crate::units::Sequence;

/// Messages, the newest of which an interval covers while they are samples.
pub(crate) const WINDOW: usize = if cfg!(loom) { 2 } else { 32 };

/// Records that a window starts with.
const RECORDS: usize = if cfg!(loom) { 2 } else { 8 };

/// No sample is attached by interval.
const NONE: u64 = u64::MAX;

/// From this number of blocks on, samples are attached by interval.
const FEW_BLOCKS: u32 = 8;

/// How many samples a subscriber may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SampleLimit {
    /// Any number.
    None,
    /// So many, at least 1.
    Own(u32),
    /// `own`, and a part of what all such subscribers may keep together, which is a quarter of `spare` blocks.
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

/// What one subscriber shares with its samples.
#[derive(Debug)]
pub(crate) struct Attachments {
    pub(crate) channel: Arc<Channel>,
    /// Whether `kept` is known.
    limited: bool,
    /// Counted holds.
    kept: AtomicU32,
    /// Those of them that are taken from what all such subscribers may keep.
    charged: AtomicU32,
    /// What statistics call the subscriber; may be empty.
    name: String,
    /// Keeps the records, which the subscriber adds to, until it and the last sample are gone. `Arc`s, since unlike boxes
    /// they may be moved while there are pointers into them.
    records: Mutex<Vec<Arc<[Record]>>>,
}

impl Holder for Attachments {
    /// What samples keep, if they keep anything. For statistics: one load per record, and a lock that is taken otherwise
    /// only when records are added.
    fn stats(&self) -> Option<HolderStats> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = records.iter().flat_map(|records| records.iter()).filter_map(Record::kept);
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
    /// The record that was used last.
    latest: NonNull<Record>,
    /// The oldest sequence that may be attached by interval, or [`NONE`].
    first: u64,
    /// Messages received since the oldest one that is attached, itself included, at most; never more than
    /// [`WINDOW`], so that every one has a place of its own.
    reach: u64,
    by_sequence: Box<[NonNull<Record>; WINDOW]>,
    shared: Arc<Attachments>,
    records: Vec<NonNull<Record>>,
    /// Where `latest` is in `records`.
    turn: usize,
    round: Round,
    limit: SampleLimit,
    /// Samples are limited, and there may be some.
    keeps: bool,
    /// Samples are counted holds from the start.
    at_once: bool,
    unusual: bool,
}

/// What was seen of the records since the search for a free one has last looked at all of them.
#[derive(Debug, Default)]
struct Round {
    looks: usize,
    in_use: usize,
}

// SAFETY: the pointers are to records of `shared`, which are `Sync`.
unsafe impl Send for AttachmentWindow {}
// SAFETY: as above.
unsafe impl Sync for AttachmentWindow {}

impl AttachmentWindow {
    /// For `consumer`, whom statistics call `name`.
    pub(crate) fn new(channel: Arc<Channel>, consumer: &Consumer, limit: SampleLimit, name: &str) -> Self {
        // At most a quarter of the blocks of any size waits for a sample of one subscriber that the publisher waits for anyway.
        // Where it goes on past the subscriber, any number of them may stall with a sample: nothing waits for these.
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
            records: Mutex::default(),
        });
        let holder: Arc<dyn Holder> = shared.clone();
        shared.channel.remember(Arc::downgrade(&holder));
        let mut records = Vec::new();
        add_records(&shared, &mut records, RECORDS);
        let latest = records[0];
        Self {
            latest,
            first: NONE,
            reach,
            by_sequence: Box::new([latest; WINDOW]),
            shared,
            records,
            turn: 0,
            round: Round::default(),
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

    /// Whether [`make_room`](Self::make_room) has something to do before another message is received.
    #[inline(always)]
    pub(crate) fn may_be_full(&self) -> bool {
        self.keeps
    }

    /// Whether samples are limited or counted from the start: then [`attach_any`](Self::attach_any) attaches them.
    #[inline(always)]
    pub(crate) fn is_unusual(&self) -> bool {
        self.unusual
    }

    /// As [`attach`](Self::attach), also where samples are limited or counted from the start.
    pub(crate) fn attach_any(&mut self, consumer: &Consumer, packed: Packed) -> RawSample {
        self.keeps |= self.is_limited();
        if self.at_once { self.count(consumer, packed) } else { self.attach(consumer, packed) }
    }

    /// Messages that may be received together.
    pub(crate) fn batch_limit(&self, consumer: &Consumer) -> usize {
        match self.limit {
            SampleLimit::Shared { spare, .. } => consumer.batch_limit(spare),
            _ => usize::MAX,
        }
    }

    /// Makes sure that another message may be received: turns what is attached by interval into counted holds, and pays for
    /// them.
    ///
    /// # Errors
    /// How many samples are kept, if that is too many.
    pub(crate) fn make_room(&mut self, consumer: &Consumer) -> Result<(), u32> {
        self.count_all(consumer);
        let kept = || self.shared.kept.load(Ordering::Relaxed);
        let full = match self.limit {
            SampleLimit::None => false,
            SampleLimit::Own(most) => kept() >= most,
            SampleLimit::Shared { own, spare } => {
                let charged = &self.shared.charged;
                loop {
                    // Samples are dropped meanwhile: fewer are kept than this says, but no more.
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

    /// Attaches the message that `consumer` took last, and has not let go of. Never fails: what is older than the
    /// window reaches is turned into counted holds. Allocates where half as many samples are kept as there are records.
    #[inline(always)]
    pub(crate) fn attach(&mut self, consumer: &Consumer, packed: Packed) -> RawSample {
        let sequence = packed.sequence;
        if self.first == NONE {
            self.first = sequence;
        }
        self.skip(consumer, sequence);
        let record = self.free_record();
        self.by_sequence[sequence as usize % WINDOW] = record;
        // SAFETY: `shared` keeps its records.
        unsafe { record.as_ref() }.attach(packed)
    }

    /// Turns a message that `consumer`'s interval covers into a counted hold at once.
    #[inline(never)]
    pub(crate) fn count(&mut self, consumer: &Consumer, packed: Packed) -> RawSample {
        // SAFETY: `shared` keeps its records.
        let record = unsafe { self.free_record().as_ref() };
        let sample = record.attach_counted(packed);
        consumer.hold(record.block(&self.shared.channel));
        self.shared.note_kept();
        self.keeps |= self.is_limited();
        // The strong reference that a counted sample owns.
        std::mem::forget(Arc::clone(&self.shared));
        sample
    }

    /// The oldest sequence that is still attached, if any is. What is attached for longer than the window
    /// reaches is turned into counted holds, so that it does not keep the blocks after it.
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

    /// As [`oldest`](Self::oldest), right after [`attach`](Self::attach).
    #[inline(always)]
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Turns what is attached into counted holds as far as the interval would otherwise cover messages that are not: so it
    /// covers none that nobody keeps.
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

    /// Turns everything that is attached into counted holds, so that the interval covers no sample.
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
    fn record(&self, sequence: u64) -> &Record {
        // SAFETY: `shared` keeps its records.
        unsafe { self.by_sequence[sequence as usize % WINDOW].as_ref() }
    }

    #[inline(always)]
    fn is_attached(&self, sequence: u64) -> bool {
        self.record(sequence).is_attached(sequence)
    }

    #[cold]
    #[inline(never)]
    fn count_attached(&mut self, consumer: &Consumer, sequence: u64) {
        let record = self.record(sequence);
        let block = record.block(&self.shared.channel);
        // Count first: from the exchange on the sample may give the hold up.
        consumer.hold(block);
        self.shared.note_kept();
        let strong = Arc::clone(&self.shared);
        if record.count() {
            // The samples own it now.
            std::mem::forget(strong);
            self.keeps |= self.is_limited();
        } else {
            self.shared.give_up_hold(block);
        }
    }

    #[inline(always)]
    fn free_record(&mut self) -> NonNull<Record> {
        // SAFETY: `shared` keeps its records.
        if !unsafe { self.latest.as_ref() }.is_free() {
            self.find_free_record();
        }
        self.latest
    }

    /// Makes `latest` a free record: the next one in turn, or a new one.
    ///
    /// A record that is found in use in a round was in use when the round began. So records are added only where more
    /// than half of them were in use at a time: there are never more than four times as many as samples were kept at
    /// once, and a free one is found after two looks on average.
    #[inline(never)]
    fn find_free_record(&mut self) {
        let len = self.records.len();
        loop {
            self.turn = (self.turn + 1) % len;
            let record = self.records[self.turn];
            // SAFETY: `shared` keeps its records.
            let free = unsafe { record.as_ref() }.is_free();
            self.round.looks += 1;
            self.round.in_use += usize::from(!free);
            if self.round.looks == len {
                let Round { in_use, .. } = std::mem::take(&mut self.round);
                if in_use > len / 2 {
                    add_records(&self.shared, &mut self.records, len);
                    (self.turn, self.latest) = (len, self.records[len]);
                    return;
                }
            }
            if free {
                self.latest = record;
                return;
            }
        }
    }
}

/// Makes `count` records and lists them.
fn add_records(shared: &Arc<Attachments>, list: &mut Vec<NonNull<Record>>, count: usize) {
    let base = shared.channel.arena().base();
    // The records' pointer may be turned into an `Arc` again, so it is made from one and not from a reference, which
    // would reach the value only.
    let owner = NonNull::new(Arc::as_ptr(shared).cast_mut()).expect("the pointer of an `Arc` is not null");
    let records: Arc<[Record]> =
        (0..count).map(|_| Record::new(base, owner, shared.channel.process())).collect();
    list.extend(records.iter().map(NonNull::from));
    shared.records.lock().unwrap_or_else(PoisonError::into_inner).push(records);
}

#[cfg(all(test, not(loom)))]
mod tests;
