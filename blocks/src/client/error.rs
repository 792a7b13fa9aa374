//! Errors of host calls.

use std::fmt;

use super::host::types::Error;

/// The host refused a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HostError(Error);

impl HostError {
    /// The error code of the WIT package.
    #[must_use]
    pub fn code(self) -> Error {
        self.0
    }

    /// A short description.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self.0 {
            Error::NoStorage => "there is not enough address space",
            Error::Busy => "a conflicting operation is still in progress",
            Error::WrongSize => "the size is not acceptable",
            Error::Internal => "the host failed; its log gives the reason",
            Error::Denied => "it was not granted to this component",
            Error::SchemaMismatch => "the topic has a different schema",
            Error::Closed => "the topic or the broker is closed",
            Error::Exhausted => "no block is free",
            Error::TooLarge => "the message exceeds a block",
            Error::InvalidPayload => "the bytes are not a valid value of the topic's schema",
            Error::InvalidHandle => "the handle is invalid",
            Error::OutOfBounds => "the range is outside of the memory",
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
