//! The memory blocks of a native component: the rules in `hosting/storage.rs`, without windows.
//!
//! ```text
//!  handle ── Entry::Loan ───────────────────────── a block of a publisher, being filled: the usual case
//!  handle ── Entry::Block ──┐              ┌─ parts: who is attached, what is there to read
//!  handle ── Entry::Block ──┼── storage ───┤
//!                           ┘              └─ memory: the host's, the component's own, or a loan's
//! ```
//! A loan gets a storage only when more is done with it than to fill and publish it.

use std::alloc::{self, Layout};
use std::ptr::NonNull;

use blockcast_blocks::abi::{Area, Error};
use blockcast_blocks::{BLOCK_ALIGNMENT, SuspendedLoan};
use slab::Slab;

use crate::hosting::storage::{Access, Mode, PartKey, Parts};

/// A block that is lent and attached for writing.
#[derive(Debug)]
pub(crate) struct Loan {
    /// Whose block it is.
    pub(crate) publisher: u64,
    /// `None`: the publisher is gone.
    pub(crate) block: Option<SuspendedLoan>,
    /// Its first byte.
    pub(crate) address: NonNull<u8>,
    /// Bytes that may be written.
    pub(crate) capacity: u32,
}

// SAFETY: the address is given out and not looked behind here.
unsafe impl Send for Loan {}

/// A handle on a storage or a part of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockHandle {
    pub(crate) storage: usize,
    pub(crate) part: PartKey,
    pub(crate) attached: Option<Mode>,
}

/// Where a storage's bytes are.
#[derive(Debug)]
pub(crate) enum Memory {
    /// The host's, made when it is first attached.
    Managed { size: u32, bytes: Option<HostMemory> },
    /// The component's own.
    Local(NonNull<u8>),
    /// A block of one of its publishers.
    Loan(Loan),
    /// Nowhere any more: published, or the publisher is gone.
    Gone,
}

// SAFETY: addresses are given out and not looked behind here; what is the host's is owned.
unsafe impl Send for Memory {}

#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) memory: Memory,
    pub(crate) parts: Parts,
}

/// Everything that handles of [`BlockHandle`] stand for.
#[derive(Debug, Default)]
pub(crate) struct Storages(Slab<Storage>);

impl Storages {
    /// A storage with one handle.
    pub(crate) fn insert(&mut self, memory: Memory, size: u32, content: bool) -> BlockHandle {
        let (parts, part) = Parts::new(size, content);
        BlockHandle { storage: self.0.insert(Storage { memory, parts }), part, attached: None }
    }

    /// A storage for a loan, with one handle; `attached`, as it was lent.
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

    /// Another handle on the same.
    pub(crate) fn duplicate(&mut self, handle: BlockHandle) -> BlockHandle {
        self.0[handle.storage].parts.add_handle(handle.part);
        BlockHandle { attached: None, ..handle }
    }

    /// A part of a block.
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

    /// Attaches a handle; `budget` is what of the host's memory may still be used.
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
                    None if u64::from(*size) > budget => return Err(AttachError::TooMuch),
                    None => bytes.insert(HostMemory::new(*size).ok_or(Error::Internal)?).start,
                }
            }
        };
        let mode = Mode::from(access);
        parts.attach(handle.part, mode);
        handle.attached = Some(mode);
        // The range lies inside of the storage.
        let address = base.as_ptr().wrapping_add(range.start as usize);
        Ok(Area { address, size: range.len as usize })
    }

    /// Detaches a handle, if it is attached.
    pub(crate) fn detach(&mut self, handle: &mut BlockHandle, consumed: u32) -> Result<(), Error> {
        let Some(mode) = handle.attached else { return Ok(()) };
        self.0[handle.storage].parts.detach(handle.part, mode, consumed)?;
        handle.attached = None;
        Ok(())
    }

    /// Drops a handle; with the last one the storage goes, and its memory is returned.
    pub(crate) fn drop_handle(&mut self, mut handle: BlockHandle) -> Option<Memory> {
        // Nothing that is detached with 0 can be more than there is.
        let _ = self.detach(&mut handle, 0);
        if self.0[handle.storage].parts.drop_handle(handle.part) {
            return Some(self.0.remove(handle.storage).memory);
        }
        None
    }

    /// Bytes of the host's memory that are in use.
    pub(crate) fn committed(&self) -> u64 {
        let committed = |storage: &Storage| match storage.memory {
            Memory::Managed { size, bytes: Some(_) } => u64::from(size),
            _ => 0,
        };
        self.0.iter().map(|(_, storage)| committed(storage)).sum()
    }

    /// Takes out the host's memory; nothing can be attached to it any more.
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

    /// Takes out the blocks that a publisher has lent; nothing can be attached to them any more.
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
    /// Its memory would be more than the component may have.
    TooMuch,
}

impl From<Error> for AttachError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Zeroed memory of the host.
#[derive(Debug)]
pub(crate) struct HostMemory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it is owned.
unsafe impl Send for HostMemory {}

impl HostMemory {
    /// `None` if there is none, or for a size of 0.
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
        // SAFETY: allocated with this layout, and freed once.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}
