//! Files that a user names, read up to a limit and only if they are regular files. Also checks the size of
//! files that we create.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Why a file was not read.
#[derive(Debug)]
pub(crate) enum FileError {
    /// The system's error.
    Io(io::Error),
    /// The file has this many bytes.
    TooLarge(u64),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a regular file of at most `most` bytes.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    // Devices may be endless, and opening one may have side effects.
    regular(&std::fs::metadata(path)?)?;
    // If a pipe has replaced the file meanwhile, opening it does not wait for a writer.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    regular(&metadata)?;
    if metadata.len() > most {
        return Err(FileError::TooLarge(metadata.len()));
    }
    content(file, most)
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    match metadata.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// Reads at most `most` bytes, since the size may be wrong: a file may grow, and files in `/proc` report
/// none.
fn content(file: File, most: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        len if len > most => Err(FileError::TooLarge(len)),
        _ => Ok(bytes),
    }
}

/// Checks that this process may create a file of `len` bytes. Otherwise the system would end it with
/// `SIGXFSZ`.
pub(crate) fn check_size(len: u64) -> io::Result<()> {
    let limit = blockcast_blocks::file_size_limit();
    if len <= limit {
        return Ok(());
    }
    let text = format!(
        "a file of {len} bytes, and this process may make files of {limit} bytes at most (RLIMIT_FSIZE, `ulimit -f`)"
    );
    Err(io::Error::new(io::ErrorKind::FileTooLarge, text))
}
