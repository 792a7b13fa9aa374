//! [`Validation`]: checks the messages that a component publishes.
//!
//! The checks are the program's code. They may ask for the component's counters, or wait for somebody who
//! does, so they run between two accesses to the state:
//!
//! ```text
//!  access: which checks, where are the bytes? ──▶ check ──▶ access: publish or refuse
//! ```

use blockcast_blocks::ArenaPin;
use blockcast_blocks::abi::Error;

use super::blocks::Memory;
use super::publisher::LibraryPublisher;
use super::state::{Entry, LibraryState};
use crate::hosting::publishing::Trust;
use crate::hosting::topic_access::{Checks, Validator};

/// The bytes to check, and the checks to run.
pub(crate) struct Validation {
    layout: Option<Validator>,
    rule: Option<Validator>,
    bytes: *const u8,
    len: usize,
    /// Pins the bytes if they are in a block.
    _arena: ArenaPin,
}

impl Validation {
    fn new(publisher: &mut LibraryPublisher, bytes: *const u8, len: u32) -> Self {
        let (layout, rule) = publisher.checks();
        Self { layout, rule, bytes, len: len as usize, _arena: publisher.pin() }
    }

    /// Runs the checks, which may panic.
    ///
    /// # Safety
    /// The bytes are readable, and nobody writes to them during the call.
    pub(crate) unsafe fn run(&self) -> Trust {
        let checks = Checks { layout: self.layout.as_ref(), rule: self.rule.as_ref() };
        // SAFETY: the caller guarantees this. An empty slice may lie anywhere except at 0, and the pointer is
        // never null.
        Trust::check(checks, unsafe { std::slice::from_raw_parts(self.bytes, self.len) })
    }
}

impl LibraryState {
    /// Prepares the checks of a message that will be copied from `message`.
    pub(crate) fn validation(
        &mut self,
        publisher: u64,
        message: *const u8,
        len: u32,
    ) -> Result<Validation, Error> {
        self.publisher(publisher)?;
        self.may_publish()?;
        let publisher = self.publisher(publisher)?;
        publisher.has_block(len)?;
        Ok(Validation::new(publisher, message, len))
    }

    /// Prepares the checks of a message that was built in a block.
    pub(crate) fn block_validation(
        &mut self,
        publisher: u64,
        block: u64,
        len: u32,
    ) -> Result<Validation, Error> {
        self.publisher(publisher)?;
        let Self { entries, storages, .. } = self;
        let loan = match entries.get_mut(block) {
            Some(Entry::Loan(loan)) => loan,
            Some(Entry::Block(handle)) => match &mut storages.get_mut(*handle).memory {
                Memory::Loan(loan) => loan,
                Memory::Gone => return Err(Error::Closed),
                _ => return Err(Error::InvalidHandle),
            },
            _ => return Err(Error::InvalidHandle),
        };
        if loan.publisher != publisher {
            return Err(Error::InvalidHandle);
        }
        if loan.block.is_none() {
            return Err(Error::Closed);
        }
        if len > loan.capacity {
            return Err(Error::WrongSize);
        }
        let bytes = loan.address.as_ptr().cast_const();
        self.may_publish()?;
        Ok(Validation::new(self.publisher(publisher)?, bytes, len))
    }

    /// Prepares the checks of a message that was built in the next block for direct publishing.
    pub(crate) fn direct_validation(
        &mut self,
        publisher: u64,
        word: u64,
        len: u32,
    ) -> Result<Validation, Error> {
        self.may_publish()?;
        let publisher = self.publisher(publisher)?;
        let bytes = publisher.next_direct_block(word, len)?;
        Ok(Validation::new(publisher, bytes, len))
    }
}
