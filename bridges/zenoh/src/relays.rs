//! [`Relays`]: the publishers of other brokers, as publishers of this one.

use std::sync::Arc;
use std::task::{Context, Poll};

use blockcast_blocks::{LoanError, Schema};
use blockcast_bridge_core::{Arrival, Origin, Streams};
use blockcast_broker::{PublishBatchError, PublishBytesError, UntypedPublisher};
use blockcast_publisher::PublisherOptions;

use crate::message::{Incoming, Remote};
use crate::seldom::Seldom;
use crate::source::Source;
use crate::stats::{Counters, count};

/// Publishers of a topic whose next messages are remembered at most, so that gaps are found even if they come
/// back after a while.
pub(crate) const REMEMBERED: usize = 4096;

/// Publishers, in ascending order.
#[derive(Debug, Default)]
struct OpenPublishers {
    publishers: Vec<(Remote, UntypedPublisher)>,
    /// The place of the one that was found last: most messages have the same publisher as the one before.
    found: usize,
}

impl OpenPublishers {
    fn get(&mut self, remote: &Remote) -> Option<&mut UntypedPublisher> {
        if self.publishers.get(self.found).is_none_or(|(other, _)| other != remote) {
            self.found = self.place(remote).ok()?;
        }
        self.publishers.get_mut(self.found).map(|(_, publisher)| publisher)
    }

    fn insert(&mut self, remote: Remote, publisher: UntypedPublisher) {
        match self.place(&remote) {
            Ok(place) => self.publishers[place].1 = publisher,
            Err(place) => self.publishers.insert(place, (remote, publisher)),
        }
    }

    fn remove(&mut self, remote: &Remote) {
        if let Ok(place) = self.place(remote) {
            self.publishers.remove(place);
        }
    }

    fn place(&self, remote: &Remote) -> Result<usize, usize> {
        self.publishers.binary_search_by(|(other, _)| other.cmp(remote))
    }
}

/// There is no block for a message of this length.
#[derive(Debug)]
pub(crate) struct Full(usize);

/// The publishers of one topic on other brokers.
#[derive(Debug)]
pub(crate) struct Relays {
    source: Source,
    topic: String,
    schema: Schema,
    options: PublisherOptions,
    most: usize,
    open: OpenPublishers,
    streams: Streams,
    counters: Arc<Counters>,
    /// Publishers and messages that were refused.
    refused: Seldom,
    invalid: Seldom,
}

impl Relays {
    pub(crate) fn new(
        source: &Source,
        (topic, schema): (&str, &Schema),
        (options, most): (&PublisherOptions, usize),
        counters: &Arc<Counters>,
    ) -> Self {
        Self {
            source: source.clone(),
            topic: topic.to_owned(),
            schema: schema.clone(),
            options: options.clone().relay(true).name("zenoh"),
            most,
            open: OpenPublishers::default(),
            streams: Streams::new(REMEMBERED),
            counters: Arc::clone(counters),
            refused: Seldom::default(),
            invalid: Seldom::default(),
        }
    }

    /// Whether the publisher of the message is open, so that [`take`](Self::take) does not wait for other
    /// processes.
    pub(crate) fn is_open(&mut self, message: &Incoming) -> bool {
        self.open.get(&message.remote()).is_some()
    }

    /// Publishes a message, or the rest of a batch, here, or drops what has arrived before. Opens its
    /// publisher, if it is not open.
    ///
    /// # Errors
    /// [`Full`]: call this again once there is a [block](Self::poll_block). The message knows what was
    /// published of it.
    pub(crate) fn take(&mut self, message: &mut Incoming) -> Result<(), Full> {
        if !message.is_noted && !self.note(message) {
            return Ok(());
        }
        let (remote, is_end) = (message.remote(), message.is_end());
        if is_end && message.missing == 0 {
            self.open.remove(&remote);
            return Ok(());
        }
        let Some(publisher) = self.publisher(remote) else {
            count(&self.counters.refused, message.messages() as u64);
            return Ok(());
        };
        // Opened as a relay.
        let _ = publisher.report_lost(std::mem::take(&mut message.missing));
        if is_end {
            self.open.remove(&remote);
            return Ok(());
        }
        if message.is_batch() { self.publish_batch(remote, message) } else { self.publish(remote, message) }
    }

