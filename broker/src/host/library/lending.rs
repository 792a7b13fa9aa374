//! What a native component does with memory blocks: loans first of all.

use std::ptr::NonNull;

use blockcast_blocks::SuspendedLoan;
use blockcast_blocks::abi::{self, Area, Error};

use super::blocks::{AttachError, BlockHandle, Loan, Memory};
use super::state::{Entry, LibraryState};
use crate::component::limit_policy::Limit;
use crate::hosting::publishing::Trust;
use crate::hosting::storage::Access;

impl LibraryState {
    /// As `publisher.loan`, attached for writing.
    pub(crate) fn lend(&mut self, publisher: u64, size: u32) -> Result<abi::Loan, Error> {
        self.publisher(publisher)?;
        if self.open.loans >= self.setup.limits.loans {
            return Err(self.refuse(Limit::Loans));
        }
        self.may_have_block()?;
        let block = self.publisher(publisher)?.lend(size)?;
        self.add_loan(publisher, block)
    }

    fn add_loan(&mut self, publisher: u64, block: SuspendedLoan) -> Result<abi::Loan, Error> {
        let address = self.publisher(publisher)?.address(&block);
        // A block's size has 31 bits.
        let capacity = u32::try_from(block.capacity()).unwrap_or(u32::MAX);
        let Some(start) = NonNull::new(address) else { return Err(Error::Internal) };
        let loan = Loan { publisher, block: Some(block), address: start, capacity };
        let block = self.add(Entry::Loan(loan))?;
        self.open.loans += 1;
        Ok(abi::Loan { block, address, capacity: capacity as usize })
    }

    /// A loan for up to `size` bytes, if a block is free for it: none is taken from a subscriber or asked of the system.
    pub(crate) fn lend_free(&mut self, publisher: u64, size: usize) -> Option<abi::Loan> {
        let size = u32::try_from(size).ok()?;
        if self.open.loans >= self.setup.limits.loans || self.open.blocks >= self.setup.limits.memory_blocks {
            return None;
        }
        let block = self.publisher(publisher).ok()?.lend_free(size)?;
        self.add_loan(publisher, block).ok()
    }

    /// As `publisher.publish-block`; the handle is closed on success.
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
        let Some(lent) = loan.block.take() else { return Err(Error::Internal) };
        match self.publisher(publisher)?.publish(lent, len, trust) {
            Ok(sequence) => {
                self.entries.remove(block);
                self.open.blocks -= 1;
                self.open.loans -= 1;
                self.meter.published(u64::from(len));
                Ok(sequence)
            }
            Err((lent, error)) => {
                let Self { entries, storages, .. } = self;
                if let Some(entry) = entries.get_mut(block)
                    && let Entry::Loan(Loan { address, capacity, .. }) = *entry
                {
                    // Detached, and without content.
                    let loan = Loan { publisher, block: Some(lent), address, capacity };
                    *entry = Entry::Block(storages.insert_loan(loan, false));
                }
                Err(error)
            }
        }
    }

    /// Publishes a loan with which more was done than to fill it.
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
            return Err(Error::Internal); // looked at above
        };
        let Some(lent) = loan.block.take() else { return Err(Error::Internal) };
        match self.publisher(publisher)?.publish(lent, len, trust) {
            Ok(sequence) => {
                self.open.loans -= 1;
                self.meter.published(u64::from(len));
                self.close_block(block);
                Ok(sequence)
            }
            Err((lent, error)) => {
                loan.block = Some(lent);
                self.storages.get_mut(handle).memory = Memory::Loan(loan);
                Err(error)
            }
        }
    }

    /// Detaches every handle of a storage. What was written is no content.
    fn detach_all(&mut self, of: BlockHandle) {
        let Self { entries, storages, .. } = self;
        for (_, entry) in entries.iter_mut() {
            if let Entry::Block(handle) = entry
                && handle.storage == of.storage
            {
                // Nothing that is detached with 0 can be more than there is.
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

    /// The handle on a storage. A loan gets one if it has none yet.
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

    /// Keeps what became of a handle.
    fn put_block(&mut self, handle: u64, block: BlockHandle) {
        if let Some(Entry::Block(entry)) = self.entries.get_mut(handle) {
            *entry = block;
        }
    }

    /// Whether the handle is one on a memory block.
    pub(crate) fn knows_block(&mut self, handle: u64) -> Result<(), Error> {
        match self.entries.get_mut(handle) {
            Some(Entry::Block(_) | Entry::Loan(_)) => Ok(()),
            _ => Err(Error::InvalidHandle),
        }
    }

    /// As the constructor.
    pub(crate) fn new_block(&mut self, size: usize) -> Result<u64, Error> {
        self.may_have_block()?;
        let size = u32::try_from(size).map_err(|_| Error::WrongSize)?;
        let block = self.storages.insert(Memory::Managed { size, bytes: None }, size, false);
        self.add(Entry::Block(block))
    }

    /// As `create-local`.
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

    /// As `clone`.
    pub(crate) fn clone_block(&mut self, handle: u64) -> Result<u64, Error> {
        self.knows_block(handle)?;
        self.may_have_block()?;
        let block = self.block(handle)?;
        let clone = self.storages.duplicate(block);
        self.add(Entry::Block(clone))
    }

    /// As `create-partition`.
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

    /// As `attach`.
    pub(crate) fn attach_block(&mut self, handle: u64, access: u32) -> Result<Area, Error> {
        let mut block = self.block(handle)?;
        let budget = self.setup.limits.memory_block_bytes.saturating_sub(self.storages.committed());
        match self.storages.attach(&mut block, Access::from_bits(access), budget) {
            Ok(area) => {
                self.put_block(handle, block);
                Ok(area)
            }
            Err(AttachError::Refused(error)) => Err(error),
            Err(AttachError::TooMuch) => Err(self.refuse(Limit::MemoryBlockBytes)),
        }
    }

    /// As `detach`.
    pub(crate) fn detach_block(&mut self, handle: u64, consumed: usize) -> Result<(), Error> {
        let mut block = self.block(handle)?;
        let consumed = u32::try_from(consumed).map_err(|_| Error::WrongSize)?;
        self.storages.detach(&mut block, consumed)?;
        self.put_block(handle, block);
        Ok(())
    }

    /// Closes a handle on a memory block; a loan that was not published goes back.
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
        if let Some(lent) = loan.block {
            self.open.loans -= 1;
            if let Ok(publisher) = self.publisher(loan.publisher) {
                publisher.take_back(lent);
            }
        }
    }

    /// Takes back what a publisher that is about to go has lent.
    pub(super) fn forget_loans_of(&mut self, publisher: u64) {
        let mut lent = Vec::new();
        for (_, entry) in self.entries.iter_mut() {
            if let Entry::Loan(loan) = entry
                && loan.publisher == publisher
            {
                lent.extend(loan.block.take());
            }
        }
        lent.extend(self.storages.take_loans_of(publisher));
        self.open.loans -= u32::try_from(lent.len()).unwrap_or(0);
        if let Ok(publisher) = self.publisher(publisher) {
            lent.into_iter().for_each(|block| publisher.take_back(block));
        }
    }
}
