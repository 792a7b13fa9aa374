//! [`Wall`]: copies the messages of untrusted publishers.
//!
//! A process of another user may change a message while others read it. So no other process joins its
//! publishers. Instead, the host joins them, copies each message into a channel of its own, and offers that
//! channel:
//!
//! ```text
//!   publisher ── its channel ──▶ Wall ── a channel with copies ──▶ subscribers of every other process
//! ```
//! The wall is a [`Node`](super::node::Node) of the host's process, and a peer in its
//! [registry](super::registry). One thread copies for all publishers, in turn. It waits for blocks of the
//! copies like any publisher, and its subscription loses nothing, so that the original publisher waits for
//! reliable subscribers and for nobody else.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use blockcast_blocks::shield::{event, shielded};
use blockcast_blocks::{
    Channel, ChannelConfig, LoanError, RawSample, Reader, ReaderOptions, ReceiveError, Schema, Signal,
    Writer, channel_with, park,
};

use crate::control::shared::Shared;
use crate::peers::link::Announced;
use crate::peers::protocol::{ChannelNumber, SeatId};

/// Maximum number of messages copied from one publisher before it is the next one's turn.
const MESSAGES_PER_TURN: usize = 64;

/// Maximum number of bytes copied from one publisher before it is the next one's turn. Only the last message
/// may exceed it.
const BYTES_PER_TURN: usize = 4 << 20;

/// Distinguishes the channels of copies from those of the host's own publishers.
const COPIES: u64 = 1 << 63;

/// The number of the channel with copies of the messages that come by this seat.
pub(crate) fn copies_of(seat: SeatId) -> ChannelNumber {
    ChannelNumber(seat.0 | COPIES)
}

/// Returns the seat whose messages this channel has copies of.
pub(crate) fn seat_of(copies: ChannelNumber) -> SeatId {
    SeatId(copies.0 & !COPIES)
}

/// The state of a node that is a wall.
#[derive(Debug)]
pub(crate) struct Wall {
    shared: Weak<Shared>,
    /// Passages whose channels of copies are being opened.
    opening: BTreeMap<ChannelNumber, Passage>,
    /// The thread that copies, once there is something to copy.
    copier: Option<Copier>,
}

impl Wall {
    /// A wall for the topics of the broker that serves.
    pub(crate) fn new(shared: Weak<Shared>) -> Self {
        Self { shared, opening: BTreeMap::new(), copier: None }
    }

    /// Makes a channel for copies of an `original`'s messages, with blocks of the same sizes.
    ///
    /// # Errors
    /// The reason.
    pub(crate) fn make(
        &self,
        original: &Arc<Channel>,
        (topic, schema): (&str, &Schema),
        label: &str,
    ) -> Result<Passage, String> {
        let reason = |error: &dyn fmt::Display| error.to_string();
        let options = ReaderOptions { history: u64::MAX, ..ReaderOptions::default() };
        let reader =
            original.join(schema, options, Signal::named("copies")).map_err(|error| reason(&error))?;
        let of = original.config();
        let config = ChannelConfig {
            options: of.options.clone(),
            ..ChannelConfig::new(original.publisher(), schema.clone())
        };
        let writer = channel_with(config, Signal::named(label)).map_err(|error| reason(&error))?;
        let topic = topic.to_owned();
        Ok(Passage { writer, announced: None, sample: None, reader, topic, shared: self.shared.clone() })
    }

    /// Keeps a passage until all subscribing processes have joined its copies.
    pub(crate) fn open(&mut self, number: ChannelNumber, mut passage: Passage, announced: Announced) {
        passage.announced = Some(announced);
        self.opening.insert(number, passage);
    }

    /// Starts to copy, once the channel of copies is open.
    pub(crate) fn opened(&mut self, number: ChannelNumber) {
        let Some(passage) = self.opening.remove(&number) else { return };
        if self.copier.is_none() {
            match Copier::start() {
                Ok(copier) => self.copier = Some(copier),
                Err(error) => {
                    let error = error.to_string();
                    event(|| tracing::error!(error, "no thread can copy the messages of a publisher"));
                }
            }
        }
        if let Some(copier) = &self.copier {
            copier.add(passage);
        }
    }

    /// Gives up a passage whose channel of copies cannot be opened.
    pub(crate) fn give_up(&mut self, number: ChannelNumber) {
        self.opening.remove(&number);
    }
}

/// The way of one publisher's messages through the wall. Dropping it ends the channel of copies, and leaves
/// the original one.
pub(crate) struct Passage {
    // Dropped in this order.
    writer: Writer,
    announced: Option<Announced>,
    /// A message that waits for a block.
    sample: Option<RawSample>,
    reader: Reader,
    topic: String,
    shared: Weak<Shared>,
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passage").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// How a passage's turn has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There may be more to copy.
    Over,
    /// There is no message, or no block for it.
    Waits,
    /// The publisher has ended.
    Ended,
}

