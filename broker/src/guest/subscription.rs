//! A guest's subscription: windows over the arenas of a topic's publishers, and records of what arrived.
//!
//! ```text
//!  publisher A ── Reader ──┐                      ┌─▶ batch (32 bytes per message, written by the host)
//!  publisher B ── Reader ──┼── deliveries 17..23 ─┤
//!  (not mapped yet) ───────┘   attached until     └─▶ the guest reads block bytes at window + offset
//!                              released or held
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use blockcast_blocks::{Channel, Descriptor, RawSample, Reader, ReceiveError, Sequence, Validity};
use slab::Slab;

use super::abi::{Error, Record, SubscriptionStats};
use super::excess::{Excess, Limit};
use super::exchange::Feed;
use super::isolation::Isolation;
use super::limits::GuestLimits;
use super::view::View;
use super::window::{Area, Owner, Place, Span, Window, WindowError, Windows};

/// Bit of a record's length that says that the bytes are known to be valid.
const VALID: u32 = 1 << 31;

/// The sequence of a record that tells of a loss which no message follows yet.
const NO_MESSAGE: u64 = u64::MAX;

/// Bytes of one record in a batch.
const RECORD: u32 = size_of::<Record>() as u32;

/// One publisher of the topic.
struct Source {
    /// Keeps the arena's file open for as long as it may be mapped.
    channel: Arc<Channel>,
    /// Gone once the subscription has left: then only holds keep the source.
    reader: Option<Reader>,
    window: Option<Window>,
    /// What the window shows, where that is not all of the arena.
    view: Option<View>,
    /// Lost since the last delivery.
    lost: u64,
    /// Deliveries neither released nor held.
    attached: u32,
    /// Holds.
    held: u32,
    /// Its blocks that the guest keeps from being used again.
    share: Share,
    /// There is a message, and the guest keeps as many blocks as it may.
    full: bool,
    ended: bool,
}

/// A message on its way to the guest.
struct Received {
    descriptor: Descriptor,
    /// Present where the publisher may overtake: the reader's own interval does not keep the message then.
    sample: Option<Kept>,
}

/// Deliveries of consecutive messages of one source.
struct Run {
    source: usize,
    /// The first message.
    sequence: u64,
    count: u32,
}

struct Held {
    source: usize,
    /// Where in the arena it lies.
    offset: u64,
    /// Dropped to release the block.
    _sample: Kept,
}

/// A subscription of a guest.
pub(crate) struct GuestSubscription {
    owner: Owner,
    topic: String,
    /// Gone once the subscription has left.
    feed: Option<Box<dyn Feed>>,
    /// Whether publishers wait for it, so that nothing is lost.
    reliable: bool,
    isolation: Isolation,
    sources: Slab<Source>,
    /// Keys of `sources` are smaller than this.
    keys: usize,
    /// The source that is served first in the next batch.
    turn: usize,
    /// What is attached, in the order of delivery.
    runs: VecDeque<Run>,
    /// The messages of `runs`, where publishers may overtake.
    samples: VecDeque<Kept>,
    /// Where the messages of `runs` lie in their arenas, where not all of those is shown.
    offsets: VecDeque<u64>,
    /// Index of the first delivery in `runs`.
    first: u64,
    /// Deliveries in `runs`.
    attached: u32,
    holds: Slab<Held>,
    /// A source joined for which there is no room, and the guest was not told yet.
    short: bool,
    /// The guest was told that it is over.
    closed: bool,
    /// `wait` has returned for its sake, and the guest has not looked since.
    reported: bool,
    received: u64,
    received_bytes: u64,
    lost: u64,
    kept: KeptBlocks,
    excess: Excess,
    /// Bytes copied for the guest to see them.
    copied: u64,
    /// Address space asked for and not donated yet.
    pub(crate) asked: u64,
}

