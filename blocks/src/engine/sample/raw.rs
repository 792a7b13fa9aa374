//! [`RawSample`], and the [`SampleEntry`] that it refers to.
//!
//! ```text
//!            attach                  drop of the last sample
//!   FREE ───────────▶ n samples ───────────────────────────▶ FREE
//!                        │  by its subscriber, when it would hold back the interval
//!                        ▼
//!                     n samples, COUNTED ──────────────────▶ FREE, and the hold is given up
//! ```
//! While an entry is not counted, the subscriber's interval covers the message, and the subscriber keeps the
//! entry. Both sides change the state by compare-exchange. If the last sample wins, it is gone and the
//! interval may move on. If the subscriber wins, having counted the hold first, the samples own the count and
//! one strong reference to the attachments. Only the subscriber reuses an entry for another message, and only
//! once it is free.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::descriptor::{self, Descriptor, Packed, Validity, unit_of, validity_of};
use crate::engine::channel::Channel;
use crate::engine::sample::window::Attachments;
use crate::primitive::{AtomicU32, AtomicU64, Ordering, essential};
use crate::sys::fork::Process;
use crate::units::PublisherId;

/// No sample refers to the entry.
const FREE: u32 = 0;
/// One sample.
const ONE: u32 = 1;
/// The samples own a counted hold on the block.
const COUNTED: u32 = 1 << 31;
/// The largest number of samples of one entry. Far below the count's range, since others may clone on before
/// we end.
const MAX_SAMPLES: u32 = COUNTED / 2;

/// State that the samples of one message share. A cache line.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct SampleEntry {
    state: AtomicU32,
    sequence: AtomicU64,
    word: AtomicU64,
    time: AtomicU64,
    process: Process,
    /// First byte of the arena.
    base: NonNull<u8>,
    /// The owner of the entry. Made from an `Arc`'s pointer.
    attachments: NonNull<Attachments>,
}

// SAFETY: the pointers are to an arena, which is read through samples only, and to what owns the entry; all
// else is atomic.
unsafe impl Send for SampleEntry {}
// SAFETY: as above.
unsafe impl Sync for SampleEntry {}

impl SampleEntry {
    pub(crate) fn new(base: NonNull<u8>, attachments: NonNull<Attachments>, process: Process) -> Self {
        Self {
            state: AtomicU32::new(FREE),
            sequence: AtomicU64::new(0),
            word: AtomicU64::new(0),
            time: AtomicU64::new(0),
            process,
            base,
            attachments,
        }
    }

    #[inline(always)]
    pub(crate) fn is_free(&self) -> bool {
        // Ordering: Acquire pairs with the last sample's Release: it has read the entry.
        self.state.load(Ordering::Acquire) == FREE
    }

    /// The message that samples keep. For statistics; may be out of date.
    pub(crate) fn kept(&self) -> Option<u64> {
        (self.state.load(Ordering::Acquire) != FREE).then(|| self.sequence.load(Ordering::Relaxed))
    }

    /// Whether samples of message `sequence` refer to the entry, and the interval covers them. For the
    /// subscriber.
    #[inline(always)]
    pub(crate) fn is_attached(&self, sequence: u64) -> bool {
        // Ordering: Relaxed; our own store.
        if self.sequence.load(Ordering::Relaxed) != sequence {
            return false;
        }
        // Ordering: Acquire pairs with the sample's Release: its holder has read its last byte.
        let state = self.state.load(Ordering::Acquire);
        state != FREE && state & COUNTED == 0
    }

    /// Uses the entry, which is [free](Self::is_free), for a message. Returns its first sample.
    #[inline(always)]
    fn fill(&self, packed: Packed, state: u32) -> RawSample {
        self.sequence.store(packed.sequence, Ordering::Relaxed);
        self.word.store(packed.word, Ordering::Relaxed);
        self.time.store(packed.time, Ordering::Relaxed);
        // Ordering: Relaxed; a thread that uses the sample elsewhere received it through a synchronising
        // move.
        self.state.store(state, Ordering::Relaxed);
        RawSample(NonNull::from(self))
    }

    /// Creates a sample of a message that the interval covers.
    #[inline(always)]
    pub(crate) fn attach(&self, packed: Packed) -> RawSample {
        self.fill(packed, ONE)
    }

    /// Creates a sample of a message whose block was counted for it. It owns one strong reference to the
    /// attachments.
    pub(crate) fn attach_counted(&self, packed: Packed) -> RawSample {
        self.fill(packed, ONE | COUNTED)
    }

