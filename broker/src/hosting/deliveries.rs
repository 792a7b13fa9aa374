//! What a topic's publishers deliver to one subscription of a component: [`Deliveries`].
//!
//! ```text
//!  publisher A ── Reader ──┐                      ┌─▶ batch: a record per message, written by the host
//!  publisher B ── Reader ──┼── deliveries 17..23 ─┤
//!  (no room yet) ──────────┘   attached until     └─▶ the component reads block bytes where its `AddressSpace` shows them
//!                              released or held
//! ```
//! The same for a guest, which sees the arenas through windows, and for a native library, which shares the host's addresses.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use blockcast_blocks::abi::{Error, SubscriptionStats};
use blockcast_blocks::{Channel, Descriptor, JoinError, Reader, ReceiveError, Sequence, Validity};
use slab::Slab;

use crate::component::limit_policy::{Limit, LimitPolicy};
use crate::component::limits::ComponentLimits;
use crate::hosting::address_space::{AddressSpace, ArenaView, Delivery};
use crate::hosting::held_blocks::{HeldBlock, HeldBlocks, Share};
use crate::hosting::topic_access::SubscriptionSource;

/// Bit of a record's length that says that the bytes are known to be valid.
const VALID: u32 = 1 << 31;

/// Where messages are shown one by one, a poll delivers no more of them, and none beyond so many copied bytes: nothing
/// interrupts it, and the guest polls again.
const MAX_SHOWN: u32 = 4096;
const MAX_COPIED: u64 = 8 << 20;

/// One publisher of the topic.
struct Source<V> {
    channel: Arc<Channel>,
    /// Keeps the arena's file open for as long as it may be mapped.
    _file: Option<Arc<OwnedFd>>,
    /// Gone once the subscription has left: then only holds keep the source.
    reader: Option<Reader>,
    /// Where the component sees its arena.
    sight: V,
    /// Lost since the last delivery.
    lost: u64,
    /// Deliveries neither released nor held.
    attached: u32,
    /// Holds.
    held: u32,
    /// Its blocks that the component keeps from being used again.
    share: Share,
    /// There is a message, and the component keeps as many blocks as it may.
    full: bool,
    ended: bool,
}

/// A message on its way to the component.
struct Received {
    descriptor: Descriptor,
    /// Present where the publisher may overtake: the reader's own interval does not keep the message then.
    sample: Option<HeldBlock>,
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
    sample: HeldBlock,
}

/// Messages that native code may still read although its subscription has ended. Each keeps its block; nothing else of the
/// publisher is kept, which goes on.
#[derive(Default)]
pub(crate) struct Unreleased {
    attached: Vec<HeldBlock>,
    held: Vec<HeldBlock>,
    /// Of publishers whose messages cannot be kept one by one: these wait.
    readers: Vec<Reader>,
}

impl Unreleased {
    /// Messages that were neither released nor held.
    pub(crate) fn attached(&self) -> u32 {
        u32::try_from(self.attached.len()).unwrap_or(u32::MAX)
    }

    /// Holds.
    pub(crate) fn held(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }
}

/// The deliveries to one subscription.
pub(crate) struct Deliveries<V> {
    /// Gone once the subscription has left.
    feed: Option<Box<dyn SubscriptionSource>>,
    /// Whether publishers wait for it, so that nothing is lost.
    reliable: bool,
    sources: Slab<Source<V>>,
    /// Readers of publishers that joined after one of `sources` had ended, in the order in which they joined: they become
    /// sources when all of that one was delivered, as natively.
    later: VecDeque<Reader>,
    /// Keys of `sources` are smaller than this.
    keys: usize,
    /// The source that is served first in the next batch.
    turn: usize,
    /// What is attached, in the order of delivery.
    runs: VecDeque<Run>,
    /// The messages of `runs`, where publishers may overtake.
    samples: VecDeque<HeldBlock>,
    /// Where the messages of `runs` lie in their arenas, if they are shown one by one.
    offsets: VecDeque<u64>,
    /// Index of the first delivery in `runs`.
    first: u64,
    /// Deliveries in `runs`.
    attached: u32,
    holds: Slab<Held>,
    /// A source joined that has no cursor for us, and the component was not told yet.
    refused: bool,
    /// A source joined for which there is no room, and the component was not told yet.
    short: bool,
    /// The component was told that it is over.
    closed: bool,
    /// `wait` has returned for its sake, and the component has not looked since.
    reported: bool,
    received: u64,
    received_bytes: u64,
    lost: u64,
    kept: HeldBlocks,
    excess: LimitPolicy,
    /// Bytes copied for the component to see them.
    copied: u64,
}

