//! The operating system's memory calls that the wasm host uses, each with its guarantees.
//!
//! Everything here uses rustix's raw system calls: no lock, no allocation, no `errno`. So signal handlers may
//! call these functions.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags};

use crate::file;

/// Size of a page of this machine in bytes; a power of two.
pub(crate) fn page_size() -> usize {
    rustix::param::page_size()
}

/// The effective user of this process.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: takes nothing, touches nothing, cannot fail.
    unsafe { libc::geteuid() }
}

/// Closes all descriptors of this process except for the standard streams.
///
/// # Safety
/// No thread uses a descriptor that was opened before this call.
pub(crate) unsafe fn close_all_but_standard_streams() {
    // An old system may not support the call; then they stay open.
    // SAFETY: the call takes only numbers; the caller vouches that nobody uses the descriptors.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// Ends the process without running any of its destructors or exit handlers.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: never returns, and touches no memory of this process.
    unsafe { libc::_exit(status) }
}

/// Reserves `len` bytes of inaccessible address space.
pub(crate) fn reserve(len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new anonymous mapping at an address of the kernel's choice replaces nothing.
    let start = unsafe {
        rustix::mm::mmap_anonymous(
            ptr::null_mut(),
            len,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }?;
    NonNull::new(start.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

/// Like [`reserve`], but starts at a multiple of `alignment`, a power of two of at least one page.
pub(crate) fn reserve_aligned(len: usize, alignment: usize) -> io::Result<NonNull<u8>> {
    let all = len.checked_add(alignment - page_size()).ok_or(io::ErrorKind::OutOfMemory)?;
    let start = reserve(all)?;
    let before = start.addr().get().next_multiple_of(alignment) - start.addr().get();
    // SAFETY: within the range just reserved: less than `alignment` bytes into it.
    let base = unsafe { start.add(before) };
    // SAFETY: its end is within the range, or is its end.
    let end = unsafe { base.add(len) };
    for (from, len) in [(start, before), (end, all - before - len)] {
        if len > 0 {
            // If the system keeps it, it is unused address space.
            // SAFETY: pages of the range, to which nothing refers yet.
            let _ = unsafe { release(from, len) };
        }
    }
    Ok(base)
}

/// Makes a mapping of one inaccessible page that the system never joins with its neighbours. Letting go of it
/// makes room for another mapping, in a process that has as many as it can have.
pub(crate) fn spare() -> io::Result<NonNull<u8>> {
    // Shared memory has a file of its own, so no neighbour continues it.
    // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
    let start = unsafe {
        rustix::mm::mmap_anonymous(ptr::null_mut(), page_size(), ProtFlags::empty(), MapFlags::SHARED)
    }?;
    NonNull::new(start.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

/// Whether this process can create a mapping and split it. System calls.
pub(crate) fn has_mappings_left() -> bool {
    let Ok(start) = reserve(2 * page_size()) else { return false };
    // SAFETY: a page of the reservation just made, to which nothing refers.
    let split = unsafe { make_writable(start.as_ptr(), page_size()) }.is_ok();
    // SAFETY: the whole reservation.
    let released = unsafe { release(start, 2 * page_size()) };
    split && released.is_ok()
}

/// Returns address space to the system.
///
/// # Safety
/// `start..start + len` are whole pages that the caller owns, for example from [`reserve`], and nothing
/// refers to them any more.
pub(crate) unsafe fn release(start: NonNull<u8>, len: usize) -> io::Result<()> {
    // SAFETY: the caller owns the range and has no references into it.
    Ok(unsafe { rustix::mm::munmap(start.as_ptr().cast(), len) }?)
}

/// Makes a part of a reservation readable and writable. Untouched pages read as zeros.
///
/// # Safety
/// `start..start + len` is page aligned and inside a live reservation of the caller.
pub(crate) unsafe fn make_writable(start: *mut u8, len: usize) -> io::Result<()> {
    // SAFETY: only widens the access to pages that the caller owns.
    Ok(unsafe { rustix::mm::mprotect(start.cast(), len, MprotectFlags::READ | MprotectFlags::WRITE) }?)
}

/// Replaces a part of a reservation with fresh zeroed memory, readable and writable.
///
/// In two steps, because a system with strict accounting may refuse writable private memory after the old
/// pages are gone. If the second step fails, the range is inaccessible but still reserved: it is never a hole
/// that another mapping of the process could fall into.
///
/// # Safety
/// `start..start + len` is page aligned and inside a live reservation of the caller, and no reference into it
/// exists.
pub(crate) unsafe fn replace_by_zeros(start: *mut u8, len: usize) -> io::Result<()> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    // SAFETY: MAP_FIXED replaces pages of the caller's own reservation only.
    unsafe { rustix::mm::mmap_anonymous(start.cast(), len, ProtFlags::empty(), flags) }?;
    // SAFETY: the range that was just mapped.
    unsafe { make_writable(start, len) }
}

/// Makes private memory read as zeros again, if the system can do that without creating a mapping.
///
/// # Safety
/// `start..start + len` is page aligned, inside a live reservation of the caller, and anonymous private
/// memory, and no reference into it exists.
pub(crate) unsafe fn forget(start: *mut u8, len: usize) -> io::Result<()> {
    // SAFETY: anonymous private pages, which the next access replaces with zeroed ones; the caller has no
    // references into them.
    Ok(unsafe { rustix::mm::madvise(start.cast(), len, Advice::LinuxDontNeed) }?)
}

/// Replaces a part of a reservation with a read-only view of a file, which shows what others write to it.
///
/// # Safety
/// `start..start + len` is page aligned and inside a live reservation of the caller, and no reference into it
/// exists. The file is at least `offset + len` bytes long and stays so.
pub(crate) unsafe fn replace_by_view(
    start: *mut u8,
    len: usize,
    file: BorrowedFd<'_>,
    offset: u64,
) -> io::Result<()> {
    let flags = MapFlags::SHARED | MapFlags::FIXED;
    // SAFETY: MAP_FIXED replaces pages of the caller's own reservation only; the file covers the range.
    unsafe { rustix::mm::mmap(start.cast::<c_void>(), len, ProtFlags::READ, flags, file, offset) }?;
    Ok(())
}

/// Replaces a part of a reservation with a writable view of a file.
///
/// # Safety
/// The same as for [`replace_by_view`].
pub(crate) unsafe fn replace_by_writable_view(
    start: *mut u8,
    len: usize,
    file: BorrowedFd<'_>,
    offset: u64,
) -> io::Result<()> {
    let flags = MapFlags::SHARED | MapFlags::FIXED;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: MAP_FIXED replaces pages of the caller's own reservation only; the file covers the range.
    unsafe { rustix::mm::mmap(start.cast::<c_void>(), len, access, flags, file, offset) }?;
    Ok(())
}

/// Replaces a part of a reservation with a second mapping of what is mapped at `original`: same pages, same
/// access.
///
/// It duplicates the mapping, not the file. This works even if the file is sealed against new writable
/// mappings, because the caller already has a writable one.
///
/// # Safety
/// `start..start + len` is page aligned and inside a live reservation of the caller, and no reference into it
/// exists. `original..original + len` is page aligned and inside one shared mapping of a file that covers it.
pub(crate) unsafe fn replace_by_duplicate(start: *mut u8, len: usize, original: *mut u8) -> io::Result<()> {
    // An old size of 0 asks for a duplicate (mremap(2), "If the value of old_size is zero").
    let flags = MremapFlags::MAYMOVE;
    // SAFETY: the call replaces only pages of the caller's own reservation and leaves the original unchanged.
    unsafe { rustix::mm::mremap_fixed(original.cast(), 0, len, flags, start.cast()) }?;
    Ok(())
}

/// Makes a part of a mapping read-only. When the call returns, no thread can write through it any more.
///
/// # Safety
/// `start..start + len` is page aligned and inside a live reservation of the caller.
pub(crate) unsafe fn make_read_only(start: *mut u8, len: usize) -> io::Result<()> {
    // SAFETY: only narrows the access to pages that the caller owns.
    Ok(unsafe { rustix::mm::mprotect(start.cast(), len, MprotectFlags::READ) }?)
}

/// A zeroed file in memory of `len` bytes that can neither shrink nor grow.
pub(crate) fn memory_file(name: &str, len: usize) -> io::Result<OwnedFd> {
    file::check_size(len as u64)?;
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&file, len as u64)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// A [`memory_file`] that this process has mapped for writing. Unmapped on drop.
#[derive(Debug)]
pub(crate) struct SharedFile {
    file: OwnedFd,
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the pointer stands for a mapping that the value owns. All access goes through raw pointers, which
// take `&mut` of its only owner.
unsafe impl Send for SharedFile {}
// SAFETY: as above; no method returns a reference into the mapping.
unsafe impl Sync for SharedFile {}

impl SharedFile {
    /// A zeroed file of `len` bytes (whole pages, at least one).
    pub(crate) fn new(name: &str, len: usize) -> io::Result<Self> {
        let file = memory_file(name, len)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let base = unsafe { rustix::mm::mmap(ptr::null_mut(), len, access, MapFlags::SHARED, &file, 0) }?;
        let base =
            NonNull::new(base.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        Ok(Self { file, base, len })
    }

    /// The first byte, writable.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl AsFd for SharedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SharedFile {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, which nothing refers to any more.
        let released = unsafe { release(self.base, self.len) };
        debug_assert!(released.is_ok(), "unmapping a whole mapping");
    }
}

/// Replaces a part of a reservation with a writable copy-on-write view of a file: nobody else sees what is
/// written there. In two steps, like [`replace_by_zeros`]. If the second step fails, the range is read-only.
///
/// # Safety
/// The same as for [`replace_by_view`], except that references into the range may exist as raw pointers of an
/// interrupted write.
pub(crate) unsafe fn replace_by_private_copy(
    start: *mut u8,
    len: usize,
    file: BorrowedFd<'_>,
    offset: u64,
) -> io::Result<()> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    // SAFETY: MAP_FIXED replaces pages of the caller's own reservation only; the file covers the range.
    unsafe { rustix::mm::mmap(start.cast::<c_void>(), len, ProtFlags::READ, flags, file, offset) }?;
    // SAFETY: the range that was just mapped; writes go to private copies.
    unsafe { make_writable(start, len) }
}