impl GuestSubscription {
    pub(crate) fn new(
        owner: Owner,
        topic: String,
        feed: Box<dyn Feed>,
        reliable: bool,
        isolation: Isolation,
        kept: KeptBlocks,
        excess: Excess,
    ) -> Self {
        Self {
            owner,
            topic,
            feed: Some(feed),
            reliable,
            isolation,
            sources: Slab::new(),
            keys: 0,
            turn: 0,
            runs: VecDeque::new(),
            samples: VecDeque::new(),
            offsets: VecDeque::new(),
            first: 0,
            attached: 0,
            holds: Slab::new(),
            short: false,
            closed: false,
            reported: false,
            received: 0,
            received_bytes: 0,
            lost: 0,
            kept,
            excess,
            copied: 0,
            asked: 0,
        }
    }

    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Bytes of address space to donate so that every publisher that is known now can be mapped.
    pub(crate) fn minimum_size(&mut self, windows: &mut Windows) -> Result<u32, Error> {
        self.admit(windows)?;
        let sizes = self.sources.iter().filter(|(_, source)| source.window.is_none());
        let missing =
            windows.missing(self.owner, sizes.map(|(_, source)| source.channel.arena().len() as u64));
        self.asked = missing;
        // More than 4 GiB cannot be donated; asking for all of them is refused when they are.
        Ok(u32::try_from(missing).unwrap_or(u32::MAX << 16))
    }

    /// Accepts address space and maps into it what waits for some.
    pub(crate) fn add_storage(&mut self, windows: &mut Windows, area: Area) -> Result<(), Error> {
        if let Err(error) = windows.donate(self.owner, area) {
            if matches!(error, WindowError::Budget) {
                self.excess.note(Limit::Windows);
            }
            return Err(error.into());
        }
        self.asked = self.asked.saturating_sub(u64::from(area.size));
        self.admit(windows)
    }

    /// Gives address space back that is not used.
    pub(crate) fn remove_storage(&mut self, windows: &mut Windows, area: Area) -> Result<(), Error> {
        Ok(windows.take_back(self.owner, area)?)
    }

    /// Takes in publishers that joined.
    fn join(&mut self) -> Result<(), Error> {
        while let Some(joined) = self.feed.as_mut().and_then(|feed| feed.next_joined()) {
            // No cursor is free for us: too many subscribers for the publisher's configuration.
            let reader = joined.map_err(|_| Error::Limit)?;
            let key = self.sources.insert(Source::new(reader, &self.kept));
            self.keys = self.keys.max(key + 1);
            self.short = true;
        }
        Ok(())
    }

    /// Takes in publishers that joined, and maps arenas as far as there is room.
    fn admit(&mut self, windows: &mut Windows) -> Result<(), Error> {
        self.reported = false;
        self.join()?;
        for (_, source) in &mut self.sources {
            if source.window.is_none() {
                source.map(windows, self.owner, self.isolation)?;
            }
        }
        self.short &= self.sources.iter().any(|(_, source)| source.window.is_none());
        Ok(())
    }

    /// Releases deliveries before `released_before`, then writes records of new messages into `batch`.
    pub(crate) fn poll(
        &mut self,
        windows: &mut Windows,
        limits: &GuestLimits,
        batch: Area,
        released_before: u64,
    ) -> Result<u32, Error> {
        let target =
            if batch.size == 0 { std::ptr::null_mut() } else { windows.ordinary(batch)?.cast::<Record>() };
        if !batch.address.is_multiple_of(align_of::<Record>() as u32) || (1..RECORD).contains(&batch.size) {
            return Err(Error::WrongSize);
        }
        if released_before > self.first + u64::from(self.attached) {
            return Err(Error::InvalidHandle);
        }
        self.release_before(windows, released_before);
        self.retire(windows);
        if batch.size == 0 {
            return Ok(0);
        }
        self.admit(windows)?;
        if std::mem::take(&mut self.short) {
            return Err(Error::NoStorage);
        }
        let room = limits.attached.saturating_sub(self.attached);
        if room == 0 {
            return Err(self.limit(Limit::Attached));
        }
        let count = self.deliver(windows, target, (batch.size / RECORD).min(room))?;
        if count > 0 {
            return Ok(count);
        }
        self.nothing()
    }

