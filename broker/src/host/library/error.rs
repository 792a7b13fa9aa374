//! Why a native library cannot be loaded: [`LibraryError`].

use std::io;
use std::path::PathBuf;

use blockcast_blocks::abi::{ENTRY, Misfit};

/// Why a native library cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// There is no such file.
    #[error("there is no library at {path}")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file exists and cannot be read.
    #[error("the library at {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file is larger than is accepted.
    #[error(
        "{path} has {bytes} bytes, and {most} are accepted at most; `strip` removes what is only for debuggers"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The largest that is accepted.
        most: u64,
    },
    /// The file is not a shared library for this machine.
    #[error("{path} is not a shared library for this machine: {reason}")]
    NotALibrary {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// The system's loader refuses it: it is damaged, or needs a library or a symbol that is not there.
    #[error("{path} cannot be loaded: {reason}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },
    /// It is a shared library, but not an app: it lacks the symbol that every app exports.
    #[error("{path} is not an app: it does not export `{ENTRY}`, which `export!` or the C header defines")]
    NoEntry {
        /// The file.
        path: PathBuf,
    },
    /// It was built for another version of the interface, or gave a table that cannot be one.
    #[error("{path} does not fit this broker: {misfit}")]
    Misfit {
        /// The file.
        path: PathBuf,
        /// What differs. A difference of versions names both.
        #[source]
        misfit: Misfit,
    },
    /// The system has no memory for a copy of it.
    #[error("{path} cannot be copied into memory: {source}")]
    NoMemory {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}
