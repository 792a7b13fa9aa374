//! The messages between processes: [`Request`]s of a client, [`Notice`]s of the host.
//!
//! A packet holds one message, encoded by `postcard`, and up to [`MAX_FILES`] descriptors. The first request
//! is [`Request::Hello`], the first notice [`Notice::Welcome`] or [`Notice::Refused`]. The encoding of these
//! three never changes, so that processes of different versions can report how they differ.
//!
//! ```text
//!   publisher's process          host                     subscribing process
//!   ───────────────────          ────                     ───────────────────
//!   OpenPublisher ─────────────▶ checks grants, schema
//!     control, arena             and files
//!                                Channel ───────────────▶ opens the channel
//!                                  control, arena,
//!                                  bell, pidfd
//!                    Attach ◀─── ◀─────────────────────── Annex
//!         annex, bell, pidfd                                annex
//!   Attached ──────────────────▶ Attached ──────────────▶ its subscriptions join
//!                    Opened ◀─── ◀─────────────────────── Joined
//!                      Left ◀─── ◀─────────────────────── Left, once it has dropped the channel
//!   ClosePublisher ────────────▶ Ended ─────────────────▶
//! ```
//! A process that its host has started to run a component receives a job and reports the outcome:
//!
//! ```text
//!   process of a component       host
//!   ──────────────────────       ────
//!                         ◀───── Job, after the welcome
//!   Log ───────────────────────▶
//!   Tally ────────────▶ ◀─────── Count
//!                         ◀───── Finish, Cancel
//!   Outcome ───────────────────▶
//! ```
//! A *seat* is the part that one subscribing process takes in one channel. The host numbers seats, and never
//! uses a number twice.

use std::fmt;

use blockcast_blocks::{LAYOUT_VERSION, OpenError, Schema, page_size, register_machine_wide, text};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::peers::job::{Outcome, Tally};
use crate::peers::options::Terms;
use crate::peers::topics::{HostTopic, PublisherCounters};

/// The version of the protocol. Increase it with every change to a message.
pub(crate) const PROTOCOL: u32 = 9;

/// Maximum size of a packet in bytes. Far more than any message needs, except for the names of long schemas.
pub(crate) const MAX_PACKET: usize = 64 << 10;

/// Maximum number of descriptors in a packet.
pub(crate) const MAX_FILES: usize = 4;

/// Maximum length of a name or a reason in bytes. Longer ones are cut when they are made, and refused when
/// they are received.
pub(crate) const MAX_TEXT: usize = 512;

/// Maximum length of the name of a topic's schema in bytes, so that it fits into an answer beside other
/// names.
pub(crate) const MAX_SCHEMA: usize = 16 << 10;

/// The number of a process among those of one host. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct PeerId(pub(crate) u64);

/// The number that a process gives to one of its publishers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct ChannelNumber(pub(crate) u64);

/// The part that one subscribing process takes in one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct SeatId(pub(crate) u64);

/// The device and the inode of a file. No other file has them while it exists.
pub(crate) type FileId = (u64, u64);

/// The properties in which two processes must agree to share memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The version of the protocol between processes.
    pub protocol: u32,
    /// The version of the layout of a channel's files.
    pub layout: u32,
    /// Bytes of a page.
    pub page_size: u64,
    /// Whether the system offers the process memory barriers that reach other processes.
    pub barriers: bool,
}

impl Versions {
    /// Returns the versions of this process, and registers it for barriers.
    pub(crate) fn current() -> Self {
        let barriers = register_machine_wide();
        Self { protocol: PROTOCOL, layout: LAYOUT_VERSION, page_size: page_size() as u64, barriers }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, layout, page_size, barriers } = self;
        let barriers = if *barriers { "with" } else { "without" };
        write!(f, "protocol {protocol}, layout {layout}, pages of {page_size} bytes, {barriers} barriers")
    }
}

/// A [`Schema`] in a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SchemaRecord {
    name: String,
    fingerprint: u64,
}

/// A schema's name is cut to this many bytes in an answer to an inspection, if it would not fit otherwise.
const CUT_NAME: usize = 1024;

impl SchemaRecord {
    /// Shortens the name. The result no longer matches the topic's schema, and only serves to show it.
    pub(crate) fn cut(&mut self) {
        self.name = text::line_within(&self.name, CUT_NAME).into_owned();
    }

