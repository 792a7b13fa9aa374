//! [`Deliveries`]: the messages of a topic's publishers for one subscription of a component.
//!
//! ```text
//!  publisher A ── Input ──┐                      ┌─▶ batch: a record per message, written by the host
//!  publisher B ── Input ──┼── deliveries 17..23 ─┤
//!  (waiting)   ───────────┘   attached until     └─▶ block bytes, where the component's `AddressSpace` shows them
//!                             released or held
//! ```
//! A guest sees the arenas through windows; a native library shares the host's addresses. The rest is the
//! same for both.

mod holds;
mod input;

use std::collections::VecDeque;
use std::fmt;
use std::task::Waker;

use blockcast_blocks::abi::{Error, SubscriptionStats};
use blockcast_blocks::{Channel, Descriptor, JoinError, Reader, Sequence};
use slab::Slab;

use crate::component::limit_policy::{Limit, LimitPolicy};
use crate::component::limits::ComponentLimits;
use crate::component::stats::ComponentStats;
use crate::hosting::address_space::{AddressSpace, ArenaView};
use crate::hosting::handles::Handles;
use crate::hosting::held_blocks::{HeldBlock, HeldBlocks};
use crate::hosting::topic_access::SubscriptionSource;

use holds::Hold;
pub(crate) use holds::Unreleased;
use input::{Input, delivery};

/// The most messages that one poll delivers if they are shown one by one. Nothing interrupts a poll; a guest
/// that wants more polls again.
const MAX_SHOWN: u32 = 4096;

/// Bytes copied after which a poll delivers no further message, for the same reason.
const MAX_COPIED: u64 = 8 << 20;

/// Deliveries of consecutive messages from one input.
struct Run {
    /// Key of the input.
    input: usize,
    /// Sequence of the first message.
    sequence: u64,
    count: u32,
}

/// The deliveries to one subscription.
pub(crate) struct Deliveries<V> {
    /// `None` once the subscription has left.
    source: Option<Box<dyn SubscriptionSource>>,
    /// Whether publishers wait for the subscription, so that nothing is lost.
    reliable: bool,
    inputs: Slab<Input<V>>,
    /// Readers of publishers that joined after the publisher of an input had ended, in the order of joining.
    /// They become inputs once everything of that one was delivered, as in a linked app.
    waiting: VecDeque<Reader>,
    /// Keys of `inputs` are smaller than this.
    keys: usize,
    /// Key of the input that is served first in the next batch.
    turn: usize,
    /// Everything attached, in the order of delivery.
    runs: VecDeque<Run>,
    /// The blocks of the messages in `runs`, where publishers may overtake.
    blocks: VecDeque<HeldBlock>,
    /// The arena offsets of the messages in `runs`, if they are shown one by one.
    offsets: VecDeque<u64>,
    /// Index of the first delivery in `runs`.
    first: u64,
    /// Deliveries in `runs`.
    attached: u32,
    /// Held messages. Their numbers have 31 bits.
    holds: Handles<Hold, 20, 11>,
    /// A publisher joined that has no cursor left for this subscription, and the component does not know yet.
    refused: bool,
    /// A publisher joined, but there is no room for its arena. The component does not know yet.
    lacks_room: bool,
    /// The component was told that the topic has ended.
    closed: bool,
    /// `wait` returned because of this subscription, and the component has not polled it since.
    reported: bool,
    received: u64,
    received_bytes: u64,
    lost: u64,
    held_blocks: HeldBlocks,
    policy: LimitPolicy,
    /// Bytes copied so that the component can see them.
    copied: u64,
}

impl<V: ArenaView> Deliveries<V> {
    /// The deliveries to a subscription. Publishers wait for it if it is `reliable`.
    pub(crate) fn new(
        source: Box<dyn SubscriptionSource>,
        reliable: bool,
        held_blocks: HeldBlocks,
        policy: LimitPolicy,
    ) -> Self {
        Self {
            source: Some(source),
            reliable,
            inputs: Slab::new(),
            waiting: VecDeque::new(),
            keys: 0,
            turn: 0,
            runs: VecDeque::new(),
            blocks: VecDeque::new(),
            offsets: VecDeque::new(),
            first: 0,
            attached: 0,
            holds: Handles::with_most(held_blocks.max_held()),
            refused: false,
            lacks_room: false,
            closed: false,
            reported: false,
            received: 0,
            received_bytes: 0,
            lost: 0,
            held_blocks,
            policy,
            copied: 0,
        }
    }

