//! The memory blocks of a native component. They follow the rules in `hosting/storage.rs`, but need no
//! windows.
//!
//! ```text
//!  handle ── Entry::Loan ───────────────────────── a publisher's block that is being filled: the usual case
//!  handle ── Entry::Block ──┐              ┌─ parts: who is attached, what can be read
//!  handle ── Entry::Block ──┼── storage ───┤
//!                           ┘              └─ memory: the host's, the component's own, or a loan's
//! ```
//! A loan gets a storage only if the component does more with it than fill and publish it.

use std::alloc::{self, Layout};
use std::ptr::NonNull;

use blockcast_blocks::abi::{Area, Error};
use blockcast_blocks::{BLOCK_ALIGNMENT, SuspendedLoan};
use slab::Slab;

use crate::hosting::storage::{Access, Mode, PartKey, Parts};

/// A publisher's block that is loaned to the component and attached for writing.
#[derive(Debug)]
pub(crate) struct Loan {
    /// Handle of the publisher that owns the block.
    pub(crate) publisher: u64,
    /// `None` once the publisher is closed.
    pub(crate) block: Option<SuspendedLoan>,
    /// The block's first byte.
    pub(crate) address: NonNull<u8>,
    /// Number of bytes that may be written.
    pub(crate) capacity: u32,
}

// SAFETY: the address is only passed to the component, never dereferenced here.
unsafe impl Send for Loan {}

/// A handle to a storage or to a part of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockHandle {
    pub(crate) storage: usize,
    pub(crate) part: PartKey,
    pub(crate) attached: Option<Mode>,
}

/// Where a storage's bytes lie.
#[derive(Debug)]
pub(crate) enum Memory {
    /// In memory of the host, allocated when it is first attached.
    Managed { size: u32, bytes: Option<HostMemory> },
    /// In the component's own memory.
    Local(NonNull<u8>),
    /// In a block of one of the component's publishers.
    Loan(Loan),
    /// No longer anywhere: the block has been published, or its publisher is closed.
    Gone,
}

// SAFETY: addresses are only passed to the component, never dereferenced here; the host's memory is owned.
unsafe impl Send for Memory {}

#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) memory: Memory,
    pub(crate) parts: Parts,
}

/// The storages that [`BlockHandle`]s refer to.
#[derive(Debug, Default)]
pub(crate) struct Storages(Slab<Storage>);

impl Storages {
    /// Adds a storage and returns its first handle.
    pub(crate) fn insert(&mut self, memory: Memory, size: u32, content: bool) -> BlockHandle {
        let (parts, part) = Parts::new(size, content);
        BlockHandle { storage: self.0.insert(Storage { memory, parts }), part, attached: None }
    }

    /// Adds a storage for a loan and returns its first handle. `attached` says whether the handle is attached
    /// for writing, as the loan was.
    pub(crate) fn insert_loan(&mut self, loan: Loan, attached: bool) -> BlockHandle {
        let mut handle = self.insert(Memory::Gone, loan.capacity, false);
        let storage = &mut self.0[handle.storage];
        storage.memory = if loan.block.is_some() { Memory::Loan(loan) } else { Memory::Gone };
        if attached {
            let mode = Mode::Write { shared: false };
            storage.parts.attach(handle.part, mode);
            handle.attached = Some(mode);
        }
        handle
    }

    pub(crate) fn get_mut(&mut self, handle: BlockHandle) -> &mut Storage {
        &mut self.0[handle.storage]
    }

    /// Returns another handle to the same part.
    pub(crate) fn duplicate(&mut self, handle: BlockHandle) -> BlockHandle {
        self.0[handle.storage].parts.add_handle(handle.part);
        BlockHandle { attached: None, ..handle }
    }

    /// Returns a handle to a part of a block.
    pub(crate) fn divide(
        &mut self,
        handle: BlockHandle,
        start: u32,
        size: u32,
        rights: Access,
    ) -> Result<BlockHandle, Error> {
        let storage = &mut self.0[handle.storage];
        if matches!(storage.memory, Memory::Gone) {
            return Err(Error::Closed);
        }
        let part = storage.parts.divide(handle.part, start, size, rights)?;
        Ok(BlockHandle { storage: handle.storage, part, attached: None })
    }

