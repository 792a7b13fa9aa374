//! External memory for an arena: [`ArenaMemory`].

use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fcntl_getfl, fstat};
use rustix::io::Errno;

use crate::error::MemoryError;

/// A memfd of the user's own in which a publisher keeps its blocks, so that other code that has the file
/// finds the messages there, or so that the user chooses the kind of memory.
///
/// It belongs to one publisher for as long as this value, or the channel created with it, lives. The first
/// bytes of the file become the publisher's blocks. It gives no access to the file: its creator has
/// promised that nobody writes there.
///
/// ```compile_fail,E0277
/// # use blockcast_blocks::ArenaMemory;
/// fn write(memory: &ArenaMemory) -> std::io::Result<std::fs::File> {
///     Ok(std::os::fd::AsFd::as_fd(memory).try_clone_to_owned()?.into())
/// }
/// ```
/// ```
/// # use blockcast_blocks::ArenaMemory;
/// fn len(memory: &ArenaMemory) -> u64 {
///     memory.len()
/// }
/// ```
#[derive(Debug)]
pub struct ArenaMemory {
    file: OwnedFd,
    len: u64,
}

impl ArenaMemory {
    /// Checks a memfd and, unless it is sealed already, seals it against shrinking, for good. So nobody who
    /// maps it meets a bus error. Four system calls.
    ///
    /// # Errors
    /// [`MemoryError`]: the file is not a memfd, cannot be sealed, cannot be written, or is empty.
    ///
    /// # Safety
    /// Until the channel created with it is gone, including publisher, subscribers and samples, only that
    /// channel's publisher writes to the file's bytes: not this process in any other way, and no other
    /// process.
    pub unsafe fn new(file: OwnedFd) -> Result<Self, MemoryError> {
        let refused = |error: Errno| MemoryError::System(error.to_string());
        let seals = match fcntl_get_seals(&file) {
            Err(Errno::INVAL) => return Err(MemoryError::NoMemfd),
            seals => seals.map_err(refused)?,
        };
        let access = fcntl_getfl(&file).map_err(refused)?;
        if access & OFlags::RWMODE != OFlags::RDWR
            || seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE)
        {
            return Err(MemoryError::ReadOnly);
        }
        if !seals.contains(SealFlags::SHRINK) {
            fcntl_add_seals(&file, SealFlags::SHRINK).map_err(|error| match error {
                Errno::PERM => MemoryError::CanShrink,
                other => refused(other),
            })?;
        }
        // After sealing: from now on the file cannot get smaller.
        let len = u64::try_from(fstat(&file).map_err(refused)?.st_size).unwrap_or(0);
        if len == 0 { Err(MemoryError::TooSmall { needed: 1, bytes: 0 }) } else { Ok(Self { file, len }) }
    }

    /// Bytes of the file.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Always `false`: an empty file is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Returns the file, if it has `needed` bytes.
    pub(crate) fn into_file(self, needed: usize) -> Result<OwnedFd, MemoryError> {
        let needed = needed as u64;
        if needed > self.len { Err(MemoryError::TooSmall { needed, bytes: self.len }) } else { Ok(self.file) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    fn memfd(len: u64, flags: MemfdFlags, seals: SealFlags) -> OwnedFd {
        let file = memfd_create("test", flags).unwrap();
        ftruncate(&file, len).unwrap();
        if flags.contains(MemfdFlags::ALLOW_SEALING) {
            fcntl_add_seals(&file, seals).unwrap();
        }
        file
    }

    fn checked(file: impl Into<OwnedFd>) -> Result<ArenaMemory, MemoryError> {
        // SAFETY: nobody writes to the files of these tests.
        unsafe { ArenaMemory::new(file.into()) }
    }

    const SEALABLE: MemfdFlags = MemfdFlags::ALLOW_SEALING;

    #[test]
    fn a_memfd_is_sealed_against_shrinking_and_may_be_sealed_already() {
        for seals in [SealFlags::empty(), SealFlags::SHRINK, SealFlags::SHRINK | SealFlags::SEAL] {
            let memory = checked(memfd(8192, SEALABLE, seals)).unwrap();
            assert_eq!(memory.len(), 8192);
            assert!(fcntl_get_seals(&memory.file).unwrap().contains(SealFlags::SHRINK));
            assert!(ftruncate(&memory.file, 4096).is_err());
        }
    }

    #[test]
    fn a_file_that_is_not_a_memfd_can_shrink_or_cannot_be_written_is_refused() {
        assert_eq!(checked(std::fs::File::open("/dev/null").unwrap()).unwrap_err(), MemoryError::NoMemfd);
        let (pipe, _other) = std::io::pipe().unwrap();
        assert_eq!(checked(pipe).unwrap_err(), MemoryError::NoMemfd);
        let unsealable = memfd(8192, MemfdFlags::empty(), SealFlags::empty());
        assert_eq!(checked(unsealable).unwrap_err(), MemoryError::CanShrink);
        let finished = memfd(8192, SEALABLE, SealFlags::SEAL);
        assert_eq!(checked(finished).unwrap_err(), MemoryError::CanShrink);
        for seals in [SealFlags::WRITE, SealFlags::FUTURE_WRITE] {
            assert_eq!(checked(memfd(8192, SEALABLE, seals)).unwrap_err(), MemoryError::ReadOnly);
        }
        let empty = memfd(0, SEALABLE, SealFlags::empty());
        assert_eq!(checked(empty).unwrap_err(), MemoryError::TooSmall { needed: 1, bytes: 0 });
    }
}
