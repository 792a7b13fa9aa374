//! The memory blocks of a guest: handles, the storage behind them, and where they are attached.
//!
//! ```text
//!  handle ──┐              ┌─ parts: who is attached, what is there to read (`storage`)
//!  handle ──┼── storage ───┤
//!  handle ──┘              └─ memory: managed   a file of the host, pages of it mapped while attached
//!                                     loan      a block of a publisher's arena, or memory that is copied into one
//!                                     local     the guest's own
//! ```
//! A guest that misuses them gets an error. Through them it can see and write only its own memory: blocks
//! that it created, and blocks that it has on loan from its publishers.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use blockcast_blocks::SuspendedLoan;
use blockcast_blocks::abi::Error;
use slab::Slab;

use super::publisher::{Loaned, Publishers};
use super::sys;
use crate::component::limit_policy::{Limit, LimitPolicy};
use crate::component::limits::ComponentLimits;
use crate::host::wasm::memory::area::{Area, granules};
use crate::host::wasm::memory::window::{Owner, Place, Span, Window, WindowError, Windows};
use crate::hosting::storage::{Access, Mode, PartKey, Parts, Range};

/// The type of the resource `memory-block`; its number is that of a handle.
pub(crate) struct MemoryBlock;

/// The context of the methods of memory blocks.
pub(crate) struct BlockContext<'a> {
    pub(crate) windows: &'a mut Windows,
    pub(crate) publishers: &'a mut Publishers,
    pub(crate) limits: &'a ComponentLimits,
    pub(crate) policy: &'a LimitPolicy,
}

impl BlockContext<'_> {
    /// Notes that something is refused because of `limit`.
    fn refuse(&self, limit: Limit) -> Error {
        self.policy.note(limit);
        Error::Limit
    }
}

/// Where the bytes of a storage are.
enum Memory {
    /// In a file of the host, created when it is first attached.
    Managed { size: u32, file: Option<OwnedFd> },
    /// In the guest's own memory.
    Local(Area),
    /// In a block of one of its publishers.
    Loan(Loan),
    /// Nowhere: published, or the publisher is gone.
    Gone,
}

/// A publisher's block, to be filled.
struct Loan {
    /// The publisher's number.
    publisher: u64,
    owner: Owner,
    block: SuspendedLoan,
    place: LoanPlace,
}

enum LoanPlace {
    /// In the block itself, which the publisher's window shows.
    InPlace,
    /// In memory that is set aside when it is first attached, and copied when it is published.
    Copied(Option<Window>),
}

struct Storage {
    memory: Memory,
    parts: Parts,
}

/// A handle of the guest.
struct Handle {
    storage: usize,
    part: PartKey,
    attachment: Option<Attachment>,
}

#[derive(Clone, Copy)]
struct Attachment {
    mode: Mode,
    /// The window to unmap on detach, if one was mapped for this attachment.
    window: Option<Window>,
}

/// All memory blocks of a guest.
#[derive(Default)]
pub(crate) struct MemoryBlocks {
    storages: Slab<Storage>,
    handles: Slab<Handle>,
    /// Bytes of address space that the guest was asked to donate and has not donated yet.
    pub(crate) asked: u64,
}

/// All memory blocks share one address space, and count as the owner when the guest writes to read-only
/// memory.
const PLACE: Place = Place::own(Owner::BLOCKS);

impl MemoryBlocks {
    /// Whether the guest has as many handles as it may have.
    pub(crate) fn is_full(&self, limits: &ComponentLimits) -> bool {
        self.handles.len() >= limits.memory_blocks as usize
    }

    /// Creates a block in host memory.
    pub(crate) fn create(&mut self, size: u32) -> u32 {
        self.insert(Memory::Managed { size, file: None }, size, false)
    }

    /// Creates a block over the guest's own memory.
    pub(crate) fn create_local(&mut self, context: &BlockContext<'_>, area: Area) -> Result<u32, Error> {
        if self.is_full(context.limits) {
            return Err(context.refuse(Limit::MemoryBlocks));
        }
        context.windows.ordinary(area)?;
        Ok(self.insert(Memory::Local(area), area.size, true))
    }

