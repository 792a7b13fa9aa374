//! The subscribing end of a channel: [`Reader`].

use std::fmt;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::descriptor::{Descriptor, Packed};
use crate::engine::channel::Channel;
use crate::engine::ring::consumer::{Consumer, Outcome};
use crate::engine::sample::raw::RawSample;
use crate::engine::sample::window::{AttachmentWindow, SampleLimit};
use crate::engine::shield::event;
use crate::engine::wake::park;
use crate::engine::wake::signal::Signal;
use crate::error::ReceiveError;
#[cfg(doc)]
use crate::options::ReaderOptions;
use crate::units::Sequence;

mod message;
mod release;

pub use message::{RawBatch, RawMessage};

/// The floor while nothing is taken.
const NOTHING_TAKEN: u64 = u64::MAX;

/// One subscriber of one channel. Dropping it releases everything except the samples that live on.
///
/// Padded to pairs of cache lines, which processors fetch together, so that it shares none with what other
/// threads write.
#[repr(C, align(128))]
pub struct Reader {
    state: State,
    /// First byte of the arena.
    base: NonNull<u8>,
    consumer: Consumer,
    /// The oldest message that was received by descriptor and not released; `u64::MAX` if there is none.
    floor: u64,
    window: AttachmentWindow,
    /// Descriptors of the latest batch, if their slots may be overwritten. Kept for its capacity.
    batch: Vec<Packed>,
    cursor: u32,
    signal: Arc<Signal>,
    channel: Arc<Channel>,
    /// The arena's file, if the reader maps it.
    file: Option<Arc<OwnedFd>>,
}

/// How to receive and release messages.
///
/// Of all fields of a reader, this has the most unused values. So `Option<Reader>` is told apart by it, and
/// one comparison finds out that there is a reader and that it receives plainly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum State {
    /// Without any checks: the publisher waits for this reader, and neither samples nor descriptors keep the
    /// interval from following what was received.
    Plain,
    /// With checks for events in between.
    Guarded,
}

/// The descriptor word of a message that was [taken](Reader::take_plainly).
#[doc(hidden)]
#[derive(Debug)]
pub struct TakenWord(u64);

impl Reader {
    pub(crate) fn new(
        channel: Arc<Channel>,
        consumer: Consumer,
        (cursor, signal): (u32, Arc<Signal>),
        limit: SampleLimit,
        file: Option<Arc<OwnedFd>>,
    ) -> Self {
        let window = AttachmentWindow::new(Arc::clone(&channel), &consumer, limit, signal.name());
        let plain = consumer.reads_unchecked() && !window.is_limited();
        Self {
            state: if plain { State::Plain } else { State::Guarded },
            base: channel.arena().base(),
            consumer,
            floor: NOTHING_TAKEN,
            window,
            batch: Vec::new(),
            cursor,
            signal,
            channel,
            file,
        }
    }

    /// The file of the arena, if this reader joined in order to [map](crate::ReaderOptions::maps) it. It
    /// stays open as long as the reader.
    ///
    /// # Safety
    /// The same as for [`Arena::memfd`](crate::Arena::memfd).
    #[must_use]
    pub unsafe fn arena_file(&self) -> Option<&Arc<OwnedFd>> {
        self.file.as_ref()
    }