impl Passage {
    /// The channel with copies.
    pub(crate) fn channel(&self) -> &Arc<Channel> {
        self.writer.channel()
    }

    /// Copies the available messages, as far as there are blocks for them.
    fn copy(&mut self) -> Turn {
        let topic = self.shared.upgrade().and_then(|shared| shared.find_topic(&self.topic));
        let layout = topic.as_ref().and_then(|topic| topic.checks().layout);
        let (mut messages, mut bytes) = (0, 0);
        while messages < MESSAGES_PER_TURN && bytes < BYTES_PER_TURN {
            let sample = match self.sample.take().map_or_else(|| self.reader.receive_owned(), Ok) {
                Ok(sample) => sample,
                Err(ReceiveError::Empty) => return Turn::Waits,
                Err(ReceiveError::Lost(lost)) => {
                    // The copies of a relay's messages are a relay's too.
                    if self.writer.report_lost(lost).is_ok() {
                        continue;
                    }
                    let topic = &*self.topic;
                    event(|| {
                        tracing::warn!(topic, lost, "messages of another user were lost before copying")
                    });
                    continue;
                }
                Err(_) => return Turn::Ended,
            };
            let len = sample.descriptor().len as usize;
            let mut loan = match self.writer.try_loan(len) {
                Ok(loan) => loan,
                Err(LoanError::Exhausted { .. }) => {
                    self.sample = Some(sample);
                    return Turn::Waits;
                }
                // Its blocks are as large as those of the original.
                Err(_) => return Turn::Ended,
            };
            sample.copy_to(&mut loan[..len]);
            let is_valid =
                layout.is_some_and(|check| shielded(|| check(&loan[..len])).is_ok_and(|valid| valid.is_ok()));
            let published = if is_valid {
                // SAFETY: the layout's check has just accepted these bytes, which nobody else can write.
                unsafe { loan.publish_valid(len) }
            } else {
                loan.publish(len)
            };
            if published.is_err() {
                return Turn::Ended;
            }
            messages += 1;
            bytes += len;
        }
        Turn::Over
    }

    /// Whether there is something to do. Otherwise registers the waker.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.sample {
            Some(sample) => self.writer.poll_loanable(cx, sample.descriptor().len as usize).map(drop),
            None => self.reader.poll_ready(cx),
        }
    }
}

/// The thread that copies, as others see it. Once this is dropped, the thread ends with its last passage.
#[derive(Debug)]
struct Copier {
    new: mpsc::Sender<Passage>,
    signal: Arc<Signal>,
}

impl Copier {
    fn start() -> std::io::Result<Self> {
        let (new, passages) = mpsc::channel();
        let copier = Self { new, signal: Signal::new() };
        let signal = Arc::clone(&copier.signal);
        let thread = std::thread::Builder::new().name("blockcast-wall".to_owned());
        thread.spawn(move || copy_all(&passages, &signal))?;
        Ok(copier)
    }

    fn add(&self, passage: Passage) {
        // The thread waits for more as long as this exists. If it has panicked, the passage ends.
        let _ = self.new.send(passage);
        self.signal.wake();
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        // Drop the sender first, so that the thread finds only its passages when it wakes.
        self.new = mpsc::channel().0;
        self.signal.wake();
    }
}

/// Copies until there is no passage left and none can be added.
fn copy_all(new: &mpsc::Receiver<Passage>, signal: &Signal) {
    let mut passages: Vec<Passage> = Vec::new();
    loop {
        let mut is_busy = false;
        passages.retain_mut(|passage| match passage.copy() {
            Turn::Over => {
                is_busy = true;
                true
            }
            Turn::Waits => true,
            Turn::Ended => false,
        });
        if is_busy {
            passages.extend(new.try_iter());
            continue;
        }
        let added = park::until(None, |cx| {
            signal.register(cx.waker());
            match new.try_recv() {
                Ok(passage) => return Poll::Ready(Some(Some(passage))),
                Err(TryRecvError::Disconnected) if passages.is_empty() => return Poll::Ready(None),
                Err(_) => {}
            }
            // Poll all of them, so that each wakes this thread.
            let mut ready = false;
            for passage in &mut passages {
                ready |= passage.poll(cx).is_ready();
            }
            if ready { Poll::Ready(Some(None)) } else { Poll::Pending }
        });
        match added.flatten() {
            None => return,
            Some(added) => passages.extend(added),
        }
    }
}
