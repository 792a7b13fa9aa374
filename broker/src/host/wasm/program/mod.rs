//! A guest's code: read, checked, compiled once, and run as often as wanted.

mod code;
mod entry;
mod exports;
mod source;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use code::{Code, Compiled};
use entry::Linked;
pub use source::GuestSource;

use super::cache::PrecompiledError;
use super::engine::GuestEngine;
use super::loading::{Kind, LoadError};
use super::trap::engine_text;
use super::wasi::WasiNeeds;
use crate::control::wasi_part::WasiPart;

/// A compiled guest. Cloning shares the code.
#[derive(Clone)]
pub struct GuestProgram {
    engine: Arc<GuestEngine>,
    code: Linked,
    needs: WasiNeeds,
    name: String,
}

impl GuestProgram {
    /// Reads, checks and compiles a guest. Takes as long as compiling, on the calling thread (and the
    /// engine's pool), so async callers use a blocking task.
    ///
    /// # Errors
    /// [`LoadError`] says what is wrong with the file and what would be right.
    pub fn load(engine: &Arc<GuestEngine>, source: &GuestSource) -> Result<Self, LoadError> {
        let code = Code::read(engine, source)?;
        let compiled = code.compiled(engine)?;
        Self::link(engine, code.name, &compiled)
    }

    /// Compiles a guest into a file, for [`load_precompiled`](Self::load_precompiled). The file is written
    /// beside its place and then renamed. It is sealed with the key of the engine's cache, and the code is
    /// stored there too.
    ///
    /// # Errors
    /// [`PrecompiledError`].
    pub fn precompile(
        engine: &Arc<GuestEngine>,
        source: &GuestSource,
        to: &Path,
    ) -> Result<(), PrecompiledError> {
        let cache = engine.cache().ok_or(PrecompiledError::NoKey)?;
        let code = Code::read(engine, source)?;
        let compiled = code.compiled(engine)?;
        // Do not write code that could not be loaded.
        Self::link(engine, code.name.clone(), &compiled)?;
        let serialized = compiled.serialize().map_err(|error| code.invalid(&error))?;
        cache.write(to, &code.label(engine), &serialized)
    }

    /// Loads a file that [`precompile`](Self::precompile) has written, without compiling anything.
    ///
    /// # Errors
    /// [`PrecompiledError`] says what is wrong with the file: it was changed, is for another engine, or is
    /// not a precompiled guest.
    pub fn load_precompiled(engine: &Arc<GuestEngine>, path: &Path) -> Result<Self, PrecompiledError> {
        let cache = engine.cache().ok_or(PrecompiledError::NoKey)?;
        cache.read(path, engine.id(), |kind, code| {
            let kind =
                Kind::of_number(kind).ok_or_else(|| PrecompiledError::Format { path: path.to_owned() })?;
            // SAFETY: the seal proves that `precompile` or the cache wrote these bytes with our key.
            let compiled = unsafe { Compiled::deserialize(engine, kind, code) };
            let compiled = compiled.map_err(|_| PrecompiledError::OtherEngine { path: path.to_owned() })?;
            Ok(Self::link(engine, path.display().to_string(), &compiled)?)
        })
    }

    /// Checks compiled code, and links it to the host functions.
    fn link(engine: &Arc<GuestEngine>, name: String, compiled: &Compiled) -> Result<Self, LoadError> {
        let mismatch =
            |error: wasmtime::Error| LoadError::Mismatch { guest: name.clone(), reason: engine_text(&error) };
        let mut needs = WasiNeeds::default();
        let code = match compiled {
            Compiled::Component(component) => {
                needs = exports::check_imports(&name, engine.wasm(), component)?;
                let entry = exports::entry_of(&name, engine.wasm(), component)?;
                Linked::Component(engine.components().instantiate_pre(component).map_err(mismatch)?, entry)
            }
            Compiled::Module(module) => {
                exports::check_module(&name, module)?;
                Linked::Module(engine.modules().instantiate_pre(module).map_err(mismatch)?)
            }
        };
        Ok(Self { engine: Arc::clone(engine), code, needs, name })
    }

    /// Its name in messages: its file, or the name that it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parts of WASI that must be granted to start it.
    pub fn wasi(&self) -> impl Iterator<Item = WasiPart> {
        self.needs.parts()
    }

    pub(crate) fn needs(&self) -> &WasiNeeds {
        &self.needs
    }

    pub(crate) fn engine(&self) -> &Arc<GuestEngine> {
        &self.engine
    }

    pub(crate) fn code(&self) -> &Linked {
        &self.code
    }
}

impl fmt::Debug for GuestProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestProgram").field("name", &self.name).finish_non_exhaustive()
    }
}
