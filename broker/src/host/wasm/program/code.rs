//! A guest's code on its way from bytes to machine code: [`Code`], then [`Compiled`].

use std::sync::Arc;

use wasmtime::Module;
use wasmtime::component::Component;

use super::source::{GuestSource, binary, kind_of, too_complex};
use crate::host::wasm::cache::Label;
use crate::host::wasm::engine::GuestEngine;
use crate::host::wasm::loading::{Checked, Kind, LoadError, LoadLimits, Outcome, Refused, check};
use crate::host::wasm::trap::engine_text;

/// Code that was read and may be compiled.
pub(super) struct Code {
    pub(super) name: String,
    kind: Kind,
    /// The bytes as they were read.
    bytes: Arc<[u8]>,
}

impl Code {
    pub(super) fn read(engine: &GuestEngine, source: &GuestSource) -> Result<Self, LoadError> {
        let (name, bytes) = (source.name(), source.read(engine.loading().limits.bytes)?);
        Ok(Self { kind: kind_of(&name, &bytes)?, name, bytes })
    }

    /// Loads the compiled code from the engine's cache, or compiles it and stores it there.
    pub(super) fn compiled(&self, engine: &GuestEngine) -> Result<Compiled, LoadError> {
        let limits = &engine.loading().limits;
        let binary = binary(&self.name, self.kind, &self.bytes, limits)?;
        let Some(cache) = engine.cache() else { return Ok(self.compile(engine, &binary)?.0) };
        // Without the code of functions, which was checked when it was compiled.
        self.check(&binary, limits, false)?;
        let label = self.label(engine);
        let found = cache.find(&label, |code| {
            // SAFETY: the cache returns only code that was stored in it, which happens below.
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

    /// Checks and compiles the code. Also returns its serialised form, if there is one.
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
                // SAFETY: our own child serialised it (see `loading::compiler` about what that means).
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

    pub(super) fn label(&self, engine: &GuestEngine) -> Label {
        Label::new(self.kind as u8, engine.id(), &self.bytes)
    }

    pub(super) fn invalid(&self, error: &wasmtime::Error) -> LoadError {
        LoadError::Invalid { guest: self.name.clone(), kind: self.kind.name(), reason: engine_text(error) }
    }
}

/// A host function does not learn which memory a component's addresses refer to, so only one memory may have
/// pages.
fn check_memories(guest: &str, kind: Kind, checked: Checked) -> Result<(), LoadError> {
    match checked.memories {
        0 | 1 => Ok(()),
        // Checking a module's exports reports the problem.
        _ if kind == Kind::Module => Ok(()),
        several => Err(LoadError::NoMemory {
            guest: guest.to_owned(),
            reason: format!("it has {several} linear memories with pages, and may have one"),
        }),
    }
}

/// Compiled code.
pub(super) enum Compiled {
    Component(Component),
    Module(Module),
}

impl Compiled {
    fn compile(engine: &GuestEngine, kind: Kind, bytes: &[u8]) -> wasmtime::Result<Self> {
        Ok(match kind {
            Kind::Component => Self::Component(Component::new(engine.wasm(), bytes)?),
            Kind::Module => Self::Module(Module::new(engine.wasm(), bytes)?),
        })
    }

    pub(super) fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
        match self {
            Self::Component(component) => component.serialize(),
            Self::Module(module) => module.serialize(),
        }
    }

    /// # Safety
    /// [`serialize`](Self::serialize) returned `code`, in this or another process.
    pub(super) unsafe fn deserialize(
        engine: &GuestEngine,
        kind: Kind,
        code: &[u8],
    ) -> wasmtime::Result<Self> {
        Ok(match kind {
            // SAFETY: promised by the caller. The engine checks that the code matches its own version and
            // settings.
            Kind::Component => Self::Component(unsafe { Component::deserialize(engine.wasm(), code) }?),
            // SAFETY: as above.
            Kind::Module => Self::Module(unsafe { Module::deserialize(engine.wasm(), code) }?),
        })
    }
}