    /// Takes note of the numbers of a message or a batch. Returns `false` if it has arrived before.
    fn note(&mut self, message: &mut Incoming) -> bool {
        if let Some(attachment) = &message.attachment {
            match self.streams.arrive_after(attachment, message.dropped) {
                Arrival::Next { missing, repeated } => {
                    message.missing += missing;
                    if repeated > 0 {
                        count(&self.counters.repeated, u64::from(repeated));
                        message.skip(repeated);
                    }
                }
                Arrival::Old => {
                    count(&self.counters.repeated, u64::from(attachment.messages.max(1)));
                    return false;
                }
            }
        }
        message.is_noted = true;
        if message.missing > 0 {
            count(&self.counters.missing, message.missing);
        }
        true
    }

    fn publish(&mut self, remote: Remote, message: &Incoming) -> Result<(), Full> {
        let Some(publisher) = self.open.get(&remote) else { return Ok(()) };
        let len = message.payload.len();
        let published = publisher.try_publish(len, |mut block| {
            for slice in message.payload.slices() {
                let (part, rest) = block.split_at_mut(slice.len());
                part.copy_from_slice(slice);
                block = rest;
            }
        });
        match published {
            Ok(_) => self.count(1, len),
            Err(PublishBytesError::Loan(LoanError::Exhausted { .. })) => return Err(Full(len)),
            Err(error) => self.refuse(remote, &error),
        }
        Ok(())
    }

    /// Publishes the rest of a batch, of which each message is refused by itself.
    fn publish_batch(&mut self, remote: Remote, message: &mut Incoming) -> Result<(), Full> {
        while let Some(publisher) = self.open.get(&remote)
            && message.messages() > 0
        {
            let outcome = message.with_rest(|messages| publisher.try_publish_batch(messages));
            let (published, error) = match outcome {
                Ok(published) => (published, None),
                Err(PublishBatchError { published, error }) => (published, Some(error)),
            };
            let bytes = message.skip(u32::try_from(published).unwrap_or(u32::MAX));
            self.count(published, bytes);
            match error {
                // Then all of them were published.
                None => return Ok(()),
                Some(PublishBytesError::Loan(LoanError::Exhausted { .. })) => {
                    return Err(Full(message.next_len()));
                }
                Some(error) => {
                    self.refuse(remote, &error);
                    message.skip(1);
                }
            }
        }
        Ok(())
    }

    /// Counts what was published.
    fn count(&self, messages: usize, bytes: usize) {
        count(&self.counters.received, messages as u64);
        count(&self.counters.received_bytes, bytes as u64);
    }

    /// Nobody gets a message of this publisher.
    fn refuse(&mut self, remote: Remote, error: &PublishBytesError) {
        if let Some(publisher) = self.open.get(&remote) {
            let _ = publisher.report_lost(1);
        }
        count(&self.counters.refused, 1);
        self.invalid.warn(&self.topic, "a message from elsewhere was refused", error);
    }

    /// Ready once there is a block for the message.
    pub(crate) fn poll_block(
        &mut self,
        cx: &mut Context<'_>,
        message: &Incoming,
        &Full(len): &Full,
    ) -> Poll<()> {
        match self.open.get(&message.remote()) {
            Some(publisher) => publisher.poll_ready(cx, len),
            None => Poll::Ready(()),
        }
    }

    /// A broker elsewhere is gone.
    pub(crate) fn close(&mut self, origin: Origin) {
        self.open.publishers.retain(|(remote, _)| remote.is_none_or(|(other, _)| other != origin));
    }

    fn publisher(&mut self, remote: Remote) -> Option<&mut UntypedPublisher> {
        if self.open.get(&remote).is_none() {
            let opened = if self.open.publishers.len() < self.most {
                let opened = self.source.publisher(&self.topic, &self.schema, self.options.clone());
                opened.map_err(|error| error.to_string())
            } else {
                Err(format!("it has {} publishers elsewhere, which is the limit", self.most))
            };
            match opened {
                Ok(publisher) => {
                    self.open.insert(remote, publisher);
                }
                Err(error) => self.refused.warn(&self.topic, "a publisher elsewhere was refused", &error),
            }
        }
        self.open.get(&remote)
    }
}
