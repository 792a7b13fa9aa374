//! Direct publishing, if the host permits it: reserved blocks, and the words by which they are published.

use std::ptr::NonNull;

use super::runtime::Runtime;
use super::types::{Error, answer};
use crate::abi::{self, Host, TIMESTAMPS_COARSE, TIMESTAMPS_PRECISE};
use crate::descriptor::word_at;
use crate::direct::DirectPublisher;
use crate::sys::clock;
use crate::units::Sequence;

/// Blocks to reserve at a time.
const AT_A_TIME: u32 = 64;

/// Publishes the messages of one publisher directly.
#[derive(Debug)]
pub(super) struct DirectWriter {
    direct: DirectPublisher,
    /// The kind of time that the messages carry.
    timestamps: u32,
    /// Where the blocks start.
    base: NonNull<u8>,
    /// Bytes of a block.
    capacity: usize,
}

impl DirectWriter {
    /// Asks the host. `None` if it cannot do this, or does not permit it for this publisher.
    pub(super) fn open(host: &Host, publisher: u64) -> Option<Self> {
        let (ask, _, _, _) = functions(host)?;
        let mut words = abi::DirectPublisher::NONE;
        // SAFETY: the table is a host's, which was checked, and is called with its context; the place for the
        // answer is valid for the call, and its size is set.
        answer(unsafe { ask(host.context, publisher, &raw mut words) }).ok()?;
        Some(Self {
            // SAFETY: the host has given them out. What they lead to stays until the publisher is closed,
            // which its owner, the writer, does last of all, or until the library is.
            direct: unsafe { DirectPublisher::new(&words) }?,
            timestamps: words.timestamps,
            base: NonNull::new(words.base)?,
            capacity: words.capacity,
        })
    }

    /// Bytes of each block.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether there is a block for the next message. Otherwise [`refill`](Self::refill) asks for some.
    #[inline(always)]
    pub(super) fn has_block(&self) -> bool {
        self.direct.has_block()
    }

    /// The first byte of that block.
    #[inline(always)]
    pub(super) fn block(&self) -> *mut u8 {
        self.base.as_ptr().wrapping_add(self.direct.block())
    }

    /// Distance of the block with this first byte from the arena's start.
    #[inline(always)]
    fn offset(&self, block: *const u8) -> usize {
        (block as usize).wrapping_sub(self.base.as_ptr() as usize)
    }

    /// Reserves blocks, when there are none left.
    #[inline(never)]
    pub(super) fn refill(&mut self, runtime: &Runtime, publisher: u64) -> Result<(), Error> {
        let host = runtime.host()?;
        let (_, take, _, _) = functions(host).ok_or(Error::Internal)?;
        let (mut first, mut count) = (0, 0);
        // SAFETY: as in `open`.
        let status = unsafe { take(host.context, publisher, AT_A_TIME, &raw mut first, &raw mut count) };
        answer(status)?;
        self.direct.take_up(first, count);
        if count == 0 { Err(Error::Internal) } else { Ok(()) } // the host contradicts itself
    }

    /// Publishes `len` bytes of this block, the next one, which are a valid value. Returns the message's
    /// sequence, and `true` if the host must wake waiting subscribers.
    #[inline(always)]
    pub(super) fn publish(&mut self, block: *const u8, len: usize) -> (Sequence, bool) {
        match self.timestamps {
            TIMESTAMPS_COARSE => self.direct.stamp(clock::coarse().as_nanos()),
            TIMESTAMPS_PRECISE => self.direct.stamp(clock::precise().as_nanos()),
            _ => {} // slots start with it
        }
        let sequence = Sequence::new(self.direct.sequence());
        (sequence, self.direct.publish(self.offset(block), len))
    }

    /// Has the host wake waiting subscribers.
    #[cold]
    pub(super) fn wake(&self, runtime: &Runtime, publisher: u64) -> Result<(), Error> {
        let host = runtime.host()?;
        let (_, _, published, _) = functions(host).ok_or(Error::Internal)?;
        // SAFETY: as in `open`.
        answer(unsafe { published(host.context, publisher) })
    }

    /// Has the host check and publish the bytes of this block, the next one.
    #[inline(never)]
    pub(super) fn publish_checked(
        &mut self,
        runtime: &Runtime,
        publisher: u64,
        (block, length): (*const u8, u32),
    ) -> Result<Sequence, Error> {
        let host = runtime.host()?;
        let (_, _, _, publish) = functions(host).ok_or(Error::Internal)?;
        let (mut sequence, word) = (0, word_at(self.offset(block), 0));
        // SAFETY: as in `open`.
        let status = unsafe { publish(host.context, publisher, word, length, &raw mut sequence) };
        self.direct.refresh(); // it may have been published, whatever the host says
        answer(status)?;
        Ok(Sequence::new(sequence))
    }

    /// The sequence that the next message gets.
    pub(super) fn next_sequence(&self) -> Sequence {
        Sequence::new(self.direct.sequence())
    }
}

type Functions = (
    unsafe extern "C" fn(*mut std::ffi::c_void, u64, *mut abi::DirectPublisher) -> abi::Status,
    unsafe extern "C" fn(*mut std::ffi::c_void, u64, u32, *mut u64, *mut u32) -> abi::Status,
    unsafe extern "C" fn(*mut std::ffi::c_void, u64) -> abi::Status,
    unsafe extern "C" fn(*mut std::ffi::c_void, u64, u64, u32, *mut u64) -> abi::Status,
);

/// The host's functions for direct publishing, if it has them.
fn functions(host: &Host) -> Option<Functions> {
    Some((
        host.publisher_direct?,
        host.publisher_take_blocks?,
        host.publisher_published?,
        host.publisher_publish_taken?,
    ))
}
