//! A guest's code: read, compiled once, checked, and run as often as wanted.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blockcast_blocks::text;
use wasmtime::component::types::{ComponentItem, Type};
use wasmtime::component::{self, Component};
use wasmtime::{InstancePre, Module, Store, TypedFunc};

use super::engine::GuestEngine;
use super::loading::{Checked, Exceeded, LoadLimit, LoadLimits, Outcome, Refused, check};
use super::state::GuestState;
use super::wasi::WasiNeeds;
use crate::control::wasi_part::WasiPart;
use crate::file::{self, FileError};
use crate::host::wasm::abi::module;
use crate::host::wasm::abi::values::{BLOCKS, SESSION, TOPICS, TYPES};
use crate::host::wasm::cache::{Label, PrecompiledError};
use crate::host::wasm::loading::LoadError;
use crate::hosting::log::{MAX_TEXT, line};

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
            Self::File(path) => line(&path.display().to_string()).into_owned(),
            Self::Bytes { name, .. } => line(name).into_owned(),
        }
    }

    /// The code in the binary format: reads it, and translates what is text, as far as `limits` allow.
    ///
    /// # Errors
    /// [`LoadError`], if it cannot be read, exceeds a limit, or is not wasm.
    pub fn binary(&self, limits: &LoadLimits) -> Result<Vec<u8>, LoadError> {
        let (name, bytes) = (self.name(), self.read(limits.bytes)?);
        let kind = Kind::of(&name, &bytes)?;
        Ok(binary(&name, kind, &bytes, limits)?.into_owned())
    }

    fn read(&self, most: u64) -> Result<Arc<[u8]>, LoadError> {
        match self {
            Self::Bytes { code, .. } if code.len() as u64 > most => {
                Err(LoadError::TooLarge { guest: self.name(), bytes: code.len() as u64, most })
            }
            Self::Bytes { code, .. } => Ok(Arc::clone(code)),
            Self::File(path) => match file::read(path, most) {
                Ok(code) => Ok(code.into()),
                Err(FileError::TooLarge(bytes)) => {
                    Err(LoadError::TooLarge { guest: self.name(), bytes, most })
                }
                Err(FileError::Io(source)) if source.kind() == io::ErrorKind::NotFound => {
                    Err(LoadError::Missing { path: path.clone() })
                }
                Err(FileError::Io(source)) => Err(LoadError::Unreadable { path: path.clone(), source }),
            },
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

/// What the engine says, of which the guest may have written any amount.
pub(crate) fn told(error: &wasmtime::Error) -> String {
    // A line after the first is indented, so that it does not pass for one of the host's.
    text::lines_within(&format!("{error:#}").replace('\n', "\n    "), MAX_TEXT).into_owned()
}

/// A compiled guest. Cloning shares the code.
#[derive(Clone)]
pub struct GuestProgram {
    engine: Arc<GuestEngine>,
    code: Code,
    needs: WasiNeeds,
    name: String,
}

impl GuestProgram {
    /// Reads, checks and compiles a guest. Takes as long as compiling does, on the calling thread (and the engine's pool):
    /// async callers use a blocking task.
    ///
    /// # Errors
    /// [`LoadError`] says what is wrong with the file and what would be right.
    pub fn load(engine: &Arc<GuestEngine>, source: &GuestSource) -> Result<Self, LoadError> {
        let code = Source::read(engine, source)?;
        let compiled = code.compiled(engine)?;
        Self::link(engine, code.name, &compiled)
    }

    /// Compiles a guest into a file, for [`load_precompiled`](Self::load_precompiled). The file is written beside its place and then
    /// renamed; it is sealed with the key of the engine's cache, in which the code is kept too.
    ///
    /// # Errors
    /// [`PrecompiledError`].
    pub fn precompile(
        engine: &Arc<GuestEngine>,
        source: &GuestSource,
        to: &Path,
    ) -> Result<(), PrecompiledError> {
        let cache = engine.cache().ok_or(PrecompiledError::NoKey)?;
        let code = Source::read(engine, source)?;
        let compiled = code.compiled(engine)?;
        // What could not be loaded is not written.
        Self::link(engine, code.name.clone(), &compiled)?;
        let serialized = compiled.serialize().map_err(|error| code.invalid(&error))?;
        cache.write(to, &code.label(engine), &serialized)
    }

    /// Loads what [`precompile`](Self::precompile) has written, without compiling anything.
    ///
    /// # Errors
    /// [`PrecompiledError`] says what is wrong with the file: changed, of another engine, or not a precompiled guest at all.
    pub fn load_precompiled(engine: &Arc<GuestEngine>, path: &Path) -> Result<Self, PrecompiledError> {
        let cache = engine.cache().ok_or(PrecompiledError::NoKey)?;
        cache.read(path, engine.id(), |kind, code| {
            let kind =
                Kind::of_number(kind).ok_or_else(|| PrecompiledError::Format { path: path.to_owned() })?;
            // SAFETY: the seal says that these bytes were written by `precompile` or the cache, with our key.
            let compiled = unsafe { Compiled::deserialize(engine, kind, code) };
            let compiled = compiled.map_err(|_| PrecompiledError::OtherEngine { path: path.to_owned() })?;
            Ok(Self::link(engine, path.display().to_string(), &compiled)?)
        })
    }

    /// Checks compiled code, and links it to the host functions.
    fn link(engine: &Arc<GuestEngine>, name: String, compiled: &Compiled) -> Result<Self, LoadError> {
        let mismatch =
            |error: wasmtime::Error| LoadError::Mismatch { guest: name.clone(), reason: told(&error) };
        let mut needs = WasiNeeds::default();
        let code = match compiled {
            Compiled::Component(component) => {
                needs = check_imports(&name, engine, component)?;
                let entry = EntryName::of(&name, engine, component)?;
                Code::Component(engine.components().instantiate_pre(component).map_err(mismatch)?, entry)
            }
            Compiled::Module(module) => {
                module::check(&name, module)?;
                Code::Module(engine.modules().instantiate_pre(module).map_err(mismatch)?)
            }
        };
        Ok(Self { engine: Arc::clone(engine), code, needs, name })
    }

    /// What messages call it: its file or the name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parts of WASI without which it cannot be started.
    pub fn wasi(&self) -> impl Iterator<Item = WasiPart> {
        self.needs.parts()
    }

    pub(crate) fn needs(&self) -> &WasiNeeds {
        &self.needs
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

/// Compiled code.
enum Compiled {
    Component(Component),
    Module(Module),
}

/// Code that was read, and may be compiled.
struct Source {
    name: String,
    kind: Kind,
    /// As they were read.
    bytes: Arc<[u8]>,
}

impl Source {
    fn read(engine: &GuestEngine, source: &GuestSource) -> Result<Self, LoadError> {
        let (name, bytes) = (source.name(), source.read(engine.loading().limits.bytes)?);
        Ok(Self { kind: Kind::of(&name, &bytes)?, name, bytes })
    }

    /// From the engine's cache, or compiled and then kept there.
    fn compiled(&self, engine: &GuestEngine) -> Result<Compiled, LoadError> {
        let limits = &engine.loading().limits;
        let binary = binary(&self.name, self.kind, &self.bytes, limits)?;
        let Some(cache) = engine.cache() else { return Ok(self.compile(engine, &binary)?.0) };
        // Without the code of functions, which has been checked when it was compiled.
        self.check(&binary, limits, false)?;
        let label = self.label(engine);
        let found = cache.find(&label, |code| {
            // SAFETY: the cache gives out what was kept there, which is what is kept below.
            unsafe { Compiled::deserialize(engine, self.kind, code) }
        });
        if let Some(compiled) = found {
            return Ok(compiled);
        }
        let (compiled, serialized) = self.compile(engine, &binary)?;
        match serialized {
            Some(serialized) => cache.keep(&label, &serialized),
            None => cache.keep(&label, &compiled.serialize().map_err(|error| self.invalid(&error))?),
        }
        Ok(compiled)
    }

    /// Checks and compiles the code; returns what was compiled in its serialised form too, where it was made.
    fn compile(&self, engine: &GuestEngine, binary: &[u8]) -> Result<(Compiled, Option<Vec<u8>>), LoadError> {
        let loading = engine.loading();
        self.check(binary, &loading.limits, true)?;
        let Some(compiler) = &loading.compiler else {
            let compiled = Compiled::compile(engine, self.kind, binary);
            return Ok((compiled.map_err(|error| self.invalid(&error))?, None));
        };
        let failed = |reason| LoadError::Compiler { guest: self.name.clone(), reason };
        match compiler.compile(self.kind as u8, binary).map_err(failed)? {
            Outcome::Compiled(code) => {
                // SAFETY: our own child has serialised it (see `loading::compiler` on what that is worth).
                let compiled = unsafe { Compiled::deserialize(engine, self.kind, &code) };
                Ok((compiled.map_err(|_| failed(compiler.other_engine()))?, Some(code)))
            }
            Outcome::Invalid(reason) => {
                Err(LoadError::Invalid { guest: self.name.clone(), kind: self.kind.name(), reason })
            }
        }
    }

    fn check(&self, binary: &[u8], limits: &LoadLimits, functions: bool) -> Result<(), LoadError> {
        let checked = check(binary, limits, functions).map_err(|refused| match refused {
            Refused::Exceeded(exceeded) => too_complex(&self.name, exceeded),
            Refused::Invalid(error) => self.invalid(&error.into()),
        })?;
        check_memories(&self.name, self.kind, checked)
    }

    fn label(&self, engine: &GuestEngine) -> Label {
        Label::new(self.kind as u8, engine.id(), &self.bytes)
    }

    fn invalid(&self, error: &wasmtime::Error) -> LoadError {
        LoadError::Invalid { guest: self.name.clone(), kind: self.kind.name(), reason: told(error) }
    }
}

fn too_complex(guest: &str, exceeded: Exceeded) -> LoadError {
    let Exceeded { limit, value, most, function } = exceeded;
    LoadError::TooComplex { guest: guest.to_owned(), limit, value, most, function }
}

/// A host function of a component is not told from which memory its caller's addresses are, so only one may have pages.
fn check_memories(guest: &str, kind: Kind, checked: Checked) -> Result<(), LoadError> {
    match checked.memories {
        0 | 1 => Ok(()),
        // Their own check says what is wrong.
        _ if kind == Kind::Module => Ok(()),
        several => Err(LoadError::NoMemory {
            guest: guest.to_owned(),
            reason: format!("it has {several} linear memories with pages, and may have one"),
        }),
    }
}

/// The binary form of code.
fn binary<'a>(
    guest: &str,
    kind: Kind,
    bytes: &'a [u8],
    limits: &LoadLimits,
) -> Result<Cow<'a, [u8]>, LoadError> {
    if bytes.starts_with(b"\0asm") {
        return Ok(Cow::Borrowed(bytes));
    }
    let fits = limits.check(LoadLimit::TextBytes, bytes.len() as u64);
    fits.map_err(|exceeded| too_complex(guest, exceeded))?;
    wat::parse_bytes(bytes).map_err(|error| LoadError::Invalid {
        guest: guest.to_owned(),
        kind: kind.name(),
        reason: text::lines_within(&error.to_string().replace('\n', "\n    "), MAX_TEXT).into_owned(),
    })
}

impl Compiled {
    fn compile(engine: &GuestEngine, kind: Kind, bytes: &[u8]) -> wasmtime::Result<Self> {
        Ok(match kind {
            Kind::Component => Self::Component(Component::new(engine.wasm(), bytes)?),
            Kind::Module => Self::Module(Module::new(engine.wasm(), bytes)?),
        })
    }

    fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
        match self {
            Self::Component(component) => component.serialize(),
            Self::Module(module) => module.serialize(),
        }
    }

    /// # Safety
    /// `code` is what [`serialize`](Self::serialize) has returned, in this or another process.
    unsafe fn deserialize(engine: &GuestEngine, kind: Kind, code: &[u8]) -> wasmtime::Result<Self> {
        Ok(match kind {
            // SAFETY: promised by the caller. The engine checks that it is of its own version and settings.
            Kind::Component => Self::Component(unsafe { Component::deserialize(engine.wasm(), code) }?),
            // SAFETY: as above.
            Kind::Module => Self::Module(unsafe { Module::deserialize(engine.wasm(), code) }?),
        })
    }
}

/// Compiled code, linked to the host functions.
#[derive(Clone)]
pub(crate) enum Code {
    Component(component::InstancePre<GuestState>, EntryName),
    Module(InstancePre<GuestState>),
}

/// How a component is run.
#[derive(Clone, Debug)]
pub(crate) enum EntryName {
    /// By its own `run`.
    Run,
    /// By the `run` of the interface of this name, `wasi:cli/run@...`.
    Command(String),
}

/// The `run` of an instance.
pub(crate) enum Entry {
    Component(component::TypedFunc<(), (u32,)>),
    Command(component::TypedFunc<(), (Result<(), ()>,)>),
    Module(TypedFunc<(), u32>),
}

impl Code {
    /// Makes an instance, which runs its start functions.
    pub(crate) async fn instantiate(&self, store: &mut Store<GuestState>) -> wasmtime::Result<Entry> {
        Ok(match self {
            Self::Component(code, entry) => {
                let instance = code.instantiate_async(&mut *store).await?;
                match entry {
                    EntryName::Run => Entry::Component(instance.get_typed_func(store, "run")?),
                    EntryName::Command(interface) => {
                        let interface = instance.get_export_index(&mut *store, None, interface);
                        let run = instance.get_export_index(&mut *store, interface.as_ref(), "run");
                        let run = run.ok_or_else(|| wasmtime::Error::msg("it has no run"))?;
                        Entry::Command(instance.get_typed_func(store, run)?)
                    }
                }
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
            Self::Command(run) => run.call_async(store, ()).await.map(|(outcome,)| outcome.is_err().into()),
            Self::Module(run) => run.call_async(store, ()).await,
        }
    }
}

/// What a guest's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Component = 1,
    Module = 2,
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

    /// The kind that is numbered like this in files.
    pub(crate) fn of_number(number: u8) -> Option<Self> {
        [Self::Component, Self::Module].into_iter().find(|&kind| kind as u8 == number)
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

/// What a component needs of WASI, if it imports nothing else that is unknown.
fn check_imports(guest: &str, engine: &GuestEngine, component: &Component) -> Result<WasiNeeds, LoadError> {
    let ty = component.component_type();
    let mut needs = WasiNeeds::default();
    let unknown = ty.imports(engine.wasm()).find(|(name, import)| match import.ty {
        ComponentItem::Type(_) | ComponentItem::Resource(_) => false,
        _ => ![TYPES, BLOCKS, TOPICS, SESSION].contains(name) && !needs.add(name),
    });
    match unknown {
        None => Ok(needs),
        Some((import, _)) => {
            Err(LoadError::UnknownImport { guest: guest.to_owned(), import: line(import).into_owned() })
        }
    }
}

impl EntryName {
    /// How `component` wants to be run.
    fn of(guest: &str, engine: &GuestEngine, component: &Component) -> Result<Self, LoadError> {
        let wrong =
            |reason: &str| Err(LoadError::NoRun { guest: guest.to_owned(), reason: reason.to_owned() });
        let ty = component.component_type();
        match ty.get_export(engine.wasm(), "run").map(|export| export.ty) {
            None => match ty.exports(engine.wasm()).find(|(name, _)| name.starts_with("wasi:cli/run@0.2.")) {
                Some((name, _)) if cfg!(feature = "wasi") => Ok(Self::Command(name.to_owned())),
                _ => wrong("it has no export of that name"),
            },
            Some(ComponentItem::ComponentFunc(run)) => {
                let mut results = run.results();
                match (run.params().len(), results.next(), results.next(), run.async_()) {
                    (0, Some(Type::U32), None, false) => Ok(Self::Run),
                    (0, Some(_) | None, _, false) => wrong("its result is another one"),
                    (0, _, _, true) => wrong("it is an async function"),
                    _ => wrong("it takes parameters"),
                }
            }
            Some(_) => wrong("the export of that name is not a function"),
        }
    }
}
