//! The subscribing end of a channel: [`Reader`].

use std::fmt;
use std::hint::cold_path;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::descriptor::{Descriptor, Packed};
use crate::engine::channel::Channel;
use crate::engine::ring::consumer::{Consumer, Taken};
use crate::engine::sample::raw::RawSample;
use crate::engine::sample::window::{AttachmentWindow, SampleLimit};
use crate::engine::shield::event;
use crate::engine::wake::signal::Signal;
use crate::error::ReceiveError;
#[cfg(doc)]
use crate::options::ReaderOptions;
use crate::units::Sequence;

mod message;

pub use message::{RawBatch, RawMessage};

/// The floor while nothing is taken.
const NOTHING_TAKEN: u64 = u64::MAX;

/// One subscriber of one channel. Dropping it lets go of everything but the samples that live on.
///
/// Padded to pairs of cache lines, which processors fetch together, so that it shares none with what other threads
/// write.
#[repr(C, align(128))]
pub struct Reader {
    state: State,
    /// First byte of the arena.
    base: NonNull<u8>,
    consumer: Consumer,
    /// Messages from here on were taken by descriptor and not released; `u64::MAX`: none.
    floor: u64,
    window: AttachmentWindow,
    /// Descriptors of the latest batch, where their slots may be overwritten; kept for its capacity.
    batch: Box<Run>,
    cursor: u32,
    signal: Arc<Signal>,
    channel: Arc<Channel>,
    /// Of the arena, for those who map it.
    file: Option<Arc<OwnedFd>>,
}

/// How a message is received and let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// Without further ado: the publisher waits for this reader, and neither samples nor taken descriptors keep the
    /// interval from following what was received.
    Plain,
    /// With a look at what may have happened meanwhile.
    Guarded,
}

/// Descriptors. Boxed by its reader, so that `Option<Reader>` is told by the [`State`] byte, which every message
/// looks at anyway.
#[derive(Debug, Default)]
struct Run(Vec<Packed>);

impl Reader {
    pub(crate) fn new(
        channel: Arc<Channel>,
        consumer: Consumer,
        (cursor, signal): (u32, Arc<Signal>),
        limit: SampleLimit,
        file: Option<Arc<OwnedFd>>,
    ) -> Self {
        let window = AttachmentWindow::new(Arc::clone(&channel), &consumer, limit, signal.name());
        let plain = consumer.is_reliable() && !window.is_limited();
        Self {
            state: if plain { State::Plain } else { State::Guarded },
            base: channel.arena().base(),
            consumer,
            floor: NOTHING_TAKEN,
            window,
            batch: Box::default(),
            cursor,
            signal,
            channel,
            file,
        }
    }

    /// What keeps the file of the arena open, if this reader was joined to [map](crate::ReaderOptions::maps) it.
    ///
    /// # Safety
    /// As for [`Arena::memfd`](crate::Arena::memfd).
    #[must_use]
    pub unsafe fn arena_file(&self) -> Option<&Arc<OwnedFd>> {
        self.file.as_ref()
    }

