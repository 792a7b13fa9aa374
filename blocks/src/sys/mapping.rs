//! Address space: a reservation into which files are mapped.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::io;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// A range of address space that is this value's alone: inaccessible at first, then file by file mapped,
/// and given back as a whole on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a reservation is a range of the process's address space; which thread holds the value makes no
// difference, and it hands out no references.
unsafe impl Send for Reservation {}
// SAFETY: as above; the methods that take `&self` only read the two fields or map behind them.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Reserves `len` bytes (a multiple of the page size, not zero) without committing memory.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a null hint and no MAP_FIXED: the kernel picks a range that nothing else uses.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::Errno::NOMEM)?;
        Ok(Self { base, len })
    }

    /// First byte of the range.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Length of the range in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Maps the first `len` bytes of `file` for reading and writing, shared, at `offset` of the range;
    /// with `populate` every page is faulted in at once.
    ///
    /// # Safety
    /// No reference into that part of the range exists.
    pub(crate) unsafe fn map(
        &self,
        offset: usize,
        len: usize,
        file: BorrowedFd<'_>,
        populate: bool,
    ) -> io::Result<()> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(io::Errno::INVAL);
        }
        let mut flags = MapFlags::SHARED | MapFlags::FIXED;
        if populate {
            flags |= MapFlags::POPULATE;
        }
        // SAFETY: `offset <= len`, checked above, so the sum stays within the reservation.
        let target = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: the range belongs to this reservation alone and, by the contract, nothing refers to it,
        // so replacing what is mapped there is not seen by anyone.
        unsafe { mmap(target.cast(), len, ProtFlags::READ | ProtFlags::WRITE, flags, file, 0) }?;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: base and length are those of the mapping made in `new`; the owner of the reservation
        // keeps it alive for as long as anything points into it.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of a whole reservation: {unmapped:?}");
    }
}
