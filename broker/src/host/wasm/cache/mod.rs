//! Compiled guests on disk, so that a guest is not compiled again at each start.
//!
//! Loading compiled code means running native code: the author of its bytes owns the process. So a file is
//! used only if it carries a seal (a keyed BLAKE3 hash), made with a key that lies beside it and that only
//! the owner of the folder can read.
//!
//! The cache refuses a file that differs in a single byte from what was written, whether by an attacker or by
//! a failing disk; a file in another file's place; code of another engine (version, settings, processor); a
//! file sealed with another key; a folder or file that others own or can write; a folder or file that is a
//! symbolic link; and a key that others can read. It checks the copy in memory that is then used, not the
//! file on disk.
//!
//! It does not protect against someone who can read the key or has the rights of the user: they could replace
//! the broker as well.
//!
//! Files are written beside their place and then renamed. So any number of processes can share a folder, even
//! if one of them is killed. When the files together exceed a limit, the least recently used ones are
//! removed. Only files that are ours by name, kind and owner are ever removed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use blockcast_blocks::shield::event;

mod folder;
mod seal;

use folder::{Folder, Naming};
use seal::{Broken, Key};
pub(crate) use seal::{EngineId, Label};

use crate::hosting::log::line;

/// Name of the file with the key.
const KEY_FILE: &str = "key";

/// The names of files with compiled code: see [`Label::file_name`].
const COMPILED: Naming = Naming { prefix: "", digits: 64, suffix: ".guest" };

/// The default limit on the bytes of all files together.
const LIMIT: u64 = 1 << 30;

/// A folder of compiled guests, for [`GuestEngine::with_cache`](crate::GuestEngine::with_cache).
///
/// A guest that is found costs reading and checking (about a gigabyte per second) and mapping. One that is
/// not found is compiled and also written.
pub struct GuestCache {
    folder: Folder,
    path: PathBuf,
    key: Key,
    limit: u64,
    hits: AtomicU64,
    misses: AtomicU64,
    refused: AtomicU64,
}

/// Counters of a [`GuestCache`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Guests that were found in the cache.
    pub hits: u64,
    /// Guests that were compiled because the cache did not have them.
    pub misses: u64,
    /// Guests that were compiled because the cached file was refused; the log says why.
    pub refused: u64,
}

