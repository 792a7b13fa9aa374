//! A file that is mapped as a whole and not inherited by forked children: [`MappedFile`].

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use crate::engine::segment::files::SegmentError;
use crate::sys::fork::{InChild, Uninherited};
use crate::sys::mapping::Reservation;

/// A mapped file.
#[derive(Debug)]
pub(crate) struct MappedFile {
    // Dropped before the mapping.
    _uninherited: Uninherited,
    memory: Reservation,
}

impl MappedFile {
    /// Maps the first `len` bytes of a file, whole pages, for reading. A function in `in_child` touches no
    /// others.
    pub(crate) fn read_only(
        file: BorrowedFd<'_>,
        len: usize,
        in_child: InChild,
    ) -> Result<Self, SegmentError> {
        let map = || {
            let memory = Reservation::new(len)?;
            // SAFETY: the reservation is new, so nothing refers into it.
            unsafe { memory.map_read_only(0, len, file) }?;
            Self::uninherited(memory, in_child)
        };
        map().map_err(SegmentError::system)
    }

    /// Like [`read_only`](Self::read_only), for reading and writing. Commits memory for every page.
    pub(crate) fn writable(file: BorrowedFd<'_>, len: usize, in_child: InChild) -> rustix::io::Result<Self> {
        let memory = Reservation::new(len)?;
        // SAFETY: the reservation is new, so nothing refers into it.
        unsafe { memory.map(0, len, file, true) }?;
        Self::uninherited(memory, in_child)
    }

    fn uninherited(memory: Reservation, in_child: InChild) -> rustix::io::Result<Self> {
        // SAFETY: the whole mapping, which is dropped after the value. The functions that this crate passes
        // in `in_child` touch a preamble and a header at most, or nothing.
        let _uninherited = unsafe { Uninherited::new(memory.base(), memory.len(), in_child) }?;
        Ok(Self { _uninherited, memory })
    }

    /// The first byte. The mapping stays as long as the value.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.memory.base()
    }
}

/// Leaves the zeros that a child finds in place of a file as they are.
///
/// # Safety
/// None is needed.
pub(crate) unsafe fn leave_zeros(_: NonNull<u8>) {}
