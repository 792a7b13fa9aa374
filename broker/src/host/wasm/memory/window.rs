//! Donated address space of a guest, and the arenas mapped into it.
//!
//! A guest gives ranges of its linear memory to a subscription; the host maps the arenas of the
//! subscription's publishers there, each once and read-only. From then on a message costs neither a system call nor
//! a copy: its address is the window's address plus the block's offset.
//!
//! Whatever a guest donates is checked before anything is mapped: in 64-bit arithmetic against the memory's current
//! size, for alignment, for overlap with earlier donations, and against the guest's budget. Within those bounds the guest may
//! donate what it likes, its own stack included: it can only confuse itself. Memory that is taken back is
//! replaced by zeros, never unmapped.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use blockcast_blocks::charge_mappings;

mod error;

use super::area::{Area, Extent, GRANULE, granules};
use super::fault::WindowTable;
use crate::host::wasm::memory::linear::GuestMemory;
use crate::host::wasm::sys;

pub(crate) use error::WindowError;

/// Memory mappings that a window takes: its own, and that the memory around it becomes two.
const MAPPINGS: usize = 2;

/// Whose donation or window it is: a subscription or a publisher of the guest, or all of its memory blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner(pub(crate) u64);

impl Owner {
    /// The memory blocks of a guest, which share their address space. Subscriptions and publishers count from 1.
    pub(crate) const BLOCKS: Self = Self(0);
}

/// Where a window goes, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Into whose donations.
    pub(crate) space: Owner,
    /// Who is told of when the guest writes into it.
    pub(crate) owner: Owner,
    /// A multiple of which it starts at if there is room: see [`Extent`].
    pub(crate) alignment: u64,
}

impl Place {
    /// In the owner's own donations.
    pub(crate) const fn own(owner: Owner) -> Self {
        Self { space: owner, owner, alignment: GRANULE }
    }
}

/// Bytes of a file; both numbers are multiples of the page size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'f> {
    pub(crate) file: BorrowedFd<'f>,
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

#[derive(Debug)]
struct Donation {
    owner: Owner,
    area: Area,
}

#[derive(Debug)]
struct Mapping {
    /// Where the fault handler finds it, if the guest may not write there.
    slot: Option<usize>,
    owner: Owner,
    /// The whole range set aside, of which the first `len` bytes are mapped.
    area: Area,
    len: usize,
    /// How many parts of it [show](Windows::show) something else.
    shown: u32,
}

/// An arena or a block mapped into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Address in the guest of the first byte; no other window has it.
    pub(crate) address: u32,
}

/// How a window is made.
#[derive(Clone, Copy, Debug)]
enum Access {
    /// The guest reads.
    Read,
    /// The guest reads and writes.
    Write,
    /// As [`Read`](Self::Read), made from the host's own writable mapping, so that parts of it can become writable.
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
    /// Bytes that may be donated in all.
    budget: u64,
    /// A range could not be made ordinary memory again.
    broken: bool,
}

impl Windows {
    /// No windows yet, and no memory to have them in. `table` is the one that the store's fault handler uses.
    pub(crate) fn new(table: Arc<WindowTable>, budget: u64) -> Self {
        Self { memory: None, table, donations: Vec::new(), mappings: Vec::new(), budget, broken: false }
    }

    /// Opens the guest's memory for donations; until then all of them are out of bounds.
    ///
    /// Called once the guest is instantiated: data segments are written while it is, and a window
    /// must not be in their way.
    pub(crate) fn open(&mut self, memory: Arc<GuestMemory>) {
        self.memory = Some(memory);
    }

    /// Bytes of the guest's memory, donations included.
    pub(crate) fn memory_size(&self) -> u64 {
        self.memory.as_ref().map_or(0, |memory| memory.size())
    }

    /// Bytes that are donated now.
    pub(crate) fn donated(&self) -> u64 {
        self.donations.iter().map(|donation| u64::from(donation.area.size)).sum()
    }

    /// Bytes that may still be donated.
    pub(crate) fn budget_left(&self) -> u64 {
        self.budget.saturating_sub(self.donated())
    }

