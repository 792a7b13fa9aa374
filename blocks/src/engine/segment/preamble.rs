//! The first bytes of a control segment: what it is, and how large its parts are.
//!
//! The descriptors of a channel's two files are all that is needed to lay them out. All numbers are
//! in the machine's byte order.
//!
//! ```text
//! byte   0   8  magic
//!        8   4  version of the layout
//!       12   4  slots
//!       16   4  cursors
//!       20   4  blocks
//!       24   4  size classes
//!       28   4  1 if the publisher is a relay, otherwise 0
//!       32   8  bytes of the control segment
//!       40   8  bytes of the arena
//!      128      header, slots, side of the publisher's process, kept descriptors,
//!               missing messages before each slot (8 bytes) if the publisher is a relay,
//!               size classes, 16 bytes each: 8 block size, 4 blocks, 4 blocks at most
//! ```
//! An [annex](super::annex) begins like this:
//! ```text
//! byte   0   8  magic
//!        8   4  version of the layout
//!       12   4  cursors
//!       16   4  blocks
//!       20   4  0
//!       24   8  bytes of the annex
//!      128      side of the subscribing process
//! ```

use crate::engine::segment::layout::Layout;
#[cfg(not(loom))]
use crate::engine::segment::side::SideOffsets;
use crate::options::SizeClass;
#[cfg(not(loom))]
use crate::sys;

/// How many of each thing a control segment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Descriptor slots, a power of two.
    pub(crate) slots: u32,
    pub(crate) cursors: u32,
    pub(crate) blocks: u32,
    /// Size classes.
    pub(crate) classes: u32,
    /// The publisher is a relay: the segment says how many messages are missing before each one.
    pub(crate) relay: bool,
}

impl Geometry {
    /// Words that say how many messages are missing: one for each slot, if the publisher is a relay.
    pub(crate) fn missing_words(self) -> usize {
        if self.relay { self.slots as usize } else { 0 }
    }
}

/// The contents of a segment's first bytes, which its creator writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Preamble {
    pub(crate) geometry: Geometry,
    /// Bytes of the arena, without the rest of its last page.
    pub(crate) arena_len: u64,
    /// The sizes of blocks, ascending.
    pub(crate) classes: Vec<SizeClass>,
}

impl Preamble {
    /// Describes a channel with these blocks.
    pub(crate) fn new(layout: &Layout, classes: Vec<SizeClass>, cursors: u32, relay: bool) -> Self {
        let geometry = Geometry {
            // Every block that is published and not reclaimed has a slot.
            slots: layout.blocks.next_power_of_two(),
            cursors,
            blocks: layout.blocks,
            classes: classes.len() as u32,
            relay,
        };
        Self { geometry, arena_len: layout.len as u64, classes }
    }

    /// Bytes of a control segment, in whole pages. `None` if it exceeds the address space.
    pub(crate) fn control_bytes(&self) -> Option<u64> {
        #[cfg(not(loom))]
        return Some(self.geometry.offsets()?.len as u64);
        #[cfg(loom)]
        return Some(0);
    }
}

/// Where the parts of a control segment begin, in bytes, and its length in whole pages.
#[cfg(not(loom))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offsets {
    pub(super) len: usize,
    pub(super) header: usize,
    pub(super) slots: usize,
    pub(super) side: SideOffsets,
    pub(super) kept: usize,
    pub(super) missing: usize,
    pub(super) classes: usize,
}

/// Bytes of a size class.
#[cfg(not(loom))]
pub(super) const CLASS_LEN: usize = 16;

#[cfg(not(loom))]
impl Geometry {
    pub(crate) fn offsets(self) -> Option<Offsets> {
        use std::alloc;

        use super::words::{Header, KeptDescriptor};
        use crate::direct::Slot;
        use crate::primitive::AtomicU64;

        if !self.slots.is_power_of_two() {
            return None;
        }
        let array = alloc::Layout::array::<u8>;
        let whole = array(Preamble::LEN).ok()?;
        let (whole, header) = whole.extend(alloc::Layout::new::<Header>()).ok()?;
        let (whole, slots) = whole.extend(alloc::Layout::array::<Slot>(self.slots as usize).ok()?).ok()?;
        let (whole, side) = SideOffsets::after(whole, self.cursors, self.blocks)?;
        let kept = alloc::Layout::array::<KeptDescriptor>(self.blocks as usize).ok()?;
        let (whole, kept) = whole.extend(kept).ok()?;
        let missing = alloc::Layout::array::<AtomicU64>(self.missing_words()).ok()?;
        let (whole, missing) = whole.extend(missing).ok()?;
        let (whole, classes) =
            whole.extend(array(CLASS_LEN.checked_mul(self.classes as usize)?).ok()?).ok()?;
        let len = sys::whole_pages(whole.size())?;
        Some(Offsets { len, header, slots, side, kept, missing, classes })
    }
}

/// The version of the layout of a channel's files. Processes share a channel only if theirs are equal.
// Increase it whenever the place or the meaning of a byte changes.
#[cfg(not(loom))]
pub const LAYOUT_VERSION: u32 = 5;

#[cfg(not(loom))]
impl Preamble {
    /// Bytes of a preamble, without the size classes: a pair of cache lines, so that the header that follows
    /// has its own.
    pub(crate) const LEN: usize = 128;

    /// Bytes of it that mean something.
    pub(super) const USED: usize = 48;

    /// Marks a file as a control segment.
    pub(super) const MAGIC: [u8; 8] = *b"blkcast\0";

    /// The version of the layout.
    pub(crate) const VERSION: u32 = LAYOUT_VERSION;

    /// The first bytes of the segment.
    pub(super) fn encode(&self, control_len: u64) -> [u8; Self::USED] {
        let Geometry { slots, cursors, blocks, classes, relay } = self.geometry;
        let mut bytes = [0; Self::USED];
        bytes[..8].copy_from_slice(&Self::MAGIC);
        let numbers = [Self::VERSION, slots, cursors, blocks, classes, u32::from(relay)];
        for (index, number) in numbers.into_iter().enumerate() {
            bytes[8 + 4 * index..][..4].copy_from_slice(&number.to_ne_bytes());
        }
        for (index, number) in [control_len, self.arena_len].into_iter().enumerate() {
            bytes[32 + 8 * index..][..8].copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    /// The bytes of the size classes.
    pub(super) fn encode_classes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CLASS_LEN * self.classes.len());
        for class in &self.classes {
            bytes.extend_from_slice(&(class.block_size as u64).to_ne_bytes());
            bytes.extend_from_slice(&class.blocks.to_ne_bytes());
            bytes.extend_from_slice(&class.max_blocks.to_ne_bytes());
        }
        bytes
    }
}