impl<V: ArenaView> Deliveries<V> {
    /// Of a subscription that publishers wait for if it is `reliable`.
    pub(crate) fn new(
        feed: Box<dyn SubscriptionSource>,
        reliable: bool,
        kept: HeldBlocks,
        excess: LimitPolicy,
    ) -> Self {
        Self {
            feed: Some(feed),
            reliable,
            sources: Slab::new(),
            later: VecDeque::new(),
            keys: 0,
            turn: 0,
            runs: VecDeque::new(),
            samples: VecDeque::new(),
            offsets: VecDeque::new(),
            first: 0,
            attached: 0,
            holds: Slab::new(),
            refused: false,
            short: false,
            closed: false,
            reported: false,
            received: 0,
            received_bytes: 0,
            lost: 0,
            kept,
            excess,
            copied: 0,
        }
    }

    /// The publishers for whose arenas there is no room.
    pub(crate) fn hidden(&self) -> impl Iterator<Item = &Channel> {
        let hidden = self.sources.iter().filter(|(_, source)| !source.sight.is_open());
        hidden.map(|(_, source)| &*source.channel)
    }

    /// Takes in publishers that joined.
    fn join(&mut self) {
        let mut joined_now = false;
        while let Some(joined) = self.feed.as_mut().and_then(|feed| feed.next_joined()) {
            let reader = match joined {
                Ok(reader) => reader,
                Err(JoinError::Ended) => continue,
                // No cursor is free for us: too many subscribers for the publisher's configuration.
                Err(_) => {
                    self.refused = true;
                    continue;
                }
            };
            joined_now = true;
            self.later.push_back(reader);
            // One by one: it may have ended before the next one joined.
            self.take_in();
        }
        self.take_in();
        if joined_now {
            self.bound_departed();
        }
    }

    /// Bounds the closed publishers whose messages the subscription keeps. Only another publisher that joins makes them more.
    fn bound_departed(&self) {
        let sources = self.sources.iter().filter(|(_, source)| source.channel.is_closed()).count();
        let later = self.later.iter().filter(|reader| reader.channel().is_closed()).count();
        if sources + later > self.kept.departed() {
            self.excess.note(Limit::DepartedPerSubscription);
        }
    }

    /// Takes in publishers that joined, on behalf of a component that does not look itself, so that their number is
    /// bounded.
    pub(crate) fn look(&mut self) {
        self.join();
    }

    /// Makes sources of those that wait for others to end, unless there is one that has ended and is not delivered. Returns
    /// whether there were any.
    fn take_in(&mut self) -> bool {
        let before = self.later.len();
        while !self.later.is_empty()
            && !self.sources.iter_mut().any(|(_, source)| source.is_ending())
            && let Some(reader) = self.later.pop_front()
        {
            let key = self.sources.insert(Source::new(reader, &self.kept));
            self.keys = self.keys.max(key + 1);
            self.short = true;
        }
        self.later.len() < before
    }

