//! [`LibraryProgram`]: an app in a native shared library, ready to run.

use std::fmt;
use std::path::Path;

use super::error::LibraryError;
use super::image::{Code, Image};

/// An app in a native shared library, ready to run any number of times. Cheap to clone.
///
/// Holds the file's bytes: each run loads a copy of its own, with static variables of its own, and closes it at its end.
#[derive(Clone)]
pub struct LibraryProgram {
    name: String,
    version: u32,
    code: Code,
}

impl LibraryProgram {
    /// Reads a library and looks whether it fits, for which it is loaded and closed again.
    ///
    /// # Safety
    /// As for [`Broker::load_library`](crate::Broker::load_library).
    pub(crate) unsafe fn load(path: &Path) -> Result<Self, LibraryError> {
        let code = Code::read(path)?;
        // SAFETY: the caller vouches for the file.
        let image = unsafe { Image::open(&code) }?;
        // SAFETY: the view is valid while the image is loaded, by the contract.
        let named = unsafe { image.app().name.str() }.filter(|name| !name.is_empty());
        // The name comes with a version, which is of no interest here.
        let named = named.and_then(|name| name.split_whitespace().next());
        let name = named.map_or_else(|| stem(path), str::to_owned);
        Ok(Self { name, version: image.app().version, code })
    }

    /// What the app calls itself; or its file's name, without `lib` and what follows a dot.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Version of the C interface that it was built for.
    #[must_use]
    pub fn abi_version(&self) -> u32 {
        self.version
    }

    /// The file that it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.code.path()
    }

    pub(crate) fn code(&self) -> &Code {
        &self.code
    }
}

fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let stem = name.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or(&name);
    stem.strip_prefix("lib").filter(|rest| !rest.is_empty()).unwrap_or(stem).to_owned()
}

impl fmt::Debug for LibraryProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LibraryProgram")
            .field("name", &self.name)
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}