    /// Attaches a handle. `budget` is how much of the host's memory the component may still use.
    pub(crate) fn attach(
        &mut self,
        handle: &mut BlockHandle,
        access: Access,
        budget: u64,
    ) -> Result<Area, AttachError> {
        let Storage { memory, parts } = &mut self.0[handle.storage];
        if matches!(memory, Memory::Gone) {
            return Err(Error::Closed.into());
        }
        if handle.attached.is_some() {
            return Err(Error::Busy.into());
        }
        let range = parts.check(handle.part, access)?;
        let base = match memory {
            Memory::Gone => return Err(Error::Closed.into()),
            Memory::Local(address) => *address,
            Memory::Loan(loan) => loan.address,
            Memory::Managed { size, bytes } => {
                if range.len == 0 {
                    return Err(Error::WrongSize.into());
                }
                match bytes {
                    Some(bytes) => bytes.start,
                    None if u64::from(*size) > budget => return Err(AttachError::OverBudget),
                    None => bytes.insert(HostMemory::new(*size).ok_or(Error::Internal)?).start,
                }
            }
        };
        let mode = Mode::from(access);
        parts.attach(handle.part, mode);
        handle.attached = Some(mode);
        // The range lies within the storage.
        let address = base.as_ptr().wrapping_add(range.start as usize);
        Ok(Area { address, size: range.len as usize })
    }

    /// Detaches a handle if it is attached.
    pub(crate) fn detach(&mut self, handle: &mut BlockHandle, consumed: u32) -> Result<(), Error> {
        let Some(mode) = handle.attached else { return Ok(()) };
        self.0[handle.storage].parts.detach(handle.part, mode, consumed)?;
        handle.attached = None;
        Ok(())
    }

    /// Drops a handle. Dropping the last one removes the storage and returns its memory.
    pub(crate) fn drop_handle(&mut self, mut handle: BlockHandle) -> Option<Memory> {
        // Consuming zero bytes cannot fail.
        let _ = self.detach(&mut handle, 0);
        if self.0[handle.storage].parts.drop_handle(handle.part) {
            return Some(self.0.remove(handle.storage).memory);
        }
        None
    }

    /// Bytes of the host's memory in use.
    pub(crate) fn committed(&self) -> u64 {
        let committed = |storage: &Storage| match storage.memory {
            Memory::Managed { size, bytes: Some(_) } => u64::from(size),
            _ => 0,
        };
        self.0.iter().map(|(_, storage)| committed(storage)).sum()
    }

    /// Removes and returns the host's memory. Attaching to it is no longer possible.
    pub(crate) fn take_memory(&mut self) -> Vec<HostMemory> {
        let mut taken = Vec::new();
        for (_, storage) in &mut self.0 {
            if let Memory::Managed { bytes, .. } = &mut storage.memory {
                taken.extend(bytes.take());
                storage.memory = Memory::Gone;
            }
        }
        taken
    }

    /// Removes and returns the blocks loaned from a publisher. Attaching to them is no longer possible.
    pub(crate) fn take_loans_of(&mut self, publisher: u64) -> Vec<SuspendedLoan> {
        let mut taken = Vec::new();
        for (_, storage) in &mut self.0 {
            if matches!(&storage.memory, Memory::Loan(loan) if loan.publisher == publisher)
                && let Memory::Loan(loan) = std::mem::replace(&mut storage.memory, Memory::Gone)
            {
                taken.extend(loan.block);
            }
        }
        taken
    }
}

/// Why a block cannot be attached.
pub(crate) enum AttachError {
    Refused(Error),
    /// Its memory would exceed the component's limit.
    OverBudget,
}

impl From<Error> for AttachError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Memory of the host, zeroed when it is allocated.
#[derive(Debug)]
pub(crate) struct HostMemory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is owned.
unsafe impl Send for HostMemory {}

impl HostMemory {
    /// Returns `None` if there is no memory or the size is 0.
    fn new(size: u32) -> Option<Self> {
        let layout = Layout::from_size_align(size as usize, BLOCK_ALIGNMENT).ok()?;
        if layout.size() == 0 {
            return None;
        }
        // SAFETY: the size is not 0.
        let start = NonNull::new(unsafe { alloc::alloc_zeroed(layout) })?;
        Some(Self { start, layout })
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and is freed only here.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}
