//! Where payload bytes live: [`Arena`].

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use crate::engine::segment::external_memory::ArenaMemory;
use crate::engine::shield::event;
use crate::error::ChannelError;
use crate::sys::fork::{InChild, Uninherited};
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
///
/// An arena that is [prefaulted](crate::ChannelConfig::prefault) lies in large pages (2 MiB where pages have 4 KiB) as far as
/// it fills such and the system has them: then its blocks take fewer entries of page tables, of which each guest has its own.
///
/// # Its file
/// The mapping needs no open file. The publisher keeps the file open for those who map it elsewhere, and so do subscribers
/// that [ask for it](crate::ReaderOptions::maps). Whoever comes later finds it closed.
pub struct Arena {
    // Dropped before the mapping.
    uninherited: Uninherited,
    mapping: Reservation,
    file: Weak<OwnedFd>,
    alignment: usize,
    /// Why it lies in ordinary pages although large ones were asked for.
    no_large_pages: Option<rustix::io::Errno>,
}

/// An arena, and what keeps its file open.
pub(crate) type Opened = (Arena, Arc<OwnedFd>);

impl ChannelError {
    /// The error for what the system answered when a channel of `bytes` bytes was made.
    pub(crate) fn system(bytes: usize, error: rustix::io::Errno) -> Self {
        use rustix::io::Errno;

        let refused = match error {
            Errno::NOMEM | Errno::AGAIN | Errno::NOSPC => {
                "not enough memory or address space, or too many mappings"
            }
            Errno::MFILE | Errno::NFILE => "no file descriptor is left; raise the limit on open files",
            Errno::PERM | Errno::ACCESS | Errno::NOSYS => {
                "it does not permit memory files (memfd_create and its seals); a sandbox around this process may be \
                 the cause"
            }
            Errno::FBIG => "a file of that size exceeds a limit",
            _ => "a system call failed",
        };
        Self::System { bytes: bytes as u64, reason: format!("{refused} ({error})") }
    }
}

impl Arena {
    /// An arena of at least `len` bytes, all zero, rounded up to whole pages. With `prefault` every page is
    /// touched now, not at its first use. Six system calls; with `prefault` up to four more, and one per large page.
    pub(crate) fn create(name: &str, len: usize, prefault: bool) -> rustix::io::Result<Opened> {
        let len = sys::whole_pages(len.max(1)).ok_or(rustix::io::Errno::NOMEM)?;
        let (arena, file) = Self::map(memfd::sized(name, len)?, len, prefault)?;
        memfd::seal(&file)?;
        Ok((arena, file))
    }

    /// An arena of at least `len` bytes, rounded up to whole pages, in memory that the user has brought. It is not sealed
    /// against further writing: that is up to who brought it.
    pub(crate) fn over(memory: ArenaMemory, len: usize, prefault: bool) -> Result<Opened, ChannelError> {
        let refused = |error| ChannelError::system(len, error);
        let len = sys::whole_pages(len.max(1)).ok_or(rustix::io::Errno::NOMEM).map_err(refused)?;
        Self::map(memory.into_file(len)?, len, prefault).map_err(refused)
    }

    /// Maps the first `len` bytes of a file, whole pages.
    fn map(file: OwnedFd, len: usize, prefault: bool) -> rustix::io::Result<Opened> {
        let large = sys::large_page_size();
        if !prefault || len < large {
            let mapping = Reservation::new(len)?;
            // SAFETY: the reservation is new, so nothing refers into it.
            unsafe { mapping.map(0, len, file.as_fd(), prefault) }?;
            return Self::whole(mapping, file, sys::page_size(), None);
        }
        let mapping = Reservation::aligned(len, large)?;
        // SAFETY: the reservation is new, so nothing refers into it.
        unsafe { mapping.map(0, len, file.as_fd(), false) }?;
        let gathered = mapping.gather(len);
        // What does not fill a large page, or is in none.
        // SAFETY: nothing refers into it yet.
        unsafe { mapping.map(0, len, file.as_fd(), true) }?;
        let alignment = if gathered.is_ok() { large } else { sys::page_size() };
        Self::whole(mapping, file, alignment, gathered.err())
    }

    fn whole(
        mapping: Reservation,
        file: OwnedFd,
        alignment: usize,
        no_large_pages: Option<rustix::io::Errno>,
    ) -> rustix::io::Result<Opened> {
        // SAFETY: the whole mapping, which is dropped after the value.
        let uninherited = unsafe { Uninherited::new(mapping.base(), mapping.len(), InChild::Nothing) }?;
        let file = Arc::new(file);
        Ok((Self { uninherited, mapping, file: Arc::downgrade(&file), alignment, no_large_pages }, file))
    }

    /// Tells with a `tracing` event if the arena lies in ordinary pages although large ones were asked for. For the one who
    /// made the arena, once nothing is locked.
    pub fn report_pages(&self) {
        if let Some(error) = self.no_large_pages {
            let bytes = self.len();
            event(|| tracing::debug!(bytes, %error, "an arena does without large pages"));
        }
    }