    /// The channels for whose arenas there is no room.
    pub(crate) fn hidden(&self) -> impl Iterator<Item = &Channel> {
        let hidden = self.inputs.iter().filter(|(_, input)| !input.view.is_open());
        hidden.map(|(_, input)| &*input.channel)
    }

    /// Adds publishers that joined.
    pub(crate) fn join(&mut self) {
        let mut joined_now = false;
        while let Some(joined) = self.source.as_mut().and_then(|source| source.next_joined()) {
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
            self.waiting.push_back(reader);
            // One by one: this publisher may have ended before the next one joined.
            self.promote();
        }
        self.promote();
        if joined_now {
            self.bound_departed();
        }
    }

    /// Bounds the number of closed publishers whose messages the subscription keeps. Publishers that close
    /// later can exceed the limit until the next one joins. They are no more than were open at once.
    fn bound_departed(&self) {
        let inputs = self.inputs.iter().filter(|(_, input)| input.channel.is_closed()).count();
        let waiting = self.waiting.iter().filter(|reader| reader.channel().is_closed()).count();
        if inputs + waiting > self.held_blocks.max_departed() {
            self.policy.note(Limit::DepartedPerSubscription);
        }
    }

    /// Turns waiting readers into inputs, unless an input has ended and has undelivered messages. Returns
    /// `true` if it added any.
    fn promote(&mut self) -> bool {
        let before = self.waiting.len();
        while !self.waiting.is_empty()
            && !self.inputs.iter_mut().any(|(_, input)| input.is_ending())
            && let Some(reader) = self.waiting.pop_front()
        {
            let key = self.inputs.insert(Input::new(reader, &self.held_blocks));
            self.keys = self.keys.max(key + 1);
            self.lacks_room = true;
        }
        self.waiting.len() < before
    }

    /// Adds publishers that joined, and makes their arenas visible if there is room.
    pub(crate) fn admit(
        &mut self,
        address_space: &mut impl AddressSpace<ArenaView = V>,
    ) -> Result<(), Error> {
        self.reported = false;
        self.join();
        if std::mem::take(&mut self.refused) {
            return Err(Error::Limit);
        }
        for (_, input) in &mut self.inputs {
            if !input.view.is_open() {
                // SAFETY: the input keeps the channel and the arena's file, and `retire` closes its view
                // before dropping it. Otherwise an input goes only with its subscription, whose address space
                // takes back everything that it showed, or with the component.
                unsafe { address_space.open(&mut input.view, &input.channel) }?;
            }
        }
        self.lacks_room &= self.inputs.iter().any(|(_, input)| !input.view.is_open());
        Ok(())
    }

    /// Releases deliveries before `released_before`, then writes up to `most` records of new messages to
    /// `target` and returns their number. If `most` is 0, it only releases.
    ///
    /// # Safety
    /// `target` points to memory for `most` records, aligned to them, that nobody else uses during the call.
    pub(crate) unsafe fn poll(
        &mut self,
        address_space: &mut impl AddressSpace<ArenaView = V>,
        limits: &ComponentLimits,
        (target, most): (*mut V::Record, u32),
        released_before: u64,
    ) -> Result<u32, Error> {
        if released_before > self.first + u64::from(self.attached) {
            return Err(Error::InvalidHandle);
        }
        self.release_before(address_space, released_before);
        self.retire(address_space);
        if most == 0 {
            return Ok(0);
        }
        loop {
            self.admit(address_space)?;
            if std::mem::take(&mut self.lacks_room) {
                return Err(Error::NoStorage);
            }
            let room = limits.attached.saturating_sub(self.attached);
            if room == 0 {
                return Err(self.refuse(Limit::Attached));
            }
            // SAFETY: the caller's promise.
            let count = unsafe { self.deliver(address_space, target, most.min(room)) }?;
            if count > 0 {
                return Ok(count);
            }
            // Publishers that waited for inputs which turned out to have ended are next.
            if !self.promote() {
                return self.nothing_delivered();
            }
        }
    }