    /// The first byte of `area` in this process, if all of it lies inside of the guest's memory.
    fn locate(&self, area: Area) -> Result<*mut u8, WindowError> {
        match &self.memory {
            Some(memory) if area.end() <= memory.size() => {
                Ok(memory.base().wrapping_add(area.address as usize))
            }
            _ => Err(WindowError::OutOfBounds),
        }
    }

    /// The first byte of an area in which the host is going to read or write: inside of the memory, and outside of all
    /// donated address space.
    pub(crate) fn ordinary(&self, area: Area) -> Result<*mut u8, WindowError> {
        let start = self.locate(area)?;
        if self.donations.iter().any(|donation| donation.area.overlaps(area)) {
            return Err(WindowError::Overlap);
        }
        Ok(start)
    }

    /// Whether `len` bytes of the guest's memory that lie at `start` in this process are outside of all donated address
    /// space.
    pub(crate) fn is_ordinary(&self, start: *const u8, len: usize) -> bool {
        // Before the memory is open there are no donations.
        let Some(memory) = &self.memory else { return true };
        let start = (start as usize).wrapping_sub(memory.base() as usize) as u64;
        let end = start.saturating_add(len as u64);
        self.donations.iter().all(|donation| end <= donation.area.start() || donation.area.end() <= start)
    }

    /// Accepts `area` as address space for windows of `owner`.
    pub(crate) fn donate(&mut self, owner: Owner, area: Area) -> Result<(), WindowError> {
        if area.size == 0 || !area.start().is_multiple_of(GRANULE) || !area.end().is_multiple_of(GRANULE) {
            return Err(WindowError::Unaligned);
        }
        self.ordinary(area)?;
        if u64::from(area.size) > self.budget_left() {
            return Err(WindowError::Budget);
        }
        self.join(owner, area);
        Ok(())
    }

    /// Adds a donation, as a continuation of its neighbours where the owner has donated them too: so windows lie side
    /// by side across donations.
    fn join(&mut self, owner: Owner, mut area: Area) {
        self.donations.retain(|donation| {
            let before = donation.area.end() == area.start();
            let after = donation.area.start() == area.end();
            let joined = area.size.checked_add(donation.area.size);
            let (true, true, Some(size)) = (donation.owner == owner, before || after, joined) else {
                return true;
            };
            let address = if before { donation.area.address } else { area.address };
            area = Area { address, size };
            false
        });
        self.donations.push(Donation { owner, area });
    }

    /// Gives a part of what `owner` has donated back to the guest, as zeroed memory.
    pub(crate) fn reclaim(&mut self, owner: Owner, area: Area) -> Result<(), WindowError> {
        if area.size == 0 || !area.start().is_multiple_of(GRANULE) || !area.end().is_multiple_of(GRANULE) {
            return Err(WindowError::Unaligned);
        }
        let inside = |donation: &Donation| {
            donation.owner == owner
                && donation.area.start() <= area.start()
                && area.end() <= donation.area.end()
        };
        let index = self.donations.iter().position(inside).ok_or(WindowError::NotDonated)?;
        if self.mappings.iter().any(|mapping| mapping.area.overlaps(area)) {
            return Err(WindowError::InUse);
        }
        let start = self.locate(area)?;
        let len = area.size as usize;
        // SAFETY: whole pages inside of the live memory, in which no window lies, so they are anonymous and private; the host
        // keeps no references into them.
        let forgotten = unsafe { sys::forget(start, len) };
        // SAFETY: as above.
        if let Err(error) = forgotten.or_else(|_| unsafe { sys::replace_by_zeros(start, len) }) {
            self.broken = true;
            return Err(error.into());
        }
        let whole = self.donations.swap_remove(index).area;
        let parts = [(whole.start(), area.start()), (area.end(), whole.end())];
        for (start, end) in parts.into_iter().filter(|(start, end)| start < end) {
            // Parts of an area, whose numbers have 32 bits.
            let area = Area { address: start as u32, size: (end - start) as u32 };
            self.donations.push(Donation { owner, area });
        }
        Ok(())
    }

