//! Address space: a reservation into which files are mapped.

use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::io;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use super::{large_page_size, page_size};

/// A range of address space that only this value owns. It is inaccessible at first, then files are mapped
/// into it. Dropping the value returns all of it.
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
        Self::aligned(len, 1)
    }

    /// Like [`new`](Self::new), but starts at a multiple of `alignment`, which is a power of two.
    pub(crate) fn aligned(len: usize, alignment: usize) -> io::Result<Self> {
        let slack = alignment.saturating_sub(page_size());
        let all = len.checked_add(slack).ok_or(io::Errno::NOMEM)?;
        // SAFETY: a null hint and no MAP_FIXED: the kernel picks a range that nothing else uses.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                all,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::Errno::NOMEM)?;
        let whole = Self { base, len: all };
        let before = base.addr().get().next_multiple_of(alignment) - base.addr().get();
        Ok(whole.cut(before, len))
    }

    /// Keeps `len` bytes from `start` on, whole pages, and returns the rest.
    fn cut(self, start: usize, len: usize) -> Self {
        let whole = ManuallyDrop::new(self);
        for (from, to) in [(0, start), (start + len, whole.len)] {
            if from < to {
                // SAFETY: within the reservation, whose beginning is known.
                let unused = unsafe { whole.base.add(from) };
                // SAFETY: pages of the reservation, into which nothing refers yet.
                let unmapped = unsafe { munmap(unused.as_ptr().cast(), to - from) };
                debug_assert!(unmapped.is_ok(), "munmap of a part of a reservation: {unmapped:?}");
            }
        }
        // SAFETY: as above.
        Self { base: unsafe { whole.base.add(start) }, len }
    }

    /// Moves the first `len` mapped bytes into large pages, except what does not fill one, and commits memory
    /// for all of them. An error means that some are still in ordinary pages, which only affects speed.
    ///
    /// This works even if the system does not use large pages on its own: the call asks for them
    /// (`MADV_COLLAPSE`, Linux 6.1).
    pub(crate) fn gather(&self, len: usize) -> io::Result<()> {
        let large = large_page_size();
        let len = len.min(self.len) / large * large;
        for offset in (0..len).step_by(large) {
            // The call below skips parts without any memory.
            // SAFETY: within the range.
            let page = unsafe { self.base.add(offset) };
            // SAFETY: gives a page of this reservation memory, if something is mapped there.
            unsafe { madvise(page.as_ptr().cast(), page_size(), Advice::LinuxPopulateRead) }?;
        }
        // SAFETY: moves the memory behind a part of this reservation; what it holds stays as it is.
        let gathered = unsafe { libc::madvise(self.base.as_ptr().cast(), len, libc::MADV_COLLAPSE) };
        if gathered == 0 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        Err(io::Errno::from_io_error(&error).unwrap_or(io::Errno::INVAL))
    }

    /// Replaces all mappings by inaccessible address space, which takes no memory.
    ///
    /// # Safety
    /// No reference into the range exists, and nobody accesses it from now on.
    #[cfg_attr(loom, allow(dead_code, reason = "not part of any model"))]
    pub(crate) unsafe fn clear(&self) -> io::Result<()> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: the range belongs to this reservation alone and, by the contract, nobody misses what is
        // mapped there.
        unsafe { mmap_anonymous(self.base.as_ptr().cast(), self.len, ProtFlags::empty(), flags) }?;
        Ok(())
    }

    /// First byte of the range.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Length of the range in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Maps the first `len` bytes of `file` for reading and writing, shared, at `offset` of the range.
    /// `populate` faults in every page at once.
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
        let flags = if populate { MapFlags::POPULATE } else { MapFlags::empty() };
        // SAFETY: the caller's promise.
        unsafe { self.map_with(offset, len, file, ProtFlags::READ | ProtFlags::WRITE, flags) }
    }

    /// Like [`map`](Self::map), for reading only.
    ///
    /// # Safety
    /// The same as for [`map`](Self::map).
    #[cfg_attr(loom, allow(dead_code, reason = "not part of any model"))]
    pub(crate) unsafe fn map_read_only(
        &self,
        offset: usize,
        len: usize,
        file: BorrowedFd<'_>,
    ) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.map_with(offset, len, file, ProtFlags::READ, MapFlags::empty()) }
    }

    /// # Safety
    /// The same as for [`map`](Self::map).
    unsafe fn map_with(
        &self,
        offset: usize,
        len: usize,
        file: BorrowedFd<'_>,
        protection: ProtFlags,
        flags: MapFlags,
    ) -> io::Result<()> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(io::Errno::INVAL);
        }
        let flags = flags | MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: `offset <= len`, checked above, so the sum stays within the reservation.
        let target = unsafe { self.base.as_ptr().add(offset) };
        // SAFETY: the range belongs to this reservation alone and, by the contract, nothing refers to it,
        // so replacing what is mapped there is not seen by anyone.
        unsafe { mmap(target.cast(), len, protection, flags, file, 0) }?;
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