    /// Shortens the name if other processes would not accept it.
    pub(crate) fn cut_to_fit(mut self) -> Self {
        if self.name.len() > MAX_SCHEMA {
            self.cut();
        }
        self
    }
}

impl From<&Schema> for SchemaRecord {
    fn from(schema: &Schema) -> Self {
        Self { name: schema.name().to_owned(), fingerprint: schema.fingerprint() }
    }
}

impl From<SchemaRecord> for Schema {
    fn from(record: SchemaRecord) -> Self {
        Self::new(record.name.into(), record.fingerprint)
    }
}

/// A publisher, as subscribing processes need to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublisherRecord {
    /// The number that its messages carry.
    pub(crate) number: u64,
    /// Its name in statistics; may be empty.
    pub(crate) name: String,
    /// Messages that it keeps for late subscribers.
    pub(crate) history: u32,
    /// Whether it passes on messages from elsewhere.
    pub(crate) relay: bool,
}

/// A process, as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerRecord {
    pub(crate) id: PeerId,
    /// Its name and its process id, for statistics.
    pub(crate) label: String,
}

/// Why a process cannot open a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    Denied,
    SchemaMismatch(SchemaRecord),
    BadName,
    /// A limit of the host, named by the text.
    Limit(String),
    Unsealed,
    Closed,
    Other(String),
}

impl Refusal {
    /// Returns the error for a user who has asked to `access` the topic.
    pub(crate) fn into_error(self, topic: &str, asked: &Schema, access: &'static str) -> OpenError {
        let topic = topic.to_owned();
        match self {
            Self::Denied => OpenError::Denied { access, topic },
            Self::SchemaMismatch(existing) => {
                OpenError::SchemaMismatch { topic, existing: Some(existing.into()), asked: asked.clone() }
            }
            Self::BadName => OpenError::BadName(topic),
            Self::Limit(limit) => OpenError::Refused(limit),
            Self::Unsealed => OpenError::Unsealed { topic },
            Self::Closed => OpenError::Closed,
            Self::Other(reason) => OpenError::Refused(reason),
        }
    }
}

/// A message of a client to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The first packet.
    Hello {
        versions: Versions,
        name: String,
    },
    /// With the files of a channel: control segment and arena.
    OpenPublisher {
        channel: ChannelNumber,
        topic: String,
        schema: SchemaRecord,
        publisher: PublisherRecord,
    },
    /// The publisher has ended.
    ClosePublisher {
        channel: ChannelNumber,
    },
    /// The process has a subscription to the topic, from now until it unsubscribes.
    Subscribe {
        request: u64,
        topic: String,
        schema: SchemaRecord,
    },
    Unsubscribe {
        topic: String,
    },
    /// Answers [`Notice::Channel`]. With the annex.
    Annex {
        seat: SeatId,
    },
    /// Answers [`Notice::Channel`]: the process does not take the seat.
    Declined {
        seat: SeatId,
        why: String,
    },
    /// Answers [`Notice::Attach`].
    Attached {
        seat: SeatId,
    },
    /// Answers [`Notice::Attach`]. Without a reason, the publisher has just ended.
    NotAttached {
        seat: SeatId,
        why: String,
    },
    /// All subscriptions of the process have joined the channel.
    Joined {
        seat: SeatId,
    },
    /// The process has dropped the channel, and all messages that it has received from it.
    Left {
        seat: SeatId,
    },
    /// The process, which had another host before, has announced everything that it has.
    Announced,
    /// The process inspects the topics that the host brings together. It asks again only after it has the
    /// answer.
    Topics {
        request: u64,
        selection: Selection,
    },
    /// Answers [`Notice::Report`].
    Report {
        query: u64,
        counters: Vec<(ChannelNumber, PublisherCounters)>,
    },
    /// The process has dropped a channel joined through a former host, without telling that host.
    LeftBefore {
        /// The number that the publisher's messages carry.
        publisher: u64,
        annex: FileId,
    },
    /// From the publisher's process: the subscribers of this seat have held the publisher back for as long as
    /// the terms let them, and have not moved.
    Stalled {
        seat: SeatId,
    },
    /// A line of the log of a component, with the number of its level.
    Log {
        level: u32,
        text: String,
    },
    /// Answers [`Notice::Count`].
    Tally {
        tally: Tally,
    },
    /// A component has ended, and its process is about to.
    Outcome {
        outcome: Outcome,
        tally: Tally,
    },
    /// The process restarts components of its own, so that publishers of the topic may come back, or no
    /// longer. By default, they do not.
    Expect {
        topic: String,
        is_expected: bool,
    },
}

