//! Donated address space of a guest, and the arenas mapped into it.
//!
//! A guest donates ranges of its linear memory to a subscription. The host maps the arenas of the
//! subscription's publishers there, each once and read-only. From then on, a message costs neither a system
//! call nor a copy: its address is the window's address plus the block's offset.
//!
//! Every donated range is checked before anything is mapped: in 64-bit arithmetic against the memory's
//! current size, for alignment, for overlap with earlier donations, and against the guest's budget. Within
//! those bounds, the guest may donate any range, even its own stack: it can only confuse itself. A range that
//! the guest reclaims is replaced by zeros, never unmapped.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use blockcast_blocks::charge_mappings;

mod donation;
mod error;

use super::area::{Area, Extent, GRANULE};
use super::fault::WindowTable;
use crate::host::wasm::memory::linear::GuestMemory;
use crate::host::wasm::sys;

use donation::Donation;
pub(crate) use error::WindowError;

/// Memory mappings that a window takes: one for itself, and one because it splits the memory around it.
const MAPPINGS: usize = 2;

/// The owner of a donation or window: a subscription or a publisher of the guest, or all of its memory
/// blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner(pub(crate) u64);

impl Owner {
    /// The memory blocks of a guest, which share their address space. Subscriptions and publishers count from
    /// 1.
    pub(crate) const BLOCKS: Self = Self(0);
}

/// Where a window goes, and who owns it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The owner of the donations to place it in.
    pub(crate) space: Owner,
    /// The owner that is named when the guest writes into it.
    pub(crate) owner: Owner,
    /// Its preferred alignment: see [`Extent`].
    pub(crate) alignment: u64,
}

impl Place {
    /// In the owner's own donations, without a preferred alignment.
    pub(crate) const fn own(owner: Owner) -> Self {
        Self { space: owner, owner, alignment: GRANULE }
    }
}

/// Bytes of a file; offset and length are multiples of the page size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'f> {
    pub(crate) file: BorrowedFd<'f>,
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

#[derive(Debug)]
struct Mapping {
    /// Its slot in the fault handler's table, if the guest may not write to it.
    slot: Option<usize>,
    owner: Owner,
    /// The whole range set aside; its first `len` bytes are mapped.
    area: Area,
    len: usize,
    /// How many parts of it [show](Windows::show) other bytes.
    shown: u32,
}

/// An arena or a block mapped into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The guest's address of the first byte; unique among its windows.
    pub(crate) address: u32,
}

/// How the guest may access a window.
#[derive(Clone, Copy, Debug)]
enum Access {
    /// The guest reads.
    Read,
    /// The guest reads and writes.
    Write,
    /// The guest reads. The window duplicates the host's own writable mapping, so parts of it can become
    /// writable.
    ReadOf(*mut u8),
}

/// All donated ranges and windows of one guest.
///
/// Dropping it restores nothing: the memory goes with the guest.
#[derive(Debug)]
pub(crate) struct Windows {
    memory: Option<Arc<GuestMemory>>,
    table: Arc<WindowTable>,
    donations: Vec<Donation>,
    mappings: Vec<Mapping>,
    /// The most bytes that may be donated.
    budget: u64,
    /// A range could not be made ordinary memory again.
    broken: bool,
}

impl Windows {
    /// No windows, and no memory yet to place them in. `table` is the table of the store's fault handler.
    pub(crate) fn new(table: Arc<WindowTable>, budget: u64) -> Self {
        Self { memory: None, table, donations: Vec::new(), mappings: Vec::new(), budget, broken: false }
    }

    /// Opens the guest's memory for donations. Until then, every range is out of bounds.
    ///
    /// Call this once the guest is instantiated: instantiation writes data segments, and no window may be in
    /// their way.
    pub(crate) fn open(&mut self, memory: Arc<GuestMemory>) {
        self.memory = Some(memory);
    }

    /// Bytes of the guest's memory, donations included.
    pub(crate) fn memory_size(&self) -> u64 {
        self.memory.as_ref().map_or(0, |memory| memory.size())
    }

