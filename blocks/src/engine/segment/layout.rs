//! Where the blocks of an arena lie: [`Layout`].
//!
//! ```text
//! arena   [ class 0: block block block … | class 1: block  block  … | … ]
//!           64 B units, from 0 on          larger blocks
//! ```
//! A *unit* names a block: its distance from the arena's start in units of [`BLOCK_ALIGNMENT`].

use crate::descriptor::{MAX_ARENA_LEN, MAX_MESSAGE_LEN};
use crate::error::ChannelError;
use crate::options::SizeClass;
use crate::payload::BLOCK_ALIGNMENT;

/// Largest number of blocks that a publisher may have, all classes together.
const MAX_BLOCKS: u32 = 1 << 20;

/// Where the blocks of each class lie. Never changes once the channel has been created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    spans: Vec<Span>,
    /// Bytes of the whole arena.
    pub(crate) len: usize,
    /// Maximum number of blocks of all classes.
    pub(crate) blocks: u32,
}

/// The part of the arena that holds the blocks of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first_unit: u32,
    pub(crate) units_per_block: u32,
    first_block: u32,
}

impl Span {
    /// Bytes of a block.
    pub(crate) fn capacity(self) -> usize {
        (self.units_per_block as usize * BLOCK_ALIGNMENT).min(MAX_MESSAGE_LEN)
    }
}

impl Layout {
    /// Lays the classes out, smallest blocks first.
    pub(crate) fn new(classes: &[SizeClass]) -> Result<Self, ChannelError> {
        let bad = |what: String| Err(ChannelError::Config(what));
        if classes.is_empty() {
            return bad("there is no size class".to_owned());
        }
        let (mut unit, mut block, mut spans) = (0_u64, 0_u32, Vec::new());
        let mut smaller = 0;
        for class in classes {
            if !(1..=MAX_MESSAGE_LEN).contains(&class.block_size) {
                return bad(format!("block_size is {}, must be 1 to {MAX_MESSAGE_LEN}", class.block_size));
            }
            if class.block_size <= smaller {
                return bad("size classes must be given in ascending order of their block_size".to_owned());
            }
            if !(2..=MAX_BLOCKS).contains(&class.blocks) {
                return bad(format!("blocks is {}, must be 2 to {MAX_BLOCKS}", class.blocks));
            }
            if !(class.blocks..=MAX_BLOCKS).contains(&class.max_blocks) {
                return bad(format!(
                    "max_blocks is {}, must be {} (blocks) to {MAX_BLOCKS}",
                    class.max_blocks, class.blocks
                ));
            }
            let units_per_block = class.block_size.div_ceil(BLOCK_ALIGNMENT) as u64;
            // Sums of at most 2^20 blocks of 2^25 units each: far from overflow.
            let first_unit = unit;
            unit += units_per_block * u64::from(class.max_blocks);
            if unit * BLOCK_ALIGNMENT as u64 > MAX_ARENA_LEN || block + class.max_blocks > MAX_BLOCKS {
                return bad(format!(
                    "all blocks together exceed {MAX_ARENA_LEN} bytes or {MAX_BLOCKS} blocks"
                ));
            }
            spans.push(Span {
                first_unit: first_unit as u32,
                units_per_block: units_per_block as u32,
                first_block: block,
            });
            block += class.max_blocks;
            smaller = class.block_size;
        }
        Ok(Self { spans, len: unit as usize * BLOCK_ALIGNMENT, blocks: block })
    }

    /// The class that the block at `unit` belongs to.
    pub(crate) fn class_of(&self, unit: u32) -> usize {
        self.spans.partition_point(|span| span.first_unit <= unit).saturating_sub(1)
    }

    /// The number of the block that starts at `unit`, for its hold count.
    pub(crate) fn block_of(&self, unit: u32) -> u32 {
        let span = self.spans[self.class_of(unit)];
        span.first_block + (unit - span.first_unit) / span.units_per_block
    }

    /// Bytes of the block that starts at `unit`, or `None` if no block starts there. For units that come from
    /// elsewhere.
    pub(crate) fn capacity_at(&self, unit: u32) -> Option<usize> {
        let span = self.spans[self.class_of(unit)];
        let starts = (unit - span.first_unit).is_multiple_of(span.units_per_block);
        let end = u64::from(unit) + u64::from(span.units_per_block);
        let fits = end * BLOCK_ALIGNMENT as u64 <= self.len as u64;
        (starts && fits).then(|| span.capacity())
    }

    /// The part of each class, smallest blocks first.
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(block_size: usize, blocks: u32, max_blocks: u32) -> SizeClass {
        SizeClass { block_size, blocks, max_blocks }
    }

    #[test]
    fn impossible_classes_are_refused_with_the_wrong_number() {
        for classes in [
            vec![],
            vec![class(0, 2, 2)],
            vec![class(64, 1, 2)],
            vec![class(64, 4, 2)],
            vec![class(64, 2, 2), class(64, 2, 2)],
            vec![class(MAX_MESSAGE_LEN + 1, 2, 2)],
            vec![class(1 << 30, 1 << 19, 1 << 20)],
        ] {
            assert!(matches!(Layout::new(&classes), Err(ChannelError::Config(_))), "{classes:?}");
        }
    }

    #[test]
    fn only_the_start_of_a_block_has_a_capacity() {
        let layout = Layout::new(&[class(64, 3, 5), class(200, 2, 2)]).unwrap();
        let starts = [0, 1, 2, 3, 4, 5, 9];
        for unit in (0..20).chain([u32::MAX >> 1, u32::MAX]) {
            let expected = starts.contains(&unit).then_some(if unit < 5 { 64 } else { 256 });
            assert_eq!(layout.capacity_at(unit), expected, "unit {unit}");
        }
    }
}