/// Selects topics for an inspection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Selection {
    /// As many as fit into one packet, in the order of their names, after this name.
    After(String),
    Named(String),
}

/// A message of the host to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Notice {
    /// The last packet: the host refuses the client.
    Refused {
        ours: Versions,
        theirs: Versions,
        why: String,
    },
    /// The client is one of the host's peers. Its publishers are numbered from `first_publisher` on. The host
    /// lets a publisher wait for subscribing processes for this number of milliseconds.
    Welcome {
        peer: PeerId,
        first_publisher: u64,
        patience: u64,
    },
    /// Answers [`Request::OpenPublisher`]: all subscribing processes have joined, except those that did not
    /// answer in time.
    Opened {
        channel: ChannelNumber,
    },
    OpenRefused {
        channel: ChannelNumber,
        why: Refusal,
    },
    /// Answers [`Request::Subscribe`], with the seats to wait for. Each of them was offered before, by a
    /// [`Notice::Channel`].
    Subscribed {
        request: u64,
        seats: Vec<SeatId>,
    },
    SubscribeRefused {
        request: u64,
        why: Refusal,
    },
    /// A publisher of a topic to which the process subscribes. With the channel's control segment and arena,
    /// an end of a bell, and the pidfd of the publisher's process. Without any if the host has no descriptor
    /// left.
    Channel {
        seat: SeatId,
        topic: String,
        publisher: PublisherRecord,
        owner: PeerRecord,
        terms: Terms,
    },
    /// A process subscribes to one of the receiver's publishers. With the annex, the other end of
    /// the bell, and the pidfd of the subscribing process.
    Attach {
        seat: SeatId,
        channel: ChannelNumber,
        subscriber: PeerRecord,
        terms: Terms,
    },
    /// The publisher's process has attached the annex.
    Attached {
        seat: SeatId,
    },
    /// The seat does not come about. `is_error` if the publisher still exists.
    Failed {
        seat: SeatId,
        why: String,
        is_error: bool,
    },
    /// To the publisher's process: detach the seat.
    Left {
        seat: SeatId,
    },
    /// To the subscribing process: the publisher has ended.
    Ended {
        seat: SeatId,
    },
    /// Answers [`Request::Announced`].
    Known,
    /// Answers [`Request::Topics`]. `is_last` if no further topic is selected.
    Topics {
        request: u64,
        topics: Vec<HostTopic>,
        is_last: bool,
    },
    /// Another process inspects these publishers of the receiver.
    Report {
        query: u64,
        channels: Vec<ChannelNumber>,
    },
    /// To the subscribing process: the publisher's process does not attach the annex in time. The seat still
    /// comes about once it does.
    Late {
        seat: SeatId,
    },
    /// To the publisher's process: detach this annex, which it has attached through a former host.
    LeftBefore {
        channel: ChannelNumber,
        annex: FileId,
    },
    /// The job of the process, in a file.
    Job,
    /// Ask the component to finish.
    Finish,
    /// Cancel the component.
    Cancel,
    /// The host asks for the component's counters.
    Count,
    /// To a subscribing process: publishers of the topic may come back after a restart, or no longer. By
    /// default, they do not.
    Expect {
        topic: String,
        is_expected: bool,
    },
}

/// Why a packet is not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("a message of {0} bytes exceeds a packet of {MAX_PACKET}")]
    TooLong(usize),
    #[error("{0} descriptors come with a message that takes {1}")]
    Files(usize, usize),
    #[error("the packet is not a message: {0}")]
    Malformed(String),
    #[error("a name or reason of {0} bytes is too long")]
    LongText(usize),
}

/// A message of either side.
pub(crate) trait Message: Serialize + DeserializeOwned + fmt::Debug {
    /// Descriptors that come with the message.
    fn files(&self) -> usize;

    /// Whether the message may come with this number of descriptors.
    fn may_have(&self, files: usize) -> bool {
        files == self.files()
    }

    /// The texts whose length is bounded besides that of the packet.
    fn texts(&self) -> [&str; 2];

