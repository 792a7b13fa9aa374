//! The blocks of a publisher, and which of them are spare.
//!
//! A class starts with some blocks and may grow to its limit. The arena has address space for all of them
//! ([`Layout`]). The system commits memory when a block is first written.

use crate::engine::segment::layout::Layout;
use crate::options::SizeClass;

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
    /// Current number of blocks.
    blocks: u32,
    max_blocks: u32,
    spare: Vec<u32>,
}

impl Pool {
    pub(crate) fn new(layout: Layout, classes: &[SizeClass]) -> Self {
        let mut pool = Self { layout, classes: Vec::new() };
        for (class, span) in classes.iter().zip(pool.layout.spans()) {
            // Popped from the end, so the first block goes first.
            let spare = (0..class.blocks).rev().map(|block| span.first_unit + block * span.units_per_block);
            pool.classes.push(Class {
                capacity: span.capacity(),
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

    /// Current number of blocks.
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

    /// Takes the smallest spare block of at least `len` bytes. Returns its unit and capacity.
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

    /// Adds blocks of at least `len` bytes, by doubling their class up to its limit. Returns `false` at the
    /// limit.
    pub(crate) fn grow(&mut self, len: usize) -> bool {
        let classes = self.classes.iter_mut().zip(self.layout.spans());
        for (class, span) in classes.filter(|(class, _)| class.capacity >= len) {
            let more = class.blocks.min(class.max_blocks - class.blocks);
            if more > 0 {
                let added = class.blocks..class.blocks + more;
                class.spare.extend(added.rev().map(|block| span.first_unit + block * span.units_per_block));
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
    use crate::payload::BLOCK_ALIGNMENT;

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
}
