//! [`Relays`]: the publishers of other brokers, as publishers of this one.

use std::sync::Arc;
use std::task::{Context, Poll};

use blockcast_blocks::{LoanError, Schema};
use blockcast_bridge_core::{Arrival, Attachment, Origin, Streams};
use blockcast_broker::{PublishBytesError, UntypedPublisher};
use blockcast_publisher::PublisherOptions;
use zenoh::bytes::ZBytes;

use crate::source::Source;
use crate::stats::{Counters, count};

/// Publishers of a topic whose next messages are remembered at most, so that gaps are found even if they come
/// back after a while.
const REMEMBERED: usize = 4096;

/// A publisher elsewhere: a broker and its number there, or all clients that are not bridges together.
type Remote = Option<(Origin, u64)>;

/// A message, or the end of a publisher.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// `None` from a client that is not a bridge.
    pub(crate) attachment: Option<Attachment>,
    pub(crate) payload: ZBytes,
    /// Messages that are missing before it and not reported yet.
    pub(crate) missing: u64,
    /// Whether its number was taken note of.
    is_noted: bool,
}

impl Incoming {
    pub(crate) fn new(attachment: Option<Attachment>, payload: ZBytes) -> Self {
        Self { attachment, payload, missing: 0, is_noted: false }
    }

    fn remote(&self) -> Remote {
        self.attachment.map(|attachment| (attachment.origin, attachment.publisher))
    }
}

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
        }
    }

    /// Whether the publisher of the message is open, so that [`take`](Self::take) does not wait for other
    /// processes.
    pub(crate) fn is_open(&mut self, message: &Incoming) -> bool {
        self.open.get(&message.remote()).is_some()
    }

    /// Publishes a message here, or drops it if it has arrived before. Opens its publisher, if it is not
    /// open.
    ///
    /// # Errors
    /// [`Full`]: call this again once there is a [block](Self::poll_block).
    pub(crate) fn take(&mut self, message: &mut Incoming) -> Result<(), Full> {
        if !message.is_noted {
            if let Some(attachment) = &message.attachment {
                match self.streams.arrive(attachment) {
                    Arrival::Next { missing } => message.missing += missing,
                    Arrival::Old => {
                        count(&self.counters.repeated, 1);
                        return Ok(());
                    }
                }
            }
            message.is_noted = true;
            if message.missing > 0 {
                count(&self.counters.missing, message.missing);
            }
        }
        let (remote, is_end) =
            (message.remote(), message.attachment.is_some_and(|attachment| attachment.is_end));
        if is_end && message.missing == 0 {
            self.open.remove(&remote);
            return Ok(());
        }
        let Some(publisher) = self.publisher(remote) else {
            count(&self.counters.refused, u64::from(!is_end));
            return Ok(());
        };
        // Opened as a relay.
        let _ = publisher.report_lost(std::mem::take(&mut message.missing));
        if is_end {
            self.open.remove(&remote);
            return Ok(());
        }
        let len = message.payload.len();
        let published = publisher.try_publish(len, |mut block| {
            for slice in message.payload.slices() {
                let (part, rest) = block.split_at_mut(slice.len());
                part.copy_from_slice(slice);
                block = rest;
            }
        });
        match published {
            Ok(_) => {
                count(&self.counters.received, 1);
                count(&self.counters.received_bytes, len as u64);
            }
            Err(PublishBytesError::Loan(LoanError::Exhausted { .. })) => return Err(Full(len)),
            Err(error) => {
                // Nobody gets it.
                let _ = publisher.report_lost(1);
                count(&self.counters.refused, 1);
                tracing::warn!(topic = &*self.topic, %error, "a message from elsewhere was refused");
            }
        }
        Ok(())
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
                Err(error) => {
                    tracing::warn!(topic = &*self.topic, error, "a publisher elsewhere was refused");
                }
            }
        }
        self.open.get(&remote)
    }
}
