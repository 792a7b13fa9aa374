//! [`SubscriberOptions`]: the overflow policy, start and limits of a subscriber.

use blockcast_blocks::{Overflow, ReaderOptions};

/// The overflow policy, the first message and the limits of a subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriberOptions {
    reader: ReaderOptions,
    name: &'static str,
    await_restarts: bool,
}

impl SubscriberOptions {
    /// The default options: lose no messages ([`Overflow::Block`]), and start with the next message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Options for a value of which only the latest matters: start with the last message, and keep no older
    /// one. See [`Latest`](crate::Latest).
    #[must_use]
    pub fn latest() -> Self {
        Self::new().overflow(Overflow::DropOldest).depth(1).history(1)
    }

    /// Sets what happens if a publisher runs out of blocks because this subscriber is slow.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.reader.overflow = overflow;
        self
    }

    /// Sets the maximum number of unread messages kept per publisher, at least 1. With
    /// [`Overflow::DropOldest`], older messages are lost, with [`Overflow::DropNewest`] newer ones.
    ///
    /// All subscribers with `DropNewest` share half of a publisher's blocks. If less is left, fewer messages
    /// are kept: see [`ReaderOptions::depth`].
    #[must_use]
    pub fn depth(mut self, messages: u32) -> Self {
        self.reader.depth = Some(messages.max(1));
        self
    }

    /// Sets the number of earlier messages of each publisher with which to start. If a publisher's history is
    /// shorter, the subscriber starts with all of it.
    #[must_use]
    pub fn history(mut self, messages: u32) -> Self {
        self.reader.history = u64::from(messages);
        self
    }

    /// Sets the maximum number of samples of each publisher that the subscriber can keep, at least 1. While
    /// it keeps that many, it receives only [`RecvError::TooManySamples`](crate::RecvError::TooManySamples).
    ///
    /// By default, a subscriber with [`Overflow::Block`] can keep any number, because its publisher waits for
    /// it anyway. Subscribers with another policy can keep as many as do not stop the publisher. All of them
    /// share a quarter of its blocks beyond the history. In addition, each can keep the last message and, if
    /// there are at least 4 such blocks, the one before it. If you set a larger number, give the publisher as
    /// many blocks more.
    ///
    /// In a guest or a library, the limits of its grant apply instead.
    #[must_use]
    pub fn samples(mut self, most: u32) -> Self {
        self.reader.samples = Some(most.max(1));
        self
    }

    /// Sets whether to wait for publishers that are restarted. By default, a subscriber ends as soon as no
    /// publisher is left. With this option, it also waits for every component that has published to the topic
    /// and may be restarted, even if the component has closed its publisher. It ends once all of them have
    /// ended for good or been given up, or the broker shuts down.
    ///
    /// Has no effect in guests and native libraries. There, the host decides for the component with the
    /// broker's `ComponentOptions::await_restarts`.
    #[must_use]
    pub fn await_restarts(mut self, wait: bool) -> Self {
        self.await_restarts = wait;
        self
    }

    /// Whether the subscriber [waits for restarts](Self::await_restarts).
    #[must_use]
    pub fn get_await_restarts(&self) -> bool {
        self.await_restarts
    }

    /// Sets whether to leave out publishers that are relays: those which pass on messages from elsewhere,
    /// such as another machine. A bridge that sends messages elsewhere subscribes like this, so that no
    /// message goes round in a circle. The subscriber does not end while it waits for its first publisher,
    /// even if the topic has relays.
    ///
    /// Has no effect in guests and native libraries.
    #[must_use]
    pub fn skip_relays(mut self, skip: bool) -> Self {
        self.reader.skip_relays = skip;
        self
    }

    /// Sets the subscriber's name in statistics. The default is the name of its component, if it has one.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// The [name](Self::name), or an empty string if none was set.
    #[must_use]
    pub fn get_name(&self) -> &'static str {
        self.name
    }

    /// Converts the options for the engine.
    #[must_use]
    pub fn reader(&self) -> ReaderOptions {
        self.reader
    }
}
