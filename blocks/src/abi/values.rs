//! Values that cross the table: views, records, options and counters, as C sees them.
//!
//! Options begin with their size in bytes, so that they can grow at their end. Fields that a shorter struct
//! lacks have the value 0, which is always the default. Set everything to 0, then the fields that matter.

use std::ptr;

/// A UTF-8 text without a terminator: `size` bytes from `start` on. `start` may be null if `size` is 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Text {
    /// The first byte.
    pub start: *const u8,
    /// Number of bytes.
    pub size: usize,
}

// SAFETY: a view. Code that reads through it must know that it is valid; sending it reads nothing.
unsafe impl Send for Text {}
// SAFETY: as above.
unsafe impl Sync for Text {}

impl Text {
    /// An empty text.
    pub const EMPTY: Self = Self { start: ptr::null(), size: 0 };

    /// A view of `text`, valid for as long as `text`.
    #[must_use]
    pub const fn of(text: &str) -> Self {
        Self { start: text.as_ptr(), size: text.len() }
    }

    /// The bytes, or `None` if `start` is null and `size` is not 0, or if `size` exceeds the address space.
    ///
    /// # Safety
    /// If `start` is not null, `size` bytes from it on are readable and do not change during `'t`.
    #[must_use]
    pub unsafe fn bytes<'t>(self) -> Option<&'t [u8]> {
        if self.size == 0 {
            return Some(&[]);
        }
        if self.start.is_null() || self.size > isize::MAX as usize {
            return None;
        }
        // SAFETY: not null, not too long; readable and unchanged, as the caller promises.
        Some(unsafe { std::slice::from_raw_parts(self.start, self.size) })
    }

    /// The text, or `None` if there are no such bytes or they are not UTF-8.
    ///
    /// # Safety
    /// The same as for [`bytes`](Self::bytes).
    #[must_use]
    pub unsafe fn str<'t>(self) -> Option<&'t str> {
        // SAFETY: as the caller promises.
        unsafe { self.bytes() }.and_then(|bytes| std::str::from_utf8(bytes).ok())
    }
}

/// Memory: `size` bytes from `address` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Area {
    /// The first byte. May be null if `size` is 0.
    pub address: *mut u8,
    /// Number of bytes.
    pub size: usize,
}

/// A delivered message, as `subscription_poll` writes it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Record {
    /// Position of the message among its publisher's, from 0 on. 2^64 - 1: this is not a delivery, and has no
    /// index. It reports `lost` messages that no message follows yet.
    pub sequence: u64,
    /// Time of publishing, in nanoseconds of the clock of `now`; 0 if the publisher does not stamp its
    /// messages.
    pub time: u64,
    /// The first byte of the message; aligned to 64. Must not be written to.
    pub address: *const u8,
    /// Bits 0 to 30: bytes of the message. Bit 31 ([`VALID`]): they are known to be a value of the topic's
    /// schema.
    pub length: u32,
    /// Number of the publisher within the broker.
    pub publisher: u32,
    /// Messages lost just before this one, at most 2^32 - 1.
    pub lost: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: an address. Code that reads through it must know that the message is still there; sending it reads
// nothing.
unsafe impl Send for Record {}
// SAFETY: as above.
unsafe impl Sync for Record {}

impl Default for Record {
    fn default() -> Self {
        Self { sequence: 0, time: 0, address: ptr::null(), length: 0, publisher: 0, lost: 0, reserved: 0 }
    }
}

// The layout that is promised wherever a pointer has 64 bits.
const _: () = assert!(size_of::<Record>() == 40 || size_of::<usize>() != 8);

/// Bit of a message's length: the bytes are known to be a value of the topic's schema.
pub const VALID: u32 = 0x8000_0000;

/// A block to fill and publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Loan {
    /// Handle of the block, a memory block that is attached for writing. 0: there is no block.
    pub block: u64,
    /// The first byte; aligned to 64.
    pub address: *mut u8,
    /// Number of bytes that may be written. Their content is unspecified.
    pub capacity: usize,
}

impl Loan {
    /// No block.
    pub const NONE: Self = Self { block: 0, address: ptr::null_mut(), capacity: 0 };
}

/// The options of a subscription.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SubscriptionOptions {
    /// Bytes of this struct.
    pub size: u32,
    /// What happens if it falls behind: [`OVERFLOW_BLOCK`], [`OVERFLOW_DROP_OLDEST`] or
    /// [`OVERFLOW_DROP_NEWEST`].
    pub overflow: u32,
    /// Number of earlier messages to start with, per publisher.
    pub history: u32,
    /// Number of messages that may wait for it, per publisher. 0: as the policy says.
    pub depth: u32,
    /// The subscription's name in statistics. Empty: the name of its component.
    pub name: Text,
}

