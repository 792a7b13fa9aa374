//! A native component's loans and memory blocks.

use std::ptr::NonNull;

use blockcast_blocks::SuspendedLoan;
use blockcast_blocks::abi::{self, Area, Error};

use super::blocks::{AttachError, BlockHandle, Loan, Memory};
use super::state::{Entry, LibraryState};
use crate::component::limit_policy::Limit;
use crate::hosting::publishing::Trust;
use crate::hosting::storage::Access;

impl LibraryState {
    /// `publisher.loan`: the block is attached for writing.
    pub(crate) fn loan(&mut self, publisher: u64, size: u32) -> Result<abi::Loan, Error> {
        self.publisher(publisher)?;
        if self.open.loans >= self.setup.limits.loans {
            return Err(self.refuse(Limit::Loans));
        }
        self.may_have_block()?;
        let block = self.publisher(publisher)?.loan(size)?;
        self.add_loan(publisher, block)
    }

    fn add_loan(&mut self, publisher: u64, block: SuspendedLoan) -> Result<abi::Loan, Error> {
        let address = self.publisher(publisher)?.address(&block);
        // Always fits: a block's size has 31 bits.
        let capacity = u32::try_from(block.capacity()).unwrap_or(u32::MAX);
        let Some(start) = NonNull::new(address) else { return Err(Error::Internal) };
        let loan = Loan { publisher, block: Some(block), address: start, capacity };
        let block = self.add(Entry::Loan(loan))?;
        self.open.loans += 1;
        Ok(abi::Loan { block, address, capacity: capacity as usize })
    }

    /// Loans a block for up to `size` bytes if one is free. Neither reclaims blocks from subscribers nor
    /// calls the system.
    pub(crate) fn loan_free(&mut self, publisher: u64, size: usize) -> Option<abi::Loan> {
        let size = u32::try_from(size).ok()?;
        if self.open.loans >= self.setup.limits.loans || self.open.blocks >= self.setup.limits.memory_blocks {
            return None;
        }
        let block = self.publisher(publisher).ok()?.loan_free(size)?;
        self.add_loan(publisher, block).ok()
    }

    /// `publisher.publish-block`: closes the handle on success.
    pub(crate) fn publish_block(
        &mut self,
        publisher: u64,
        block: u64,
        len: u32,
        trust: Trust,
    ) -> Result<u64, Error> {
        self.publisher(publisher)?;
        match self.entries.get_mut(block) {
            Some(Entry::Loan(loan)) if loan.publisher == publisher => {
                if loan.block.is_none() {
                    return Err(Error::Closed);
                }
                if len > loan.capacity {
                    return Err(Error::WrongSize);
                }
            }
            Some(Entry::Block(_)) => return self.publish_storage(publisher, block, len, trust),
            _ => return Err(Error::InvalidHandle),
        }
        self.may_publish()?;
        let Some(Entry::Loan(loan)) = self.entries.get_mut(block) else { return Err(Error::Internal) };
        let Some(suspended) = loan.block.take() else { return Err(Error::Internal) };
        match self.publisher(publisher)?.publish(suspended, len, trust) {
            Ok(sequence) => {
                self.entries.remove(block);
                self.open.blocks -= 1;
                self.open.loans -= 1;
                self.meter.published(u64::from(len));
                Ok(sequence)
            }
            Err((suspended, error)) => {
                let Self { entries, storages, .. } = self;
                if let Some(entry) = entries.get_mut(block)
                    && let Entry::Loan(Loan { address, capacity, .. }) = *entry
                {
                    // The handle stays, detached and without content.
                    let loan = Loan { publisher, block: Some(suspended), address, capacity };
                    *entry = Entry::Block(storages.insert_loan(loan, false));
                }
                Err(error)
            }
        }
    }

