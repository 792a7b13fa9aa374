//! The errors of validating and building messages.

use thiserror::Error;

/// The reason why bytes are not a valid message. `at` is an offset in bytes from the message's start.
///
/// Do not read any part of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum FlatError {
    /// The message ends before a header or before the data that a header points to.
    #[error("offset {at}: points {missing} bytes past the end of the message")]
    OutOfBounds {
        /// The offset of the header.
        at: usize,
        /// The number of missing bytes.
        missing: u64,
    },
    /// Data starts before the end of the preceding data: it overlaps them, or is part of a cycle.
    #[error("offset {at}: points into the data of another value")]
    Overlap {
        /// The offset of the header.
        at: usize,
    },
    /// The data of a list is not aligned for its elements.
    #[error("offset {at}: points to data that is not aligned to {alignment} bytes")]
    Misaligned {
        /// The offset of the list's header.
        at: usize,
        /// The alignment of the elements in bytes.
        alignment: usize,
    },
    /// A byte that belongs to no value is not zero.
    #[error("offset {at}: padding is not zero")]
    Padding {
        /// The offset at which this padding starts.
        at: usize,
    },
    /// A string is not UTF-8.
    #[error("offset {at}: not UTF-8")]
    Utf8 {
        /// The offset of the first invalid byte.
        at: usize,
    },
    /// A discriminant, a bool or a set of flags has an invalid value.
    #[error("offset {at}: {value} is not a value of this variant, bool or set of flags")]
    Discriminant {
        /// The offset of the discriminant.
        at: usize,
        /// Its value.
        value: u64,
    },
    /// A char is not a Unicode scalar value.
    #[error("offset {at}: {value:#x} is not a Unicode scalar value")]
    Char {
        /// The offset of the char.
        at: usize,
        /// Its value.
        value: u32,
    },
    /// The keys of a map are not strictly ascending.
    #[error("offset {at}: map keys are not in ascending order, or a key occurs twice")]
    KeyOrder {
        /// The offset of the entry whose key is not greater than the previous one.
        at: usize,
    },
    /// The message has bytes after the end of the value.
    #[error("the value ends at offset {at}, but the message continues")]
    TrailingBytes {
        /// The offset at which the value ends.
        at: usize,
    },
}

/// The reason why a build stopped. The block can be reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The block is too small. Use a larger one, or write less.
    #[error("the block has {available} bytes, but at least {needed} are needed")]
    NoRoom {
        /// The length in bytes of the message up to the end of the part that did not fit.
        needed: usize,
        /// The length of the block in bytes.
        available: usize,
    },
    /// A delta, a length or a count does not fit into an index. Use a wider index type.
    #[error("{value} does not fit into an index, whose largest value is {max}")]
    IndexOverflow {
        /// The delta, length or count.
        value: usize,
        /// The largest value of the index type.
        max: usize,
    },
    /// The list or map already has as many elements as it was started with.
    #[error("the list has room for only {capacity} elements")]
    ListFull {
        /// The number of elements that it was started with.
        capacity: usize,
    },
    /// A list or map of known length was finished with fewer elements.
    #[error("the list was started with {expected} elements, but only {pushed} were pushed")]
    TooFew {
        /// The number of elements that it was started with.
        expected: usize,
        /// The number of elements pushed.
        pushed: usize,
    },
    /// The key is not greater than the previous one. Insert the keys of a map in ascending order, each once.
    #[error("map keys must be inserted in ascending order, each once")]
    KeyOrder,
    /// Numbers cannot be lent as a slice, because the block or the index width does not align them.
    #[error("numbers are not aligned in this block or at this index width")]
    Misaligned,
}

impl BuildError {
    /// Whether the value did not fit: into the block, the index or the list.
    ///
    /// A publisher that fills each block with as many elements as possible finishes the message here and
    /// continues with another block.
    pub const fn is_full(&self) -> bool {
        matches!(
            self,
            BuildError::NoRoom { .. } | BuildError::IndexOverflow { .. } | BuildError::ListFull { .. }
        )
    }
}
