//! Errors.

use std::fmt;

/// A bridge cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// Zenoh refuses something.
    #[error("zenoh cannot {action}: {reason}")]
    Zenoh {
        /// What it was asked for.
        action: String,
        /// Its own words.
        reason: String,
    },
    /// The system refuses a thread.
    #[error("the system refuses a thread: {0}")]
    Thread(String),
}

impl BridgeError {
    pub(crate) fn zenoh(action: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Zenoh { action: action.into(), reason: reason.to_string() }
    }
}
