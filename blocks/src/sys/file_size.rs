//! The largest file that this process may create: `RLIMIT_FSIZE`.

use rustix::io::Errno;

/// The largest file in bytes that this process may create (`RLIMIT_FSIZE`, `ulimit -f`), or `u64::MAX` if
/// there is no limit.
///
/// The system ends a process that creates a larger one with `SIGXFSZ`, even if it is a memfd. So check before
/// sizing or writing a file. If another thread lowers the limit between the check and the file, the process
/// still ends. One system call.
#[must_use]
pub fn file_size_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is a valid place for the answer. If the call fails, the value says that there is no
    // limit.
    let _ = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    limit.rlim_cur
}

/// Checks that this process may create a file of `len` bytes.
///
/// # Errors
/// `EFBIG`, which the system would also report, after a signal that ends the process.
pub(crate) fn check(len: u64) -> Result<(), Errno> {
    if len > file_size_limit() { Err(Errno::FBIG) } else { Ok(()) }
}
