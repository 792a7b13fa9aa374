//! Why a host refuses a call: `types.error` of the WIT package.

use super::status::Status;

/// Why a host refuses a call. In this order the variants are the cases of the WIT package's `error`; as a
/// [`Status`], each has the number of its case plus 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Error {
    /// More address space must be donated first.
    NoStorage,
    /// Something that conflicts is still going on.
    Busy,
    /// A size or an alignment is not as required.
    WrongSize,
    /// The host could not do it; its log gives the reason.
    Internal,
    /// The component's grant does not allow this.
    Denied,
    /// The topic exists with a different schema.
    SchemaMismatch,
    /// The topic has ended and everything was delivered, or the broker is shutting down.
    Closed,
    /// No block is free.
    Exhausted,
    /// The message is longer than a block of the publisher.
    TooLarge,
    /// The bytes are not a valid value of the topic's schema.
    InvalidPayload,
    /// The handle, index or hold is not valid, or no longer.
    InvalidHandle,
    /// The range does not lie where it must.
    OutOfBounds,
    /// A limit of the component's grant is reached.
    Limit,
}

impl Error {
    /// Every error, in the order of the WIT package.
    pub const ALL: [Self; 13] = [
        Self::NoStorage,
        Self::Busy,
        Self::WrongSize,
        Self::Internal,
        Self::Denied,
        Self::SchemaMismatch,
        Self::Closed,
        Self::Exhausted,
        Self::TooLarge,
        Self::InvalidPayload,
        Self::InvalidHandle,
        Self::OutOfBounds,
        Self::Limit,
    ];

    /// The error with which a host that returns `status` refuses a call, or `None` for [`Status::OK`].
    /// [`Internal`](Self::Internal) for a status without an error of its own.
    #[must_use]
    pub fn of_status(status: Status) -> Option<Self> {
        let case = status.0.checked_sub(1)?;
        Some(Self::ALL.get(case as usize).copied().unwrap_or(Self::Internal))
    }

    /// The status that reports this error.
    pub const fn status(self) -> Status {
        Status(self as u32 + 1)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        error.status()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_errors_name_each_other() {
        for error in Error::ALL {
            assert_eq!(Error::of_status(error.status()), Some(error));
            let name = format!("{error:?}").to_lowercase();
            assert_eq!(format!("{:?}", error.status()).replace('_', "").to_lowercase(), name);
        }
        assert_eq!(Error::of_status(Status::OK), None);
        assert_eq!(Error::of_status(Status(14)), Some(Error::Internal), "unknown to this version");
    }
}
