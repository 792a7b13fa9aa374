//! What crosses the table: views, records, options and counters, as C sees them.
//!
//! Options begin with their size in bytes, so that they can grow at their end: what a shorter one lacks has the value 0, which is always
//! the default. Set all to 0, then what is wanted.

use std::ptr;

/// A text in UTF-8 that is not terminated: `size` bytes from `start` on, which may be null where `size` is 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Text {
    /// First byte.
    pub start: *const u8,
    /// Number of bytes.
    pub size: usize,
}

// SAFETY: a view, of which whoever looks through it must know that it is valid; sending it does not look.
unsafe impl Send for Text {}
// SAFETY: as above.
unsafe impl Sync for Text {}

impl Text {
    /// No bytes.
    pub const EMPTY: Self = Self { start: ptr::null(), size: 0 };

    /// A view of `text`, valid as long as that is.
    #[must_use]
    pub const fn of(text: &str) -> Self {
        Self { start: text.as_ptr(), size: text.len() }
    }

    /// The bytes, or `None` where `start` is null and `size` is not 0, or `size` is more than there can be.
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

    /// The text, or `None` where there are no such bytes or they are not UTF-8.
    ///
    /// # Safety
    /// As for [`bytes`](Self::bytes).
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
    /// First byte. May be null where `size` is 0.
    pub address: *mut u8,
    /// Number of bytes.
    pub size: usize,
}

/// A message that was delivered, as `subscription_poll` writes it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Record {
    /// Position of the message within its publisher, from 0 on. 2^64 - 1: this is no delivery, and has no index; it
    /// tells of `lost` messages that no message follows yet.
    pub sequence: u64,
    /// When it was published, in nanoseconds of the clock of `now`; 0 where the publisher does not say.
    pub time: u64,
    /// Where the message lies; aligned to 64. Must not be written to.
    pub address: *const u8,
    /// Bits 0 to 30: bytes of the message. Bit 31 ([`VALID`]): they are known to be a value of the topic's schema.
    pub length: u32,
    /// Number of the publisher within the broker.
    pub publisher: u32,
    /// Messages lost just before this one, at most 2^32 - 1.
    pub lost: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: an address, through which whoever looks must know that the message is still there; sending it does not look.
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

/// A block to be filled and published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Loan {
    /// Handle on the block, a memory block that is attached for writing. 0: there is none.
    pub block: u64,
    /// Its first byte; aligned to 64.
    pub address: *mut u8,
    /// Number of bytes that may be written; what they contain is unspecified.
    pub capacity: usize,
}

impl Loan {
    /// None.
    pub const NONE: Self = Self { block: 0, address: ptr::null_mut(), capacity: 0 };
}

/// How a subscription wants to be served.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SubscriptionOptions {
    /// Bytes of this struct.
    pub size: u32,
    /// What happens when it falls behind: [`OVERFLOW_BLOCK`] and its kin.
    pub overflow: u32,
    /// How many of the newest messages that were published before, per publisher.
    pub history: u32,
    /// How many messages may wait for it per publisher. 0: as the policy says.
    pub depth: u32,
    /// What statistics call the subscription. Empty: by its component's name.
    pub name: Text,
}

/// The publisher waits; nothing is lost.
pub const OVERFLOW_BLOCK: u32 = 0;
/// The oldest messages are skipped; how many is reported with the next one.
pub const OVERFLOW_DROP_OLDEST: u32 = 1;
/// New messages are not delivered until there is room; how many is reported with the next one.
pub const OVERFLOW_DROP_NEWEST: u32 = 2;

/// What a publisher needs.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PublisherOptions {
    /// Bytes of this struct.
    pub size: u32,
    /// Capacity of one block in bytes, hence the longest message. The host may round it up.
    pub block_size: u32,
    /// Number of blocks, at least 2.
    pub blocks: u32,
    /// How many of the last messages stay available to subscribers that come later.
    pub history: u32,
    /// Number of blocks that the pool may grow to. 0: it does not grow.
    pub max_blocks: u32,
    /// Subscribers at a time. 0: as many as is usual.
    pub max_subscribers: u32,
    /// Whether messages carry the time: [`TIMESTAMPS_COARSE`] and its kin.
    pub timestamps: u32,
    /// Which free block is loaned next: [`REUSE_BY_SIZE`] and its kin.
    pub reuse: u32,
    /// Not 0: all memory is touched at once rather than when it is first used.
    pub prefault: u32,
    /// Number of `larger`.
    pub larger_count: u32,
    /// Blocks of larger sizes, in ascending order; null where there are none.
    pub larger: *const SizeClass,
    /// What statistics call the publisher. Empty: by its component's name.
    pub name: Text,
}

/// Blocks of one size.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SizeClass {
    /// Capacity of one block in bytes.
    pub block_size: u32,
    /// Number of blocks at the start.
    pub blocks: u32,
    /// Number of blocks at most; not less than `blocks`.
    pub max_blocks: u32,
}

/// The kernel's tick, 1 to 10 ms.
pub const TIMESTAMPS_COARSE: u32 = 0;
/// No time.
pub const TIMESTAMPS_OFF: u32 = 1;
/// Nanoseconds.
pub const TIMESTAMPS_PRECISE: u32 = 2;

/// Large blocks as [`REUSE_HOTTEST`], small ones as [`REUSE_OLDEST`].
pub const REUSE_BY_SIZE: u32 = 0;
/// The block that was freed first.
pub const REUSE_OLDEST: u32 = 1;
/// The block that was freed last.
pub const REUSE_HOTTEST: u32 = 2;

/// Counters of a subscription, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SubscriptionStats {
    /// Messages delivered.
    pub received: u64,
    /// Messages lost to the overflow policy.
    pub lost: u64,
    /// Messages delivered and neither released nor held.
    pub attached: u32,
    /// Messages held.
    pub held: u32,
    /// Publishers that currently feed the subscription.
    pub publishers: u32,
}

/// Counters of a publisher, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PublisherStats {
    /// Messages published.
    pub published: u64,
    /// Bytes of all messages published.
    pub bytes: u64,
    /// Bytes that the host copied into blocks: those of `publisher_publish`, and none of `publisher_publish_block`.
    pub copied: u64,
    /// How often there was no free block.
    pub exhausted: u64,
    /// Blocks that were free when it was last looked.
    pub free_blocks: u32,
}

/// To write, exclusively. Without it: to read.
pub const ACCESS_WRITE: u32 = 1;
/// To read: together with other readers. To write: so that what is written may be read by many.
pub const ACCESS_SHARED: u32 = 2;

/// `wait` returned because a subscription or publisher may make progress.
pub const WAKE_PROGRESS: u32 = 1;
/// `wait` returned because its timeout has passed.
pub const WAKE_TIMEOUT: u32 = 2;
/// `wait` returned because the component is asked to finish. It ends one `wait`; later ones report it beside another reason only.
pub const WAKE_SHUTDOWN: u32 = 4;
/// The component was cancelled: it is to return from `run`. Every `wait` returns it at once from then on.
pub const WAKE_CANCELLED: u32 = 8;

/// The timeout of `wait` that stands for none.
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