    /// Creates a block for a loan from a publisher.
    pub(crate) fn lend(
        &mut self,
        context: &mut BlockContext<'_>,
        publisher: u64,
        size: u32,
    ) -> Result<u32, Error> {
        let loans = self.storages.iter().filter(|(_, storage)| matches!(storage.memory, Memory::Loan(_)));
        if loans.count() >= context.limits.loans as usize {
            return Err(context.refuse(Limit::Loans));
        }
        if self.is_full(context.limits) {
            return Err(context.refuse(Limit::MemoryBlocks));
        }
        let lender = context.publishers.get_mut(publisher).ok_or(Error::InvalidHandle)?;
        let Loaned { block, size, in_place } = lender.lend(size)?;
        let place = if in_place { LoanPlace::InPlace } else { LoanPlace::Copied(None) };
        let loan = Loan { publisher, owner: lender.owner(), block, place };
        Ok(self.insert(Memory::Loan(loan), size, false))
    }

    fn insert(&mut self, memory: Memory, size: u32, content: bool) -> u32 {
        let (parts, part) = Parts::new(size, content);
        let storage = self.storages.insert(Storage { memory, parts });
        self.add(storage, part)
    }

    fn add(&mut self, storage: usize, part: PartKey) -> u32 {
        // Fits: the limit on handles has 32 bits.
        self.handles.insert(Handle { storage, part, attachment: None }) as u32
    }

    /// Whether a handle has this number.
    pub(crate) fn knows(&self, handle: u32) -> bool {
        self.handles.contains(handle as usize)
    }

    /// Adds another handle on the same part.
    pub(crate) fn duplicate(&mut self, handle: u32) -> u32 {
        let Handle { storage, part, .. } = self.handles[handle as usize];
        self.storages[storage].parts.add_handle(part);
        self.add(storage, part)
    }

    /// Creates a block that is a part of another one.
    pub(crate) fn divide(
        &mut self,
        context: &BlockContext<'_>,
        handle: u32,
        start: u32,
        size: u32,
        rights: Access,
    ) -> Result<u32, Error> {
        let Handle { storage, part, .. } = self.handles[handle as usize];
        if self.is_full(context.limits) {
            return Err(context.refuse(Limit::MemoryBlocks));
        }
        if matches!(self.storages[storage].memory, Memory::Gone) {
            return Err(Error::Closed);
        }
        let part = self.storages[storage].parts.divide(part, start, size, rights)?;
        Ok(self.add(storage, part))
    }

    /// Bytes to donate before the handle can be attached.
    pub(crate) fn minimum_size(&mut self, context: &BlockContext<'_>, handle: u32) -> u32 {
        let Handle { storage, part, .. } = self.handles[handle as usize];
        let storage = &self.storages[storage];
        let needed = match &storage.memory {
            Memory::Local(_) | Memory::Gone => 0,
            Memory::Managed { .. } => pages_of(storage.parts.range(part)).len as u64,
            Memory::Loan(Loan { place: LoanPlace::Copied(None), .. }) => u64::from(storage.parts.whole().len),
            Memory::Loan(Loan { place: LoanPlace::Copied(Some(_)), .. }) => 0,
            Memory::Loan(loan) => match context.publishers.get(loan.publisher) {
                Some(publisher) => publisher.window_size(),
                None => 0,
            },
        };
        let most = match &storage.memory {
            Memory::Managed { .. } => context.limits.memory_block_bytes,
            _ => needed,
        };
        let missing = if needed == 0 { 0 } else { context.windows.missing_for(Owner::BLOCKS, 1, needed) };
        self.ask(missing, most)
    }

    /// Bytes to donate before `count` blocks of `size` bytes can be attached at the same time.
    pub(crate) fn optimum_size(&mut self, context: &BlockContext<'_>, count: u32, size: u32) -> u32 {
        let missing = match (count, size) {
            (0, _) | (_, 0) => 0,
            _ => context.windows.missing_for(Owner::BLOCKS, u64::from(count), granules(u64::from(size))),
        };
        self.ask(missing, context.limits.memory_block_bytes)
    }

    /// Asks for address space. The guest's memory may grow by that much, but no more than blocks of `most`
    /// bytes in all need.
    fn ask(&mut self, missing: u64, most: u64) -> u32 {
        self.asked = missing.min(granules(most));
        // More than 4 GiB cannot be donated; donating them would be refused.
        u32::try_from(missing).unwrap_or(u32::MAX << 16)
    }

    /// Accepts address space.
    pub(crate) fn add_storage(&mut self, context: &mut BlockContext<'_>, area: Area) -> Result<(), Error> {
        if let Err(error) = context.windows.donate(Owner::BLOCKS, area) {
            if matches!(error, WindowError::Budget) {
                context.policy.note(Limit::Windows);
            }
            return Err(error.into());
        }
        self.asked = self.asked.saturating_sub(u64::from(area.size));
        Ok(())
    }

