//! The result of a call.

use std::fmt;

/// Whether a call succeeded, and if not, why: 0, or the number of the WIT package's `error` plus 1.
///
/// A call that returns anything except [`OK`](Self::OK) has changed nothing. Later hosts may return numbers
/// that are not listed here: treat them as [`INTERNAL`](Self::INTERNAL).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
#[must_use = "a call may have been refused"]
pub struct Status(pub u32);

impl Status {
    /// The call succeeded.
    pub const OK: Self = Self(0);
    /// More address space must be donated first. Natively there is nothing to donate, and no call returns it.
    pub const NO_STORAGE: Self = Self(1);
    /// A conflicting operation is still in progress.
    pub const BUSY: Self = Self(2);
    /// A size or an alignment is not as required.
    pub const WRONG_SIZE: Self = Self(3);
    /// The host failed. Its log gives the reason.
    pub const INTERNAL: Self = Self(4);
    /// The component was not granted this.
    pub const DENIED: Self = Self(5);
    /// The topic exists with a different schema.
    pub const SCHEMA_MISMATCH: Self = Self(6);
    /// The topic has ended and everything was delivered, or the broker is shutting down.
    pub const CLOSED: Self = Self(7);
    /// No block is free: wait, then repeat the call.
    pub const EXHAUSTED: Self = Self(8);
    /// The message exceeds the publisher's blocks, or a name is too long.
    pub const TOO_LARGE: Self = Self(9);
    /// The bytes are not a valid value of the topic's schema. They were not published.
    pub const INVALID_PAYLOAD: Self = Self(10);
    /// The handle, index or hold is invalid, or no longer valid.
    pub const INVALID_HANDLE: Self = Self(11);
    /// A pointer must not be null, or a range is out of bounds.
    pub const OUT_OF_BOUNDS: Self = Self(12);
    /// A limit of the component's grant is reached.
    pub const LIMIT: Self = Self(13);
    /// The component was cancelled and must return from `run`. Not an error of the WIT package, as a guest is
    /// ended instead.
    pub const CANCELLED: Self = Self(255);

    /// Whether the call succeeded.
    #[must_use]
    pub const fn is_ok(self) -> bool {
        self.0 == Self::OK.0
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 14] = [
            "OK",
            "NO_STORAGE",
            "BUSY",
            "WRONG_SIZE",
            "INTERNAL",
            "DENIED",
            "SCHEMA_MISMATCH",
            "CLOSED",
            "EXHAUSTED",
            "TOO_LARGE",
            "INVALID_PAYLOAD",
            "INVALID_HANDLE",
            "OUT_OF_BOUNDS",
            "LIMIT",
        ];
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None if *self == Self::CANCELLED => f.write_str("CANCELLED"),
            None => write!(f, "Status({})", self.0),
        }
    }
}
