//! The apps as native libraries: found, or built when they are wanted.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

#[path = "../guests/library.rs"]
mod built;

/// The folder that holds them already, where this is set.
const FOLDER: &str = "BLOCKCAST_LIBRARIES";

/// The library of `package`: in the folder that `BLOCKCAST_LIBRARIES` names, or built from its source by Cargo.
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
