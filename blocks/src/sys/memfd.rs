//! Anonymous files of a fixed size.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io;

use super::file_size;

/// Creates a memfd of `len` zero bytes that nobody can shrink or grow, so mapping it never leads to a bus
/// error. `name` shows up in `/proc/self/maps`. Four system calls.
///
/// # Errors
/// `EFBIG` if the process may not create a file of that size.
pub(crate) fn sized(name: &str, len: usize) -> io::Result<OwnedFd> {
    let len = u64::try_from(len).map_err(|_| io::Errno::FBIG)?;
    file_size::check(len)?;
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, len)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(file)
}

/// Seals the file so that from here on only existing mappings can write it. Others that get the file can read
/// it, and map it for reading. Kernels before 5.1 lack this seal and leave it writable. The seals are final.
pub(crate) fn seal(file: impl AsFd) -> io::Result<()> {
    let file = file.as_fd();
    match fcntl_add_seals(file, SealFlags::FUTURE_WRITE | SealFlags::SEAL) {
        Err(io::Errno::INVAL) => fcntl_add_seals(file, SealFlags::SEAL),
        other => other,
    }
}
