//! The file of a subscribing process's [side](super::side) of a channel: [`AnnexFile`].

use std::alloc::Layout;
use std::os::fd::{AsFd as _, OwnedFd};
use std::ptr::NonNull;

use super::files::{ALL_SEALS, SegmentError, SegmentFile, check_file, read_exactly, too_small};
use super::mapped_file::{MappedFile, leave_zeros};
use super::preamble::Preamble;
use super::side::{Side, SideOffsets};
use crate::engine::config::MAX_SUBSCRIBERS;
use crate::sys;
use crate::sys::fork::InChild;
use crate::sys::mappings::charge_mappings;

/// Marks a file as an annex.
const MAGIC: [u8; 8] = *b"blkannex";

/// Number of bytes of the preamble that are used.
const USED: usize = 32;

/// A mapped annex: writable in the process that created it, read-only in the publisher's.
#[derive(Debug)]
pub(crate) struct AnnexFile(#[allow(dead_code, reason = "keeps the mapping")] MappedFile);

/// The numbers in an annex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnnexGeometry {
    pub(crate) seats: u32,
    pub(crate) blocks: u32,
}

impl AnnexGeometry {
    /// Returns the offsets of the side's parts, and the length of the file in whole pages.
    fn offsets(self) -> Option<(SideOffsets, usize)> {
        if self.seats > MAX_SUBSCRIBERS {
            return None;
        }
        let whole = Layout::array::<u8>(Preamble::LEN).ok()?;
        let (whole, side) = SideOffsets::after(whole, self.seats, self.blocks)?;
        Some((side, sys::whole_pages(whole.size())?))
    }

    fn encode(self, len: u64) -> [u8; USED] {
        let mut bytes = [0; USED];
        bytes[..8].copy_from_slice(&MAGIC);
        for (index, number) in [Preamble::VERSION, self.seats, self.blocks, 0].into_iter().enumerate() {
            bytes[8 + 4 * index..][..4].copy_from_slice(&number.to_ne_bytes());
        }
        bytes[24..].copy_from_slice(&len.to_ne_bytes());
        bytes
    }
}

impl AnnexFile {
    /// Creates an annex in a sealed memfd, and returns it with its side and the file. Eight system calls.
    pub(crate) fn create(geometry: AnnexGeometry) -> Result<(Self, Side, OwnedFd), SegmentError> {
        let impossible = || SegmentError::Geometry(format!("an annex with {geometry:?}"));
        let (offsets, len) = geometry.offsets().ok_or_else(impossible)?;
        charge_mappings(1)?;
        let make = || {
            let file = sys::memfd::sized("blockcast-annex", len)?;
            let mapped = MappedFile::writable(file.as_fd(), len, InChild::Zeros(leave_zeros))?;
            sys::memfd::seal(&file)?;
            Ok((file, mapped))
        };
        let (file, mapped) = make().map_err(SegmentError::system)?;
        let first = geometry.encode(len as u64);
        // SAFETY: in bounds; nobody else knows the mapping yet.
        unsafe { mapped.base().copy_from_nonoverlapping(NonNull::from(&first).cast(), first.len()) };
        // SAFETY: laid out within `len` bytes; the caller keeps the value for as long as it uses the side.
        let side = unsafe { Side::at(mapped.base(), offsets, geometry.seats, geometry.blocks) };
        // SAFETY: the file is new, so it consists of zeros, and nobody else knows it.
        unsafe { side.initialise() };
        Ok((Self(mapped), side, file))
    }

    /// Maps an annex that another process has created. Seven system calls.
    ///
    /// The numbers in the file are read once, and compared with those that are `expected`.
    pub(crate) fn open(file: &OwnedFd, expected: AnnexGeometry) -> Result<Opened, SegmentError> {
        let bytes = check_file(file, SegmentFile::Annex, ALL_SEALS)?;
        let mut first = [0; USED];
        read_exactly(file, SegmentFile::Annex, &mut first, 0, bytes)?;
        if first[..8] != MAGIC {
            return Ok(Opened::NoAnnex);
        }
        let number = |at: usize| u32::from_ne_bytes([first[at], first[at + 1], first[at + 2], first[at + 3]]);
        let version = number(8);
        if version != Preamble::VERSION {
            return Err(SegmentError::Version { found: version, supported: Preamble::VERSION });
        }
        let found = AnnexGeometry { seats: number(12), blocks: number(16) };
        if found != expected {
            return Ok(Opened::Different(found));
        }
        let impossible = || SegmentError::Geometry(format!("an annex with {found:?}"));
        let (offsets, len) = found.offsets().ok_or_else(impossible)?;
        if bytes < len as u64 {
            return Err(too_small(SegmentFile::Annex, len as u64, bytes));
        }
        if first[24..] != (len as u64).to_ne_bytes() {
            return Err(impossible());
        }
        charge_mappings(1)?;
        let mapped = MappedFile::read_only(file.as_fd(), len, InChild::Zeros(leave_zeros))?;
        // SAFETY: laid out within `len` bytes; the caller keeps the value for as long as it uses the side.
        let side = unsafe { Side::at(mapped.base(), offsets, found.seats, found.blocks) };
        Ok(Opened::Annex(Self(mapped), side))
    }
}

/// The result of [`AnnexFile::open`].
#[derive(Debug)]
pub(crate) enum Opened {
    /// An annex.
    Annex(AnnexFile, Side),
    /// A file that is not an annex.
    NoAnnex,
    /// An annex with other numbers.
    Different(AnnexGeometry),
}