    /// The address in this process of the first byte of `area`, if all of it is inside the guest's memory.
    fn locate(&self, area: Area) -> Result<*mut u8, WindowError> {
        match &self.memory {
            Some(memory) if area.end() <= memory.size() => {
                Ok(memory.base().wrapping_add(area.address as usize))
            }
            _ => Err(WindowError::OutOfBounds),
        }
    }

    /// The address in this process of an area that the host is about to read or write: inside the memory, and
    /// outside all donated address space.
    pub(crate) fn ordinary(&self, area: Area) -> Result<*mut u8, WindowError> {
        let start = self.locate(area)?;
        if self.donations.iter().any(|donation| donation.area.overlaps(area)) {
            return Err(WindowError::Overlap);
        }
        Ok(start)
    }

    /// Whether `len` bytes of the guest's memory at `start` in this process are outside all donated address
    /// space.
    pub(crate) fn is_ordinary(&self, start: *const u8, len: usize) -> bool {
        // Before the memory is open there are no donations.
        let Some(memory) = &self.memory else { return true };
        let start = (start as usize).wrapping_sub(memory.base() as usize) as u64;
        let end = start.saturating_add(len as u64);
        self.donations.iter().all(|donation| end <= donation.area.start() || donation.area.end() <= start)
    }

    /// Maps bytes of a file read-only into donated address space, and sets `reserved` bytes aside for it.
    ///
    /// # Safety
    /// Until the window is unmapped or the guest has ended, the file stays open and covers the span.
    pub(crate) unsafe fn map(
        &mut self,
        place: Place,
        span: Span<'_>,
        reserved: usize,
    ) -> Result<Window, WindowError> {
        // SAFETY: the caller's promise.
        unsafe { self.map_as(place, span, reserved, Access::Read) }
    }

    /// Maps bytes of a file into donated address space, for the guest to write.
    ///
    /// # Safety
    /// The same as for [`map`](Self::map). Also, nobody in this process holds references to those bytes while
    /// the guest can write them.
    pub(crate) unsafe fn map_writable(
        &mut self,
        place: Place,
        span: Span<'_>,
    ) -> Result<Window, WindowError> {
        // SAFETY: the caller's promise.
        unsafe { self.map_as(place, span, span.len, Access::Write) }
    }

    /// Like [`map`](Self::map), but duplicates the writable mapping of the same bytes at `original`. Parts of
    /// this window can be [made writable](Self::allow_writing).
    ///
    /// # Safety
    /// The same as for [`map`](Self::map). Also, `original` is where this process has mapped the span,
    /// shared, in one mapping.
    pub(crate) unsafe fn map_again(
        &mut self,
        place: Place,
        span: Span<'_>,
        original: *mut u8,
    ) -> Result<Window, WindowError> {
        // SAFETY: the caller's promise.
        unsafe { self.map_as(place, span, span.len, Access::ReadOf(original)) }
    }

    /// # Safety
    /// The same as for the method that the access belongs to.
    unsafe fn map_as(
        &mut self,
        place: Place,
        span: Span<'_>,
        reserved: usize,
        access: Access,
    ) -> Result<Window, WindowError> {
        let Span { file, offset, len } = span;
        let page = sys::page_size();
        let extent = Extent::new(reserved.max(len) as u64).aligned(place.alignment);
        if len == 0 || !len.is_multiple_of(page) || !offset.is_multiple_of(page as u64) {
            return Err(WindowError::Unaligned);
        }
        let area = self.room(place.space, extent, &[]).ok_or(WindowError::NoRoom)?;
        let start = self.locate(area)?;
        charge_mappings(MAPPINGS)?;
        let slot = match access {
            Access::Write => None,
            // SAFETY: `start..start + len` is page aligned (granules are pages; `len` was checked) and part
            // of the guest's memory, which `self` keeps alive. The caller vouches for the file.
            Access::Read | Access::ReadOf(_) => Some(
                unsafe { self.table.insert(start as usize, len, file, offset) }
                    .ok_or(WindowError::TooMany)?,
            ),
        };
        let mapped = match access {
            // SAFETY: the range as above. The guest is inside a host call, and the host keeps no references
            // into its memory. The caller vouches for the file.
            Access::Read => unsafe { sys::replace_by_view(start, len, file, offset) },
            // SAFETY: as above.
            Access::Write => unsafe { sys::replace_by_writable_view(start, len, file, offset) },
            // SAFETY: as above; the caller vouches for the original.
            Access::ReadOf(original) => unsafe { sys::replace_by_duplicate(start, len, original) },
        };
        let mapping = Mapping { slot, owner: place.owner, area, len, shown: 0 };
        if let Err(error) = mapped {
            self.put_back(&mapping);
            return Err(error.into());
        }
        if let Access::ReadOf(_) = access
            // SAFETY: the range that was just mapped.
            && let Err(error) = unsafe { sys::make_read_only(start, len) }
        {
            self.restore(&mapping);
            return Err(error.into());
        }
        self.mappings.push(mapping);
        Ok(Window { address: area.address })
    }

