//! Why a donation or a mapping is refused: [`WindowError`].

use blockcast_blocks::NoMappings;
use blockcast_blocks::abi::Error;

/// Why a donation or a mapping was refused. A refusal changes nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WindowError {
    /// The range is not inside the memory, or there is no memory.
    #[error("the range ends outside of the guest's memory")]
    OutOfBounds,
    /// The range overlaps donated address space.
    #[error("the range overlaps donated address space")]
    Overlap,
    /// Start or size is not a multiple of [`GRANULE`](crate::host::wasm::memory::area::GRANULE), or the range
    /// is empty.
    #[error("the range does not consist of whole 64 KiB pages")]
    Unaligned,
    /// The guest's budget of address space is used up.
    #[error("the guest's address space for windows is used up")]
    Budget,
    /// The guest has as many windows as it may have.
    #[error("the guest has too many windows")]
    TooMany,
    /// No donation of the owner has room.
    #[error("no donated address space is large enough")]
    NoRoom,
    /// The owner has not donated the range.
    #[error("the range was not donated")]
    NotDonated,
    /// A window occupies part of the range.
    #[error("the range is in use")]
    InUse,
    /// The process has too few mappings left.
    #[error(transparent)]
    Mappings(#[from] NoMappings),
    /// The system refused.
    #[error("the system refused to map a window: {0}")]
    System(#[from] std::io::Error),
}

impl From<WindowError> for Error {
    fn from(error: WindowError) -> Self {
        match error {
            WindowError::OutOfBounds | WindowError::Overlap | WindowError::NotDonated => Self::OutOfBounds,
            WindowError::Unaligned => Self::WrongSize,
            WindowError::Budget | WindowError::TooMany | WindowError::Mappings(_) => Self::Limit,
            WindowError::NoRoom => Self::NoStorage,
            WindowError::InUse => Self::Busy,
            WindowError::System(_) => Self::Internal,
        }
    }
}
