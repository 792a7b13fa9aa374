//! The result as pictures.

use std::path::Path;

use crate::record::Record;

/// Draws.
///
/// # Errors
/// A file could not be written.
pub fn draw(_folder: &Path, _records: &[Record]) -> anyhow::Result<()> {
    Ok(())
}