    /// Publishes a loan that has a storage.
    fn publish_storage(&mut self, publisher: u64, block: u64, len: u32, trust: Trust) -> Result<u64, Error> {
        let handle = self.block(block)?;
        let storage = self.storages.get_mut(handle);
        match &storage.memory {
            Memory::Loan(loan) if loan.publisher == publisher && storage.parts.is_whole(handle.part) => {}
            Memory::Gone => return Err(Error::Closed),
            _ => return Err(Error::InvalidHandle),
        }
        let filled = match handle.attached {
            Some(mode) if mode.is_write() => storage.parts.range(handle.part).len,
            _ => storage.parts.complete_content(handle.part),
        };
        if len > filled {
            return Err(Error::WrongSize);
        }
        self.may_publish()?;
        self.detach_all(handle);
        let storage = self.storages.get_mut(handle);
        let Memory::Loan(mut loan) = std::mem::replace(&mut storage.memory, Memory::Gone) else {
            return Err(Error::Internal); // checked above
        };
        let Some(suspended) = loan.block.take() else { return Err(Error::Internal) };
        match self.publisher(publisher)?.publish(suspended, len, trust) {
            Ok(sequence) => {
                self.open.loans -= 1;
                self.meter.published(u64::from(len));
                self.close_block(block);
                Ok(sequence)
            }
            Err((suspended, error)) => {
                loan.block = Some(suspended);
                self.storages.get_mut(handle).memory = Memory::Loan(loan);
                Err(error)
            }
        }
    }

    /// Detaches every handle of a storage. Written bytes do not become content.
    fn detach_all(&mut self, of: BlockHandle) {
        let Self { entries, storages, .. } = self;
        for (_, entry) in entries.iter_mut() {
            if let Entry::Block(handle) = entry
                && handle.storage == of.storage
            {
                // Consuming zero bytes cannot fail.
                let _ = storages.detach(handle, 0);
            }
        }
    }

    fn may_have_block(&mut self) -> Result<(), Error> {
        if self.open.blocks >= self.setup.limits.memory_blocks {
            return Err(self.refuse(Limit::MemoryBlocks));
        }
        Ok(())
    }

    fn add(&mut self, entry: Entry) -> Result<u64, Error> {
        let handle = self.insert(entry)?;
        self.open.blocks += 1;
        Ok(handle)
    }

    /// Returns the storage's handle. Gives a loan a storage if it has none yet.
    fn block(&mut self, handle: u64) -> Result<BlockHandle, Error> {
        let Self { entries, storages, .. } = self;
        let entry = entries.get_mut(handle).ok_or(Error::InvalidHandle)?;
        match entry {
            Entry::Block(block) => Ok(*block),
            Entry::Loan(loan) => {
                let Loan { publisher, address, capacity, .. } = *loan;
                let loan = Loan { publisher, block: loan.block.take(), address, capacity };
                let block = storages.insert_loan(loan, true);
                *entry = Entry::Block(block);
                Ok(block)
            }
            Entry::Subscription(_) | Entry::Publisher(_) => Err(Error::InvalidHandle),
        }
    }

    /// Stores the new state of a handle.
    fn put_block(&mut self, handle: u64, block: BlockHandle) {
        if let Some(Entry::Block(entry)) = self.entries.get_mut(handle) {
            *entry = block;
        }
    }

    /// Checks that the handle is that of a memory block.
    pub(crate) fn knows_block(&mut self, handle: u64) -> Result<(), Error> {
        match self.entries.get_mut(handle) {
            Some(Entry::Block(_) | Entry::Loan(_)) => Ok(()),
            _ => Err(Error::InvalidHandle),
        }
    }

    /// The constructor of `memory-block`.
    pub(crate) fn new_block(&mut self, size: usize) -> Result<u64, Error> {
        self.may_have_block()?;
        let size = u32::try_from(size).map_err(|_| Error::WrongSize)?;
        let block = self.storages.insert(Memory::Managed { size, bytes: None }, size, false);
        self.add(Entry::Block(block))
    }

