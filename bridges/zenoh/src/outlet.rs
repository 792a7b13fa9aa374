//! [`SendingThread`]: takes what a topic's local publishers publish, and gives it to zenoh.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use blockcast_blocks::{Bytes, PublisherId, park};
use blockcast_bridge_core::{Attachment, Origin};
use blockcast_subscriber::{Message, RecvError, Sample, Subscriber};
use zenoh::bytes::ZBytes;

use crate::clock::WallClock;
use crate::farewells::Farewells;
use crate::packer::{Packer, Parcel, SMALL};
use crate::sender::Sender;
use crate::sending::{FINISH, LEAVE, Outcome};
use crate::spent::Spent;
use crate::stats::{Counters, count};

/// How often a sending thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);
/// How long to wait before looking again, if all publishers have left or too many samples are on their way.
const PAUSE: Duration = Duration::from_millis(2);
/// Messages after which to look for publishers that have ended.
const MESSAGES_PER_LOOK: usize = 256;
/// How long a sending thread that should end sends what is there.
const FAREWELL: Duration = Duration::from_secs(2);
/// After this number of small messages in a row, they are received in batches of this size at most.
const BATCH: usize = 256;
/// The same number, if they may share samples. Fewer, because that saves more.
const FEW: usize = 4;

/// A message that zenoh sends from its block.
struct Held(Sample<Bytes>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// What a sending thread has.
pub(crate) struct SendingThread {
    pub(crate) subscriber: Subscriber<Bytes>,
    pub(crate) orders: Arc<AtomicU8>,
    pub(crate) outlet: Outlet,
    /// Copies of small messages.
    pub(crate) packer: Packer,
}

/// Sends messages of this broker's publishers.
pub(crate) struct Outlet {
    pub(crate) sender: Arc<Sender>,
    /// Whether zenoh keeps messages, which must not keep blocks.
    pub(crate) copies: bool,
    /// Whether to add a check.
    pub(crate) check: bool,
    /// Whether to tell of the ends of publishers.
    pub(crate) ends: bool,
    /// Messages that zenoh has sent from their blocks.
    pub(crate) spent: Spent<ZBytes>,
    pub(crate) origin: Origin,
    pub(crate) fingerprint: u64,
    pub(crate) counters: Arc<Counters>,
    pub(crate) farewells: Arc<Farewells>,
    /// The number of small messages since the last large one.
    pub(crate) small: usize,
    /// The publishers from which something was received, and the sequence that comes next.
    pub(crate) known: BTreeMap<PublisherId, u64>,
}

impl SendingThread {
    /// Runs until it is ordered to end, or until the topic cannot be received any more.
    pub(crate) fn run(mut self) -> Outcome {
        let (mut clock, mut messages, mut outcome) = (WallClock::now(), 0, Ok(()));
        let have_departed = loop {
            let orders = self.orders.load(Ordering::Relaxed);
            if orders == LEAVE {
                break false;
            }
            let sent = self.send_some(clock);
            if sent.is_err() {
                self.outlet.spent.release();
            }
            match sent {
                Ok(sent) => {
                    messages += sent;
                    if messages < MESSAGES_PER_LOOK {
                        continue;
                    }
                }
                Err(RecvError::Empty) => {
                    let subscriber = &mut self.subscriber;
                    if park::until(Some(Instant::now() + LOOK), |cx| subscriber.poll_ready(cx)).is_some() {
                        continue;
                    }
                }
                Err(RecvError::Lost(lost)) => count(&self.outlet.counters.unsent, lost),
                Err(RecvError::Deadline | RecvError::Corrupt) => {}
                Err(RecvError::Ended) if orders == FINISH => break true,
                // Another publisher may come.
                Err(RecvError::Ended | RecvError::TooManySamples { .. }) => std::thread::sleep(PAUSE),
                Err(error) => {
                    outcome = Err(error);
                    break false;
                }
            }
            (clock, messages) = (WallClock::now(), 0);
            self.end_departed();
        };
        self.send_rest(clock);
        // If they are sent again later, a repetition would end them in the middle.
        self.outlet.end_all_but(have_departed, |_| false);
        outcome
    }

    /// Sends what was published before now.
    fn send_rest(&mut self, clock: WallClock) {
        let deadline = Instant::now() + FAREWELL;
        // One more for a loss of each publisher, even if there is none.
        let mut left = self.subscriber.backlog();
        while left > 0 && Instant::now() < deadline {
            left -= 1;
            match self.subscriber.try_recv_ref() {
                // It may have to wait for zenoh.
                Ok(message) => self.outlet.send(message, clock),
                Err(RecvError::Lost(lost)) => count(&self.outlet.counters.unsent, lost),
                Err(RecvError::TooManySamples { .. }) => {
                    self.outlet.spent.release();
                    left += 1;
                    std::thread::sleep(PAUSE);
                }
                Err(_) => return,
            }
        }
    }

    /// Sends messages that are there. Returns how many.
    fn send_some(&mut self, clock: WallClock) -> Result<usize, RecvError> {
        let many = if self.packer.is_packing() { FEW } else { BATCH };
        if self.outlet.small < many {
            // One of them may be a loss.
            let waiting = self.subscriber.backlog().saturating_sub(1);
            self.outlet.spent.expect(waiting);
            let message = self.subscriber.try_recv_ref()?;
            self.outlet.send(message, clock);
            return Ok(1);
        }
        // Not many more than there were in a row: a large message among them is copied, too.
        let batch = self.subscriber.try_recv_batch(self.outlet.small.min(BATCH))?;
        let (len, publisher) = (batch.len(), batch.publisher());
        for (descriptor, bytes) in batch.descriptors().zip(batch.views()) {
            // Plain bytes are always valid.
            let Ok(bytes) = bytes else { continue };
            self.packer.add(bytes, descriptor.sequence.get(), clock.at(descriptor.time));
            if bytes.len() > SMALL {
                self.outlet.put_all(publisher, self.packer.parcels());
            }
        }
        // Zenoh may wait, so it gets them when the publisher has its blocks back.
        drop(batch);
        self.outlet.put_all(publisher, self.packer.parcels());
        Ok(len)
    }

    /// Tells of publishers that have left. All their messages were sent.
    fn end_departed(&mut self) {
        let subscription = self.subscriber.subscription();
        self.outlet.end_all_but(true, |publisher| {
            subscription.readers().any(|reader| reader.channel().publisher() == publisher)
        });
    }
}

impl Outlet {
    /// Sends a message, from its block if it is large.
    fn send(&mut self, message: Message<'_, Bytes>, clock: WallClock) {
        let (publisher, sequence) = (message.publisher(), message.sequence().get());
        let time = clock.at(message.time());
        let len = message.bytes().len();
        self.small = if len <= SMALL { self.small.saturating_add(1) } else { 0 };
        self.known.insert(publisher, sequence + 1);
        if self.copies || len <= SMALL {
            self.put(publisher, Parcel::single(message.bytes(), sequence, time));
            return;
        }
        let payload = ZBytes::from(bytes::Bytes::from_owner(Held(message.into_sample())));
        self.put(
            publisher,
            Parcel { payload: payload.clone(), messages: 1, first: sequence, bytes: len, time },
        );
        self.spent.add(payload, len);
    }

    /// Sends messages of one publisher. Sets whether it goes on in batches.
    fn put_all(&mut self, publisher: PublisherId, parcels: impl Iterator<Item = Parcel>) {
        let mut next = None;
        for parcel in parcels {
            let is_small = parcel.messages > 1 || parcel.bytes <= SMALL;
            self.small = if is_small { self.small.saturating_add(parcel.messages as usize) } else { 0 };
            next = Some(parcel.first + u64::from(parcel.messages));
            self.put(publisher, parcel);
        }
        if let Some(next) = next {
            self.known.insert(publisher, next);
        }
    }

    fn put(&mut self, publisher: PublisherId, parcel: Parcel) {
        let Parcel { payload, messages, first, bytes, time } = parcel;
        let attachment =
            Attachment::message(self.origin, publisher.get(), first).messages(messages).time(time);
        let attachment = self.complete(attachment, &payload);
        match self.sender.put(payload, &attachment) {
            Ok(()) => {
                count(&self.counters.sent, u64::from(messages));
                count(&self.counters.sent_bytes, bytes as u64);
            }
            Err(error) => {
                count(&self.counters.unsent, u64::from(messages));
                tracing::debug!(%error, messages, "messages were not sent");
            }
        }
    }

    /// Adds what all attachments have.
    fn complete(&self, attachment: Attachment, payload: &ZBytes) -> Attachment {
        let attachment = attachment.fingerprint(self.fingerprint);
        if self.check { attachment.checked(payload.slices()) } else { attachment }
    }

    /// Forgets publishers, and tells of their ends, repeatedly if they will not come back.
    fn end_all_but(&mut self, repeatedly: bool, is_there: impl Fn(PublisherId) -> bool) {
        let gone: Vec<_> = self.known.extract_if(.., |&publisher, _| !is_there(publisher)).collect();
        if !self.ends {
            return;
        }
        for (publisher, next) in gone {
            let attachment =
                self.complete(Attachment::end(self.origin, publisher.get(), next), &ZBytes::new());
            if let Err(error) = self.sender.end(&attachment) {
                tracing::debug!(%error, "the end of a publisher was not sent");
            }
            if repeatedly {
                self.farewells.add(&self.sender.key, &self.sender.encoding, attachment);
            }
        }
    }
}
