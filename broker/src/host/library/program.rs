//! [`LibraryProgram`]: an app in a native shared library, ready to run.

use std::fmt;
use std::path::Path;

use super::error::LibraryError;
use super::image::{Code, Image};

/// An app in a native shared library, ready to run any number of times. Cloning is cheap.
///
/// It holds the file's bytes. Each run loads its own copy, with its own static variables, and closes it at
/// the end.
#[derive(Clone)]
pub struct LibraryProgram {
    name: String,
    version: u32,
    code: Code,
}

impl LibraryProgram {
    /// Reads a library and checks that it fits. To do so, it loads the library and closes it again.
    ///
    /// # Safety
    /// The same as for [`Broker::load_library`](crate::Broker::load_library).
    pub(crate) unsafe fn load(path: &Path) -> Result<Self, LibraryError> {
        let code = Code::read(path)?;
        // SAFETY: the caller vouches for the file.
        let image = unsafe { Image::open(&code) }?;
        // SAFETY: by the contract, the text is valid while the image is loaded.
        let named = unsafe { image.app().name.str() }.filter(|name| !name.is_empty());
        // The name is followed by a version, which is not needed here.
        let named = named.and_then(|name| name.split_whitespace().next());
        let name = named.map_or_else(|| stem(path), str::to_owned);
        Ok(Self { name, version: image.app().version, code })
    }

    /// The app's own name, or else its file's name without `lib` and everything from the first dot on.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Version of the C interface that the library was built for.
    #[must_use]
    pub fn abi_version(&self) -> u32 {
        self.version
    }

    /// The file that the library was read from.
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