    /// A range in a donation of `owner` that overlaps no window and nothing `planned`: where it had best be, or else anywhere.
    fn room(&self, owner: Owner, extent: Extent, planned: &[Area]) -> Option<Area> {
        self.room_at(owner, extent, planned)
            .or_else(|| self.room_at(owner, Extent { alignment: GRANULE, ..extent }, planned))
    }

    fn room_at(&self, owner: Owner, extent: Extent, planned: &[Area]) -> Option<Area> {
        let Extent { size, alignment } = extent;
        let taken = || self.mappings.iter().map(|mapping| mapping.area).chain(planned.iter().copied());
        self.donations.iter().filter(|donation| donation.owner == owner).find_map(|donation| {
            let mut candidate = donation.area.start();
            loop {
                candidate = candidate.checked_next_multiple_of(alignment)?;
                if candidate.checked_add(size)? > donation.area.end() {
                    return None;
                }
                // Both fit: the end is at most 2^32, and a range that is not empty starts below it.
                let area = Area { address: candidate as u32, size: size as u32 };
                match taken().find(|taken| taken.overlaps(area)) {
                    Some(taken) => candidate = taken.end(),
                    None => return Some(area),
                }
            }
        })
    }

    /// How many bytes a single donation must have so that all of `extents` that are not mapped yet fit, and begin where they
    /// had best if the budget allows that, as far as they do not fit into what `owner` has donated already. Whole granules.
    pub(crate) fn missing(&self, owner: Owner, extents: impl Iterator<Item = Extent>) -> u64 {
        let mut planned = Vec::new();
        let (mut missing, mut with_slack) = (0, 0);
        for extent in extents {
            match self.room(owner, extent, &planned) {
                Some(area) => planned.push(area),
                None => {
                    missing += extent.size;
                    with_slack += extent.with_slack();
                }
            }
        }
        if with_slack <= self.budget_left() { with_slack } else { missing }
    }

    /// How many bytes must be donated so that `count` windows of `size` bytes have room at the same time.
    pub(crate) fn missing_for(&self, owner: Owner, count: u64, size: u64) -> u64 {
        let size = granules(size.max(1));
        let mut taken: Vec<Area> = self.mappings.iter().map(|mapping| mapping.area).collect();
        taken.sort_unstable_by_key(|area| area.start());
        let mut room = 0;
        for donation in self.donations.iter().filter(|donation| donation.owner == owner) {
            let mut from = donation.area.start();
            for taken in taken.iter().filter(|taken| taken.overlaps(donation.area)) {
                room += (taken.start() - from) / size;
                from = taken.end();
            }
            room += (donation.area.end() - from) / size;
        }
        count.saturating_sub(room).saturating_mul(size)
    }

    /// Maps bytes of a file read-only into donated address space, setting aside `reserved` bytes for it.
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
    /// As for [`map`](Self::map), and nobody in this process holds references to those bytes while the guest can
    /// write them.
    pub(crate) unsafe fn map_writable(
        &mut self,
        place: Place,
        span: Span<'_>,
    ) -> Result<Window, WindowError> {
        // SAFETY: the caller's promise.
        unsafe { self.map_as(place, span, span.len, Access::Write) }
    }

