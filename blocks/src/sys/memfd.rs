//! Anonymous files of a fixed size.

use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io;

/// A memfd of `len` bytes, all zero, that nobody can shrink, grow or unseal: whoever maps it never meets
/// a bus error. `name` shows up in `/proc/self/maps`. Three system calls.
pub(crate) fn sealed(name: &str, len: usize) -> io::Result<OwnedFd> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, u64::try_from(len).map_err(|_| io::Errno::FBIG)?)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}
