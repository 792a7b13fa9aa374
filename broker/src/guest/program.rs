//! A guest's code: read, checked, compiled once, and run as often as wanted.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::component::types::{ComponentItem, Type};
use wasmtime::component::{Component, InstancePre};

use super::abi::{SESSION, TOPICS, TYPES};
use super::engine::GuestEngine;
use super::exit::LoadError;
use super::state::GuestState;

/// Largest component that is accepted, in bytes. Compiling cannot be interrupted, so its input is bounded.
const MAX_CODE: u64 = 64 << 20;

/// Where a guest's code comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum GuestSource {
    /// A file that holds a component, binary or in the text format.
    File(PathBuf),
    /// A component in memory, binary or in the text format, and a name for messages.
    Bytes {
        /// What error messages call it.
        name: String,
        /// The component.
        code: Arc<[u8]>,
    },
}

impl GuestSource {
    /// A component in memory.
    pub fn bytes(name: impl Into<String>, code: impl Into<Arc<[u8]>>) -> Self {
        Self::Bytes { name: name.into(), code: code.into() }
    }

    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Bytes { name, .. } => name.clone(),
        }
    }

    fn read(&self) -> Result<Arc<[u8]>, LoadError> {
        match self {
            Self::Bytes { code, .. } => Ok(Arc::clone(code)),
            Self::File(path) => read(path).map(Into::into).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => LoadError::Missing { path: path.clone() },
                _ => LoadError::Unreadable { path: path.clone(), source },
            }),
        }
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

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    if metadata.len() > MAX_CODE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {} bytes", metadata.len())));
    }
    std::fs::read(path)
}

/// A compiled guest. Cloning shares the code.
#[derive(Clone)]
pub struct GuestProgram {
    engine: Arc<GuestEngine>,
    code: InstancePre<GuestState>,
    name: String,
}

impl GuestProgram {
    /// Reads, checks and compiles a guest. Takes as long as compiling does, on the calling thread (and the engine's pool):
    /// async callers use a blocking task.
    ///
    /// # Errors
    /// [`LoadError`] says what is wrong with the file and what would be right.
    pub fn load(engine: &Arc<GuestEngine>, source: &GuestSource) -> Result<Self, LoadError> {
        let name = source.name();
        let bytes = source.read()?;
        check_kind(&name, &bytes)?;
        let component = Component::new(engine.wasm(), &bytes)
            .map_err(|error| LoadError::Invalid { guest: name.clone(), reason: format!("{error:#}") })?;
        check_imports(&name, engine, &component)?;
        check_run(&name, engine, &component)?;
        let code = engine
            .linker()
            .instantiate_pre(&component)
            .map_err(|error| LoadError::Mismatch { guest: name.clone(), reason: format!("{error:#}") })?;
        Ok(Self { engine: Arc::clone(engine), code, name })
    }

    /// What messages call it: its file or the name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn engine(&self) -> &Arc<GuestEngine> {
        &self.engine
    }

    pub(crate) fn code(&self) -> &InstancePre<GuestState> {
        &self.code
    }
}

impl fmt::Debug for GuestProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestProgram").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Tells a component from a core module and from everything else by the first bytes.
fn check_kind(guest: &str, bytes: &[u8]) -> Result<(), LoadError> {
    let guest = || guest.to_owned();
    match bytes {
        [b'\0', b'a', b's', b'm', _, _, 0, 0, ..] => Err(LoadError::CoreModule { guest: guest() }),
        [b'\0', b'a', b's', b'm', ..] => Ok(()),
        text => match first_word(text) {
            Some("component") => Ok(()),
            Some("module") => Err(LoadError::CoreModule { guest: guest() }),
            _ => Err(LoadError::NotWasm { guest: guest() }),
        },
    }
}

/// The word behind the first parenthesis of a text format file.
fn first_word(text: &[u8]) -> Option<&str> {
    let mut lines = std::str::from_utf8(text).ok()?.lines().map(str::trim_start);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with(";;"))?;
    line.strip_prefix('(')?.trim_start().split(|c: char| !c.is_ascii_alphanumeric()).next()
}

fn check_imports(guest: &str, engine: &GuestEngine, component: &Component) -> Result<(), LoadError> {
    let ty = component.component_type();
    let unknown = ty.imports(engine.wasm()).find(|(name, import)| match import.ty {
        ComponentItem::Type(_) | ComponentItem::Resource(_) => false,
        _ => ![TYPES, TOPICS, SESSION].contains(name),
    });
    match unknown {
        None => Ok(()),
        Some((import, _)) => {
            Err(LoadError::UnknownImport { guest: guest.to_owned(), import: import.to_owned() })
        }
    }
}

fn check_run(guest: &str, engine: &GuestEngine, component: &Component) -> Result<(), LoadError> {
    let wrong = |reason: &str| Err(LoadError::NoRun { guest: guest.to_owned(), reason: reason.to_owned() });
    match component.component_type().get_export(engine.wasm(), "run").map(|export| export.ty) {
        None => wrong("it has no export of that name"),
        Some(ComponentItem::ComponentFunc(run)) => {
            let mut results = run.results();
            match (run.params().len(), results.next(), results.next(), run.async_()) {
                (0, Some(Type::U32), None, false) => Ok(()),
                (0, Some(_) | None, _, false) => wrong("its result is another one"),
                (0, _, _, true) => wrong("it is an async function"),
                _ => wrong("it takes parameters"),
            }
        }
        Some(_) => wrong("the export of that name is not a function"),
    }
}