    /// As [`map`](Self::map), from the writable mapping of the same bytes at `original`: of this window parts
    /// can be [made writable](Self::allow_writing).
    ///
    /// # Safety
    /// As for [`map`](Self::map); `original` is where this process has mapped the span, shared, in one mapping.
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
    /// As for the method that the access belongs to.
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
            // SAFETY: `start..start + len` is page aligned (granules are pages; `len` was checked) and part of the guest's
            // memory, which `self` keeps alive; the caller vouches for the file.
            Access::Read | Access::ReadOf(_) => Some(
                unsafe { self.table.insert(start as usize, len, file, offset) }
                    .ok_or(WindowError::TooMany)?,
            ),
        };
        let mapped = match access {
            // SAFETY: the range as above. The guest stands in a host call, and the host keeps no references into
            // its memory; the caller vouches for the file.
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

    /// Undoes a mapping that the system has refused. Mostly it has left the guest's memory as it was; it may have left a hole.
    fn put_back(&mut self, mapping: &Mapping) {
        if let Some(slot) = mapping.slot {
            self.table.remove(slot);
        }
        let Ok(start) = self.locate(mapping.area) else { return };
        // SAFETY: the range of `map_as`: page aligned, inside of the live memory, and the host keeps no references into it.
        let replaced = unsafe { sys::replace_by_zeros(start, mapping.len) };
        // A process that has no mapping left is refused that too. If the range is writable as a whole, it has no hole: it is the
        // guest's own memory as before.
        // SAFETY: as above; what lies there is memory of the guest, which it may write, since nothing else was mapped.
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

    /// Where `len` bytes from `offset` of a window lie in this process, and whether they are whole pages.
    fn part_of(&self, window: Window, offset: u64, len: usize) -> Result<*mut u8, WindowError> {
        let mapping = self.mapping(window).ok_or(WindowError::NotDonated)?;
        if offset.checked_add(len as u64).is_none_or(|end| end > mapping.len as u64) {
            return Err(WindowError::OutOfBounds);
        }
        // Inside of the window, whose offsets have 32 bits.
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
        // SAFETY: whole pages of a window inside of the live memory. Made from a writable shared mapping, so what is
        // written reaches the file; the caller vouches for the bytes.
        if let Err(error) = unsafe { sys::make_writable(start, len) } {
            self.forbid_writing(window, offset, len)?;
            return Err(error.into());
        }
        Ok(())
    }

    /// Takes write access to whole pages of a window away. When this returns without an error nobody can write through
    /// them any more; with an error the guest must not go on, see [`is_broken`](Self::is_broken).
    pub(crate) fn forbid_writing(
        &mut self,
        window: Window,
        offset: u64,
        len: usize,
    ) -> Result<(), WindowError> {
        let start = self.pages_of(window, offset, len)?;
        // SAFETY: whole pages of a window inside of the live memory.
        unsafe { sys::make_read_only(start, len) }.map_err(|error| {
            self.broken = true;
            error.into()
        })
    }

    /// Shows other bytes of a file, read-only, in whole pages of a window, until they are [hidden](Self::hide) or the window
    /// is unmapped.
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

    /// Shows the window's own bytes again, which are `own`.
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

    /// How many parts of windows show something else now. Each takes up to three mappings.
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
    /// As for [`show`](Self::show).
    unsafe fn change_view(&mut self, window: Window, offset: u64, span: Span<'_>) -> Result<(), WindowError> {
        let start = self.pages_of(window, offset, span.len)?;
        // SAFETY: whole pages of a window inside of the live memory, into which the host keeps no references; the
        // caller vouches for the file.
        unsafe { sys::replace_by_view(start, span.len, span.file, span.offset) }.map_err(|error| {
            // What the failure has left there is unknown.
            self.broken = true;
            error.into()
        })
    }

    /// Where bytes of plain memory that was [set aside](Self::set_aside) lie in this process.
    pub(crate) fn plain(&self, window: Window, offset: u64, len: usize) -> Result<*mut u8, WindowError> {
        self.part_of(window, offset, len)
    }

    /// Takes a window out of the guest: its range reads as zeros and can be used for another window. See
    /// [`is_broken`](Self::is_broken) for when that fails.
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
        // It was inside when it was mapped, and memories do not shrink.
        let Ok(start) = self.locate(mapping.area) else { return };
        // SAFETY: the range that `map` mapped: page aligned, inside of the live memory, and the host keeps no references
        // into it.
        self.broken |= unsafe { sys::replace_by_zeros(start, mapping.len) }.is_err();
    }

    /// Whether the system refused memory to replace a window, so that a part of the guest's memory is inaccessible. The
    /// guest must not go on: the host itself might be made to write there.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Unmaps all windows of `owner` and gives its donations back to the guest as ordinary zeroed memory. See
    /// [`is_broken`](Self::is_broken) for when that fails.
    pub(crate) fn withdraw(&mut self, owner: Owner) {
        for index in (0..self.mappings.len()).rev() {
            if self.mappings[index].owner == owner {
                let mapping = self.mappings.swap_remove(index);
                self.restore(&mapping);
            }
        }
        self.donations.retain(|donation| donation.owner != owner);
    }

    /// The first write to a window: the window's owner, and the offset in its arena of a byte of that write.
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
