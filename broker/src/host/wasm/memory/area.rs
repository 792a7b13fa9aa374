//! Ranges of a guest's linear memory: [`Area`], and the [`Extent`] of a range to find.

use wasmtime::component::{ComponentType, Lift, Lower};

/// Donations and windows start and end at multiples of this many bytes: a wasm page, and at least one page of
/// every machine.
pub(crate) const GRANULE: u64 = 1 << 16;

/// Rounds up to whole granules.
pub(crate) const fn granules(bytes: u64) -> u64 {
    bytes.next_multiple_of(GRANULE)
}

/// A range of a guest's linear memory, as the guest stated it: `types.memory-area`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub(crate) struct Area {
    /// First byte.
    pub(crate) address: u32,
    /// Number of bytes.
    pub(crate) size: u32,
}

impl Area {
    pub(crate) const fn start(self) -> u64 {
        self.address as u64
    }

    pub(crate) const fn end(self) -> u64 {
        self.address as u64 + self.size as u64
    }

    pub(crate) const fn overlaps(self, other: Self) -> bool {
        self.start() < other.end() && other.start() < self.end()
    }
}

/// The size of a range to find, and its preferred alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Size in bytes, whole granules.
    pub(crate) size: u64,
    /// A power of two, at least a granule. Ranges that start at a multiple of it are preferred.
    pub(crate) alignment: u64,
}

impl Extent {
    /// At least `bytes`, anywhere.
    pub(crate) const fn new(bytes: u64) -> Self {
        Self { size: granules(bytes), alignment: GRANULE }
    }

    /// The same size, preferably aligned to `alignment`, a power of two.
    pub(crate) const fn aligned(self, alignment: u64) -> Self {
        Self { alignment: if alignment > GRANULE { alignment } else { GRANULE }, ..self }
    }

    /// Bytes that contain such an aligned range wherever they start.
    pub(crate) const fn with_slack(self) -> u64 {
        self.size + self.alignment - GRANULE
    }
}
