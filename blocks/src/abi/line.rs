//! A publisher's line: the words by which a component publishes without a call.

use std::ptr;

/// One descriptor of the ring.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LineSlot {
    /// Bits 0 to 31: bytes of the message, at most 2^31 - 1. Bit 32: they were not checked. Bits 33 to 63: where the block starts, in
    /// units of 64 bytes from `base` of the line.
    pub word: u64,
    /// When it was published, in nanoseconds of the clock of `now`; 0 where the publisher does not say.
    pub time: u64,
}

/// Where a publisher's messages are announced. See `publisher_line`.
///
/// `publisher_take_blocks` lends blocks for it, which are published in the order in which the ring names them: sequence by sequence from
/// `first` on, each in the slot whose index is the sequence and `mask`. A message is published by these steps, in this order. What is
/// written here as an access to one word is an atomic one.
///
/// 1. Read the `word` of the slot that names the next block, and fill the block. That slot may be the one that 3 writes to.
/// 2. If `over` is not 0, publish nothing: the component is to end, as any call will say. Who has few blocks at a time may leave it to
///    the next `publisher_take_blocks`.
/// 3. In the slot of the message's sequence: set `time`, unless it is that already, and set `word` to bits 33 to 63 of the block's word and
///    the length, unless it is that already. The bytes must be a value of the topic's schema; what the component does not vouch for
///    goes through `publisher_publish_taken`.
/// 4. Set `bytes` to what it was and the length.
/// 5. Set `next` to the sequence and 1, with release order. The message is published.
/// 6. Read `waiters`, after 5 in the program's order: a compiler's barrier between them suffices, the host provides for the
///    processor's. If it is not 0, call `publisher_published`.
///
/// The message's sequence is what `next` is before. Whoever keeps it and `bytes` reads them anew after a call that publishes. After a call
/// of `publisher_take_blocks`, `publisher_publish` or `publisher_publish_block` with this publisher, whatever it returns, no block is lent
/// any more that was lent before.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PublishingLine {
    /// Bytes of this struct; set by the component before it asks.
    pub size: u32,
    /// Which time the messages carry: [`TIMESTAMPS_COARSE`](super::TIMESTAMPS_COARSE) and its kin.
    pub timestamps: u32,
    /// The descriptors: one more than `mask`.
    pub slots: *mut LineSlot,
    /// Their number less one; a power of two less one.
    pub mask: u64,
    /// The sequence of the next message.
    pub next: *mut u64,
    /// Bytes of all messages published.
    pub bytes: *mut u64,
    /// Not 0: somebody may wait for a message.
    pub waiters: *const u32,
    /// Not 0: the component is to end. Unlike the other words it stays where it is until the library is closed.
    pub over: *const u32,
    /// Bytes that each block has.
    pub capacity: usize,
    /// Where blocks start from; aligned to 64.
    pub base: *mut u8,
}

impl PublishingLine {
    /// None.
    pub const NONE: Self = Self {
        size: size_of::<Self>() as u32,
        timestamps: 0,
        slots: ptr::null_mut(),
        mask: 0,
        next: ptr::null_mut(),
        bytes: ptr::null_mut(),
        waiters: ptr::null(),
        over: ptr::null(),
        capacity: 0,
        base: ptr::null_mut(),
    };
}