    /// Writes up to `limit` records to `target`. A loss that no message follows yet gets a record of its own.
    ///
    /// # Safety
    /// The same as for [`poll`](Self::poll).
    unsafe fn deliver(
        &mut self,
        address_space: &mut impl AddressSpace<ArenaView = V>,
        target: *mut V::Record,
        limit: u32,
    ) -> Result<u32, Error> {
        let selective = address_space.is_selective();
        let limit = if selective { limit.min(MAX_SHOWN) } else { limit };
        let enough = self.copied.saturating_add(MAX_COPIED);
        let mut count = 0;
        // Every input once, starting after the one that filled the last batch.
        for step in 0..self.keys {
            let key = (self.turn + step) % self.keys;
            let Some(input) = self.inputs.get_mut(key) else { continue };
            if !input.view.is_open() {
                continue;
            }
            let publisher = input.channel.component_number();
            let before = count;
            let mut run = Run { input: key, sequence: 0, count: 0 };
            if self.reliable && !selective {
                // SAFETY: fewer than `limit` were written, for which there is room (the caller's promise).
                let (taken, bytes) =
                    unsafe { input.take_run(&mut run, target.add(count as usize), limit - count) };
                count += taken;
                self.received_bytes += bytes;
            }
            while count < limit
                && self.copied < enough
                && let Some(received) = input.receive(self.reliable)
            {
                let Descriptor { sequence, offset, len, .. } = received.descriptor;
                self.received_bytes += u64::from(len);
                if selective {
                    // SAFETY: the view is open and belongs to the input. The message stays attached until it
                    // has been hidden as often as it was shown: on release, and when a hold is given back.
                    let shown = unsafe { address_space.show(&mut input.view, &input.channel, offset, len) };
                    // A failure leaves a hole in a guest's memory, and ends the guest.
                    self.copied += shown?;
                    self.offsets.push_back(offset);
                }
                let lost = u32::try_from(input.lost).unwrap_or(u32::MAX);
                let delivery = delivery(received.descriptor, publisher, lost);
                self.lost = self.lost.saturating_add(std::mem::take(&mut input.lost));
                let record = input.view.record(delivery);
                // SAFETY: fewer than `limit` were written, for which there is room (the caller's promise).
                unsafe { target.add(count as usize).write(record) };
                if let Some(block) = received.block {
                    self.blocks.push_back(block);
                }
                if sequence.get() != run.sequence + u64::from(run.count) {
                    let next = Run { input: key, sequence: sequence.get(), count: 0 };
                    let run = std::mem::replace(&mut run, next);
                    self.runs.extend((run.count > 0).then_some(run));
                }
                run.count += 1;
                count += 1;
            }
            self.runs.extend((run.count > 0).then_some(run));
            input.attached += count - before;
            self.attached += count - before;
            self.received += u64::from(count - before);
            if input.lost > 0 && count < limit {
                let lost = u32::try_from(input.lost).unwrap_or(u32::MAX);
                self.lost = self.lost.saturating_add(std::mem::take(&mut input.lost));
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

    /// The result of a poll that delivered nothing.
    fn nothing_delivered(&mut self) -> Result<u32, Error> {
        let mut open =
            !self.waiting.is_empty() || self.source.as_ref().is_some_and(|source| source.is_open());
        let mut used_up = false;
        for (_, input) in &mut self.inputs {
            if !input.view.is_open() && input.has_message() {
                return Err(Error::NoStorage);
            }
            open |= !input.ended;
            used_up |= input.share_is_used_up;
        }
        if used_up {
            return Err(self.refuse(Limit::PoolShare));
        }
        self.closed = !open;
        if open { Ok(0) } else { Err(Error::Closed) }
    }

    /// Releases the deliveries before `index`.
    fn release_before(&mut self, address_space: &mut impl AddressSpace<ArenaView = V>, index: u64) {
        while self.first < index
            && let Some(run) = self.runs.front_mut()
        {
            let count = run.count.min(u32::try_from(index - self.first).unwrap_or(u32::MAX));
            run.sequence += u64::from(count);
            run.count -= count;
            self.first += u64::from(count);
            self.attached -= count;
            let input = &mut self.inputs[run.input];
            input.attached -= count;
            for offset in self.offsets.drain(..(count as usize).min(self.offsets.len())) {
                address_space.hide(&mut input.view, offset);
            }
            if self.reliable {
                if let Some(reader) = &mut input.reader {
                    reader.release_before(Sequence::new(run.sequence));
                }
            } else {
                self.blocks.drain(..count as usize);
            }
            if run.count == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// The input and sequence of an attached delivery, and the number of deliveries attached before it.
    fn find(&self, index: u64) -> Option<(usize, Sequence, usize)> {
        let position = index.checked_sub(self.first)?;
        let mut before = 0;
        for run in &self.runs {
            if position < before + u64::from(run.count) {
                let sequence = Sequence::new(run.sequence + (position - before));
                return Some((run.input, sequence, usize::try_from(position).ok()?));
            }
            before += u64::from(run.count);
        }
        None
    }

    /// Hides and drops publishers that have ended and of which nothing is attached or held.
    fn retire(&mut self, address_space: &mut impl AddressSpace<ArenaView = V>) {
        if !self.inputs.iter().any(|(_, input)| input.is_finished()) {
            return;
        }
        self.inputs.retain(|_, input| {
            let keep = !input.is_finished();
            if !keep {
                // Before the channel is dropped, which may close the arena's file.
                address_space.close(std::mem::take(&mut input.view));
            }
            keep
        });
    }

    /// Ends delivery, but keeps the holds.
    pub(crate) fn leave(&mut self, address_space: &mut impl AddressSpace<ArenaView = V>) {
        self.source = None;
        self.waiting.clear();
        self.release_before(address_space, u64::MAX);
        for (_, input) in &mut self.inputs {
            input.end();
        }
        self.retire(address_space);
    }

    /// Announces that the component is about to sleep, until `waker` is called, which is registered with its
    /// signal. Returns `true` if it has a reason not to. Each reason counts once, so that a component which
    /// waits for something else is not woken repeatedly by a subscription that it does not poll.
    pub(crate) fn arm(&mut self, waker: &Waker) -> bool {
        // In any case: a component that does not poll keeps the memory of departed publishers.
        self.join();
        !self.reported && {
            self.reported = self.has_news(waker);
            self.reported
        }
    }

    fn has_news(&mut self, waker: &Waker) -> bool {
        if self.refused || self.lacks_room {
            return true;
        }
        let mut over = true;
        for (_, input) in &mut self.inputs {
            if input.ended {
                continue;
            }
            if input.arm(self.reliable, waker) {
                return true;
            }
            over = false;
        }
        // Publishers in `waiting` are behind an input that has ended, which was armed.
        over && !self.closed && self.source.as_ref().is_some_and(|source| !source.is_open())
    }

    /// Notes that something is refused because of `limit`.
    fn refuse(&self, limit: Limit) -> Error {
        self.policy.note(limit);
        Error::Limit
    }

    /// Messages delivered.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Adds the counters to those of the component.
    pub(crate) fn add_to(&self, stats: &mut ComponentStats) {
        stats.received += self.received;
        stats.received_bytes += self.received_bytes;
        stats.lost = stats.lost.saturating_add(self.lost);
        stats.delivery_copied_bytes += self.copied;
    }

    /// The subscription's counters.
    pub(crate) fn stats(&self) -> SubscriptionStats {
        SubscriptionStats {
            received: self.received,
            lost: self.lost,
            attached: self.attached,
            held: u32::try_from(self.holds.len()).unwrap_or(u32::MAX),
            publishers: u32::try_from(
                self.waiting.len() + self.inputs.iter().filter(|(_, input)| !input.ended).count(),
            )
            .unwrap_or(u32::MAX),
        }
    }
}

impl<V> fmt::Debug for Deliveries<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries").field("received", &self.received).finish_non_exhaustive()
    }
}
