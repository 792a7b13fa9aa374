//! What a guest may use, and how its memory growth is held to that.

use std::time::Duration;

use wasmtime::ResourceLimiter;

use super::isolation::Isolation;

/// Limits of one guest. The defaults suit a small app; a grant sets them explicitly.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestLimits {
    /// Bytes of ordinary linear memory (code's data, heap, stack). Address space that the host asked the guest to
    /// donate does not count. Growing beyond it fails inside of the guest, as out of memory.
    pub memory: u64,
    /// Bytes of address space that may be donated for windows.
    pub windows: u64,
    /// Subscriptions open at a time.
    pub subscriptions: u32,
    /// Publishers open at a time.
    pub publishers: u32,
    /// Bytes of blocks that all its publishers have together.
    pub publisher_bytes: u64,
    /// Blocks of its publishers that it fills, at a time.
    pub loans: u32,
    /// Handles on memory blocks, at a time. A guest that makes more is ended, since making one cannot fail.
    pub memory_blocks: u32,
    /// Bytes of memory blocks that the host manages, at a time.
    pub memory_block_bytes: u64,
    /// Messages of at least that many bytes are built in the block that subscribers read, shorter ones copied into it. It
    /// takes two changes of page protection instead of a copy: about as long as copying 256 KiB, more where threads of the
    /// process run on other processors. [`u32::MAX`]: all are copied.
    pub in_place: u32,
    /// How much of its topics' arenas it sees.
    pub isolation: Isolation,
    /// Messages of one subscription that are delivered and neither released nor held, at a time.
    pub attached: u32,
    /// Messages of one subscription that are held, at a time.
    pub held: u32,
    /// Time in which the guest's instantiation, its start functions included, must be over.
    pub start_up: Duration,
    /// Time that the guest may compute, waiting not counted.
    pub compute: Option<Duration>,
    /// Time from the call of `run` after which the guest is ended.
    pub run_time: Option<Duration>,
    /// Time from a shutdown request after which a guest that goes on regardless is ended.
    pub shutdown_grace: Duration,
}

impl Default for GuestLimits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            windows: 1 << 30,
            subscriptions: 64,
            publishers: 64,
            publisher_bytes: 256 << 20,
            loans: 64,
            memory_blocks: 1 << 10,
            memory_block_bytes: 64 << 20,
            in_place: 256 << 10,
            isolation: Isolation::default(),
            attached: 1 << 16,
            held: 1 << 12,
            start_up: Duration::from_secs(5),
            compute: None,
            run_time: None,
            shutdown_grace: Duration::from_secs(2),
        }
    }
}

/// Number of core instances that a component may consist of.
const INSTANCES: usize = 64;

/// Number of tables, and of elements in each, that a guest may have.
const TABLES: usize = 64;
const TABLE_ELEMENTS: usize = 1 << 18;

/// Holds the growth of a guest's memory to its limits.
///
/// Address space for windows comes out of the same linear memory, so its growth may go beyond the limit for ordinary
/// memory by what the host has asked the guest to donate, which is within the limit for windows.
#[derive(Debug)]
pub(crate) struct GrowthLimiter {
    memory: u64,
    /// Address space asked for with `minimum-size` and not given back.
    pub(crate) asked: u64,
}

impl GrowthLimiter {
    pub(crate) fn new(limits: &GuestLimits) -> Self {
        Self { memory: limits.memory, asked: 0 }
    }
}

impl ResourceLimiter for GrowthLimiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired as u64 <= self.memory.saturating_add(self.asked))
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_the_host_asked_for_do_not_count_as_ordinary_memory() {
        let mut limiter = GrowthLimiter::new(&GuestLimits { memory: 1 << 20, ..GuestLimits::default() });
        let grow =
            |limiter: &mut GrowthLimiter, size| limiter.memory_growing(0, size, None).expect("answers");
        assert!(grow(&mut limiter, 1 << 20));
        assert!(!grow(&mut limiter, (1 << 20) + 65536));
        limiter.asked = 65536;
        assert!(grow(&mut limiter, (1 << 20) + 65536));
        assert!(!grow(&mut limiter, (1 << 20) + 2 * 65536));
    }
}
