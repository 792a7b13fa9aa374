//! Which blocks a publisher has, and which of them are spare.
//!
//! ```text
//! arena   [ class 0: block block block … | class 1: block  block  … | … ]
//!           64 B units, from 0 on          larger blocks
//! ```
//! A block is named by its *unit*: its distance from the arena's start in units of
//! [`BLOCK_ALIGNMENT`]. A class begins with the blocks that it starts with and may grow to a limit: the arena
//! has address space for all of them, and memory is committed by the system when a block is first written.

use crate::descriptor::{MAX_ARENA_LEN, MAX_MESSAGE_LEN};
use crate::error::ChannelError;
use crate::options::SizeClass;
use crate::payload::BLOCK_ALIGNMENT;

/// Largest number of blocks that a publisher may have, all classes together.
const MAX_BLOCKS: u32 = 1 << 20;

/// Where the blocks of each class lie. Does not change after the channel was made.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    places: Vec<Place>,
    /// Bytes of the whole arena.
    pub(crate) len: usize,
    /// Blocks of all classes at most.
    pub(crate) blocks: u32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    first_unit: u32,
    units_per_block: u32,
    first_block: u32,
}

impl Layout {
    /// Lays the classes out, smallest blocks first.
    pub(crate) fn new(classes: &[SizeClass]) -> Result<Self, ChannelError> {
        let bad = |what: String| Err(ChannelError::Config(what));
        if classes.is_empty() {
            return bad("there is no size class".to_owned());
        }
        let (mut unit, mut block, mut places) = (0_u64, 0_u32, Vec::new());
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
            places.push(Place {
                first_unit: first_unit as u32,
                units_per_block: units_per_block as u32,
                first_block: block,
            });
            block += class.max_blocks;
            smaller = class.block_size;
        }
        Ok(Self { places, len: unit as usize * BLOCK_ALIGNMENT, blocks: block })
    }

    /// The class that the block at `unit` belongs to.
    fn class_of(&self, unit: u32) -> usize {
        self.places.partition_point(|place| place.first_unit <= unit).saturating_sub(1)
    }

    /// The number of the block that starts at `unit`, for its hold count.
    pub(crate) fn block_of(&self, unit: u32) -> u32 {
        let place = self.places[self.class_of(unit)];
        place.first_block + (unit - place.first_unit) / place.units_per_block
    }
}

/// A publisher's blocks. Spare ones are kept in stacks, the most recently freed on top.
#[derive(Debug)]
pub(crate) struct Pool {
    layout: Layout,
    classes: Vec<Class>,
}

#[derive(Debug)]
struct Class {
    /// Capacity of a block in bytes.
    capacity: usize,
    /// Blocks in use by now.
    blocks: u32,
    max_blocks: u32,
    spare: Vec<u32>,
}

impl Pool {
    pub(crate) fn new(layout: Layout, classes: &[SizeClass]) -> Self {
        let mut pool = Self { layout, classes: Vec::new() };
        for (class, place) in classes.iter().zip(&pool.layout.places) {
            // Popped from the end, so the first block goes first.
            let spare = (0..class.blocks).rev().map(|block| place.first_unit + block * place.units_per_block);
            pool.classes.push(Class {
                capacity: (place.units_per_block as usize * BLOCK_ALIGNMENT).min(MAX_MESSAGE_LEN),
                blocks: class.blocks,
                max_blocks: class.max_blocks,
                spare: spare.collect(),
            });
        }
        pool
    }

    /// Bytes of the largest block.
    pub(crate) fn largest(&self) -> usize {
        self.classes.last().map_or(0, |class| class.capacity)
    }

    /// Blocks by now.
    pub(crate) fn blocks(&self) -> u32 {
        self.classes.iter().map(|class| class.blocks).sum()
    }

    /// Whether all blocks have one size.
    pub(crate) fn is_uniform(&self) -> bool {
        self.classes.len() == 1
    }

    /// Spare blocks of all classes.
    pub(crate) fn spare(&self) -> u32 {
        self.classes.iter().map(|class| class.spare.len() as u32).sum()
    }

