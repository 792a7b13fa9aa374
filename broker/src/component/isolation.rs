//! How much a guest sees of the arenas that its subscriptions read.

/// What of a publisher's arena a subscribed guest can read.
///
/// Whatever the level, a guest cannot write into it, and reads nothing of topics that it was not granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isolation {
    /// All of it, at any time: the arena is mapped once. A guest can look at messages of the same publishers
    /// that were not delivered to it (yet, or because it joined late), and at what is left of older ones; which bytes are
    /// what it does not learn. No system call and no copy per message.
    #[default]
    Arena,
    /// Only the bytes of messages that it is attached to: delivered and not released, or held. Everything else in its window
    /// reads as zeros, what lies behind a message's end included.
    ///
    /// A message of less than [`STRICT_MAPPED`](Self::STRICT_MAPPED) bytes is copied to the guest's own view and erased when it is
    /// released: two passes over its bytes, no system call. Of a longer one the whole pages are mapped, one system call at
    /// delivery and one at release, and only the bytes on pages that it does not fill are copied.
    Strict,
    /// As [`Strict`](Self::Strict), without a mapping: every message is copied into the guest's own memory when it is delivered
    /// and erased when it is released, and what the guest publishes is always copied. Two passes over the bytes of every
    /// message, whatever its length, and no system call.
    ///
    /// A guest notices no difference, as long as it does not write into what it reads: it changes its own copy then, and is not
    /// ended. To compare with, and for hosts that cannot map.
    Copied,
}

impl Isolation {
    /// Length in bytes from which on [`Strict`](Self::Strict) maps messages.
    pub const STRICT_MAPPED: u32 = 64 << 10;
}