    /// Undoes a mapping that the system refused. Usually the refusal leaves the guest's memory unchanged, but
    /// it may leave a hole.
    fn put_back(&mut self, mapping: &Mapping) {
        if let Some(slot) = mapping.slot {
            self.table.remove(slot);
        }
        let Ok(start) = self.locate(mapping.area) else { return };
        // SAFETY: the range of `map_as`: page aligned and inside the live memory, and the host keeps no
        // references into it.
        let replaced = unsafe { sys::replace_by_zeros(start, mapping.len) };
        // A process without a mapping left is refused that too. If the whole range is writable, it has no
        // hole: it is still the guest's own memory.
        // SAFETY: as above; the range holds memory of the guest, which the guest may write, since nothing
        // else was mapped.
        self.broken |= replaced.is_err() && unsafe { sys::make_writable(start, mapping.len) }.is_err();
    }

    /// Sets donated address space aside as plain memory of the guest.
    pub(crate) fn set_aside(&mut self, place: Place, size: u64) -> Result<Window, WindowError> {
        let area = self.room(place.space, Extent::new(size.max(1)), &[]).ok_or(WindowError::NoRoom)?;
        self.mappings.push(Mapping {
            slot: None,
            owner: place.owner,
            area,
            len: area.size as usize,
            shown: 0,
        });
        Ok(Window { address: area.address })
    }

    /// The address in this process of `len` bytes at `offset` of a window.
    fn part_of(&self, window: Window, offset: u64, len: usize) -> Result<*mut u8, WindowError> {
        let mapping = self.mapping(window).ok_or(WindowError::NotDonated)?;
        if offset.checked_add(len as u64).is_none_or(|end| end > mapping.len as u64) {
            return Err(WindowError::OutOfBounds);
        }
        // Inside the window, whose offsets have 32 bits.
        Ok(self.locate(mapping.area)?.wrapping_add(offset as usize))
    }

    fn pages_of(&self, window: Window, offset: u64, len: usize) -> Result<*mut u8, WindowError> {
        let page = sys::page_size();
        if len == 0 || !len.is_multiple_of(page) || !offset.is_multiple_of(page as u64) {
            return Err(WindowError::Unaligned);
        }
        self.part_of(window, offset, len)
    }

    fn mapping(&self, window: Window) -> Option<&Mapping> {
        self.mappings.iter().find(|mapping| mapping.area.address == window.address)
    }

    /// Lets the guest write whole pages of a window that was made with [`map_again`](Self::map_again).
    ///
    /// # Safety
    /// Nobody in this process holds references to those bytes while the guest can write them.
    pub(crate) unsafe fn allow_writing(
        &mut self,
        window: Window,
        offset: u64,
        len: usize,
    ) -> Result<(), WindowError> {
        let start = self.pages_of(window, offset, len)?;
        // SAFETY: whole pages of a window inside the live memory. They come from a writable shared mapping,
        // so writes reach the file; the caller vouches for the bytes.
        if let Err(error) = unsafe { sys::make_writable(start, len) } {
            self.forbid_writing(window, offset, len)?;
            return Err(error.into());
        }
        Ok(())
    }

    /// Revokes write access to whole pages of a window. When this succeeds, nobody can write through them any
    /// more. When it fails, the guest must not continue: see [`is_broken`](Self::is_broken).
    pub(crate) fn forbid_writing(
        &mut self,
        window: Window,
        offset: u64,
        len: usize,
    ) -> Result<(), WindowError> {
        let start = self.pages_of(window, offset, len)?;
        // SAFETY: whole pages of a window inside the live memory.
        unsafe { sys::make_read_only(start, len) }.map_err(|error| {
            self.broken = true;
            error.into()
        })
    }