    /// Takes in publishers that joined, and makes their arenas visible as far as there is room.
    pub(crate) fn admit(&mut self, space: &mut impl AddressSpace<ArenaView = V>) -> Result<(), Error> {
        self.reported = false;
        self.join();
        if std::mem::take(&mut self.refused) {
            return Err(Error::Limit);
        }
        for (_, source) in &mut self.sources {
            if !source.sight.is_open() {
                // SAFETY: the source keeps the channel and the arena's file, and is not dropped before its sight is closed
                // (`retire`); the only other way out is the end of the subscription, whose space takes back all that it
                // showed, or of the component.
                unsafe { space.open(&mut source.sight, &source.channel) }?;
            }
        }
        self.short &= self.sources.iter().any(|(_, source)| !source.sight.is_open());
        Ok(())
    }

    /// Releases deliveries before `released_before`, then writes up to `most` records of new messages to `target`. With
    /// none it only releases.
    ///
    /// # Safety
    /// From `target` on there is memory for `most` records, aligned to them, that nobody else uses during the call.
    pub(crate) unsafe fn poll(
        &mut self,
        space: &mut impl AddressSpace<ArenaView = V>,
        limits: &ComponentLimits,
        (target, most): (*mut V::Record, u32),
        released_before: u64,
    ) -> Result<u32, Error> {
        if released_before > self.first + u64::from(self.attached) {
            return Err(Error::InvalidHandle);
        }
        self.release_before(space, released_before);
        self.retire(space);
        if most == 0 {
            return Ok(0);
        }
        loop {
            self.admit(space)?;
            if std::mem::take(&mut self.short) {
                return Err(Error::NoStorage);
            }
            let room = limits.attached.saturating_sub(self.attached);
            if room == 0 {
                return Err(self.limit(Limit::Attached));
            }
            // SAFETY: the caller's promise.
            let count = unsafe { self.deliver(space, target, most.min(room)) }?;
            if count > 0 {
                return Ok(count);
            }
            // Whoever has waited for those that turned out to have ended is next.
            if !self.take_in() {
                return self.nothing();
            }
        }
    }

    /// Writes up to `limit` records to `target`. Losses that no message follows yet have a record of their own.
    ///
    /// # Safety
    /// As for [`poll`](Self::poll).
    unsafe fn deliver(
        &mut self,
        space: &mut impl AddressSpace<ArenaView = V>,
        target: *mut V::Record,
        limit: u32,
    ) -> Result<u32, Error> {
        let selective = space.is_selective();
        let limit = if selective { limit.min(MAX_SHOWN) } else { limit };
        let enough = self.copied.saturating_add(MAX_COPIED);
        let mut count = 0;
        // Every source once, beginning after the one that filled the last batch.
        for step in 0..self.keys {
            let key = (self.turn + step) % self.keys;
            let Some(source) = self.sources.get_mut(key) else { continue };
            if !source.sight.is_open() {
                continue;
            }
            let publisher = source.channel.publisher().short();
            let before = count;
            let mut run = Run { source: key, sequence: 0, count: 0 };
            if self.reliable && !selective {
                // SAFETY: fewer than `limit` were written, for which there is room (the caller's promise).
                let (taken, bytes) =
                    unsafe { source.take_run(&mut run, target.add(count as usize), limit - count) };
                count += taken;
                self.received_bytes += bytes;
            }
            while count < limit
                && self.copied < enough
                && let Some(received) = source.receive(self.reliable)
            {
                let Descriptor { sequence, offset, len, .. } = received.descriptor;
                self.received_bytes += u64::from(len);
                if selective {
                    // SAFETY: the sight is open and the source's. The message stays attached until it is hidden as often as it
                    // was shown: on release, and when a hold is given back.
                    let shown = unsafe { space.show(&mut source.sight, &source.channel, offset, len) };
                    // A failure leaves a guest's memory in pieces, and ends it.
                    self.copied += shown?;
                    self.offsets.push_back(offset);
                }
                let lost = u32::try_from(source.lost).unwrap_or(u32::MAX);
                let delivery = delivery(received.descriptor, publisher, lost);
                self.lost += std::mem::take(&mut source.lost);
                let record = source.sight.record(delivery);
                // SAFETY: fewer than `limit` were written, for which there is room (the caller's promise).
                unsafe { target.add(count as usize).write(record) };
                if let Some(sample) = received.sample {
                    self.samples.push_back(sample);
                }
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
                // SAFETY: as above.
                unsafe { target.add(count as usize).write(V::loss(publisher, lost)) };
                count += 1;
            }
            if count == limit || self.copied >= enough {
                self.turn = key + 1;
                break;
            }
        }
        Ok(count)
    }

