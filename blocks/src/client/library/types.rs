//! The values of the WIT package, under wit-bindgen's names, over those of the table.

use super::cancel;
use crate::abi::Status;

pub use crate::abi::{Error, Level, PublisherStats, SubscriptionStats};

/// Converts the status of a call. If the component was cancelled, this does not return but unwinds to the
/// entry.
#[inline(always)]
pub(super) fn answer(status: Status) -> Result<(), Error> {
    if status.is_ok() { Ok(()) } else { Err(refusal(status)) }
}

/// Like [`answer`], for calls in destructors, where nothing should unwind.
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
