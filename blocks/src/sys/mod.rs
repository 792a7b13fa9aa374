//! Everything that asks the operating system for something: memory, barriers, time.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "Blockcast's engine runs on Linux (x86_64 and aarch64) so far: memfd and membarrier have no port yet"
);
#[cfg(not(target_pointer_width = "64"))]
compile_error!("Blockcast's engine needs 64-bit addresses");

pub(crate) mod barrier;
pub(crate) mod clock;
pub(crate) mod mapping;
pub(crate) mod memfd;

/// Size of a page in bytes, as the system reports it.
#[must_use]
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// `bytes` rounded up to whole pages, or `None` past the address space.
pub(crate) fn whole_pages(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(page_size())
}