    /// Attaches a handle. Returns the area where it is attached.
    pub(crate) fn attach(
        &mut self,
        context: &mut BlockContext<'_>,
        handle: u32,
        access: Access,
    ) -> Result<Area, Error> {
        let used: u64 = self.storages.iter().map(|(_, storage)| storage.memory.committed()).sum();
        let handle = &mut self.handles[handle as usize];
        let storage = &mut self.storages[handle.storage];
        if matches!(storage.memory, Memory::Gone) {
            return Err(Error::Closed);
        }
        if handle.attachment.is_some() {
            return Err(Error::Busy);
        }
        let range = storage.parts.check(handle.part, access)?;
        let mode = Mode::from(access);
        let (address, window) = storage.memory.attach(context, mode, range, storage.parts.whole(), used)?;
        storage.parts.attach(handle.part, mode);
        handle.attachment = Some(Attachment { mode, window });
        Ok(Area { address, size: range.len })
    }

    /// Detaches a handle, if it is attached.
    pub(crate) fn detach(
        &mut self,
        context: &mut BlockContext<'_>,
        handle: u32,
        consumed: u32,
    ) -> Result<(), Error> {
        let handle = &mut self.handles[handle as usize];
        let Some(Attachment { mode, window }) = handle.attachment else { return Ok(()) };
        let storage = &mut self.storages[handle.storage];
        storage.parts.detach(handle.part, mode, consumed)?;
        handle.attachment = None;
        if let Some(window) = window {
            context.windows.unmap(window);
        }
        if mode.is_write() && !storage.parts.are_written() {
            storage.memory.seal(context)?;
        }
        Ok(())
    }

    /// Drops a handle, and the storage with the last one.
    pub(crate) fn drop_handle(&mut self, context: &mut BlockContext<'_>, handle: u32) {
        // Consuming zero bytes cannot fail. If sealing fails, the guest ends.
        let _ = self.detach(context, handle, 0);
        let Handle { storage, part, .. } = self.handles.remove(handle as usize);
        if self.storages[storage].parts.drop_handle(part) {
            self.storages.remove(storage).memory.release(context);
        }
    }

    /// Publishes a loan from the publisher with this number.
    pub(crate) fn publish(
        &mut self,
        context: &mut BlockContext<'_>,
        publisher: u64,
        handle: u32,
        len: u32,
    ) -> Result<u64, Error> {
        let Handle { storage: key, part, attachment } = &self.handles[handle as usize];
        let (key, part) = (*key, *part);
        let storage = &self.storages[key];
        match &storage.memory {
            Memory::Loan(loan) if loan.publisher == publisher && storage.parts.is_whole(part) => {}
            Memory::Gone => return Err(Error::Closed),
            _ => return Err(Error::InvalidHandle),
        }
        let filled = match attachment {
            Some(Attachment { mode, .. }) if mode.is_write() => storage.parts.range(part).len,
            _ => storage.parts.complete_content(part),
        };
        if len > filled {
            return Err(Error::WrongSize);
        }
        self.detach_all(context, key)?;
        let storage = &mut self.storages[key];
        let Memory::Loan(loan) = std::mem::replace(&mut storage.memory, Memory::Gone) else {
            return Err(Error::Internal); // checked above
        };
        let Some(lender) = context.publishers.get_mut(publisher) else { return Err(Error::Internal) };
        let Loan { block, place, .. } = loan;
        let published = match &place {
            LoanPlace::InPlace => lender.publish_sealed(block, len),
            LoanPlace::Copied(None) => lender.publish_copy(block, None, len),
            LoanPlace::Copied(Some(window)) => match context.windows.plain(*window, 0, len as usize) {
                Ok(source) => lender.publish_copy(block, Some(source), len),
                Err(error) => Err((block, error.into())),
            },
        };
        match published {
            Ok(sequence) => {
                if let LoanPlace::Copied(Some(window)) = place {
                    context.windows.unmap(window);
                }
                Ok(sequence)
            }
            Err((block, error)) => {
                let owner = lender.owner();
                storage.memory = Memory::Loan(Loan { publisher, owner, block, place });
                Err(error)
            }
        }
    }

    /// Detaches every handle of a storage, so that nobody writes to it any more. Its content is discarded.
    fn detach_all(&mut self, context: &mut BlockContext<'_>, storage: usize) -> Result<(), Error> {
        let attached = |(key, handle): (usize, &Handle)| {
            (handle.storage == storage && handle.attachment.is_some()).then_some(key)
        };
        let keys: Vec<usize> = self.handles.iter().filter_map(attached).collect();
        // Handle numbers have 32 bits.
        keys.into_iter().try_for_each(|key| self.detach(context, key as u32, 0))
    }