    /// Shows other bytes of a file, read-only, in whole pages of a window, until they are
    /// [hidden](Self::hide) or the window is unmapped.
    ///
    /// # Safety
    /// Until then the file stays open and covers the span.
    pub(crate) unsafe fn show(
        &mut self,
        window: Window,
        offset: u64,
        span: Span<'_>,
    ) -> Result<(), WindowError> {
        // SAFETY: the caller's promise.
        unsafe { self.change_view(window, offset, span) }?;
        self.count_shown(window, |shown| shown + 1);
        Ok(())
    }

    /// Shows the window's own bytes, `own`, again.
    ///
    /// # Safety
    /// Until the window is unmapped, the file stays open and covers the span.
    pub(crate) unsafe fn hide(
        &mut self,
        window: Window,
        offset: u64,
        own: Span<'_>,
    ) -> Result<(), WindowError> {
        self.count_shown(window, |shown| shown.saturating_sub(1));
        // SAFETY: the caller's promise.
        unsafe { self.change_view(window, offset, own) }
    }

    /// How many parts of windows show other bytes now. Each takes up to three mappings.
    pub(crate) fn shown(&self) -> u32 {
        self.mappings.iter().map(|mapping| mapping.shown).sum()
    }

    fn count_shown(&mut self, window: Window, change: impl FnOnce(u32) -> u32) {
        let mapping = self.mappings.iter_mut().find(|mapping| mapping.area.address == window.address);
        if let Some(mapping) = mapping {
            mapping.shown = change(mapping.shown);
        }
    }

    /// # Safety
    /// The same as for [`show`](Self::show).
    unsafe fn change_view(&mut self, window: Window, offset: u64, span: Span<'_>) -> Result<(), WindowError> {
        let start = self.pages_of(window, offset, span.len)?;
        // SAFETY: whole pages of a window inside the live memory, into which the host keeps no references.
        // The caller vouches for the file.
        unsafe { sys::replace_by_view(start, span.len, span.file, span.offset) }.map_err(|error| {
            // The failure may have left anything there.
            self.broken = true;
            error.into()
        })
    }

    /// The address in this process of plain memory that was [set aside](Self::set_aside).
    pub(crate) fn plain(&self, window: Window, offset: u64, len: usize) -> Result<*mut u8, WindowError> {
        self.part_of(window, offset, len)
    }

    /// Removes a window: its range reads as zeros and can be used for another window. If that fails,
    /// [`is_broken`](Self::is_broken) returns `true`.
    pub(crate) fn unmap(&mut self, window: Window) {
        let this = |mapping: &Mapping| mapping.area.address == window.address;
        if let Some(index) = self.mappings.iter().position(this) {
            let mapping = self.mappings.swap_remove(index);
            self.restore(&mapping);
        }
    }

    fn restore(&mut self, mapping: &Mapping) {
        if let Some(slot) = mapping.slot {
            self.table.remove(slot);
        }
        // It was inside when it was mapped, and memories never shrink.
        let Ok(start) = self.locate(mapping.area) else { return };
        // SAFETY: the range that `map` mapped: page aligned and inside the live memory, and the host keeps no
        // references into it.
        self.broken |= unsafe { sys::replace_by_zeros(start, mapping.len) }.is_err();
    }

    /// Whether the system refused memory to replace a window, so that part of the guest's memory is
    /// inaccessible. The guest must not continue, since it could make the host write there.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// The first write into a window: the window's owner, and the offset in its arena of a byte of that
    /// write.
    pub(crate) fn violation(&self) -> Option<(Option<Owner>, u64)> {
        let violation = self.table.violation()?;
        let mapping = self.mappings.iter().find(|mapping| mapping.slot == Some(violation.slot));
        Some((mapping.map(|mapping| mapping.owner), violation.offset))
    }

    /// Whether the guest has written into a window. Cheap: one load.
    pub(crate) fn violated(&self) -> bool {
        self.table.violation().is_some()
    }
}

#[cfg(test)]
mod tests;