    /// Takes a spare block of at least `len` bytes, the smallest there is: its unit and capacity.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Option<(u32, usize)> {
        self.classes
            .iter_mut()
            .filter(|class| class.capacity >= len)
            .find_map(|class| class.spare.pop().map(|unit| (unit, class.capacity)))
    }

    /// Whether there is a spare block of at least `len` bytes.
    #[inline]
    pub(crate) fn has(&self, len: usize) -> bool {
        self.classes.iter().any(|class| class.capacity >= len && !class.spare.is_empty())
    }

    /// Takes back a block.
    #[inline]
    pub(crate) fn give(&mut self, unit: u32) {
        let class = if self.is_uniform() { 0 } else { self.layout.class_of(unit) };
        self.classes[class].spare.push(unit);
    }

    /// Adds blocks of at least `len` bytes, doubling the class where its limit allows. False at the limit.
    pub(crate) fn grow(&mut self, len: usize) -> bool {
        let classes = self.classes.iter_mut().zip(&self.layout.places);
        for (class, place) in classes.filter(|(class, _)| class.capacity >= len) {
            let more = class.blocks.min(class.max_blocks - class.blocks);
            if more > 0 {
                let added = class.blocks..class.blocks + more;
                class.spare.extend(added.rev().map(|block| place.first_unit + block * place.units_per_block));
                class.blocks += more;
                return true;
            }
        }
        false
    }

    /// The number of the block at `unit`, for its hold count.
    #[inline]
    pub(crate) fn block_of(&self, unit: u32) -> u32 {
        self.layout.block_of(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(block_size: usize, blocks: u32, max_blocks: u32) -> SizeClass {
        SizeClass { block_size, blocks, max_blocks }
    }

    #[test]
    fn every_block_has_a_number_and_a_place_of_its_own() {
        let classes = [class(64, 3, 5), class(100, 2, 2), class(4096, 4, 4)];
        let layout = Layout::new(&classes).unwrap();
        let mut pool = Pool::new(layout.clone(), &classes);
        let mut units = Vec::new();
        while pool.grow(0) {}
        while let Some((unit, capacity)) = pool.take(0) {
            units.push((unit, unit + (capacity / BLOCK_ALIGNMENT) as u32));
        }
        units.sort_unstable();
        assert_eq!(units.len(), layout.blocks as usize);
        assert!(units.windows(2).all(|pair| pair[0].1 <= pair[1].0), "blocks overlap: {units:?}");
        assert_eq!(units.last().unwrap().1 as usize * BLOCK_ALIGNMENT, layout.len);
        let numbers: Vec<u32> = units.iter().map(|&(unit, _)| layout.block_of(unit)).collect();
        assert_eq!(numbers, (0..layout.blocks).collect::<Vec<_>>());
    }

    #[test]
    fn the_smallest_block_that_fits_is_taken_and_goes_back_to_its_class() {
        let classes = [class(64, 2, 2), class(4096, 2, 2)];
        let mut pool = Pool::new(Layout::new(&classes).unwrap(), &classes);
        assert_eq!(pool.take(65).unwrap().1, 4096);
        let (unit, capacity) = pool.take(10).unwrap();
        assert_eq!(capacity, 64);
        assert_eq!(pool.take(64).unwrap().1, 64);
        assert_eq!(pool.take(64).unwrap().1, 4096, "the next larger one where the class is empty");
        assert_eq!(pool.take(1), None);
        pool.give(unit);
        assert_eq!(pool.take(65), None);
        assert_eq!(pool.take(64), Some((unit, 64)));
    }

    #[test]
    fn growth_ends_at_the_limit() {
        let classes = [class(64, 2, 5)];
        let mut pool = Pool::new(Layout::new(&classes).unwrap(), &classes);
        assert_eq!(pool.blocks(), 2);
        assert!(pool.grow(64));
        assert_eq!(pool.blocks(), 4);
        assert!(pool.grow(64));
        assert_eq!(pool.blocks(), 5);
        assert!(!pool.grow(64));
        assert!(!pool.grow(65));
        assert_eq!(pool.spare(), 5);
    }

    #[test]
    fn impossible_classes_are_refused_with_the_number_that_is_wrong() {
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
}
