//! Why a native library cannot be loaded: [`LibraryError`].

use std::io;
use std::path::PathBuf;

use blockcast_blocks::abi::{ENTRY, Misfit};

/// Why a native library cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// The file does not exist.
    #[error("there is no library at {path}")]
    Missing {
        /// The path that was tried.
        path: PathBuf,
    },
    /// The file exists but cannot be read.
    #[error("the library at {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file is too large.
    #[error(
        "{path} has {bytes} bytes, more than the {most} that are accepted; `strip` removes debugging information"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The largest accepted size.
        most: u64,
    },
    /// The file is not a shared library for this machine.
    #[error("{path} is not a shared library for this machine: {reason}")]
    NotALibrary {
        /// The file.
        path: PathBuf,
        /// The kind of file that it is instead.
        reason: String,
    },
    /// The system's loader refuses the file: it is damaged, or needs a library or a symbol that is missing.
    #[error("{path} cannot be loaded: {reason}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// The loader's error.
        reason: String,
    },
    /// The file is a shared library but not an app: it lacks the symbol that every app exports.
    #[error("{path} is not an app: it does not export `{ENTRY}`, which `export!` or the C header defines")]
    NoEntry {
        /// The file.
        path: PathBuf,
    },
    /// The library was built for another version of the interface, or its table is invalid.
    #[error("{path} does not fit this broker: {misfit}")]
    Misfit {
        /// The file.
        path: PathBuf,
        /// The difference. If the versions differ, the text names both.
        #[source]
        misfit: Misfit,
    },
    /// The system has no memory for a copy of the library.
    #[error("{path} cannot be copied into memory: {source}")]
    NoMemory {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}