    /// The channel that it reads.
    #[must_use]
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// Messages lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.consumer.lost()
    }

    /// The sequence that will be received next, if it is not lost.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        Sequence::new(self.consumer.next())
    }

    /// Receives the next message by reference: no copy, no atomic read-modify-write. Never waits. The
    /// message is let go of when the returned value is dropped.
    ///
    /// # Errors
    /// [`ReceiveError`]: nothing there, ended, or messages were lost.
    #[inline(always)]
    pub fn receive(&mut self) -> Result<RawMessage<'_>, ReceiveError> {
        self.check()?;
        self.receive_here()
    }

    /// Like [`receive`](Self::receive), without a look whether the process was forked, for a subscription that has a flag for
    /// that. In a forked child it may find messages whose bytes cannot be accessed.
    ///
    /// # Errors
    /// As for [`receive`](Self::receive).
    #[doc(hidden)]
    #[inline(always)]
    pub fn receive_here(&mut self) -> Result<RawMessage<'_>, ReceiveError> {
        if self.state == State::Plain {
            if let Some(word) = self.consumer.take_plain() {
                return Ok(RawMessage { reader: self, word });
            }
            // Whoever keeps looking is told at once.
            if !self.consumer.is_closed() {
                return Err(ReceiveError::Empty);
            }
            // What came in between is counted when it is taken, as from here on everything is.
            self.state = State::Guarded;
        }
        cold_path();
        self.make_room()?;
        let word = self.receive_next()?;
        Ok(RawMessage { reader: self, word })
    }

    /// Receives up to `limit` messages by reference; they are let go of together, by one store, when the
    /// batch is dropped. A subscriber that may lose messages gets [fewer](ReaderOptions::samples) at a time.
    ///
    /// # Errors
    /// As for [`receive`](Self::receive), if there is not one message.
    pub fn receive_batch(&mut self, limit: usize) -> Result<RawBatch<'_>, ReceiveError> {
        self.check()?;
        self.batch.0.clear();
        self.make_room()?;
        let limit = limit.min(self.window.batch_limit(&self.consumer));
        if self.consumer.is_reliable() {
            let mut len = self.consumer.take_run(limit as u64) as usize;
            if len == 0 {
                // Nothing there, or the last messages before the end.
                self.receive_next()?;
                len = 1;
            }
            return Ok(RawBatch { reader: self, len });
        }
        self.receive_next()?;
        self.batch.0.push(self.consumer.current());
        while self.batch.0.len() < limit
            // Whatever else there is, a loss or the end, is told by the next call: these messages are attached.
            && self.consumer.take() == Taken::Message
        {
            self.batch.0.push(self.consumer.current());
        }
        let len = self.batch.0.len();
        Ok(RawBatch { reader: self, len })
    }

    /// Receives the next message as an owned sample. Never waits.
    ///
    /// # Errors
    /// As for [`receive`](Self::receive).
    #[inline(always)]
    pub fn receive_owned(&mut self) -> Result<RawSample, ReceiveError> {
        self.check()?;
        self.receive_owned_here()
    }

    /// Like [`receive_owned`](Self::receive_owned), as [`receive_here`](Self::receive_here) is like [`receive`](Self::receive).
    ///
    /// # Errors
    /// As for [`receive`](Self::receive).
    #[doc(hidden)]
    #[inline(always)]
    pub fn receive_owned_here(&mut self) -> Result<RawSample, ReceiveError> {
        if self.window.is_unusual() {
            return self.receive_owned_unusually();
        }
        let packed = match self.consumer.take_packed() {
            Ok(packed) => packed,
            Err(other) => {
                self.receive_other(other)?;
                self.consumer.current()
            }
        };
        self.state = State::Guarded;
        let sample = self.window.attach(&self.consumer, packed);
        if self.consumer.let_go(self.window.first().min(self.floor)) {
            self.wake_publisher();
        }
        Ok(sample)
    }

    /// As [`receive_owned`](Self::receive_owned), where samples are limited or counted from the start.
    #[inline(never)]
    fn receive_owned_unusually(&mut self) -> Result<RawSample, ReceiveError> {
        self.make_room()?;
        self.receive_next()?;
        let sample = self.attach(self.consumer.current());
        // None may be attached by the interval.
        if self.consumer.let_go(self.window.first().min(self.floor).min(self.consumer.next())) {
            self.wake_publisher();
        }
        Ok(sample)
    }

    /// Receives the next message's descriptor. The message stays attached until
    /// [`release_before`](Self::release_before) passes it, or the reader is overtaken and told so; for those
    /// who reach the bytes on their own, as a guest does through its window.
    ///
    /// # Errors
    /// As for [`receive`](Self::receive). After [`ReceiveError::Lost`] nothing is attached any more but
    /// samples.
    #[inline]
    pub fn take(&mut self) -> Result<Descriptor, ReceiveError> {
        self.check()?;
        self.receive_next()?;
        let packed = self.consumer.current();
        self.state = State::Guarded;
        self.floor = self.floor.min(packed.sequence);
        Ok(packed.unpack())
    }

    /// As [`take`](Self::take), for up to `limit` messages that are there, where the publisher waits for this reader: shows the
    /// descriptor of each, and returns how many, and their bytes. 0 where there is none, where there may be an end, and where messages may be lost:
    /// [`take`](Self::take) tells.
    #[inline]
    pub fn take_each(&mut self, limit: u64, mut each: impl FnMut(Descriptor)) -> (u64, u64) {
        if !self.consumer.is_reliable() || self.channel.is_inherited() {
            return (0, 0);
        }
        let first = self.consumer.next();
        let (count, bytes) = self.consumer.take_each(limit, |packed| each(packed.unpack()));
        if count > 0 {
            self.state = State::Guarded;
            self.floor = self.floor.min(first);
        }
        (count, bytes)
    }

    /// Makes sure that one more message may be received, where the number of samples is limited.
    #[inline(always)]
    fn make_room(&mut self) -> Result<(), ReceiveError> {
        if self.window.may_be_full() { self.make_room_for_samples() } else { Ok(()) }
    }

    #[inline(never)]
    fn make_room_for_samples(&mut self) -> Result<(), ReceiveError> {
        if !self.consumer.has_message() {
            // Nothing is received, or the end.
            return Ok(());
        }
        self.window.make_room(&self.consumer).map_err(|kept| ReceiveError::TooManySamples { kept })
    }

    /// Refuses to work in another process than the one that has joined.
    #[inline(always)]
    fn check(&self) -> Result<(), ReceiveError> {
        if self.channel.is_inherited() { Err(ReceiveError::Forked) } else { Ok(()) }
    }

    /// Takes the next message, whatever the reader's state; returns its descriptor word.
    #[inline(always)]
    fn receive_next(&mut self) -> Result<u64, ReceiveError> {
        match self.consumer.take_packed() {
            Ok(packed) => Ok(packed.word),
            Err(other) => self.receive_other(other),
        }
    }

    #[cold]
    #[inline(never)]
    fn receive_other(&mut self, taken: Taken) -> Result<u64, ReceiveError> {
        match taken {
            Taken::Message => Ok(self.consumer.current().word),
            Taken::Empty => {
                self.let_go_of_dropped();
                Err(ReceiveError::Empty)
            }
            Taken::Ended => Err(ReceiveError::Ended),
            Taken::Overtaken => {
                // Nothing older may depend on the interval when it jumps.
                self.window.count_all(&self.consumer);
                self.floor = NOTHING_TAKEN;
                let (lost, publisher_sleeps) = self.consumer.jump();
                if publisher_sleeps {
                    self.wake_publisher();
                }
                if lost == 0 {
                    return self.receive_next();
                }
                let publisher = self.channel.publisher();
                event(|| tracing::debug!(%publisher, subscriber = self.signal.name(), lost, "messages lost"));
                Err(ReceiveError::Lost(lost))
            }
        }
    }

    /// Ready once [`receive`](Self::receive) and its kin will not find the channel empty; otherwise the
    /// context's waker is registered, to be woken by the next message or the end.
    ///
    /// Before it waits, samples are turned into counted holds, so that a sleeping subscriber does not hold
    /// back the publisher.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ready() {
            return Poll::Ready(());
        }
        self.signal.register(cx.waker());
        self.arm();
        if self.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether there is something to receive: a message, a loss or the end.
    pub fn is_ready(&mut self) -> bool {
        self.consumer.is_ready() || self.channel.is_inherited()
    }

    /// Whether the publisher has gone and everything was received.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.consumer.has_ended()
    }

    /// Whether there is a message to receive, or a loss to be told of.
    #[inline]
    pub fn has_message(&mut self) -> bool {
        self.consumer.has_message()
    }

    /// How many receives it takes at most to get to the newest message that is there now: one for each message, and one
    /// for a loss. One load.
    pub fn backlog(&mut self) -> u64 {
        if self.channel.is_inherited() {
            return 0;
        }
        match self.consumer.backlog() {
            0 => 0,
            messages => messages + 1,
        }
    }

    /// Announces that whoever is registered with the reader's signal is about to sleep. The caller must
    /// look [once more](Self::is_ready) before it does. Where the system refuses what that takes (`membarrier`, short of
    /// memory), the signal is woken at once, so that the caller looks again and again.
    pub fn arm(&mut self) {
        self.window.count_all(&self.consumer);
        self.settle();
        if !self.consumer.control().header().state.messages.arm() {
            // Nobody can be relied on to do it.
            self.signal.wake();
        }
    }

    /// Turns the message taken last, and not yet released, into an owned sample.
    #[inline(always)]
    fn attach(&mut self, packed: Packed) -> RawSample {
        self.state = State::Guarded;
        self.window.attach_any(&self.consumer, packed)
    }

    /// Keeps a message that was [taken](Self::take) and not released yet, as a counted hold, for as long as the
    /// returned sample lives. Two atomic additions; messages may be held in any order. `None` if it is not
    /// attached here (any more), or if the publisher has overtaken this reader meanwhile.
    #[must_use]
    pub fn hold(&mut self, sequence: Sequence) -> Option<RawSample> {
        let sequence = sequence.get();
        if self.channel.is_inherited() || !(self.floor..self.consumer.next()).contains(&sequence) {
            return None;
        }
        let (word, time) = self.consumer.look_back(sequence)?;
        Some(self.window.count(&self.consumer, Packed { sequence, word, time }))
    }

    /// Lets go of every message below `sequence` but samples. One store.
    #[inline]
    pub fn release_before(&mut self, sequence: Sequence) {
        let sequence = sequence.get();
        if self.floor < sequence {
            self.floor = if sequence < self.consumer.next() { sequence } else { NOTHING_TAKEN };
        }
        self.settle();
    }

    /// Lets go of samples that were dropped since the last receive, and of what lies between those that are kept. A receive that
    /// finds nothing does so as well.
    #[inline]
    pub fn let_go_of_dropped(&mut self) {
        if self.is_pinned() {
            self.window.count_before_gap(&self.consumer);
            self.settle();
        }
    }

    /// Whether samples or taken descriptors may keep the interval from following what was received.
    #[inline(always)]
    fn is_pinned(&self) -> bool {
        self.floor != NOTHING_TAKEN || self.window.is_used()
    }

    /// Lets go of the message or messages that were just received by reference.
    #[inline]
    fn release_received(&mut self) {
        if self.is_pinned() {
            self.settle();
        } else if self.consumer.let_go(self.consumer.next()) {
            self.wake_publisher();
        }
    }

    /// Gives up what no sample and no taken descriptor needs.
    #[inline(never)]
    fn settle(&mut self) {
        let oldest = self.window.oldest(&self.consumer).unwrap_or(NOTHING_TAKEN).min(self.floor);
        let plain = oldest == NOTHING_TAKEN && self.consumer.is_reliable() && !self.window.is_limited();
        self.state = if plain { State::Plain } else { State::Guarded };
        if self.consumer.let_go(oldest.min(self.consumer.next())) {
            self.wake_publisher();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_publisher(&self) {
        self.channel.publisher.wake();
    }
}

// SAFETY: `base` points into the arena of `channel`; what is read through it is what the interval covers,
// whichever thread holds the reader.
unsafe impl Send for Reader {}
// SAFETY: as above; `&Reader` gives out no bytes.
unsafe impl Sync for Reader {}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.channel.is_inherited() {
            return;
        }
        self.window.count_all(&self.consumer);
        if self.consumer.leave() {
            self.channel.publisher.wake();
        }
        self.channel.leave(self.cursor, &self.signal, self.consumer.kept());
        let (publisher, lost) = (self.channel.publisher(), self.lost());
        event(|| tracing::debug!(%publisher, subscriber = self.signal.name(), lost, "subscriber left"));
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("publisher", &self.channel.publisher())
            .field("next", &self.next_sequence())
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}
