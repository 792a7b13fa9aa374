//! [`BridgeOptions`].

use std::time::Duration;

use blockcast_blocks::SizeClass;
use blockcast_publisher::PublisherOptions;

/// How a bridge sends and receives.
#[derive(Clone, Debug)]
pub struct BridgeOptions {
    pub(crate) back_pressure: bool,
    pub(crate) patience: Duration,
    pub(crate) cache: usize,
    pub(crate) check: bool,
    pub(crate) batch: usize,
    pub(crate) ends: bool,
    pub(crate) interval: Duration,
    pub(crate) linger: Duration,
    pub(crate) round_trips: Duration,
    pub(crate) waiting: (usize, usize),
    pub(crate) publishers: usize,
    pub(crate) blocks: PublisherOptions,
}

impl Default for BridgeOptions {
    fn default() -> Self {
        let class = |block_size, blocks, max_blocks| SizeClass { block_size, blocks, max_blocks };
        let blocks = PublisherOptions::new().block_size(256).blocks(64).max_blocks(4096);
        let larger = [
            // Few at first, so that blocks are used again while they are in the processor's caches.
            class(4 << 10, 8, 1024),
            class(64 << 10, 4, 256),
            class(1 << 20, 2, 32),
            class(16 << 20, 2, 8),
        ];
        Self {
            back_pressure: false,
            patience: Duration::from_secs(1),
            cache: 0,
            check: true,
            batch: 0,
            ends: true,
            interval: Duration::from_millis(100),
            linger: Duration::from_secs(10),
            round_trips: Duration::from_secs(5),
            waiting: (1024, 64 << 20),
            publishers: 64,
            blocks: larger.into_iter().fold(blocks, PublisherOptions::larger_blocks),
        }
    }
}

impl BridgeOptions {
    /// The default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether everybody waits for those who are slower: local publishers for zenoh, and zenoh for local
    /// subscribers. By default, nobody does, and messages are lost and counted.
    ///
    /// While zenoh waits for a topic's subscribers, nothing else arrives over the same link. Its threads
    /// serve all sessions of a process, so other links may have to wait, too. So its
    /// [patience](Self::patience) is limited.
    ///
    /// This does not prevent all losses: zenoh closes a link whose other end does not answer for a while, and
    /// then drops what it was about to send.
    #[must_use]
    pub fn back_pressure(mut self, wait: bool) -> Self {
        self.back_pressure = wait;
        self
    }

    /// Sets how long zenoh waits, with [back pressure](Self::back_pressure), for local subscribers that have
    /// taken nothing. Then messages are lost and counted, until they have taken half of what
    /// [waits](Self::waiting) for them. 1 s by default. After 5 s, zenoh elsewhere may give up the link.
    #[must_use]
    pub fn patience(mut self, duration: Duration) -> Self {
        self.patience = duration;
        self
    }

    /// Sets the number of messages of each topic that are kept for those who missed some: other bridges ask
    /// for what was lost on the way, and get it if it is among these. Late bridges get them as a history.
    /// Costs a copy of each message. 0, the default, keeps none.
    ///
    /// With [batches](Self::batch), this is the number of batches: each is kept, or not, as a whole.
    #[must_use]
    pub fn cache(mut self, messages: usize) -> Self {
        self.cache = messages;
        self
    }

    /// Sets whether each message carries a check of its bytes, and whether it is compared when a message
    /// arrives. One that has other bytes is refused and counted, and subscribers receive it as a loss. On by
    /// default, because zenoh can deliver wrong bytes. README.md says what it costs.
    #[must_use]
    pub fn check(mut self, check: bool) -> Self {
        self.check = check;
        self
    }

    /// Lets small messages of a publisher that follow each other share a sample of zenoh, which is much
    /// cheaper: those that are there when the bridge can send, of up to 1 KiB each, in a payload of up to
    /// this number of bytes. 0, the default, lets none. 32 KiB is a good number: what fits into one of
    /// zenoh's own batches of 64 KiB costs least. No message waits for others.
    ///
    /// Bridges that receive need no setting. Other clients of zenoh get several messages in one payload, so
    /// set this where all subscribers are bridges. What zenoh drops, if it is slow, it drops together.
    #[must_use]
    pub fn batch(mut self, bytes: usize) -> Self {
        self.batch = bytes;
        self
    }

    /// Sets whether the end of a publisher is sent: an empty message, whose attachment says what it is. On by
    /// default: other bridges then end the publisher at once, and notice if its last messages are missing.
    /// Without it, they end it a [while](Self::linger) after all publishers of the topic have left.
    ///
    /// Turn this off where only other programs subscribe, and cannot bear an empty message. ROS 2 cannot: its
    /// bridge gives the message to DDS, whose subscribers refuse it and get nothing that comes later.
    #[must_use]
    pub fn ends(mut self, ends: bool) -> Self {
        self.ends = ends;
        self
    }

    /// Sets how often to look for new topics and participants of the broker. 100 ms by default. With a
    /// [connection](crate::Source::Connection), each look asks the host for its topics, which asks every
    /// process that publishes for its counters: a packet there and one back for each.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets how long to keep the publishers of a bridge that cannot be reached, how long to stay joined while
    /// zenoh has no subscriber, in case they come back, and how long to repeat the ends of publishers, in
    /// case they were lost. 10 s by default.
    #[must_use]
    pub fn linger(mut self, duration: Duration) -> Self {
        self.linger = duration;
        self
    }

    /// Sets how often to measure the round trip to other bridges, while there are any. 5 s by default.
    #[must_use]
    pub fn round_trips(mut self, interval: Duration) -> Self {
        self.round_trips = interval;
        self
    }

    /// Sets how many messages of a topic, and bytes of them, wait for blocks at most. Later ones are lost,
    /// and counted. 1024 messages and 64 MiB by default. A [batch](Self::batch) that finds room for one
    /// message waits as a whole.
    #[must_use]
    pub fn waiting(mut self, messages: usize, bytes: usize) -> Self {
        self.waiting = (messages, bytes);
        self
    }

    /// Sets from how many publishers elsewhere a topic receives at a time. 64 by default. Messages of others
    /// are refused, and counted.
    #[must_use]
    pub fn publishers(mut self, most: usize) -> Self {
        self.publishers = most.max(1);
        self
    }

    /// Sets the blocks of each publisher elsewhere, on this broker. The largest ones limit the size of
    /// messages. By default, blocks of 256 B to 16 MiB, as many as needed within limits.
    #[must_use]
    pub fn blocks(mut self, options: PublisherOptions) -> Self {
        self.blocks = options;
        self
    }
}
