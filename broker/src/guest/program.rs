//! A guest's code: read, compiled once, checked, and run as often as wanted.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmtime::component::types::{ComponentItem, Type};
use wasmtime::component::{self, Component};
use wasmtime::{InstancePre, Module, Store, TypedFunc};

use super::abi::{BLOCKS, SESSION, TOPICS, TYPES};
use super::engine::GuestEngine;
use super::exit::LoadError;
use super::module;
use super::state::GuestState;

/// Largest guest that is accepted, in bytes. Compiling cannot be interrupted, so its input is bounded.
const MAX_CODE: u64 = 64 << 20;

/// Where a guest's code comes from.
#[derive(Clone)]
#[non_exhaustive]
pub enum GuestSource {
    /// A file that holds a component or a core module, binary or in the text format.
    File(PathBuf),
    /// A component or a core module in memory, binary or in the text format, and a name for messages.
    Bytes {
        /// What error messages call it.
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
    code: Code,
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
        let kind = Kind::of(&name, &bytes)?;
        let invalid = |error: wasmtime::Error| LoadError::Invalid {
            guest: name.clone(),
            kind: kind.name(),
            reason: format!("{error:#}"),
        };
        let mismatch = |error: wasmtime::Error| LoadError::Mismatch {
            guest: name.clone(),
            reason: format!("{error:#}"),
        };
        let code = match kind {
            Kind::Component => {
                let component = Component::new(engine.wasm(), &bytes).map_err(invalid)?;
                check_imports(&name, engine, &component)?;
                check_run(&name, engine, &component)?;
                Code::Component(engine.components().instantiate_pre(&component).map_err(mismatch)?)
            }
            Kind::Module => {
                let module = Module::new(engine.wasm(), &bytes).map_err(invalid)?;
                module::check(&name, &module)?;
                Code::Module(engine.modules().instantiate_pre(&module).map_err(mismatch)?)
            }
        };
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

    pub(crate) fn code(&self) -> &Code {
        &self.code
    }
}

impl fmt::Debug for GuestProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestProgram").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Compiled code, linked to the host functions.
#[derive(Clone)]
pub(crate) enum Code {
    Component(component::InstancePre<GuestState>),
    Module(InstancePre<GuestState>),
}

/// The `run` of an instance.
pub(crate) enum Entry {
    Component(component::TypedFunc<(), (u32,)>),
    Module(TypedFunc<(), u32>),
}

impl Code {
    /// Makes an instance, which runs its start functions.
    pub(crate) async fn instantiate(&self, store: &mut Store<GuestState>) -> wasmtime::Result<Entry> {
        Ok(match self {
            Self::Component(code) => {
                let instance = code.instantiate_async(&mut *store).await?;
                Entry::Component(instance.get_typed_func(store, "run")?)
            }
            Self::Module(code) => {
                let instance = code.instantiate_async(&mut *store).await?;
                Entry::Module(instance.get_typed_func(store, "run")?)
            }
        })
    }
}

impl Entry {
    /// Runs the guest to its end. Returns 0 if it succeeded.
    pub(crate) async fn call(&self, store: &mut Store<GuestState>) -> wasmtime::Result<u32> {
        match self {
            Self::Component(run) => run.call_async(store, ()).await.map(|(code,)| code),
            Self::Module(run) => run.call_async(store, ()).await,
        }
    }
}

/// What a guest's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Component,
    Module,
}

impl Kind {
    /// Tells a component from a core module and from everything else by the first bytes.
    fn of(guest: &str, bytes: &[u8]) -> Result<Self, LoadError> {
        match bytes {
            [b'\0', b'a', b's', b'm', _, _, 0, 0, ..] => Ok(Self::Module),
            [b'\0', b'a', b's', b'm', ..] => Ok(Self::Component),
            text => match first_word(text) {
                Some("component") => Ok(Self::Component),
                Some("module") => Ok(Self::Module),
                _ => Err(LoadError::NotWasm { guest: guest.to_owned() }),
            },
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Module => "module",
        }
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
        _ => ![TYPES, BLOCKS, TOPICS, SESSION].contains(name),
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
