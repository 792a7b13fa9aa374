//! Where a guest's code comes from: [`GuestSource`].

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::file::{self, FileError};
use crate::host::wasm::loading::{Exceeded, Kind, LoadError, LoadLimit, LoadLimits};
#[cfg(feature = "wat")]
use crate::hosting::log::MAX_TEXT;
use crate::hosting::log::line;

/// Where a guest's code comes from.
#[derive(Clone)]
#[non_exhaustive]
pub enum GuestSource {
    /// A file that holds a component or a core module, in the binary format or, with the feature `wat`, as
    /// text.
    File(PathBuf),
    /// A component or a core module in memory, in the formats that files may have, and a name for messages.
    Bytes {
        /// Its name in error messages.
        name: String,
        /// The component or module.
        code: Arc<[u8]>,
    },
}

impl GuestSource {
    /// A component or a core module in memory.
    pub fn bytes(name: impl Into<String>, code: impl Into<Arc<[u8]>>) -> Self {
        Self::Bytes { name: name.into(), code: code.into() }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::File(path) => line(&path.display().to_string()).into_owned(),
            Self::Bytes { name, .. } => line(name).into_owned(),
        }
    }

    /// The code in the binary format: reads it, and translates text within `limits`.
    ///
    /// # Errors
    /// [`LoadError`] if it cannot be read, exceeds a limit, or is not wasm.
    pub fn binary(&self, limits: &LoadLimits) -> Result<Vec<u8>, LoadError> {
        let (name, bytes) = (self.name(), self.read(limits.bytes)?);
        let kind = kind_of(&name, &bytes)?;
        Ok(binary(&name, kind, &bytes, limits)?.into_owned())
    }

    pub(super) fn read(&self, most: u64) -> Result<Arc<[u8]>, LoadError> {
        match self {
            Self::Bytes { code, .. } if code.len() as u64 > most => {
                Err(LoadError::TooLarge { guest: self.name(), bytes: code.len() as u64, most })
            }
            Self::Bytes { code, .. } => Ok(Arc::clone(code)),
            Self::File(path) => match file::read(path, most) {
                Ok(code) => Ok(code.into()),
                Err(FileError::TooLarge(bytes)) => {
                    Err(LoadError::TooLarge { guest: self.name(), bytes, most })
                }
                Err(FileError::Io(source)) if source.kind() == io::ErrorKind::NotFound => {
                    Err(LoadError::Missing { path: path.clone() })
                }
                Err(FileError::Io(source)) => Err(LoadError::Unreadable { path: path.clone(), source }),
            },
        }
    }
}

impl fmt::Debug for GuestSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GuestSource").field(&self.name()).finish()
    }
}

impl From<PathBuf> for GuestSource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for GuestSource {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

/// The kind of code, which must be wasm.
pub(super) fn kind_of(guest: &str, bytes: &[u8]) -> Result<Kind, LoadError> {
    Kind::of(bytes).ok_or_else(|| LoadError::NotWasm { guest: guest.to_owned() })
}

pub(super) fn too_complex(guest: &str, exceeded: Exceeded) -> LoadError {
    let Exceeded { limit, value, most, function } = exceeded;
    LoadError::TooComplex { guest: guest.to_owned(), limit, value, most, function }
}

/// The binary form of code.
pub(super) fn binary<'a>(
    guest: &str,
    kind: Kind,
    bytes: &'a [u8],
    limits: &LoadLimits,
) -> Result<Cow<'a, [u8]>, LoadError> {
    if bytes.starts_with(b"\0asm") {
        return Ok(Cow::Borrowed(bytes));
    }
    let fits = limits.check(LoadLimit::TextBytes, bytes.len() as u64);
    fits.map_err(|exceeded| too_complex(guest, exceeded))?;
    translated(guest, kind, bytes)
}

/// The binary form of text.
#[cfg(feature = "wat")]
fn translated<'a>(guest: &str, kind: Kind, text: &'a [u8]) -> Result<Cow<'a, [u8]>, LoadError> {
    use blockcast_blocks::text::lines_within;

    wat::parse_bytes(text).map_err(|error| LoadError::Invalid {
        guest: guest.to_owned(),
        kind: kind.name(),
        reason: lines_within(&error.to_string().replace('\n', "\n    "), MAX_TEXT).into_owned(),
    })
}

#[cfg(not(feature = "wat"))]
fn translated<'a>(guest: &str, _kind: Kind, _text: &'a [u8]) -> Result<Cow<'a, [u8]>, LoadError> {
    Err(LoadError::Text { guest: guest.to_owned() })
}