    /// Writes up to `limit` records to `target`. Losses that no message follows yet have a record of their own.
    ///
    /// `target` was checked: `limit` records from it on lie in the guest's ordinary memory.
    fn deliver(&mut self, windows: &mut Windows, target: *mut Record, limit: u32) -> Result<u32, Error> {
        let mut count = 0;
        // Every source once, beginning after the one that filled the last batch.
        for step in 0..self.keys {
            let key = (self.turn + step) % self.keys;
            let Some(source) = self.sources.get_mut(key) else { continue };
            let Some(window) = source.window else { continue };
            let publisher = source.channel.publisher().get();
            let before = count;
            let mut run = Run { source: key, sequence: 0, count: 0 };
            while count < limit
                && let Some(received) = source.receive(self.reliable)
            {
                let Descriptor { sequence, offset, len, time, validity } = received.descriptor;
                self.received_bytes += u64::from(len);
                let valid = if validity == Validity::Valid { VALID } else { 0 };
                if let Some(view) = &mut source.view {
                    // SAFETY: the window is the view's, of the channel's arena, both of which the source keeps. The message stays
                    // attached until it is hidden as often as it was shown: on release, and when a hold is given back.
                    let shown = unsafe { view.show(windows, window, source.channel.arena(), offset, len) };
                    // A failure leaves the guest's memory in pieces, and ends it.
                    self.copied += shown?;
                    self.offsets.push_back(offset);
                }
                let record = Record {
                    sequence: sequence.get(),
                    time: time.as_nanos(),
                    // The window has the arena's length, so the sum stays inside of the memory.
                    address: window.address + offset as u32,
                    length: len | valid,
                    publisher,
                    lost: u32::try_from(source.lost).unwrap_or(u32::MAX),
                };
                self.lost += std::mem::take(&mut source.lost);
                // SAFETY: the caller checked that `limit` records fit into ordinary memory of the guest, which is
                // accessible and which nobody else touches during a host call; `target` is aligned to 8 because
                // memories start at a page and the address in them was checked.
                unsafe { target.add(count as usize).write(record) };
                self.samples.extend(received.sample);
                if sequence.get() != run.sequence + u64::from(run.count) {
                    let next = Run { source: key, sequence: sequence.get(), count: 0 };
                    let run = std::mem::replace(&mut run, next);
                    self.runs.extend((run.count > 0).then_some(run));
                }
                run.count += 1;
                count += 1;
            }
            self.runs.extend((run.count > 0).then_some(run));
            source.attached += count - before;
            self.attached += count - before;
            self.received += u64::from(count - before);
            if source.lost > 0 && count < limit {
                let lost = u32::try_from(source.lost).unwrap_or(u32::MAX);
                self.lost += std::mem::take(&mut source.lost);
                let record = Record { sequence: NO_MESSAGE, time: 0, address: 0, length: 0, publisher, lost };
                // SAFETY: as above.
                unsafe { target.add(count as usize).write(record) };
                count += 1;
            }
            if count == limit {
                self.turn = key + 1;
                break;
            }
        }
        Ok(count)
    }

    /// What a poll without a message returns.
    fn nothing(&mut self) -> Result<u32, Error> {
        let mut open = self.feed.as_ref().is_some_and(|feed| feed.is_open());
        let mut full = false;
        for (_, source) in &mut self.sources {
            if source.window.is_none() && source.has_message() {
                return Err(Error::NoStorage);
            }
            open |= !source.ended;
            full |= source.full;
        }
        if full {
            return Err(self.limit(Limit::PoolShare));
        }
        self.closed = !open;
        if open { Ok(0) } else { Err(Error::Closed) }
    }