    /// The channel that this reader subscribes to.
    #[must_use]
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// Messages lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.consumer.lost()
    }

    /// The sequence of the next message, unless it is lost.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        Sequence::new(self.consumer.next())
    }

    /// Receives the next message by reference: no copy, no atomic read-modify-write. Never waits. Dropping
    /// the returned value releases the message.
    ///
    /// # Errors
    /// [`ReceiveError`]: there is no message, the channel has ended, or messages were lost.
    #[inline(always)]
    pub fn receive(&mut self) -> Result<RawMessage<'_>, ReceiveError> {
        self.check()?;
        self.receive_here()
    }

    /// Like [`receive`](Self::receive), but does not check whether the process was forked, for a subscription
    /// that has a flag for that. In a forked child it may return messages whose bytes cannot be accessed.
    ///
    /// # Errors
    /// The same as for [`receive`](Self::receive).
    #[doc(hidden)]
    #[inline(always)]
    pub fn receive_here(&mut self) -> Result<RawMessage<'_>, ReceiveError> {
        match self.take_plainly() {
            // SAFETY: this reader has just returned the word.
            Some(word) => Ok(unsafe { self.message_of(word) }),
            None => self.receive_guarded(),
        }
    }

    /// Takes the next message, if that needs no check. Returns its word, of which the caller makes a
    /// [message](Self::message_of).
    #[doc(hidden)]
    #[inline(always)]
    pub fn take_plainly(&mut self) -> Option<TakenWord> {
        if self.state == State::Plain { self.consumer.receive_word().map(TakenWord) } else { None }
    }

    /// The message that was just taken.
    ///
    /// # Safety
    /// `word` is the result of the latest call of this reader, [`take_plainly`](Self::take_plainly).
    #[doc(hidden)]
    #[inline(always)]
    pub unsafe fn message_of(&mut self, word: TakenWord) -> RawMessage<'_> {
        RawMessage { reader: self, word: word.0 }
    }

    #[inline(never)]
    fn receive_guarded(&mut self) -> Result<RawMessage<'_>, ReceiveError> {
        self.receive_unusually()
    }

    /// Receives the next message, whatever the reader's state.
    #[doc(hidden)]
    #[inline]
    pub fn receive_unusually(&mut self) -> Result<RawMessage<'_>, ReceiveError> {
        if self.state == State::Plain {
            if let Some(word) = self.consumer.receive_word() {
                return Ok(RawMessage { reader: self, word });
            }
            // A caller that keeps polling learns of the end at once.
            if !self.consumer.is_closed() {
                return Err(ReceiveError::Empty);
            }
            // Messages that came in between are counted when they are received, as all are from here on.
            self.state = State::Guarded;
        }
        self.make_room()?;
        let word = self.receive_next()?;
        Ok(RawMessage { reader: self, word })
    }

    /// Receives up to `limit` messages by reference. Dropping the batch releases them together, by one store.
    /// A subscriber that may lose messages gets [fewer](ReaderOptions::samples) at a time.
    ///
    /// # Errors
    /// The same as for [`receive`](Self::receive), if there is no message at all.
    pub fn receive_batch(&mut self, limit: usize) -> Result<RawBatch<'_>, ReceiveError> {
        self.check()?;
        self.batch.clear();
        self.make_room()?;
        let limit = limit.min(self.window.batch_limit(&self.consumer));
        if self.consumer.reads_unchecked() {
            let mut len = self.consumer.receive_many(limit as u64) as usize;
            if len == 0 {
                // No message, or the last ones before the end.
                self.receive_next()?;
                len = 1;
            }
            return Ok(RawBatch { reader: self, len });
        }
        if self.consumer.receives_checked_batches() {
            self.consumer.receive_checked_batch(limit as u64, &mut self.batch);
            if self.batch.is_empty() {
                // No message, the end, or a broken publisher.
                self.receive_next()?;
                self.batch.push(self.consumer.current());
            }
        } else {
            self.receive_one_by_one(limit)?;
        }
        let len = self.batch.len();
        Ok(RawBatch { reader: self, len })
    }

    /// Receives a batch, if the reader may be overtaken or messages may be missing.
    fn receive_one_by_one(&mut self, limit: usize) -> Result<(), ReceiveError> {
        // Whether the head was loaded for this batch. Then everything is received that was published before,
        // and following the head further would only take its cache line from the publisher again and again.
        let mut is_head_new = self.consumer.is_at_known_head();
        self.receive_next()?;
        self.batch.push(self.consumer.current());
        while self.batch.len() < limit {
            if self.consumer.is_at_known_head() && std::mem::replace(&mut is_head_new, true) {
                break;
            }
            if self.consumer.advance() != Outcome::Message {
                // The next call reports a loss or the end: these messages are attached.
                break;
            }
            self.batch.push(self.consumer.current());
        }
        Ok(())
    }

    /// Receives the next message as an owned sample. Never waits.
    ///
    /// # Errors
    /// The same as for [`receive`](Self::receive).
    #[inline(always)]
    pub fn receive_owned(&mut self) -> Result<RawSample, ReceiveError> {
        self.check()?;
        self.receive_owned_here()
    }

    /// Like [`receive_owned`](Self::receive_owned), but does not check whether the process was forked; see
    /// [`receive_here`](Self::receive_here).
    ///
    /// # Errors
    /// The same as for [`receive`](Self::receive).
    #[doc(hidden)]
    #[inline(always)]
    pub fn receive_owned_here(&mut self) -> Result<RawSample, ReceiveError> {
        if self.window.is_unusual() {
            return self.receive_owned_unusually();
        }
        let packed = match self.consumer.receive() {
            Ok(packed) => packed,
            Err(other) => {
                self.receive_other(other)?;
                self.consumer.current()
            }
        };
        self.state = State::Guarded;
        let sample = self.window.attach(&self.consumer, packed);
        if self.consumer.release(self.window.first().min(self.floor)) {
            self.wake_publisher();
        }
        Ok(sample)
    }

    /// Like [`receive_owned`](Self::receive_owned), if samples are limited or counted from the start.
    #[inline(never)]
    fn receive_owned_unusually(&mut self) -> Result<RawSample, ReceiveError> {
        self.make_room()?;
        self.receive_next()?;
        let sample = self.attach(self.consumer.current());
        // None may be attached by the interval.
        if self.consumer.release(self.window.first().min(self.floor).min(self.consumer.next())) {
            self.wake_publisher();
        }
        Ok(sample)
    }

    /// Receives the next message's descriptor, for code that reaches the bytes on its own, as a guest does
    /// through its window. The message stays attached until [`release_before`](Self::release_before) passes
    /// it, or until the reader is overtaken and this returns [`ReceiveError::Lost`].
    ///
    /// # Errors
    /// The same as for [`receive`](Self::receive). After [`ReceiveError::Lost`], only samples are still
    /// attached.
    #[inline]
    pub fn receive_descriptor(&mut self) -> Result<Descriptor, ReceiveError> {
        self.check()?;
        self.receive_next()?;
        let packed = self.consumer.current();
        self.state = State::Guarded;
        self.floor = self.floor.min(packed.sequence);
        Ok(packed.unpack())
    }

    /// Like [`receive_descriptor`](Self::receive_descriptor), for up to `limit` messages, if the publisher
    /// waits for this reader. Calls `each` with every descriptor, and returns the number of messages and of
    /// their bytes. Returns 0 if there are none, if the channel may have ended, if messages may be lost, or
    /// if the publisher is in another process: then [`receive_descriptor`](Self::receive_descriptor) finds
    /// out.
    #[inline]
    pub fn receive_descriptors(&mut self, limit: u64, mut each: impl FnMut(Descriptor)) -> (u64, u64) {
        if !self.consumer.reads_unchecked() || self.channel.is_inherited() {
            return (0, 0);
        }
        let first = self.consumer.next();
        let (count, bytes) = self.consumer.receive_each(limit, |packed| each(packed.unpack()));
        if count > 0 {
            self.state = State::Guarded;
            self.floor = self.floor.min(first);
        }
        (count, bytes)
    }

    /// Makes sure that one more message may be received, if the number of samples is limited.
    #[inline(always)]
    fn make_room(&mut self) -> Result<(), ReceiveError> {
        if self.window.may_be_full() { self.make_room_for_samples() } else { Ok(()) }
    }

    #[inline(never)]
    fn make_room_for_samples(&mut self) -> Result<(), ReceiveError> {
        if !self.consumer.has_message() {
            // Nothing is received, or the channel has ended.
            return Ok(());
        }
        self.window.make_room(&self.consumer).map_err(|kept| ReceiveError::TooManySamples { kept })
    }

    /// Refuses to work in any process except the one that joined.
    #[inline(always)]
    fn check(&self) -> Result<(), ReceiveError> {
        if self.channel.is_inherited() { Err(ReceiveError::Forked) } else { Ok(()) }
    }

    /// Receives the next message, whatever the reader's state. Returns its descriptor word.
    #[inline(always)]
    fn receive_next(&mut self) -> Result<u64, ReceiveError> {
        match self.consumer.receive() {
            Ok(packed) => Ok(packed.word),
            Err(other) => self.receive_other(other),
        }
    }

    #[cold]
    #[inline(never)]
    fn receive_other(&mut self, mut taken: Outcome) -> Result<u64, ReceiveError> {
        loop {
            match taken {
                Outcome::Message => return Ok(self.consumer.current().word),
                Outcome::Empty => {
                    self.release_dropped();
                    return Err(ReceiveError::Empty);
                }
                Outcome::Ended => return Err(ReceiveError::Ended),
                Outcome::Overtaken => {
                    let lost = self.jump();
                    if lost > 0 {
                        return Err(ReceiveError::Lost(lost));
                    }
                    taken = self.consumer.advance();
                }
                Outcome::Missing => {
                    let lost = self.consumer.take_missing();
                    if lost > 0 {
                        self.report(lost);
                        return Err(ReceiveError::Lost(lost));
                    }
                    taken = self.consumer.advance();
                }
                Outcome::Corrupt => {
                    self.window.count_all(&self.consumer);
                    self.floor = NOTHING_TAKEN;
                    self.consumer.give_up();
                    let publisher = self.channel.publisher();
                    event(|| tracing::warn!(%publisher, "the publisher's process is broken"));
                    return Err(ReceiveError::Corrupt);
                }
            }
        }
    }

    /// Continues after the publisher has overtaken this reader. Returns how many messages were lost.
    fn jump(&mut self) -> u64 {
        // Nothing older may depend on the interval when it jumps.
        self.window.count_all(&self.consumer);
        self.floor = NOTHING_TAKEN;
        let (lost, publisher_sleeps) = self.consumer.jump();
        if publisher_sleeps {
            self.wake_publisher();
        }
        if lost > 0 {
            self.report(lost);
        }
        lost
    }

    fn report(&self, lost: u64) {
        let publisher = self.channel.publisher();
        event(|| tracing::debug!(%publisher, subscriber = self.signal.name(), lost, "messages lost"));
    }

    /// Ready once [`receive`](Self::receive) would not return [`ReceiveError::Empty`]. Otherwise registers
    /// the context's waker, which the next message or the end wakes.
    ///
    /// Before it waits, samples become counted holds, so that a sleeping subscriber does not hold back the
    /// publisher.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ready() {
            return Poll::Ready(());
        }
        self.signal.register(cx.waker());
        self.arm(cx.waker());
        if self.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether there is something to receive: a message, a loss, or the end.
    pub fn is_ready(&mut self) -> bool {
        self.consumer.is_ready() || self.channel.is_inherited()
    }

    /// Whether the publisher was dropped and everything was received.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.consumer.has_ended()
    }

    /// Whether there is a message or a loss to receive.
    #[inline]
    pub fn has_message(&mut self) -> bool {
        self.consumer.has_message()
    }

    /// The largest number of receives until the newest message that is there now: one for each message, and
    /// one for a loss. If the publisher is a relay, one for a loss before each message. One load.
    pub fn backlog(&mut self) -> u64 {
        if self.channel.is_inherited() {
            return 0;
        }
        match self.consumer.backlog() {
            _ if self.consumer.may_miss() && !self.consumer.has_message() => 0,
            messages if self.consumer.may_miss() => messages.saturating_mul(2).saturating_add(1),
            0 => 0,
            messages => messages + 1,
        }
    }

    /// Announces that a party is about to sleep, whose `waker` is registered with the reader's signal. Before
    /// it sleeps, the caller must check [once more](Self::is_ready). If the system refuses the barrier that
    /// this takes (`membarrier`, short of memory), the signal is woken at once, so that the caller keeps
    /// checking.
    ///
    /// If the publisher is in another process and `waker` is that of the [thread](crate::park::until), the
    /// publisher wakes the thread directly. Otherwise it rings the [bell](crate::Bell).
    pub fn arm(&mut self, waker: &Waker) {
        self.window.count_all(&self.consumer);
        self.settle();
        let control = self.consumer.control();
        let armed = if control.remote().is_none() {
            control.header().state.messages.arm()
        } else {
            let channel = Arc::clone(&self.channel);
            park::with_watch_list(waker, |list| control.arm_remotely(channel, list, &self.signal))
        };
        if !armed {
            // No publisher can be relied on to do it.
            self.signal.wake();
        }
    }

    /// Turns the message received last, which is not released yet, into an owned sample.
    #[inline(always)]
    fn attach(&mut self, packed: Packed) -> RawSample {
        self.state = State::Guarded;
        self.window.attach_any(&self.consumer, packed)
    }

    #[cold]
    #[inline(never)]
    fn wake_publisher(&self) {
        self.channel.publisher.wake();
    }
}

// SAFETY: `base` points into the arena of `channel`; what is read through it is what the interval covers,
// regardless of the thread that holds the reader.
unsafe impl Send for Reader {}
// SAFETY: as above; `&Reader` gives out no bytes.
unsafe impl Sync for Reader {}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.channel.is_inherited() {
            self.window.leak_entries();
            return;
        }
        self.window.count_all(&self.consumer);
        self.channel.count_leaving(self.cursor, self.consumer.next());
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
