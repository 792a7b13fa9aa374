//! [`Source`]: the text of a manifest.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Manifest;
use crate::Refused;

/// Maximum size of a manifest in bytes.
const MAX_MANIFEST: u64 = 16 << 20;

/// The text of a manifest, from which errors quote the line.
pub struct Source {
    pub path: PathBuf,
    text: String,
}

impl Source {
    /// Reads and parses a manifest.
    pub fn read(path: &Path) -> Result<(Self, Manifest), Refused> {
        let failed = |error| format!("{}: {error}", path.display());
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_MANIFEST + 1).read_to_string(&mut text))
            .map_err(failed)?;
        if text.len() as u64 > MAX_MANIFEST {
            return Err(format!("{}: a manifest has at most {MAX_MANIFEST} bytes", path.display()));
        }
        let source = Self { path: path.to_owned(), text };
        let manifest = toml::from_str(&source.text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            source.error(start, error.message())
        })?;
        Ok((source, manifest))
    }

    /// Describes an error at a position in the manifest, and quotes the line.
    pub fn error(&self, at: usize, message: &str) -> Refused {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        let shown = self.text.lines().nth(line - 1).unwrap_or_default();
        let path = self.path.display();
        format!("{path}:{line}:{column}: {}\n    {shown}", message.trim_end().replace('\n', " "))
    }

    /// Resolves a path relative to the manifest.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }
}
