//! How a subscriber wants to be served.

/// What happens when the publisher runs out of blocks because this subscriber is slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The publisher waits, or gets [`Exhausted`](crate::LoanError::Exhausted). Nothing is lost.
    #[default]
    Block,
    /// The publisher goes on; the subscriber loses its oldest messages and is told how many.
    DropOldest,
    /// The publisher goes on; the subscriber keeps the oldest messages, up to its depth. Once it has that
    /// many, everything newer is lost until it has received all of them; then it is told how many were lost
    /// and goes on with the next one to be published.
    DropNewest,
}

/// How a subscriber joins a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderOptions {
    /// What happens when it is slow.
    pub overflow: Overflow,
    /// Messages kept for it at most. `DropOldest`: as many as the publisher has blocks, if `None`.
    /// `DropNewest`: a quarter of the publisher's blocks if `None`, at most half of them, and at least 1.
    /// `Block`: does not apply, the publisher's blocks are the limit.
    pub depth: Option<u32>,
    /// Earlier messages to start with, as far as the channel keeps a history.
    pub history: u64,
}
