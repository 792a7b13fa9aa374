//! The apps as native libraries, found or built on demand.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

#[path = "../guests/library.rs"]
mod built;

/// If set, names the folder with the built libraries.
const FOLDER: &str = "BLOCKCAST_LIBRARIES";

/// Path of the library of `package`: in the folder that `BLOCKCAST_LIBRARIES` names, or built from source by
/// Cargo.
pub fn file(package: &str) -> Result<PathBuf, String> {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return Ok(PathBuf::from(folder).join(format!("lib{}.so", package.replace('-', "_"))));
    }
    if io::stderr().is_terminal() {
        eprintln!("building {package} as a library");
    }
    built::build(package).map_err(|why| {
        let why = why.trim_end();
        format!(
            "{package} cannot be built as a library: {why}\n{FOLDER}=FOLDER takes libraries that are built already"
        )
    })
}
