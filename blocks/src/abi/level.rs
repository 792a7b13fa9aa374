//! How important a line of a component's log is: `session.level` of the WIT package.

use super::values::{LEVEL_DEBUG, LEVEL_ERROR, LEVEL_INFO, LEVEL_TRACE, LEVEL_WARN};

/// How important a line of a component's log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level {
    /// Something failed.
    Error = LEVEL_ERROR,
    /// Something is suspicious.
    Warn = LEVEL_WARN,
    /// Progress that a user wants to see.
    Info = LEVEL_INFO,
    /// For developers.
    Debug = LEVEL_DEBUG,
    /// For developers, in great detail.
    Trace = LEVEL_TRACE,
}

impl Level {
    /// The level with this number; [`Trace`](Self::Trace) for an unknown one.
    #[must_use]
    pub const fn of_number(number: u32) -> Self {
        match number {
            LEVEL_ERROR => Self::Error,
            LEVEL_WARN => Self::Warn,
            LEVEL_INFO => Self::Info,
            LEVEL_DEBUG => Self::Debug,
            _ => Self::Trace,
        }
    }

    /// Its number in the table.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}
