//! How the growth of a guest's memory is held to its limits: [`GrowthLimiter`].

use wasmtime::ResourceLimiter;

use crate::component::limit_policy::{Limit, LimitPolicy};
use crate::component::limits::ComponentLimits;

/// The most core instances that a component may consist of.
const INSTANCES: usize = 64;

/// The most linear memories that a guest may have. Each reserves address space; only one may have pages (see
/// `linear`).
const MEMORIES: usize = 4;

/// The most tables that a guest may have.
const TABLES: usize = 64;

/// The most elements that all tables of a guest may have together. Each takes 8 bytes of host memory.
const TABLE_ELEMENTS: usize = 1 << 18;

/// Holds the growth of a guest's memory to its limits.
///
/// Address space for windows comes out of the same linear memory. So the memory may grow beyond the limit for
/// ordinary memory by what the host has asked the guest to donate, which is within the limit for windows.
#[derive(Debug)]
pub(crate) struct GrowthLimiter {
    memory: u64,
    policy: LimitPolicy,
    /// Bytes of address space that the guest was asked to donate and that it has not been given back.
    pub(crate) asked: u64,
    /// Elements of all tables together.
    elements: usize,
}

impl GrowthLimiter {
    pub(crate) fn new(limits: &ComponentLimits, policy: LimitPolicy) -> Self {
        Self { memory: limits.memory, policy, asked: 0, elements: 0 }
    }

    /// Refuses the growth, or ends the guest.
    fn exceeded(&self) -> wasmtime::Result<bool> {
        self.policy.note(Limit::Memory);
        Ok(self.policy.settle().map(|()| false)?)
    }
}

impl ResourceLimiter for GrowthLimiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired as u64 <= self.memory.saturating_add(self.asked) { Ok(true) } else { self.exceeded() }
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = self.elements.saturating_add(desired.saturating_sub(current));
        // A table never grows beyond its own maximum, regardless of this result.
        if elements > TABLE_ELEMENTS || maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.elements = elements;
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_the_host_asked_for_do_not_count_as_ordinary_memory() {
        let limits = ComponentLimits { memory: 1 << 20, ..ComponentLimits::default() };
        let mut limiter = GrowthLimiter::new(&limits, LimitPolicy::new(&limits));
        let grow =
            |limiter: &mut GrowthLimiter, size| limiter.memory_growing(0, size, None).expect("answers");
        assert!(grow(&mut limiter, 1 << 20));
        assert!(!grow(&mut limiter, (1 << 20) + 65536));
        limiter.asked = 65536;
        assert!(grow(&mut limiter, (1 << 20) + 65536));
        assert!(!grow(&mut limiter, (1 << 20) + 2 * 65536));
    }

    #[test]
    fn hostile_tables_share_one_budget_of_elements() {
        let limits = ComponentLimits::default();
        let mut limiter = GrowthLimiter::new(&limits, LimitPolicy::new(&limits));
        let mut grow =
            |current, desired, maximum| limiter.table_growing(current, desired, maximum).expect("answers");
        assert!(grow(0, TABLE_ELEMENTS / 2, None));
        assert!(!grow(0, 100, Some(99)), "which is not counted");
        assert!(grow(10, TABLE_ELEMENTS / 2 + 10, None));
        assert!(!grow(0, 1, None));
        assert!(!grow(1, usize::MAX, None));
    }
}