    /// `memory-block.create-local`.
    pub(crate) fn new_local_block(&mut self, area: Area) -> Result<u64, Error> {
        self.may_have_block()?;
        let size = u32::try_from(area.size).map_err(|_| Error::WrongSize)?;
        let start = match NonNull::new(area.address) {
            Some(start) => start,
            None if size == 0 => NonNull::dangling(),
            None => return Err(Error::OutOfBounds),
        };
        if (area.address as usize).checked_add(area.size).is_none() {
            return Err(Error::OutOfBounds);
        }
        let block = self.storages.insert(Memory::Local(start), size, true);
        self.add(Entry::Block(block))
    }

    /// `memory-block.clone`.
    pub(crate) fn clone_block(&mut self, handle: u64) -> Result<u64, Error> {
        self.knows_block(handle)?;
        self.may_have_block()?;
        let block = self.block(handle)?;
        let clone = self.storages.duplicate(block);
        self.add(Entry::Block(clone))
    }

    /// `memory-block.create-partition`.
    pub(crate) fn divide_block(
        &mut self,
        handle: u64,
        start: usize,
        size: usize,
        access: u32,
    ) -> Result<u64, Error> {
        self.knows_block(handle)?;
        self.may_have_block()?;
        let number = |number: usize| u32::try_from(number).map_err(|_| Error::OutOfBounds);
        let (start, size) = (number(start)?, number(size)?);
        let block = self.block(handle)?;
        let part = self.storages.divide(block, start, size, Access::from_bits(access))?;
        self.add(Entry::Block(part))
    }

    /// `memory-block.attach`.
    pub(crate) fn attach_block(&mut self, handle: u64, access: u32) -> Result<Area, Error> {
        let mut block = self.block(handle)?;
        let budget = self.setup.limits.memory_block_bytes.saturating_sub(self.storages.committed());
        match self.storages.attach(&mut block, Access::from_bits(access), budget) {
            Ok(area) => {
                self.put_block(handle, block);
                Ok(area)
            }
            Err(AttachError::Refused(error)) => Err(error),
            Err(AttachError::OverBudget) => Err(self.refuse(Limit::MemoryBlockBytes)),
        }
    }

    /// `memory-block.detach`.
    pub(crate) fn detach_block(&mut self, handle: u64, consumed: usize) -> Result<(), Error> {
        let mut block = self.block(handle)?;
        let consumed = u32::try_from(consumed).map_err(|_| Error::WrongSize)?;
        self.storages.detach(&mut block, consumed)?;
        self.put_block(handle, block);
        Ok(())
    }

    /// Closes the handle of a memory block. Returns the block of an unpublished loan.
    pub(crate) fn close_block(&mut self, handle: u64) {
        if self.knows_block(handle).is_err() {
            return;
        }
        let loan = match self.entries.remove(handle) {
            Some(Entry::Loan(loan)) => Some(loan),
            Some(Entry::Block(block)) => match self.storages.drop_handle(block) {
                Some(Memory::Loan(loan)) => Some(loan),
                _ => None,
            },
            _ => None,
        };
        self.open.blocks -= 1;
        let Some(loan) = loan else { return };
        if let Some(suspended) = loan.block {
            self.open.loans -= 1;
            if let Ok(publisher) = self.publisher(loan.publisher) {
                publisher.take_back(suspended);
            }
        }
    }

    /// Returns all blocks loaned from a publisher that is about to be closed.
    pub(super) fn return_loans_of(&mut self, publisher: u64) {
        let mut loans = Vec::new();
        for (_, entry) in self.entries.iter_mut() {
            if let Entry::Loan(loan) = entry
                && loan.publisher == publisher
            {
                loans.extend(loan.block.take());
            }
        }
        loans.extend(self.storages.take_loans_of(publisher));
        self.open.loans -= u32::try_from(loans.len()).unwrap_or(0);
        if let Ok(publisher) = self.publisher(publisher) {
            loans.into_iter().for_each(|block| publisher.take_back(block));
        }
    }
}