    /// What a poll without a message returns.
    fn nothing(&mut self) -> Result<u32, Error> {
        let mut open = !self.later.is_empty() || self.feed.as_ref().is_some_and(|feed| feed.is_open());
        let mut full = false;
        for (_, source) in &mut self.sources {
            if !source.sight.is_open() && source.has_message() {
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

    fn release_before(&mut self, space: &mut impl AddressSpace<ArenaView = V>, index: u64) {
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
                space.hide(&mut source.sight, offset);
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
    fn retire(&mut self, space: &mut impl AddressSpace<ArenaView = V>) {
        let over = |source: &Source<V>| source.ended && source.attached == 0 && source.held == 0;
        if !self.sources.iter().any(|(_, source)| over(source)) {
            return;
        }
        self.sources.retain(|_, source| {
            let keep = !over(source);
            if !keep {
                // Before the channel is dropped, which may close the arena's file.
                space.close(std::mem::take(&mut source.sight));
            }
            keep
        });
    }

    /// Keeps one delivery beyond its release.
    pub(crate) fn hold(
        &mut self,
        space: &mut impl AddressSpace<ArenaView = V>,
        limits: &ComponentLimits,
        index: u64,
    ) -> Result<u32, Error> {
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
        space.keep(&mut from.sight, offset);
        let hold = self.holds.insert(Held { source, offset, sample });
        // Fits: holds are limited by a number of 32 bits.
        Ok(hold as u32)
    }

    /// Gives a hold back.
    pub(crate) fn unhold(
        &mut self,
        space: &mut impl AddressSpace<ArenaView = V>,
        hold: u32,
    ) -> Result<(), Error> {
        let held = self.holds.try_remove(hold as usize).ok_or(Error::InvalidHandle)?;
        let source = &mut self.sources[held.source];
        source.held -= 1;
        space.hide(&mut source.sight, held.offset);
        drop(held);
        self.retire(space);
        Ok(())
    }

    /// Ends the delivery but not the holds.
    pub(crate) fn leave(&mut self, space: &mut impl AddressSpace<ArenaView = V>) {
        self.feed = None;
        self.later.clear();
        self.release_before(space, u64::MAX);
        for (_, source) in &mut self.sources {
            source.end();
        }
        self.retire(space);
    }

    /// Ends the subscription. What is delivered and not released stays as it is for as long as the returned value lives.
    pub(crate) fn into_unreleased(mut self) -> Unreleased {
        let mut unreleased = Unreleased::default();
        for run in self.runs.iter().filter(|_| self.reliable) {
            let source = &mut self.sources[run.source];
            for sequence in run.sequence..run.sequence + u64::from(run.count) {
                let Some(reader) = &mut source.reader else { break };
                match reader.hold(Sequence::new(sequence)) {
                    Some(sample) => unreleased.attached.push(source.share.keep(sample)),
                    None => unreleased.readers.extend(source.reader.take()),
                }
            }
        }
        unreleased.attached.extend(self.samples);
        unreleased.held.extend(self.holds.into_iter().map(|(_, held)| held.sample));
        unreleased
    }

    /// Announces that the component is about to sleep, and says whether it has reason not to. A reason counts once:
    /// one that waits for something else is not woken again and again by what it does not look at.
    pub(crate) fn arm(&mut self) -> bool {
        // In any case: one that does not look keeps the memory of publishers that have left.
        self.join();
        !self.reported && {
            self.reported = self.is_worth_a_look();
            self.reported
        }
    }

    fn is_worth_a_look(&mut self) -> bool {
        if self.refused || self.short {
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
        // Whoever waits is behind one that has ended, which was looked at.
        over && !self.closed && self.feed.as_ref().is_some_and(|feed| !feed.is_open())
    }

    /// Refuses something because of a limit.
    fn limit(&self, limit: Limit) -> Error {
        self.excess.note(limit);
        Error::Limit
    }

    /// Messages delivered.
    pub(crate) fn received(&self) -> u64 {
        self.received
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
            publishers: u32::try_from(
                self.later.len() + self.sources.iter().filter(|(_, source)| !source.ended).count(),
            )
            .unwrap_or(u32::MAX),
        }
    }
}

impl<V: ArenaView> Source<V> {
    fn new(reader: Reader, kept: &HeldBlocks) -> Self {
        Self {
            share: kept.share_of(reader.channel()),
            full: false,
            channel: Arc::clone(reader.channel()),
            // SAFETY: it is kept, and nothing else is done with it.
            _file: unsafe { reader.arena_file() }.cloned(),
            reader: Some(reader),
            sight: V::default(),
            lost: 0,
            attached: 0,
            held: 0,
            ended: false,
        }
    }

    /// Takes the messages that are there, `limit` at most, of a publisher that waits for this subscription, and writes their
    /// records to `target`: how many, and their bytes.
    ///
    /// # Safety
    /// From `target` on there is memory for `limit` records, aligned to them, that nobody else uses during the call.
    // Not inlined: what the loop needs stays in registers.
    #[inline(never)]
    unsafe fn take_run(&mut self, run: &mut Run, target: *mut V::Record, limit: u32) -> (u32, u64) {
        let Self { reader: Some(reader), sight, channel, .. } = self else { return (0, 0) };
        let publisher = channel.publisher().short();
        run.sequence = reader.next_sequence().get();
        let mut place = target;
        let (count, bytes) = reader.take_each(u64::from(limit), |descriptor| {
            // SAFETY: not more than `limit` are shown, for which there is room (the caller's promise).
            unsafe { place.write(sight.record(delivery(descriptor, publisher, 0))) };
            place = place.wrapping_add(1);
        });
        run.count = count as u32; // not more than `limit`
        (run.count, bytes)
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

    /// Whether the publisher has ended and not all that it published was delivered. One of which everything was is marked as
    /// ended, seen by the component or not.
    fn is_ending(&mut self) -> bool {
        if self.ended || !self.channel.is_closed() {
            return false;
        }
        // Losses that were not told yet go with the source's last record.
        self.ended = !self.has_message() && self.lost == 0;
        !self.ended
    }

    /// Whether there is a message, or a loss to be told of. Takes nothing: what the component does not ask for may still be
    /// lost where its subscription allows that, as it may where it is linked.
    fn has_message(&mut self) -> bool {
        self.reader.as_mut().is_some_and(Reader::has_message)
    }

    /// Announces that nobody will look for a while, and says whether there is something to look at.
    fn arm(&mut self, reliable: bool) -> bool {
        let Some(reader) = &mut self.reader else { return true };
        // What the component keeps too many blocks for is no news.
        let full = !reliable && self.share.is_used_up();
        if !full && reader.has_message() {
            return true;
        }
        reader.arm();
        !(full && reader.has_message()) && reader.is_ready()
    }

    /// Stops receiving and releases what is not held.
    fn end(&mut self) {
        self.ended = true;
        self.reader = None;
    }
}

/// What a component is told of a message.
#[inline]
fn delivery(descriptor: Descriptor, publisher: u32, lost: u32) -> Delivery {
    let Descriptor { sequence, offset, len, time, validity } = descriptor;
    let valid = if validity == Validity::Valid { VALID } else { 0 };
    Delivery { sequence: sequence.get(), time: time.as_nanos(), offset, length: len | valid, publisher, lost }
}

impl<V> fmt::Debug for Deliveries<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries").field("received", &self.received).finish_non_exhaustive()
    }
}
