//! The address space that a guest donates for windows: accepting it, finding room in it, and giving it back.

use super::{Owner, WindowError, Windows};
use crate::host::wasm::memory::area::{Area, Extent, GRANULE, granules};
use crate::host::wasm::sys;

/// A range of memory that the guest has donated.
#[derive(Debug)]
pub(super) struct Donation {
    pub(super) owner: Owner,
    pub(super) area: Area,
}

impl Windows {
    /// Bytes that are donated now.
    pub(crate) fn donated(&self) -> u64 {
        self.donations.iter().map(|donation| u64::from(donation.area.size)).sum()
    }

    /// Bytes that may still be donated.
    pub(crate) fn budget_left(&self) -> u64 {
        self.budget.saturating_sub(self.donated())
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

    /// Adds a donation and joins it with adjacent donations of the same owner, so that a window can span
    /// several.
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

    /// Gives a part of the memory that `owner` has donated back to the guest, zeroed.
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
        // SAFETY: whole pages inside the live memory that no window covers, so they are anonymous and
        // private. The host keeps no references into them.
        let forgotten = unsafe { sys::forget(start, len) };
        // SAFETY: as above.
        if let Err(error) = forgotten.or_else(|_| unsafe { sys::replace_by_zeros(start, len) }) {
            self.broken = true;
            return Err(error.into());
        }
        let whole = self.donations.swap_remove(index).area;
        let parts = [(whole.start(), area.start()), (area.end(), whole.end())];
        for (start, end) in parts.into_iter().filter(|(start, end)| start < end) {
            // Parts of an area, whose addresses and sizes have 32 bits.
            let area = Area { address: start as u32, size: (end - start) as u32 };
            self.donations.push(Donation { owner, area });
        }
        Ok(())
    }

    /// A range in a donation of `owner` that overlaps no window and nothing `planned`: aligned as preferred
    /// if possible, else anywhere.
    pub(super) fn room(&self, owner: Owner, extent: Extent, planned: &[Area]) -> Option<Area> {
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
                // Both fit: the end is at most 2^32, and a non-empty range starts below it.
                let area = Area { address: candidate as u32, size: size as u32 };
                match taken().find(|taken| taken.overlaps(area)) {
                    Some(taken) => candidate = taken.end(),
                    None => return Some(area),
                }
            }
        })
    }

    /// The size of a donation, in whole granules, with which all of `extents` fit that do not fit into what
    /// `owner` has donated already. It allows for their preferred alignment if the budget does.
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

    /// The bytes to donate so that `count` windows of `size` bytes have room at the same time.
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

    /// Unmaps all windows of `owner` and gives its donations back to the guest as ordinary zeroed memory. If
    /// that fails, [`is_broken`](Self::is_broken) returns `true`.
    pub(crate) fn withdraw(&mut self, owner: Owner) {
        for index in (0..self.mappings.len()).rev() {
            if self.mappings[index].owner == owner {
                let mapping = self.mappings.swap_remove(index);
                self.restore(&mapping);
            }
        }
        self.donations.retain(|donation| donation.owner != owner);
    }
}
