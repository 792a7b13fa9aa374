//! The values of the WIT package, as wit-bindgen names them, over those of the table.

use super::cancel;
use crate::abi::Status;

pub use crate::abi::{Error, Level, PublisherStats, SubscriptionStats};

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
    if status == Status::CANCELLED {
        cancel::unwind();
        return Error::Closed; // it unwinds already
    }
    Error::of_status(status).unwrap_or(Error::Internal)
}
