//! Direct publishing: the words by which a component publishes without a call.

use std::ptr;

/// One descriptor of the ring.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RingSlot {
    /// Bits 0 to 31: bytes of the message, at most 2^31 - 1. Bit 32: they were not checked. Bits 33 to 63:
    /// where the block starts, in units of 64 bytes from `base`.
    pub word: u64,
    /// Time of publishing, in nanoseconds of the clock of `now`; 0 if the publisher does not stamp its
    /// messages.
    pub time: u64,
}

/// Where a publisher's messages are announced. See `publisher_direct`.
///
/// `publisher_take_blocks` reserves blocks. They are published in the order in which the ring names them:
/// sequence by sequence from `first` on, each in the slot whose index is the sequence and `mask`. To publish
/// a message, take these steps in this order. Each access to a single word is atomic.
///
/// 1. Read the `word` of the slot that names the next block, and fill the block. Step 3 may write to this
///    same slot.
/// 2. If `over` is not 0, publish nothing: the component must end, as any call will say. A component that
///    takes few blocks at a time may leave this check to the next `publisher_take_blocks`.
/// 3. In the slot of the message's sequence, set `time` unless it has this value already, and set `word` to
///    bits 33 to 63 of the block's word and the length, unless it has this value already. The bytes must be a
///    value of the topic's schema. If the component does not vouch for that, call `publisher_publish_taken`
///    instead.
/// 4. Add the length to `bytes`.
/// 5. Set `next` to the sequence plus 1, with release order. The message is published.
/// 6. Read `waiters`, after step 5 in program order. A compiler barrier between the two suffices; the host
///    provides the processor's. If the value is not 0, call `publisher_published`.
///
/// The message's sequence is the value of `next` before step 5. Code that caches `next` and `bytes` must read
/// them again after a call that publishes. A call of `publisher_take_blocks`, `publisher_publish` or
/// `publisher_publish_block` with this publisher takes back all blocks that were reserved before, whatever it
/// returns.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DirectPublisher {
    /// Bytes of this struct; set by the component before it asks.
    pub size: u32,
    /// Which time the messages carry: [`TIMESTAMPS_OFF`](super::TIMESTAMPS_OFF),
    /// [`TIMESTAMPS_COARSE`](super::TIMESTAMPS_COARSE) or [`TIMESTAMPS_PRECISE`](super::TIMESTAMPS_PRECISE).
    pub timestamps: u32,
    /// The descriptors: `mask` plus 1 of them.
    pub slots: *mut RingSlot,
    /// Their number minus 1; a power of two minus 1.
    pub mask: u64,
    /// The sequence of the next message.
    pub next: *mut u64,
    /// Bytes of all messages published.
    pub bytes: *mut u64,
    /// Not 0: somebody may wait for a message.
    pub waiters: *const u32,
    /// Not 0: the component must end. Unlike the other words, this one stays in place until the library is
    /// closed.
    pub over: *const u32,
    /// Bytes of each block.
    pub capacity: usize,
    /// Where the blocks start; aligned to 64.
    pub base: *mut u8,
}

impl DirectPublisher {
    /// A value without any words, to be filled in.
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
