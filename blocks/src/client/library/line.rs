//! A publisher's line, where the host gives one: blocks that wait to be filled, and the words by which they are published.

use std::ptr::NonNull;

use super::runtime::Runtime;
use super::types::{Error, answer};
use crate::abi::{Host, PublishingLine, TIMESTAMPS_COARSE, TIMESTAMPS_PRECISE};
use crate::descriptor::word_at;
use crate::direct::Line;
use crate::sys::clock;
use crate::units::Sequence;

/// Blocks that are asked for at a time.
const AT_A_TIME: u32 = 64;

/// The line of one publisher.
#[derive(Debug)]
pub(super) struct PublisherLine {
    line: Line,
    /// Which time messages carry.
    timestamps: u32,
    /// Where blocks start from.
    base: NonNull<u8>,
    /// Bytes of a block.
    capacity: usize,
}

impl PublisherLine {
    /// Asks for it. `None` where the host has no lines, or none for this publisher.
    pub(super) fn open(host: &Host, publisher: u64) -> Option<Self> {
        let (ask, _, _, _) = functions(host)?;
        let mut view = PublishingLine::NONE;
        // SAFETY: the table is a host's, which was checked, and is called with its context; the place for the line is valid for the
        // call, and its size is set.
        answer(unsafe { ask(host.context, publisher, &raw mut view) }).ok()?;
        Some(Self {
            // SAFETY: the host has given it out. What it leads to stays until the publisher is closed, which its owner, the
            // writer, does last of all, or until the library is.
            line: unsafe { Line::new(&view) }?,
            timestamps: view.timestamps,
            base: NonNull::new(view.base)?,
            capacity: view.capacity,
        })
    }

    /// Bytes of each block.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether there is a block for the next message. Otherwise the host is to be asked.
    #[inline(always)]
    pub(super) fn has_block(&self) -> bool {
        self.line.has_block()
    }

    /// The first byte of that block.
    #[inline(always)]
    pub(super) fn block(&self) -> *mut u8 {
        self.base.as_ptr().wrapping_add(self.line.block())
    }

    /// How far from the arena's start the block with this first byte lies.
    #[inline(always)]
    fn offset(&self, block: *const u8) -> usize {
        (block as usize).wrapping_sub(self.base.as_ptr() as usize)
    }

    /// Asks the host for blocks, of which there are none left.
    #[inline(never)]
    pub(super) fn refill(&mut self, runtime: &Runtime, publisher: u64) -> Result<(), Error> {
        let host = runtime.host()?;
        let (_, take, _, _) = functions(host).ok_or(Error::Internal)?;
        let (mut first, mut count) = (0, 0);
        // SAFETY: as in `open`.
        let status = unsafe { take(host.context, publisher, AT_A_TIME, &raw mut first, &raw mut count) };
        answer(status)?;
        self.line.take_up(first, count);
        if count == 0 { Err(Error::Internal) } else { Ok(()) } // the host contradicts itself
    }

    /// Publishes `len` bytes of this block, the next one, a valid value. True: the host is to wake whoever waits.
    #[inline(always)]
    pub(super) fn publish(&mut self, block: *const u8, len: usize) -> (Sequence, bool) {
        match self.timestamps {
            TIMESTAMPS_COARSE => self.line.stamp(clock::coarse().as_nanos()),
            TIMESTAMPS_PRECISE => self.line.stamp(clock::precise().as_nanos()),
            _ => {} // slots start with it
        }
        let sequence = Sequence::new(self.line.sequence());
        (sequence, self.line.publish(self.offset(block), len))
    }

    /// Has whoever waits woken.
    #[cold]
    pub(super) fn wake(&self, runtime: &Runtime, publisher: u64) -> Result<(), Error> {
        let host = runtime.host()?;
        let (_, _, published, _) = functions(host).ok_or(Error::Internal)?;
        // SAFETY: as in `open`.
        answer(unsafe { published(host.context, publisher) })
    }

    /// Has the host publish this block, the next one, whose bytes it is to check.
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
        self.line.refresh(); // it may be published whatever the host says
        answer(status)?;
        Ok(Sequence::new(sequence))
    }

    /// The sequence that the next message gets.
    pub(super) fn next_sequence(&self) -> Sequence {
        Sequence::new(self.line.sequence())
    }
}

type Functions = (
    unsafe extern "C" fn(*mut std::ffi::c_void, u64, *mut PublishingLine) -> crate::abi::Status,
    unsafe extern "C" fn(*mut std::ffi::c_void, u64, u32, *mut u64, *mut u32) -> crate::abi::Status,
    unsafe extern "C" fn(*mut std::ffi::c_void, u64) -> crate::abi::Status,
    unsafe extern "C" fn(*mut std::ffi::c_void, u64, u64, u32, *mut u64) -> crate::abi::Status,
);

/// The host's functions for lines, if it has them.
fn functions(host: &Host) -> Option<Functions> {
    Some((
        host.publisher_line?,
        host.publisher_take_blocks?,
        host.publisher_published?,
        host.publisher_publish_taken?,
    ))
}