    /// Gives the memory back to the system, as far as nobody else has mapped it. The address space stays reserved.
    ///
    /// # Errors
    /// The system's. The memory is free when the arena is dropped.
    ///
    /// # Safety
    /// Nobody reads or writes the arena through this mapping any more, and nothing refers into it.
    #[cfg_attr(loom, allow(dead_code, reason = "not part of any model"))]
    pub(crate) unsafe fn release(&self) -> rustix::io::Result<()> {
        // A child may inherit what cannot be accessed.
        // SAFETY: the caller's promise.
        self.uninherited.end(|| unsafe { self.mapping.clear() })
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

    /// The file behind the arena, for mapping it elsewhere, while it is open.
    ///
    /// # Safety
    /// Nobody writes through this descriptor, or through one or a mapping that is made of it, but the holder of a loan to
    /// its block: blocks that are published are `&[u8]` of this process. The files of this crate are sealed against it,
    /// [`ArenaMemory`] that was brought is not.
    ///
    /// ```compile_fail,E0133
    /// # use blockcast_blocks::{ChannelConfig, PublisherId, Schema, channel};
    /// let writer = channel(ChannelConfig::new(PublisherId::new(1), Schema::named("any")))?;
    /// let file = writer.channel().arena().memfd();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    /// ```
    /// # use blockcast_blocks::{ChannelConfig, PublisherId, Schema, channel};
    /// let writer = channel(ChannelConfig::new(PublisherId::new(1), Schema::named("any")))?;
    /// // SAFETY: nobody writes to the file.
    /// let file = unsafe { writer.channel().arena().memfd() };
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub unsafe fn memfd(&self) -> Option<Arc<OwnedFd>> {
        self.open_file()
    }

    /// The same for this crate, which keeps the file open and does nothing else with it.
    pub(crate) fn open_file(&self) -> Option<Arc<OwnedFd>> {
        self.file.upgrade()
    }

    /// Mapped elsewhere from a multiple of this many bytes on, what is in large pages here is so there: the size of a large
    /// page, or of a page where there are none.
    #[must_use]
    pub fn alignment(&self) -> usize {
        self.alignment
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
    fn what_the_system_refuses_is_told_apart() {
        let reason = |error| ChannelError::system(4096, error).to_string();
        assert!(reason(rustix::io::Errno::PERM).contains("memfd_create"));
        assert!(reason(rustix::io::Errno::MFILE).contains("open files"));
        assert!(reason(rustix::io::Errno::NOMEM).contains("not enough memory"));
        assert!(reason(rustix::io::Errno::PERM).contains("4096 bytes"));
    }

    #[test]
    fn an_arena_is_written_through_its_own_mapping_only() {
        let (arena, file) = Arena::create("blockcast-test", 10_000, false).unwrap();
        // SAFETY: the mapping is writable, and nobody else knows the arena.
        unsafe { arena.base().write(7) };
        let mut byte = [0];
        assert_eq!(rustix::io::pread(&file, &mut byte, 0), Ok(1));
        assert_eq!(byte, [7]);
        assert_eq!(rustix::io::pwrite(&file, &byte, 0), Err(rustix::io::Errno::PERM));
        let window = Reservation::new(arena.len()).unwrap();
        // SAFETY: the reservation is new, so nothing refers into it.
        let mapped = unsafe { window.map(0, arena.len(), file.as_fd(), false) };
        assert_eq!(mapped, Err(rustix::io::Errno::PERM));
    }

    /// Bytes of the mapping that begins at `start` that are mapped by large pages.
    fn in_large_pages(start: NonNull<u8>) -> usize {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let from = format!("{:x}-", start.addr());
        let lines = maps.lines().skip_while(|line| !line.starts_with(&from));
        let mapped = lines.filter_map(|line| line.strip_prefix("ShmemPmdMapped:")).next().unwrap();
        mapped.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    #[test]
    fn a_prefaulted_arena_is_in_large_pages_wherever_it_is_mapped() {
        let large = sys::large_page_size();
        let len = 2 * large + 5 * sys::page_size();
        let (arena, file) = Arena::create("blockcast-test", len, true).unwrap();
        assert_eq!(arena.len(), len);
        if arena.alignment() != large {
            eprintln!("this system has no large pages for shared memory");
            return;
        }
        assert_eq!(in_large_pages(arena.base()), 2 * large);
        let window = Reservation::aligned(len, arena.alignment()).unwrap();
        // SAFETY: a mapping for reading at an address of the reservation, which is new.
        let view = unsafe {
            let flags =
                rustix::mm::MapFlags::SHARED | rustix::mm::MapFlags::FIXED | rustix::mm::MapFlags::POPULATE;
            let at = window.base().as_ptr().cast();
            rustix::mm::mmap(at, len, rustix::mm::ProtFlags::READ, flags, &file, 0)
        };
        assert!(view.is_ok());
        assert_eq!(in_large_pages(window.base()), 2 * large);
    }

    #[test]
    fn what_memory_that_was_brought_holds_stays_when_it_is_put_into_large_pages() {
        let len = sys::large_page_size() + sys::page_size();
        let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, len as u64).unwrap();
        for at in [1, 5000, len - 1] {
            rustix::io::pwrite(&file, &[9], at as u64).unwrap();
        }
        let (arena, _file) = Arena::map(file, len, true).unwrap();
        for at in [1, 5000, len - 1] {
            // SAFETY: within the arena, which nobody writes.
            assert_eq!(unsafe { arena.base().add(at).read() }, 9);
        }
        // SAFETY: as above.
        assert_eq!(unsafe { arena.base().add(2).read() }, 0);
    }

    #[test]
    fn an_arena_can_neither_shrink_nor_grow() {
        let (arena, file) = Arena::create("blockcast-test", 10_000, false).unwrap();
        assert_eq!(arena.len() % sys::page_size(), 0);
        let seals = fcntl_get_seals(&file).unwrap();
        assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL));
        assert!(ftruncate(&file, 0).is_err());
        assert!(ftruncate(&file, 1 << 20).is_err());
    }
}