    fn release_before(&mut self, windows: &mut Windows, index: u64) {
        while self.first < index
            && let Some(run) = self.runs.front_mut()
        {
            let count = run.count.min(u32::try_from(index - self.first).unwrap_or(u32::MAX));
            run.sequence += u64::from(count);
            run.count -= count;
            self.first += u64::from(count);
            self.attached -= count;
            let source = &mut self.sources[run.source];
            source.attached -= count;
            for offset in self.offsets.drain(..(count as usize).min(self.offsets.len())) {
                source.hide(windows, offset);
            }
            if self.reliable {
                if let Some(reader) = &mut source.reader {
                    reader.release_before(Sequence::new(run.sequence));
                }
            } else {
                self.samples.drain(..count as usize);
            }
            if run.count == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// Source and sequence of an attached delivery, and how many are attached before it.
    fn find(&self, index: u64) -> Option<(usize, Sequence, usize)> {
        let position = index.checked_sub(self.first)?;
        let mut before = 0;
        for run in &self.runs {
            if position < before + u64::from(run.count) {
                let sequence = Sequence::new(run.sequence + (position - before));
                return Some((run.source, sequence, usize::try_from(position).ok()?));
            }
            before += u64::from(run.count);
        }
        None
    }

    /// Unmaps publishers that have ended and of which nothing is attached or held.
    fn retire(&mut self, windows: &mut Windows) {
        let over = |source: &Source| source.ended && source.attached == 0 && source.held == 0;
        if !self.sources.iter().any(|(_, source)| over(source)) {
            return;
        }
        self.sources.retain(|_, source| {
            let keep = !over(source);
            if !keep && let Some(window) = source.window.take() {
                // Unmapped before the channel is dropped, which may close the arena's file.
                windows.unmap(window);
            }
            keep
        });
    }

    /// Keeps one delivery beyond its release.
    pub(crate) fn hold(&mut self, limits: &GuestLimits, index: u64) -> Result<u32, Error> {
        if self.holds.len() >= limits.held as usize {
            return Err(self.limit(Limit::Held));
        }
        let (source, sequence, position) = self.find(index).ok_or(Error::InvalidHandle)?;
        let from = &mut self.sources[source];
        if from.share.is_used_up() {
            return Err(self.limit(Limit::PoolShare));
        }
        let sample = match self.samples.get(position) {
            Some(kept) => kept.sample.clone(),
            None => from.reader.as_mut().and_then(|reader| reader.hold(sequence)).ok_or(Error::Internal)?,
        };
        let offset = sample.descriptor().offset;
        let sample = from.share.keep(sample);
        from.held += 1;
        if let Some(view) = &mut from.view {
            view.keep(offset);
        }
        let hold = self.holds.insert(Held { source, offset, _sample: sample });
        // Fits: holds are limited by a number of 32 bits.
        Ok(hold as u32)
    }

    /// Gives a hold back.
    pub(crate) fn unhold(&mut self, windows: &mut Windows, hold: u32) -> Result<(), Error> {
        let held = self.holds.try_remove(hold as usize).ok_or(Error::InvalidHandle)?;
        let source = &mut self.sources[held.source];
        source.held -= 1;
        source.hide(windows, held.offset);
        drop(held);
        self.retire(windows);
        Ok(())
    }

    /// Ends the delivery but not the holds.
    pub(crate) fn leave(&mut self, windows: &mut Windows) {
        self.feed = None;
        self.release_before(windows, u64::MAX);
        for (_, source) in &mut self.sources {
            source.end();
        }
        self.retire(windows);
    }

    /// Takes back the address space. What is left of the subscription can then be dropped.
    pub(crate) fn withdraw(&mut self, windows: &mut Windows) {
        windows.withdraw(self.owner);
    }

    /// Announces that the guest is about to sleep, and says whether it has reason not to. A reason counts once:
    /// a guest that waits for something else is not woken again and again by what it does not look at.
    pub(crate) fn arm(&mut self) -> bool {
        !self.reported && {
            self.reported = self.is_worth_a_look();
            self.reported
        }
    }

    fn is_worth_a_look(&mut self) -> bool {
        if self.join().is_err() || self.short {
            return true;
        }
        let mut over = true;
        for (_, source) in &mut self.sources {
            if source.ended {
                continue;
            }
            if source.arm(self.reliable) {
                return true;
            }
            over = false;
        }
        over && !self.closed && self.feed.as_ref().is_some_and(|feed| !feed.is_open())
    }

    /// Refuses something because of a limit.
    fn limit(&self, limit: Limit) -> Error {
        self.excess.note(limit);
        Error::Limit
    }

    /// Bytes of the messages delivered.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Bytes copied for the guest to see them.
    pub(crate) fn copied(&self) -> u64 {
        self.copied
    }

    pub(crate) fn stats(&self) -> SubscriptionStats {
        SubscriptionStats {
            received: self.received,
            lost: self.lost,
            attached: self.attached,
            held: u32::try_from(self.holds.len()).unwrap_or(u32::MAX),
            publishers: u32::try_from(self.sources.iter().filter(|(_, source)| !source.ended).count())
                .unwrap_or(u32::MAX),
        }
    }
}

impl Source {
    fn new(reader: Reader, kept: &KeptBlocks) -> Self {
        Self {
            share: kept.share_of(reader.channel()),
            full: false,
            channel: Arc::clone(reader.channel()),
            reader: Some(reader),
            window: None,
            view: None,
            lost: 0,
            attached: 0,
            held: 0,
            ended: false,
        }
    }

    /// Maps the arena, or what is to be seen of it, if there is room.
    fn map(&mut self, windows: &mut Windows, owner: Owner, isolation: Isolation) -> Result<(), Error> {
        let arena = self.channel.arena();
        if self.view.is_none() {
            self.view = match isolation {
                Isolation::Arena => None,
                Isolation::Strict => Some(View::new(arena.len()).map_err(|_| Error::Internal)?),
                Isolation::Copied => Some(View::copied(arena.len())),
            };
        }
        let mapped = match &self.view {
            // SAFETY: a window is unmapped before its source, and with it the view, is dropped: by `retire`, or by `withdraw`
            // before the subscription is dropped. The only other way out is the guest's end, after which its fault handler
            // does not run any more.
            Some(view) => unsafe { view.open(windows, owner) },
            None => {
                let span = Span { file: arena.memfd(), offset: 0, len: arena.len() };
                // SAFETY: the channel keeps the arena and so its file, which is sealed at this length; the source keeps the
                // channel. As above.
                unsafe { windows.map(Place::own(owner), span, arena.len()) }
            }
        };
        match mapped {
            Ok(window) => self.window = Some(window),
            Err(WindowError::NoRoom) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Stops showing a message, where not all of the arena is shown and nothing else needs it.
    fn hide(&mut self, windows: &mut Windows, offset: u64) {
        if let (Some(view), Some(window)) = (&mut self.view, self.window) {
            // A failure leaves the guest's memory in pieces, and ends it.
            let _ = view.hide(windows, window, offset);
        }
    }

    /// The next message, if there is one.
    fn receive(&mut self, reliable: bool) -> Option<Received> {
        let reader = self.reader.as_mut()?;
        self.full = !reliable && self.share.is_used_up() && reader.has_message();
        if self.full {
            return None;
        }
        loop {
            let received = if reliable {
                reader.take().map(|descriptor| Received { descriptor, sample: None })
            } else {
                reader.receive_owned().map(|sample| Received {
                    descriptor: sample.descriptor(),
                    sample: Some(self.share.keep(sample)),
                })
            };
            match received {
                Ok(received) => return Some(received),
                Err(ReceiveError::Lost(count)) => self.lost += count,
                Err(ReceiveError::Empty) => return None,
                Err(_) => {
                    self.ended = true;
                    return None;
                }
            }
        }
    }

    /// Whether there is a message, or a loss to be told of. Takes nothing: what the guest does not ask for may still be
    /// lost where its subscription allows that, as it may natively.
    fn has_message(&mut self) -> bool {
        self.reader.as_mut().is_some_and(Reader::has_message)
    }

    /// Announces that nobody will look for a while, and says whether there is something to look at.
    fn arm(&mut self, reliable: bool) -> bool {
        let Some(reader) = &mut self.reader else { return true };
        reader.arm();
        // What the guest keeps too many blocks for is no news.
        let full = !reliable && self.share.is_used_up() && reader.has_message();
        !full && reader.is_ready()
    }

    /// Stops receiving and releases what is not held.
    fn end(&mut self) {
        self.ended = true;
        self.reader = None;
    }
}

/// Counts, for one guest and all its subscriptions, how many blocks of each publisher it keeps from being used again.
#[derive(Clone, Debug)]
pub(crate) struct KeptBlocks {
    limits: Arc<GuestLimits>,
    counts: Arc<Mutex<BTreeMap<u32, Weak<AtomicU32>>>>,
}

impl KeptBlocks {
    pub(crate) fn new(limits: &GuestLimits) -> Self {
        Self { limits: Arc::new(limits.clone()), counts: Arc::default() }
    }

    /// The guest's share of a publisher's blocks.
    fn share_of(&self, channel: &Channel) -> Share {
        // Whatever panics while the map is locked leaves it whole.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|_, count| count.strong_count() > 0);
        let entry = counts.entry(channel.publisher().get()).or_default();
        let kept = entry.upgrade().unwrap_or_default();
        *entry = Arc::downgrade(&kept);
        Share { kept, most: self.limits.share_of(channel.config().blocks) }
    }
}

/// How many blocks of one publisher the guest keeps, and may keep.
#[derive(Debug)]
struct Share {
    kept: Arc<AtomicU32>,
    most: u32,
}

impl Share {
    fn is_used_up(&self) -> bool {
        // Ordering: one thread at a time runs the guest, and changes of thread order everything.
        self.kept.load(Ordering::Relaxed) >= self.most
    }

    fn keep(&self, sample: RawSample) -> Kept {
        self.kept.fetch_add(1, Ordering::Relaxed);
        Kept { sample, kept: Arc::clone(&self.kept) }
    }
}

/// A message whose block the guest keeps.
struct Kept {
    sample: RawSample,
    kept: Arc<AtomicU32>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.kept.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for GuestSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestSubscription").field("topic", &self.topic).finish_non_exhaustive()
    }
}