    /// The schema of a topic, whose name is bounded by [`MAX_SCHEMA`].
    fn schema(&self) -> Option<&SchemaRecord> {
        None
    }

    /// # Errors
    /// [`CodecError::TooLong`].
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let bytes = postcard::to_stdvec(self).map_err(|error| CodecError::Malformed(error.to_string()))?;
        if bytes.len() > MAX_PACKET { Err(CodecError::TooLong(bytes.len())) } else { Ok(bytes) }
    }

    /// Decodes a packet that has come with this number of descriptors.
    ///
    /// # Errors
    /// [`CodecError`]. For any bytes, decoding neither panics nor allocates more than a small multiple of
    /// their number.
    fn decode(bytes: &[u8], files: usize) -> Result<Self, CodecError> {
        let message = Self::decode_alone(bytes)?;
        if !message.may_have(files) {
            return Err(CodecError::Files(files, message.files()));
        }
        Ok(message)
    }

    /// Like [`decode`](Self::decode), for an unknown number of descriptors.
    ///
    /// # Errors
    /// [`CodecError`].
    fn decode_alone(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > MAX_PACKET {
            return Err(CodecError::TooLong(bytes.len()));
        }
        let malformed = |what: &dyn fmt::Display| CodecError::Malformed(what.to_string());
        let (message, rest) = postcard::take_from_bytes::<Self>(bytes).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(malformed(&format_args!("{} bytes too many", rest.len())));
        }
        let long = message.texts().into_iter().map(str::len).find(|&len| len > MAX_TEXT);
        let schema = message.schema().map(|schema| schema.name.len()).filter(|&len| len > MAX_SCHEMA);
        long.or(schema).map_or(Ok(message), |len| Err(CodecError::LongText(len)))
    }
}

impl Message for Request {
    fn files(&self) -> usize {
        match self {
            Self::OpenPublisher { .. } => 2,
            Self::Annex { .. } => 1,
            _ => 0,
        }
    }

    fn may_have(&self, files: usize) -> bool {
        // Up to version 8, a hello had one.
        files == self.files() || matches!(self, Self::Hello { .. }) && files == 1
    }

    fn texts(&self) -> [&str; 2] {
        match self {
            Self::Hello { name, .. } => [name, ""],
            Self::OpenPublisher { topic, publisher, .. } => [topic, &publisher.name],
            Self::Subscribe { topic, .. } | Self::Unsubscribe { topic } => [topic, ""],
            Self::Topics { selection: Selection::After(name) | Selection::Named(name), .. } => [name, ""],
            Self::Declined { why, .. } | Self::NotAttached { why, .. } => [why, ""],
            _ => [""; 2],
        }
    }

    fn schema(&self) -> Option<&SchemaRecord> {
        match self {
            Self::OpenPublisher { schema, .. } | Self::Subscribe { schema, .. } => Some(schema),
            _ => None,
        }
    }
}

impl Message for Notice {
    fn files(&self) -> usize {
        match self {
            Self::Channel { .. } => 4,
            Self::Attach { .. } => 3,
            Self::Job => 1,
            _ => 0,
        }
    }

    fn may_have(&self, files: usize) -> bool {
        files == self.files() || matches!(self, Self::Channel { .. }) && files == 0
    }

    fn texts(&self) -> [&str; 2] {
        match self {
            Self::Refused { why, .. } | Self::Failed { why, .. } => [why, ""],
            Self::Channel { topic, publisher, .. } => [topic, &publisher.name],
            Self::Expect { topic, .. } => [topic, ""],
            Self::Attach { subscriber, .. } => [&subscriber.label, ""],
            _ => [""; 2],
        }
    }
}

/// Decodes arbitrary bytes as both kinds of messages. A message that is accepted is encoded again in the same
/// way.
#[doc(hidden)]
pub fn fuzz_decode(bytes: &[u8]) {
    fn check<M: Message + PartialEq>(bytes: &[u8]) {
        for files in 0..=MAX_FILES {
            let Ok(message) = M::decode(bytes, files) else { continue };
            let again = message.encode().expect("it came in one packet");
            assert_eq!(M::decode(&again, files).as_ref(), Ok(&message));
        }
    }
    check::<Request>(bytes);
    check::<Notice>(bytes);
}

#[cfg(test)]
mod tests;
