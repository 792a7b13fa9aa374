//! Calls of the operating system: memory, barriers, time.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "Blockcast's engine runs on Linux (x86_64 and aarch64) so far: memfd and membarrier have no port yet"
);
#[cfg(not(target_pointer_width = "64"))]
compile_error!("Blockcast's engine needs 64-bit addresses");

#[cfg(not(blockcast_library))]
pub(crate) mod barrier;
pub(crate) mod clock;
#[cfg(not(blockcast_library))]
pub(crate) mod file_size;
#[cfg(not(blockcast_library))]
pub(crate) mod fork;
#[cfg(not(any(loom, blockcast_library)))]
pub(crate) mod futex;
#[cfg(not(blockcast_library))]
pub(crate) mod mapping;
#[cfg(not(blockcast_library))]
pub(crate) mod mappings;
#[cfg(not(blockcast_library))]
pub(crate) mod memfd;

/// Size of a page in bytes, as the system reports it.
#[cfg(not(blockcast_library))]
#[must_use]
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// Size of a large page in bytes: the range that one entry in the second level of the page tables covers,
/// with entries of 8 bytes.
#[cfg(not(blockcast_library))]
#[must_use]
pub fn large_page_size() -> usize {
    page_size() * (page_size() / 8)
}

/// `bytes` rounded up to whole pages, or `None` past the address space.
#[cfg(not(blockcast_library))]
pub(crate) fn whole_pages(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(page_size())
}

/// Number of online processors, at least 1. Reads a file of the system, and falls back to the processors that
/// this thread may run on.
pub(crate) fn processors() -> usize {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").ok();
    let counted = online.and_then(|ranges| count_ranges(ranges.trim()));
    counted.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

/// The number of processors in a list such as `0-3,8`.
fn count_ranges(list: &str) -> Option<usize> {
    list.split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
            last.checked_sub(first)?.checked_add(1)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_counted() {
        assert_eq!(count_ranges("0"), Some(1));
        assert_eq!(count_ranges("0-1"), Some(2));
        assert_eq!(count_ranges("0-3,8,10-11"), Some(7));
        assert_eq!(count_ranges(""), None);
        assert_eq!(count_ranges("3-1"), None);
        assert!(processors() >= 1);
    }
}
