//! How much a guest sees of the arenas that its subscriptions read.

/// How much of a publisher's arena a subscribed guest can read.
///
/// At every level, a guest cannot write to the arena, and cannot read anything of topics that it was not
/// granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isolation {
    /// All of it, at any time, since the arena is mapped once. A guest can read messages of the same
    /// publishers that were not delivered to it (yet, or because it joined late) and the remains of older
    /// ones, but it is not told where they are. No system call and no copy per message.
    #[default]
    Arena,
    /// Only messages that it is attached to, that is, messages delivered and not released, or held.
    /// Everything else in its window reads as zeros, including the bytes behind a message's end.
    ///
    /// A message of less than [`STRICT_MAPPED`](Self::STRICT_MAPPED) bytes is copied to the guest's own view
    /// and erased when it is released: two passes over its bytes, but no system call. For a longer message,
    /// the pages that it fills are mapped, with one system call at delivery and one at release, and only its
    /// bytes on other pages are copied.
    Strict,
    /// Like [`Strict`](Self::Strict), but without mappings: every message is copied into the guest's own
    /// memory at delivery and erased at release, and the guest's own messages are copied. Two passes over
    /// the bytes of every message and no system call, whatever its length.
    ///
    /// Guests see only one difference: one that writes to a message changes its own copy and is not ended.
    /// Use it for comparison, and on hosts that cannot map memory.
    Copied,
}

impl Isolation {
    /// Length in bytes from which [`Strict`](Self::Strict) maps messages.
    ///
    /// Mapping and unmapping take 9 µs whatever the length, in a virtual machine. Copying and erasing take
    /// 1.7 µs for 64 KiB, and 64 µs for 1 MiB, which exceeds the caches: at that rate, 8 µs for 128 KiB.
    pub const STRICT_MAPPED: u32 = 128 << 10;
}
