//! The values of the WIT package, as wit-bindgen names them, over those of the table.

use super::cancel;
use crate::abi::{self, Status};

pub use crate::abi::{PublisherStats, SubscriptionStats};

/// Why a call was refused: `types.error` of the WIT package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// More address space must be donated first.
    NoStorage,
    /// Something that conflicts is still going on.
    Busy,
    /// A size or an alignment is not as required.
    WrongSize,
    /// The host could not do it.
    Internal,
    /// The component was not granted this.
    Denied,
    /// The topic exists with another schema.
    SchemaMismatch,
    /// The topic has ended and everything was delivered, or the broker is shutting down.
    Closed,
    /// No block is free.
    Exhausted,
    /// The message is longer than a block of the publisher.
    TooLarge,
    /// The bytes are no valid value of the topic's schema.
    InvalidPayload,
    /// The handle, index or hold stands for nothing here (any more).
    InvalidHandle,
    /// The range does not lie where it must.
    OutOfBounds,
    /// A limit of the component's grant is reached.
    Limit,
}

/// What a call of the table returned. Where the component was cancelled this does not return: it unwinds, to the
/// entry.
#[inline(always)]
pub(super) fn answer(status: Status) -> Result<(), Error> {
    if status.is_ok() { Ok(()) } else { Err(refusal(status)) }
}

/// As [`answer`], for what is called while something is dropped, where nothing should unwind.
pub(super) fn quiet_answer(status: Status) -> Result<(), Error> {
    if status == Status::CANCELLED { Err(Error::Closed) } else { answer(status) }
}

#[cold]
fn refusal(status: Status) -> Error {
    match status {
        Status::NO_STORAGE => Error::NoStorage,
        Status::BUSY => Error::Busy,
        Status::WRONG_SIZE => Error::WrongSize,
        Status::DENIED => Error::Denied,
        Status::SCHEMA_MISMATCH => Error::SchemaMismatch,
        Status::CLOSED => Error::Closed,
        Status::EXHAUSTED => Error::Exhausted,
        Status::TOO_LARGE => Error::TooLarge,
        Status::INVALID_PAYLOAD => Error::InvalidPayload,
        Status::INVALID_HANDLE => Error::InvalidHandle,
        Status::OUT_OF_BOUNDS => Error::OutOfBounds,
        Status::LIMIT => Error::Limit,
        Status::CANCELLED => {
            cancel::unwind();
            Error::Closed // it unwinds already
        }
        _ => Error::Internal,
    }
}

/// Importance of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is suspicious.
    Warn,
    /// Progress that a user wants to see.
    Info,
    /// For developers.
    Debug,
    /// For developers, in great detail.
    Trace,
}

impl Level {
    /// Its number in the table.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Error => abi::LEVEL_ERROR,
            Self::Warn => abi::LEVEL_WARN,
            Self::Info => abi::LEVEL_INFO,
            Self::Debug => abi::LEVEL_DEBUG,
            Self::Trace => abi::LEVEL_TRACE,
        }
    }
}