/// The publisher waits. Nothing is lost.
pub const OVERFLOW_BLOCK: u32 = 0;
/// The oldest messages are skipped. The next message reports how many.
pub const OVERFLOW_DROP_OLDEST: u32 = 1;
/// New messages are lost until there is room. The next message reports how many.
pub const OVERFLOW_DROP_NEWEST: u32 = 2;

/// The options of a publisher.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PublisherOptions {
    /// Bytes of this struct.
    pub size: u32,
    /// Capacity of a block in bytes, and so the longest message. The host may round it up.
    pub block_size: u32,
    /// Number of blocks, at least 2.
    pub blocks: u32,
    /// Number of messages kept for subscribers that join late.
    pub history: u32,
    /// Number of blocks that the pool may grow to. 0: the pool does not grow.
    pub max_blocks: u32,
    /// Largest number of subscribers at a time. 0: the default.
    pub max_subscribers: u32,
    /// Whether messages carry the time: [`TIMESTAMPS_COARSE`], [`TIMESTAMPS_OFF`] or [`TIMESTAMPS_PRECISE`].
    pub timestamps: u32,
    /// Which free block is loaned next: [`REUSE_BY_SIZE`], [`REUSE_OLDEST`] or [`REUSE_HOTTEST`].
    pub reuse: u32,
    /// Not 0: touch all memory now rather than at its first use.
    pub prefault: u32,
    /// Number of size classes in `larger`.
    pub larger_count: u32,
    /// Blocks of larger sizes, in ascending order; null if there are none.
    pub larger: *const SizeClass,
    /// The publisher's name in statistics. Empty: the name of its component.
    pub name: Text,
}

/// Blocks of one size.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SizeClass {
    /// Capacity of a block in bytes.
    pub block_size: u32,
    /// Initial number of blocks.
    pub blocks: u32,
    /// Largest number of blocks; at least `blocks`.
    pub max_blocks: u32,
}

/// The kernel's tick, 1 to 10 ms.
pub const TIMESTAMPS_COARSE: u32 = 0;
/// Messages carry no time.
pub const TIMESTAMPS_OFF: u32 = 1;
/// Nanoseconds.
pub const TIMESTAMPS_PRECISE: u32 = 2;

/// Like [`REUSE_HOTTEST`] for large blocks, and like [`REUSE_OLDEST`] for small ones.
pub const REUSE_BY_SIZE: u32 = 0;
/// The block that was freed first.
pub const REUSE_OLDEST: u32 = 1;
/// The block that was freed last.
pub const REUSE_HOTTEST: u32 = 2;

/// Counters of a subscription since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SubscriptionStats {
    /// Messages delivered.
    pub received: u64,
    /// Messages lost to the overflow policy.
    pub lost: u64,
    /// Delivered messages that are neither released nor held.
    pub attached: u32,
    /// Held messages.
    pub held: u32,
    /// Publishers that currently feed the subscription.
    pub publishers: u32,
}

/// Counters of a publisher since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PublisherStats {
    /// Messages published.
    pub published: u64,
    /// Bytes of all messages published.
    pub bytes: u64,
    /// Bytes that the host copied into blocks: those of `publisher_publish`, not those of
    /// `publisher_publish_block`.
    pub copied: u64,
    /// Number of loans that found no free block.
    pub exhausted: u64,
    /// Free blocks, as of the latest check.
    pub free_blocks: u32,
}

/// Attach for writing, exclusively. Without it: for reading.
pub const ACCESS_WRITE: u32 = 1;
/// For reading: share with other readers. For writing: the result may be read by many.
pub const ACCESS_SHARED: u32 = 2;

/// `wait` returned because a subscription or publisher may make progress.
pub const WAKE_PROGRESS: u32 = 1;
/// `wait` returned because its timeout passed.
pub const WAKE_TIMEOUT: u32 = 2;
/// `wait` returned because the component was asked to finish. This ends one `wait`. Later ones only report it
/// beside another reason.
pub const WAKE_SHUTDOWN: u32 = 4;
/// The component was cancelled and must return from `run`. From then on, every `wait` returns this at once.
pub const WAKE_CANCELLED: u32 = 8;

/// The timeout of a `wait` without a timeout.
pub const FOREVER: u64 = u64::MAX;

/// Something failed.
pub const LEVEL_ERROR: u32 = 0;
/// Something is suspicious.
pub const LEVEL_WARN: u32 = 1;
/// Progress that a user wants to see.
pub const LEVEL_INFO: u32 = 2;
/// For developers.
pub const LEVEL_DEBUG: u32 = 3;
/// For developers, in great detail.
pub const LEVEL_TRACE: u32 = 4;
