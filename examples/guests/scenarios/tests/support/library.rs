//! The scenarios as a native library.

use blockcast::{Broker, LibraryProgram};

#[path = "../../../library.rs"]
mod built;

/// Builds and loads the library.
pub fn load() -> LibraryProgram {
    let file =
        built::build("guest-scenarios").unwrap_or_else(|why| panic!("the library does not build: {why}"));
    // SAFETY: just built from this crate's source, which is safe Rust with `blockcast::export!`.
    unsafe { Broker::new().load_library(file) }.expect("the library loads")
}
