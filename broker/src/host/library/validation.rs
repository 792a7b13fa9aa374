//! Checking what a component publishes: [`Validation`].
//!
//! The checks are code of the program. They may ask for the component's counters, or wait for somebody who does, so they run
//! between two looks at the state:
//!
//! ```text
//!  look: which checks, where are the bytes? ──▶ check ──▶ look again: publish, or refuse
//! ```

use blockcast_blocks::ArenaPin;
use blockcast_blocks::abi::Error;

use super::blocks::Memory;
use super::publisher::LibraryPublisher;
use super::state::{Entry, LibraryState};
use crate::hosting::publishing::Trust;
use crate::hosting::topic_access::{Checks, Validator};

/// Bytes that are to be checked, and how.
pub(crate) struct Validation {
    layout: Option<Validator>,
    rule: Option<Validator>,
    bytes: *const u8,
    len: usize,
    /// Keeps the bytes, if they are in a block.
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
    /// The bytes are readable, and nobody writes them meanwhile.
    pub(crate) unsafe fn run(&self) -> Trust {
        let checks = Checks { layout: self.layout.as_ref(), rule: self.rule.as_ref() };
        // SAFETY: the caller's promise. A slice of no bytes may lie anywhere but at 0, where none of these does.
        Trust::check(checks, unsafe { std::slice::from_raw_parts(self.bytes, self.len) })
    }
}

impl LibraryState {
    /// Checks a message that is to be copied from `message` on.
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

    /// Checks what was built in a block.
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

    /// Checks what was built in the next block of a line.
    pub(crate) fn line_validation(
        &mut self,
        publisher: u64,
        word: u64,
        len: u32,
    ) -> Result<Validation, Error> {
        self.may_publish()?;
        let publisher = self.publisher(publisher)?;
        let bytes = publisher.on_line(word, len)?;
        Ok(Validation::new(publisher, bytes, len))
    }
}