/// A folder cannot serve as a cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The folder cannot be created or opened, or others could change its content.
    #[error("the folder {path} cannot hold compiled guests: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The key cannot be created or read, or others can read it. Removing the folder creates a new one.
    #[error("the key in {path} cannot be used: {source}")]
    Key {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// A precompiled guest was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrecompiledError {
    /// The engine has no cache, and so no key to seal files with.
    #[error("the engine has no cache, which holds the key for precompiled guests: configure a cache first")]
    NoKey,
    /// The file cannot be read or written.
    #[error("the precompiled guest at {path} cannot be read or written: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is not a precompiled guest, or was made by another version of Blockcast.
    #[error("{path} is not a precompiled guest")]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The file was changed after it was written, or sealed with another key.
    #[error("{path} was not written with this key, or was changed since; compile it again")]
    Tampered {
        /// The file.
        path: PathBuf,
    },
    /// The code was compiled by another version, with other settings or for another processor.
    #[error("{path} was compiled for another engine; compile it again")]
    OtherEngine {
        /// The file.
        path: PathBuf,
    },
    /// The guest itself is refused.
    #[error(transparent)]
    Load(#[from] crate::host::wasm::loading::LoadError),
}

impl GuestCache {
    /// Opens a folder of compiled guests. Creates the folder and its key if they do not exist.
    ///
    /// # Errors
    /// [`CacheError`], including if others can write to the folder or read the key.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, CacheError> {
        let path = path.into();
        let folder =
            Folder::open(&path).map_err(|source| CacheError::Folder { path: path.clone(), source })?;
        let key = read_key(&folder).map_err(|source| CacheError::Key { path: path.clone(), source })?;
        Ok(Self {
            folder,
            path,
            key,
            limit: LIMIT,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Limits the bytes of all files together. Default: 1 GiB. The newest file always stays.
    #[must_use]
    pub fn limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats { hits: count(&self.hits), misses: count(&self.misses), refused: count(&self.refused) }
    }

    /// Applies `load` to the cached code with this label. Returns `None` if there is no usable file.
    pub(crate) fn find<T>(
        &self,
        label: &Label,
        load: impl FnOnce(&[u8]) -> wasmtime::Result<T>,
    ) -> Option<T> {
        let name = label.file_name();
        let found = self.folder.read(&name, false).map_err(|error| (error.kind(), error.to_string()));
        let loaded = found.and_then(|file| {
            let damaged = |reason: &str| (io::ErrorKind::InvalidData, reason.to_owned());
            match seal::open(&self.key, &file) {
                Ok((sealed, code)) if sealed == *label => {
                    load(code).map_err(|error| damaged(&format!("{error:#}")))
                }
                Ok(_) => Err(damaged("it holds another guest")),
                Err(Broken::Format) => Err(damaged("it is not a compiled guest")),
                Err(Broken::Seal) => Err(damaged("it was changed")),
            }
        });
        match loaded {
            Ok(code) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                // This only decides which files are removed first.
                let _ = self.folder.touch(&name);
                Some(code)
            }
            Err((io::ErrorKind::NotFound, _)) => {
                self.misses.fetch_add(1, Ordering::Relaxed);
                None
            }
            Err((_, reason)) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let reason = &*line(&reason);
                event(
                    || tracing::warn!(folder = %shown(&self.path), file = name, reason, "a compiled guest is not used"),
                );
                // A file in its place is replaced later; a folder stays.
                let _ = self.folder.remove(&name);
                None
            }
        }
    }

    /// Stores compiled code. A failure does not prevent running it, so it is only logged.
    pub(crate) fn keep(&self, label: &Label, code: &[u8]) {
        let name = label.file_name();
        let kept = self.folder.replace(&name, &seal::seal(&self.key, label, code));
        if let Err(error) = kept.and_then(|()| self.prune(&name)) {
            event(|| tracing::warn!(folder = %shown(&self.path), %error, "a compiled guest is not kept"));
        }
    }

    /// Removes the least recently used files except for `newest`, until the limit holds.
    fn prune(&self, newest: &str) -> io::Result<()> {
        let mut entries = self.folder.entries(&COMPILED)?;
        let mut total: u64 = entries.iter().map(|entry| entry.len).sum();
        entries.retain(|entry| entry.name != newest);
        entries.sort_by_key(|entry| entry.used);
        for entry in entries {
            if total <= self.limit {
                break;
            }
            // Another process may have removed it already.
            let _ = self.folder.remove(&entry.name);
            total -= entry.len;
        }
        Ok(())
    }

    /// Writes compiled code to a file outside of the cache.
    pub(crate) fn write(&self, path: &Path, label: &Label, code: &[u8]) -> Result<(), PrecompiledError> {
        let failed = |source: io::Error| PrecompiledError::File { path: path.to_owned(), source };
        let (folder, name) = place(path).map_err(failed)?;
        folder.replace(name, &seal::seal(&self.key, label, code)).map_err(failed)
    }

    /// Applies `load` to the kind and code of a file outside of the cache.
    pub(crate) fn read<T>(
        &self,
        path: &Path,
        engine: EngineId,
        load: impl FnOnce(u8, &[u8]) -> Result<T, PrecompiledError>,
    ) -> Result<T, PrecompiledError> {
        let failed = |source: io::Error| PrecompiledError::File { path: path.to_owned(), source };
        let (folder, name) = place(path).map_err(failed)?;
        let file = folder.read(name, false).map_err(failed)?;
        match seal::open(&self.key, &file) {
            Ok((label, code)) if label.engine == engine => load(label.kind, code),
            Ok(_) => Err(PrecompiledError::OtherEngine { path: path.to_owned() }),
            Err(Broken::Format) => Err(PrecompiledError::Format { path: path.to_owned() }),
            Err(Broken::Seal) => Err(PrecompiledError::Tampered { path: path.to_owned() }),
        }
    }
}

impl fmt::Debug for GuestCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestCache")
            .field("path", &self.path)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// A path for the log.
fn shown(path: &Path) -> String {
    line(&path.display().to_string()).into_owned()
}

/// The folder and name of a file.
fn place(path: &Path) -> io::Result<(Folder, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no name in UTF-8"))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((Folder::at(parent)?, name))
}

/// Reads the key of a folder, which is created if it does not exist.
fn read_key(folder: &Folder) -> io::Result<Key> {
    let key = match folder.read(KEY_FILE, true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            folder.create(KEY_FILE, &folder::random::<32>()?)?;
            folder.read(KEY_FILE, true)
        }
        key => key,
    }?;
    Key::try_from(key).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it does not have 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::{Config, Engine, OptLevel};

    #[test]
    fn hostile_code_of_another_engine_is_refused_before_it_is_used() {
        let path = std::env::temp_dir().join(format!("blockcast-other-engine-{}", std::process::id()));
        let cache = GuestCache::open(&path).expect("a cache");
        let id =
            |level| EngineId::of(&Engine::new(Config::new().cranelift_opt_level(level)).expect("an engine"));
        let (one, other) = (id(OptLevel::Speed), id(OptLevel::None));
        assert_ne!(one, other);
        assert_eq!(one, id(OptLevel::Speed), "the same settings make the same engine");

        let label = Label::new(1, one, b"source");
        let file = path.join("file");
        cache.write(&file, &label, b"code").expect("written");
        let read = |engine| cache.read(&file, engine, |kind, code| Ok((kind, code.to_vec())));
        assert_eq!(read(one).expect("accepted"), (1, b"code".to_vec()));
        assert!(matches!(read(other), Err(PrecompiledError::OtherEngine { .. })));
        std::fs::remove_dir_all(&path).expect("removed");
    }
}