    /// Hands a counted hold and a strong reference to the attachments to the samples. Returns `false` if they
    /// are gone.
    pub(crate) fn count(&self) -> bool {
        let mut state = self.state.load(Ordering::Acquire);
        while state != FREE {
            // Ordering: Release publishes the count to the samples; Acquire as in `is_attached`.
            let counted =
                self.state.compare_exchange(state, state | COUNTED, Ordering::AcqRel, Ordering::Acquire);
            match counted {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// The number of the block, for its hold count.
    pub(crate) fn block(&self, channel: &Channel) -> u32 {
        channel.layout().block_of(unit_of(self.word.load(Ordering::Relaxed)))
    }

    /// Drops a sample that is not the only one, or that is counted.
    ///
    /// # Safety
    /// `entry` is valid, and the caller one of its samples.
    #[cold]
    #[inline(never)]
    unsafe fn release(entry: NonNull<Self>) {
        // SAFETY: valid until the last sample, which we are one of, has set it free.
        let this = unsafe { entry.as_ref() };
        // Ordering: Acquire pairs with the Release of `count`: the count is ours; and with those of the other
        // samples: they have read what we release for all.
        let mut state = this.state.load(Ordering::Acquire);
        while state != ONE | COUNTED {
            // Ordering: Release: we have read the message that we release.
            match this.state.compare_exchange(state, state - ONE, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
        // The last one, and counted: nobody else changes the entry any more.
        let attachments = this.attachments;
        // SAFETY: we own a strong reference.
        let shared = unsafe { attachments.as_ref() };
        shared.give_up_hold(this.block(&shared.channel));
        // Ordering: Release, as in `RawSample::drop`.
        this.state.store(FREE, Ordering::Release);
        // SAFETY: the strong reference came with the count; the pointer was made from an `Arc`.
        unsafe { Arc::decrement_strong_count(attachments.as_ptr()) };
    }
}

/// A message that stays in place for as long as this value lives. Can be sent and cloned freely, and dropped
/// in any order.
///
/// Dropping the last clone returns the block at once, with one exception: if nothing was received after it
/// and the publisher has 8 blocks or more, the block returns when the subscriber receives, waits, or is
/// dropped.
///
/// Dropping costs one compare-exchange, and cloning one addition. Dropping a sample that outlived its
/// subscriber's window costs three or four atomic operations.
pub struct RawSample(
    /// Valid while the sample refers to it: the subscriber keeps it as long as it is not counted. Afterwards,
    /// the strong reference that came with the counted hold keeps it.
    NonNull<SampleEntry>,
);

// SAFETY: a sample reads bytes that nobody writes while it lives, and ends its attachment through atomics.
unsafe impl Send for RawSample {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for RawSample {}

impl RawSample {
    #[inline(always)]
    fn entry(&self) -> &SampleEntry {
        // SAFETY: valid as stated at the field.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    fn word(&self) -> u64 {
        // Ordering: Relaxed; does not change while a sample stands on the entry.
        self.entry().word.load(Ordering::Relaxed)
    }

    /// The message's bytes, in place.
    ///
    /// # Panics
    /// In a forked child, if the sample was received before the fork: the child does not have the bytes.
    #[inline(always)]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        if !self.entry().process.is_current() {
            not_here();
        }
        // SAFETY: the block is not handed out again while the sample is attached or counted, and its arena
        // lives as long as the channel that the attachments keep.
        unsafe { descriptor::bytes(self.entry().base, self.word()) }
    }

    /// Copies as many of the message's bytes as `to` takes, at one relaxed load per 8 bytes. Unlike
    /// [`bytes`](Self::bytes), this is sound even if the publisher's process changes the message meanwhile:
    /// the copy then has some of the old bytes and some of the new ones.
    ///
    /// # Panics
    /// Like [`bytes`](Self::bytes).
    #[cfg(not(loom))]
    pub fn copy_to(&self, to: &mut [u8]) {
        if !self.entry().process.is_current() {
            not_here();
        }
        // SAFETY: as in `bytes`, except that the bytes may change, which `copy` allows.
        unsafe { descriptor::copy(self.entry().base, self.word(), to) }
    }

    /// The message's position, time and length.
    #[inline]
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        let entry = self.entry();
        let sequence = entry.sequence.load(Ordering::Relaxed);
        let time = entry.time.load(Ordering::Relaxed);
        Packed { sequence, word: self.word(), time }.unpack()
    }

    /// Whether the bytes are known to be a value of the topic's layout.
    #[inline(always)]
    #[must_use]
    pub fn validity(&self) -> Validity {
        validity_of(self.word())
    }

    /// The publisher of the message.
    #[must_use]
    pub fn publisher(&self) -> PublisherId {
        self.channel().publisher()
    }

    /// The channel that the message came through.
    #[must_use]
    pub fn channel(&self) -> &Arc<Channel> {
        // SAFETY: the attachments live at least as long as the entry, which is valid as stated at the field.
        unsafe { &(*self.entry().attachments.as_ptr()).channel }
    }
}

#[cold]
#[inline(never)]
fn not_here() -> ! {
    panic!("the sample belongs to the process that was forked: a child has no messages of its parent")
}

impl Clone for RawSample {
    fn clone(&self) -> Self {
        // Ordering: Relaxed; `self` keeps the entry meanwhile.
        let before = self.entry().state.fetch_add(ONE, Ordering::Relaxed);
        if before & !COUNTED > MAX_SAMPLES {
            // Only a program that clones and forgets samples again and again comes this far. A count that
            // wraps would free the block under them, so end the process, as `Arc` does.
            std::process::abort();
        }
        Self(self.0)
    }
}

impl Drop for RawSample {
    #[inline(always)]
    fn drop(&mut self) {
        // Ordering: Release: we have read the message. After a success the entry may be freed at any
        // time, so nothing of it is touched any more.
        let release = essential!(release_sample, Ordering::Release);
        if self.entry().state.compare_exchange(ONE, FREE, release, Ordering::Relaxed).is_err() {
            // SAFETY: valid as stated at the field, and this is one of its samples.
            unsafe { SampleEntry::release(self.0) };
        }
    }
}

impl fmt::Debug for RawSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSample").field("descriptor", &self.descriptor()).finish_non_exhaustive()
    }
}
