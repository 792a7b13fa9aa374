//! The memory of a channel's blocks: [`Arena`].

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use crate::engine::segment::external_memory::ArenaMemory;
#[cfg(not(loom))]
use crate::engine::segment::{MAPPINGS, files::SegmentError};
use crate::engine::shield::event;
use crate::error::ChannelError;
use crate::sys::fork::{InChild, Uninherited};
use crate::sys::mapping::Reservation;
#[cfg(not(loom))]
use crate::sys::mappings::charge_mappings;
use crate::sys::{self, memfd};

/// A memfd-backed mapping that holds a publisher's blocks.
///
/// The memfd is sealed against shrinking and growing, so that nobody who maps it meets a bus error, and
/// against writing through anything except the publisher's own mapping. The broker maps the same memfd
/// read-only into the windows of wasm guests. An arena in [external memory](crate::ArenaMemory) is only
/// sealed against shrinking.
///
/// ```text
/// memfd    [ block 0 | block 1 | … | block n-1 | padding to a page ]
/// process    base ─┘ read-write, shared
/// guest      window ─┘ read-only, shared
/// ```
///
/// A [prefaulted](crate::WriterOptions::prefault) arena uses large pages (2 MiB if pages have 4 KiB) for
/// every part that fills one, if the system has them. Then its blocks take fewer page table entries, of which
/// each guest has its own.
///
/// # Its file
/// The mapping needs no open file. The publisher keeps the file open so that others can map it elsewhere, and
/// so do subscribers that [ask for it](crate::ReaderOptions::maps). Once all of these are gone, the file is
/// closed. A process that has [opened](crate::Channel::open_remote) the channel of another one keeps it open
/// as long as the channel.
pub struct Arena {
    // Dropped before the mapping.
    uninherited: Uninherited,
    mapping: Reservation,
    file: Weak<OwnedFd>,
    alignment: usize,
    /// Why the arena uses ordinary pages although large ones were asked for.
    no_large_pages: Option<rustix::io::Errno>,
}

/// An arena, and its open file.
pub(crate) type Opened = (Arena, Arc<OwnedFd>);

impl ChannelError {
    /// Converts the system's error for a channel of `bytes` bytes.
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
    /// Creates an arena of at least `len` zero bytes, rounded up to whole pages. `prefault` touches every
    /// page now instead of at its first use. Six system calls; with `prefault`, up to four more and one per
    /// large page.
    pub(crate) fn create(name: &str, len: usize, prefault: bool) -> rustix::io::Result<Opened> {
        let len = sys::whole_pages(len.max(1)).ok_or(rustix::io::Errno::NOMEM)?;
        let (arena, file) = Self::map(memfd::sized(name, len)?, len, prefault)?;
        memfd::seal(&file)?;
        Ok((arena, file))
    }

    /// Creates an arena of at least `len` bytes, rounded up to whole pages, in external memory. It is not
    /// sealed against further writing: that is up to the provider of the memory.
    pub(crate) fn over(memory: ArenaMemory, len: usize, prefault: bool) -> Result<Opened, ChannelError> {
        let refused = |error| ChannelError::system(len, error);
        let len = sys::whole_pages(len.max(1)).ok_or(rustix::io::Errno::NOMEM).map_err(refused)?;
        Self::map(memory.into_file(len)?, len, prefault).map_err(refused)
    }

    /// Maps the first `len` bytes, whole pages, of another process's arena for reading.
    #[cfg(not(loom))]
    pub(crate) fn open(file: &Arc<OwnedFd>, len: usize) -> Result<Self, SegmentError> {
        charge_mappings(MAPPINGS)?;
        let map = || {
            let mapping = Reservation::new(len)?;
            // SAFETY: the reservation is new, so nothing refers into it.
            unsafe { mapping.map_read_only(0, len, file.as_fd()) }?;
            // SAFETY: the whole mapping, which is dropped after the value.
            let uninherited = unsafe { Uninherited::new(mapping.base(), mapping.len(), InChild::Nothing) }?;
            Ok((mapping, uninherited))
        };
        let (mapping, uninherited) = map().map_err(SegmentError::system)?;
        let (file, alignment) = (Arc::downgrade(file), sys::page_size());
        Ok(Self { uninherited, mapping, file, alignment, no_large_pages: None })
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
        // Populate what does not fill a large page, or is in none.
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

    /// Emits a `tracing` event if the arena uses ordinary pages although large ones were asked for. Code that
    /// creates an arena calls this once nothing is locked.
    pub fn report_pages(&self) {
        if let Some(error) = self.no_large_pages {
            let bytes = self.len();
            event(|| tracing::debug!(bytes, %error, "an arena uses no large pages"));
        }
    }

    /// Returns the memory to the system, unless others have mapped it. The address space stays reserved.
    ///
    /// # Errors
    /// The system's. Then the memory is free when the arena is dropped.
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

    /// Always `false`: an arena has at least one page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The arena's file, for mapping it elsewhere. `None` once it is closed.
    ///
    /// # Safety
    /// Nobody writes through this descriptor, or through a descriptor or mapping made from it, except the
    /// holder of a loan to its block: published blocks are `&[u8]` in this process. The files of this crate
    /// are sealed against that, [`ArenaMemory`] is not.
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

    /// Like [`memfd`](Self::memfd), for this crate, which only keeps the file open.
    pub(crate) fn open_file(&self) -> Option<Arc<OwnedFd>> {
        self.file.upgrade()
    }

    /// The alignment in bytes that a second mapping needs to use large pages too: the size of a large page,
    /// or of an ordinary page if the arena uses none.
    #[must_use]
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// The first byte. The mapping is valid as long as the arena. It is writable in the publisher's process
    /// only.
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
    fn refusals_of_the_system_are_told_apart() {
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
    fn external_memory_keeps_its_contents_when_it_moves_into_large_pages() {
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