    /// Takes back the loans of a publisher that is about to close.
    pub(crate) fn forget_publisher(&mut self, context: &mut BlockContext<'_>, publisher: u64) {
        let lent = |(key, storage): (usize, &Storage)| match &storage.memory {
            Memory::Loan(loan) if loan.publisher == publisher => Some(key),
            _ => None,
        };
        let keys: Vec<usize> = self.storages.iter().filter_map(lent).collect();
        for key in keys {
            // If sealing fails, the guest ends.
            let _ = self.detach_all(context, key);
            std::mem::replace(&mut self.storages[key].memory, Memory::Gone).release(context);
        }
    }
}

impl Memory {
    /// Bytes of host memory in use.
    fn committed(&self) -> u64 {
        match self {
            Self::Managed { size, file: Some(_) } => whole_pages(u64::from(*size)),
            _ => 0,
        }
    }

    /// Makes a range readable or writable for the guest. Returns its address, and the window that was made
    /// for it.
    fn attach(
        &mut self,
        context: &mut BlockContext<'_>,
        mode: Mode,
        range: Range,
        whole: Range,
        used: u64,
    ) -> Result<(u32, Option<Window>), Error> {
        match self {
            Self::Gone => Err(Error::Closed),
            Self::Local(area) => Ok((area.address + range.start, None)),
            Self::Managed { size, file } => {
                if range.len == 0 {
                    return Err(Error::WrongSize);
                }
                let bytes = whole_pages(u64::from(*size));
                if file.is_none() && used.saturating_add(bytes) > context.limits.memory_block_bytes {
                    return Err(context.refuse(Limit::MemoryBlockBytes));
                }
                let file = match file {
                    Some(file) => file,
                    // At most 4 GiB, in a 64-bit process.
                    None => file.insert(
                        sys::memory_file("blockcast-block", bytes as usize).map_err(|_| Error::Internal)?,
                    ),
                };
                let pages = pages_of(range);
                let span =
                    Span { file: file.as_fd(), offset: u64::from(pages.start), len: pages.len as usize };
                let window = if mode.is_write() {
                    // SAFETY: the file is sealed at that length. `release` closes it when the storage's last
                    // handle is gone, and this attachment with it. This process never accesses it.
                    unsafe { context.windows.map_writable(PLACE, span) }
                } else {
                    // SAFETY: as above.
                    unsafe { context.windows.map(PLACE, span, span.len) }
                }?;
                Ok((window.address + (range.start - pages.start), Some(window)))
            }
            Self::Loan(loan) => {
                let lender = context.publishers.get_mut(loan.publisher).ok_or(Error::Closed)?;
                let start = match &mut loan.place {
                    LoanPlace::InPlace => lender.attach(context.windows, &loan.block, mode.is_write())?,
                    LoanPlace::Copied(Some(window)) => window.address,
                    LoanPlace::Copied(window) => {
                        let place = Place { owner: loan.owner, ..Place::own(Owner::BLOCKS) };
                        window.insert(context.windows.set_aside(place, u64::from(whole.len))?).address
                    }
                };
                Ok((start + range.start, None))
            }
        }
    }

    /// Revokes write access to bytes that stay mapped.
    fn seal(&mut self, context: &mut BlockContext<'_>) -> Result<(), Error> {
        match self {
            Self::Loan(Loan { publisher, block, place: LoanPlace::InPlace, .. }) => {
                match context.publishers.get_mut(*publisher) {
                    Some(lender) => lender.seal(context.windows, block),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Gives everything back. Nobody is attached.
    fn release(self, context: &mut BlockContext<'_>) {
        let Self::Loan(Loan { publisher, block, place, .. }) = self else { return };
        if let LoanPlace::Copied(Some(window)) = place {
            context.windows.unmap(window);
        }
        if let Some(lender) = context.publishers.get_mut(publisher) {
            lender.return_loan(block);
        }
    }
}

/// The whole pages of a storage that a range touches.
fn pages_of(range: Range) -> Range {
    let page = sys::page_size() as u64;
    let start = u64::from(range.start) / page * page;
    let end = (u64::from(range.start) + u64::from(range.len)).next_multiple_of(page);
    // Rounding down does not grow the start, and a range below 4 GiB has less than 4 GiB of pages.
    Range { start: start as u32, len: u32::try_from(end - start).unwrap_or(u32::MAX) }
}

/// Rounds up to whole pages of this machine.
fn whole_pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(sys::page_size() as u64)
}

impl fmt::Debug for MemoryBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBlocks")
            .field("storages", &self.storages.len())
            .field("handles", &self.handles.len())
            .finish_non_exhaustive()
    }
}
