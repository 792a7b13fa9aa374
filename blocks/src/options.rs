//! How a subscriber wants to be served.

/// What happens when the publisher runs out of blocks because this subscriber is slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The publisher waits, or gets [`Exhausted`](crate::LoanError::Exhausted). Nothing is lost.
    #[default]
    Block,
    /// The publisher goes on; the subscriber loses its oldest messages and is told how many.
    DropOldest,
}

/// How a subscriber joins a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderOptions {
    /// What happens when it is slow.
    pub overflow: Overflow,
    /// Messages kept for it at most (`DropOldest` only); `None`: as many as the publisher has blocks.
    pub depth: Option<u32>,
    /// Earlier messages to start with, as far as the channel keeps a history.
    pub history: u64,
}
