//! What a host call was refused with, in words.

use std::fmt;

use super::host::types::Error;

/// The host refused a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HostError(Error);

impl HostError {
    /// The code of the WIT package.
    #[must_use]
    pub fn code(self) -> Error {
        self.0
    }

    /// What it means, in a few words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self.0 {
            Error::NoStorage => "there is not enough address space",
            Error::Busy => "something that conflicts is still going on",
            Error::WrongSize => "the size is not acceptable",
            Error::Internal => "the host could not do it; its log tells the reason",
            Error::Denied => "it was not granted to this component",
            Error::SchemaMismatch => "the topic has another schema",
            Error::Closed => "the topic or the broker is closed",
            Error::Exhausted => "no block is free",
            Error::TooLarge => "the message is longer than a block",
            Error::InvalidPayload => "the bytes are no valid value of the topic's schema",
            Error::InvalidHandle => "the handle stands for nothing",
            Error::OutOfBounds => "the range lies outside of the memory",
            Error::Limit => "a limit of the component's grant is reached",
        }
    }
}

impl From<Error> for HostError {
    fn from(code: Error) -> Self {
        Self(code)
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostError({self})")
    }
}

impl std::error::Error for HostError {}
