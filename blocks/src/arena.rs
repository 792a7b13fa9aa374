//! Where payload bytes live: [`Arena`].

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use crate::brought::ArenaMemory;
use crate::error::ChannelError;
use crate::sys::mapping::Reservation;
use crate::sys::{self, memfd};

/// One memfd-backed mapping that holds a publisher's blocks.
///
/// The memfd is sealed against shrinking and growing, so whoever maps it never meets a bus error, and against
/// writing through anything but the publisher's own mapping. The broker maps the same memfd read-only into the
/// windows of wasm guests. An arena over [memory that the user brought](crate::ArenaMemory) has the first of the two
/// seals only.
///
/// ```text
/// memfd    [ block 0 | block 1 | … | block n-1 | padding to a page ]
/// process    base ─┘ read-write, shared
/// guest      window ─┘ read-only, shared
/// ```
pub struct Arena {
    mapping: Reservation,
    file: OwnedFd,
}

impl Arena {
    /// An arena of at least `len` bytes, all zero, rounded up to whole pages. With `prefault` every page is
    /// touched now, not at its first use. Six system calls.
    pub(crate) fn create(name: &str, len: usize, prefault: bool) -> rustix::io::Result<Self> {
        let len = sys::whole_pages(len.max(1)).ok_or(rustix::io::Errno::NOMEM)?;
        let file = memfd::sized(name, len)?;
        let mapping = Reservation::new(len)?;
        // SAFETY: the reservation is new, so nothing refers into it.
        unsafe { mapping.map(0, len, file.as_fd(), prefault) }?;
        memfd::seal(&file)?;
        Ok(Self { mapping, file })
    }

    /// An arena of at least `len` bytes, rounded up to whole pages, in memory that the user has brought. It is not sealed
    /// against further writing: that is up to who brought it.
    pub(crate) fn over(memory: ArenaMemory, len: usize, prefault: bool) -> Result<Self, ChannelError> {
        let refused =
            |error: rustix::io::Errno| ChannelError::System { bytes: len as u64, reason: error.to_string() };
        let len = sys::whole_pages(len.max(1)).ok_or(rustix::io::Errno::NOMEM).map_err(refused)?;
        let file = memory.into_file(len)?;
        let mapping = Reservation::new(len).map_err(refused)?;
        // SAFETY: the reservation is new, so nothing refers into it.
        unsafe { mapping.map(0, len, file.as_fd(), prefault) }.map_err(refused)?;
        Ok(Self { mapping, file })
    }

    /// Length in bytes, a multiple of the page size.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mapping.len()
    }

    /// Never: an arena has at least one page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The file behind the arena, for mapping it elsewhere.
    #[must_use]
    pub fn memfd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// First byte. The mapping is readable and writable, and valid as long as the arena.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.mapping.base()
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").field("len", &self.len()).field("base", &self.base()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{SealFlags, fcntl_get_seals, ftruncate};

    #[test]
    fn an_arena_is_written_through_its_own_mapping_only() {
        let arena = Arena::create("blockcast-test", 10_000, false).unwrap();
        // SAFETY: the mapping is writable, and nobody else knows the arena.
        unsafe { arena.base().write(7) };
        let mut byte = [0];
        assert_eq!(rustix::io::pread(arena.memfd(), &mut byte, 0), Ok(1));
        assert_eq!(byte, [7]);
        assert_eq!(rustix::io::pwrite(arena.memfd(), &byte, 0), Err(rustix::io::Errno::PERM));
        let window = Reservation::new(arena.len()).unwrap();
        // SAFETY: the reservation is new, so nothing refers into it.
        let mapped = unsafe { window.map(0, arena.len(), arena.memfd(), false) };
        assert_eq!(mapped, Err(rustix::io::Errno::PERM));
    }

    #[test]
    fn an_arena_can_neither_shrink_nor_grow() {
        let arena = Arena::create("blockcast-test", 10_000, false).unwrap();
        assert_eq!(arena.len() % sys::page_size(), 0);
        let seals = fcntl_get_seals(arena.memfd()).unwrap();
        assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL));
        assert!(ftruncate(arena.memfd(), 0).is_err());
        assert!(ftruncate(arena.memfd(), 1 << 20).is_err());
    }
}
