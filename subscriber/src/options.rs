//! How a subscriber wants to be served.

use blockcast_blocks::{Overflow, ReaderOptions};

/// What happens when a subscriber is slow, and where it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriberOptions {
    reader: ReaderOptions,
    name: &'static str,
    await_restarts: bool,
}

impl SubscriberOptions {
    /// Loses nothing (the publisher waits), starts with the next message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For a value of which only the latest matters: starts with it, and keeps nothing older. See
    /// [`Latest`](crate::Latest).
    #[must_use]
    pub fn latest() -> Self {
        Self::new().overflow(Overflow::DropOldest).depth(1).history(1)
    }

    /// What happens when the publisher runs out of blocks because this subscriber is slow.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.reader.overflow = overflow;
        self
    }

    /// Messages kept at most per publisher: with [`Overflow::DropOldest`] older ones count as lost, with
    /// [`Overflow::DropNewest`] newer ones. Subscribers with `DropNewest` together get half of a publisher's blocks: fewer messages
    /// than this number are kept if less is left, see [`ReaderOptions::depth`].
    #[must_use]
    pub fn depth(mut self, messages: u32) -> Self {
        self.reader.depth = Some(messages.max(1));
        self
    }

    /// Start with the last so many messages of each publisher that is there, or with its whole history if that is shorter.
    #[must_use]
    pub fn history(mut self, messages: u32) -> Self {
        self.reader.history = u64::from(messages);
        self
    }

    /// Samples of each publisher that the subscriber may keep at a time, at least 1. With that many it receives nothing but
    /// [`RecvError::TooManySamples`](crate::RecvError::TooManySamples) until it has dropped some.
    ///
    /// By default a subscriber with [`Overflow::Block`] may keep any number: its publisher waits for it anyway. Subscribers
    /// with another policy may keep as many as do not stop the publisher: all of them together a quarter of its blocks beyond
    /// the history, and each beside that the message received last and, if there are 4 such blocks or more, one before it.
    /// A larger number set here is the program's responsibility: the publisher needs that many blocks more.
    ///
    /// In a guest or a library the limits of its grant apply instead.
    #[must_use]
    pub fn samples(mut self, most: u32) -> Self {
        self.reader.samples = Some(most.max(1));
        self
    }

    /// Whether to wait for publishers that are restarted: the subscriber does not end before every component that has
    /// published to the topic and may be restarted has ended for good, has been given up, or the broker shuts down. This
    /// holds for a component that closes its publisher and goes on, too. By default a subscriber ends as soon as no
    /// publisher is left.
    ///
    /// In guests and native libraries this has no effect: there the host decides for the component, with the broker's
    /// `ComponentOptions::await_restarts`.
    #[must_use]
    pub fn await_restarts(mut self, wait: bool) -> Self {
        self.await_restarts = wait;
        self
    }

    /// What [`await_restarts`](Self::await_restarts) was set to.
    #[must_use]
    pub fn get_await_restarts(&self) -> bool {
        self.await_restarts
    }

    /// What statistics call it. Otherwise it goes by the name of its component, if it has one.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// What [`name`](Self::name) was set to; empty if it was not.
    #[must_use]
    pub fn get_name(&self) -> &'static str {
        self.name
    }

    /// The same, as the engine takes it.
    #[must_use]
    pub fn reader(&self) -> ReaderOptions {
        self.reader
    }
}
