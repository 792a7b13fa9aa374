//! What can be wrong with bytes that claim to be a message, and what can stop a build.

use thiserror::Error;

/// Why bytes are not a valid message. `at` is an offset in bytes from the message's start.
///
/// The message must not be read; there is nothing in it that could be trusted in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum FlatError {
    /// The message ends before a header or before the data that a header points to.
    #[error("offset {at}: points {missing} bytes past the end of the message")]
    OutOfBounds {
        /// The header that points too far.
        at: usize,
        /// How many bytes are missing.
        missing: u64,
    },
    /// Data lies before the end of the data before it: it overlaps, or it is part of a cycle.
    #[error("offset {at}: points into data that is already taken")]
    Overlap {
        /// The header that points back.
        at: usize,
    },
    /// The data of a list is not aligned as its elements need it.
    #[error("offset {at}: points to data that is not aligned to {alignment} bytes")]
    Misaligned {
        /// The header of the list.
        at: usize,
        /// What the elements need, in bytes.
        alignment: usize,
    },
    /// A byte that no value uses is not zero.
    #[error("offset {at}: padding is not zero")]
    Padding {
        /// Where the run of padding that is not all zero begins.
        at: usize,
    },
    /// A string is not UTF-8.
    #[error("offset {at}: not UTF-8")]
    Utf8 {
        /// The first byte that is wrong.
        at: usize,
    },
    /// A discriminant, a bool or a set of flags has a value that its type does not have.
    #[error("offset {at}: no case {value} in this type")]
    Discriminant {
        /// The discriminant.
        at: usize,
        /// What stands there.
        value: u64,
    },
    /// A char is not a Unicode scalar value.
    #[error("offset {at}: {value:#x} is not a Unicode scalar value")]
    Char {
        /// The char.
        at: usize,
        /// What stands there.
        value: u32,
    },
    /// The keys of a map are not strictly ascending.
    #[error("offset {at}: map keys are not in ascending order, or a key occurs twice")]
    KeyOrder {
        /// The entry that is not above the one before it.
        at: usize,
    },
    /// There are bytes after the end of the value.
    #[error("the value ends at offset {at}, but the message goes on")]
    TrailingBytes {
        /// Where the value ends.
        at: usize,
    },
}

/// Why a build stopped. The block can be used for another build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The block is too small. A larger one, or less data, is needed.
    #[error("the block has {available} bytes, but at least {needed} are needed")]
    NoRoom {
        /// Bytes that the message has up to and including what did not fit.
        needed: usize,
        /// Bytes that the block has.
        available: usize,
    },
    /// A delta, a length or a count does not fit the index. A wider index is needed.
    #[error("{value} does not fit an index, whose largest value is {max}")]
    IndexOverflow {
        /// What should have been stored.
        value: usize,
        /// The largest value of the index.
        max: usize,
    },
    /// The list already has as many elements as were announced.
    #[error("the list has room for only {capacity} elements")]
    ListFull {
        /// How many were announced.
        capacity: usize,
    },
    /// The list was finished before it had as many elements as were announced.
    #[error("{expected} elements were announced, but only {pushed} were pushed")]
    TooFew {
        /// How many were announced.
        expected: usize,
        /// How many were pushed.
        pushed: usize,
    },
    /// The key is not above the key before it. Keys of a map are pushed in ascending order, each once.
    #[error("map keys must be pushed in ascending order, each once")]
    KeyOrder,
    /// Numbers cannot be lent as a slice here: the block or the index width does not align them.
    #[error("numbers are not aligned in this block or at this index width")]
    Misaligned,
}

impl BuildError {
    /// Whether the same value would fit into an empty block, a larger block, or under a wider index.
    ///
    /// A publisher that fills a block with as many elements as fit ends the message here.
    pub const fn is_full(&self) -> bool {
        matches!(
            self,
            BuildError::NoRoom { .. } | BuildError::IndexOverflow { .. } | BuildError::ListFull { .. }
        )
    }
}
