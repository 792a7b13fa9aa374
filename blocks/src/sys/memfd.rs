//! Anonymous files of a fixed size.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io;

use super::file_size;

/// A memfd of `len` bytes, all zero, that nobody can shrink or grow: mapping it never leads to a bus error.
/// `name` shows up in `/proc/self/maps`. Four system calls.
///
/// # Errors
/// `EFBIG` if the process may not make a file of that size.
pub(crate) fn sized(name: &str, len: usize) -> io::Result<OwnedFd> {
    let len = u64::try_from(len).map_err(|_| io::Errno::FBIG)?;
    file_size::check(len)?;
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, len)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(file)
}

/// From here on the file is written through the mappings that exist only: it can be read, and mapped for reading,
/// by whoever gets it. Kernels before 5.1 cannot do that and leave it writable. The seals are final.
pub(crate) fn seal(file: impl AsFd) -> io::Result<()> {
    let file = file.as_fd();
    match fcntl_add_seals(file, SealFlags::FUTURE_WRITE | SealFlags::SEAL) {
        Err(io::Errno::INVAL) => fcntl_add_seals(file, SealFlags::SEAL),
        other => other,
    }
}
