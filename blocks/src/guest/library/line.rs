//! A publisher's line, where the host gives one: blocks that wait to be filled, and the words by which they are published.

use std::ptr::NonNull;

use super::runtime::Runtime;
use super::types::{Error, answer};
use crate::abi::{Host, LineBlock, Loan, PublishingLine, TIMESTAMPS_COARSE, TIMESTAMPS_PRECISE};
use crate::line::Line;
use crate::primitive::{AtomicU32, Ordering};
use crate::sys::clock;
use crate::units::Sequence;

/// Blocks that are asked for at a time.
const STASH: usize = 64;

/// The line of one publisher.
#[derive(Debug)]
pub(super) struct PublisherLine {
    line: Line,
    /// The host's word that says that the run is to end.
    over: NonNull<AtomicU32>,
    /// Which time messages carry.
    timestamps: u32,
    /// Bytes of a block.
    capacity: usize,
    /// The next block of the stash, and how many there are.
    next: usize,
    filled: usize,
    /// As the host has written them.
    stash: Box<[LineBlock; STASH]>,
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
            // writer, does last of all, or until the run is over: `is_over` is asked before it is used.
            line: unsafe { Line::new(&view) }?,
            over: NonNull::new(view.over.cast_mut().cast())?,
            timestamps: view.timestamps,
            capacity: view.capacity,
            next: 0,
            filled: 0,
            stash: Box::new([LineBlock::NONE; STASH]),
        })
    }

    /// Takes a block out of the stash, as a loan whose handle is the block's word. [`Loan::NONE`] if the host is to be asked.
    #[inline(always)]
    pub(super) fn take(&mut self) -> Loan {
        match self.stash.get(self.next) {
            Some(&LineBlock { word, address }) if self.next < self.filled => {
                self.next += 1;
                Loan { block: word, address, capacity: self.capacity }
            }
            _ => Loan::NONE,
        }
    }

    /// Asks the host for blocks, and takes one of them. There were none left.
    #[inline(never)]
    pub(super) fn refill(&mut self, runtime: &Runtime, publisher: u64) -> Result<Loan, Error> {
        let host = runtime.host()?;
        let (_, take, _, _) = functions(host).ok_or(Error::Internal)?;
        let mut count = 0;
        // SAFETY: as in `open`; there is room for so many blocks.
        let status =
            unsafe { take(host.context, publisher, STASH as u32, self.stash.as_mut_ptr(), &raw mut count) };
        answer(status)?;
        (self.next, self.filled) = (0, (count as usize).min(STASH));
        match self.take() {
            Loan { address, .. } if address.is_null() => Err(Error::Internal), // the host contradicts itself
            loan => Ok(loan),
        }
    }

    /// Whether the run is to end, or has: nothing is to be published then.
    #[inline(always)]
    pub(super) fn is_over(&self) -> bool {
        // SAFETY: the host keeps the word until the library is closed.
        let over = unsafe { self.over.as_ref() };
        // Ordering: Acquire; what is not there any more is not looked at behind it.
        over.load(Ordering::Acquire) != 0
    }

    /// Publishes `len` bytes of the block with this word, a valid value. True: the host is to wake whoever waits.
    #[inline(always)]
    pub(super) fn publish(&mut self, word: u64, len: usize) -> (Sequence, bool) {
        let sequence = Sequence::new(self.line.sequence());
        let time = match self.timestamps {
            TIMESTAMPS_COARSE => Some(clock::coarse().as_nanos()),
            TIMESTAMPS_PRECISE => Some(clock::precise().as_nanos()),
            _ => None, // slots start with it
        };
        (sequence, self.line.publish(word | len as u64, time))
    }

    /// Has whoever waits woken.
    #[cold]
    pub(super) fn wake(&self, runtime: &Runtime, publisher: u64) -> Result<(), Error> {
        let host = runtime.host()?;
        let (_, _, published, _) = functions(host).ok_or(Error::Internal)?;
        // SAFETY: as in `open`.
        answer(unsafe { published(host.context, publisher) })
    }

    /// Has the host publish the block with this word, whose bytes it is to check.
    #[inline(never)]
    pub(super) fn publish_checked(
        &mut self,
        runtime: &Runtime,
        publisher: u64,
        (word, length): (u64, u32),
    ) -> Result<Sequence, Error> {
        let host = runtime.host()?;
        let (_, _, _, publish) = functions(host).ok_or(Error::Internal)?;
        let mut sequence = 0;
        // SAFETY: as in `open`.
        answer(unsafe { publish(host.context, publisher, word, length, &raw mut sequence) })?;
        self.line.refresh();
        Ok(Sequence::new(sequence))
    }

    /// The sequence that the next message gets.
    pub(super) fn next_sequence(&self) -> Sequence {
        Sequence::new(self.line.sequence())
    }
}

type Functions = (
    unsafe extern "C" fn(*mut std::ffi::c_void, u64, *mut PublishingLine) -> crate::abi::Status,
    unsafe extern "C" fn(*mut std::ffi::c_void, u64, u32, *mut LineBlock, *mut u32) -> crate::abi::Status,
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
