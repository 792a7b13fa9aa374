//! The engine that all guests of a broker share: compiled code, host functions, and the clock that interrupts
//! guests.

use std::fmt;
use std::sync::Arc;

use wasmtime::{Engine, Linker, component};

use super::cache::{EngineId, GuestCache};
use super::config::config;
use super::functions;
use super::load_options::LoadOptions;
use super::signals;
use super::state::GuestState;
use super::ticker::{Pulse, Ticker};

/// Compiles and runs guests. One per broker; cheap to share behind an [`Arc`].
pub struct GuestEngine {
    engine: Engine,
    components: component::Linker<GuestState>,
    modules: Linker<GuestState>,
    ticker: Ticker,
    id: EngineId,
    loading: LoadOptions,
}

impl GuestEngine {
    /// An engine without guests that compiles each guest when it is loaded.
    ///
    /// # Errors
    /// The text names what this machine lacks: signal handlers could not be installed, or the processor is
    /// not supported.
    pub fn new() -> Result<Arc<Self>, EngineError> {
        Self::with_options(LoadOptions::new())
    }

    /// An engine without guests that compiles each guest once and then loads it from `cache`.
    ///
    /// # Errors
    /// Like [`new`](Self::new).
    pub fn with_cache(cache: GuestCache) -> Result<Arc<Self>, EngineError> {
        Self::with_options(LoadOptions::new().cache(cache))
    }

    /// An engine without guests that loads guests according to `loading`.
    ///
    /// # Errors
    /// Like [`new`](Self::new).
    pub fn with_options(loading: LoadOptions) -> Result<Arc<Self>, EngineError> {
        let engine = Engine::new(&config()).map_err(|error| EngineError(format!("{error:#}")))?;
        signals::remember();
        let mut components = component::Linker::new(&engine);
        let mut modules = Linker::new(&engine);
        define(&engine, &mut components, &mut modules).map_err(|error| EngineError(format!("{error:#}")))?;
        let ticked = engine.clone();
        let ticker = Ticker::start(move || ticked.increment_epoch())
            .map_err(|error| EngineError(error.to_string()))?;
        let id = EngineId::of(&engine);
        Ok(Arc::new(Self { engine, components, modules, ticker, id, loading }))
    }

    /// The cache of compiled guests, if there is one.
    #[must_use]
    pub fn cache(&self) -> Option<&GuestCache> {
        self.loading.cache.as_ref()
    }

    /// How guests are loaded.
    pub(crate) fn loading(&self) -> &LoadOptions {
        &self.loading
    }

    /// The mark of this engine's compiled code.
    pub(crate) fn id(&self) -> EngineId {
        self.id
    }

    pub(crate) fn wasm(&self) -> &Engine {
        &self.engine
    }

    /// The host functions for components.
    pub(crate) fn components(&self) -> &component::Linker<GuestState> {
        &self.components
    }

    /// The host functions for core modules.
    pub(crate) fn modules(&self) -> &Linker<GuestState> {
        &self.modules
    }

    /// The view of the clock for a guest of this engine.
    pub(crate) fn pulse(&self) -> Pulse {
        self.ticker.pulse()
    }

    /// Keeps the clock ticking while the returned value lives.
    pub(crate) fn running(self: &Arc<Self>) -> Running {
        self.ticker.begin();
        Running(Arc::clone(self))
    }
}

impl fmt::Debug for GuestEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestEngine").finish_non_exhaustive()
    }
}

/// The engine could not be created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("guests cannot run here: {0}")]
pub struct EngineError(String);

fn define(
    engine: &Engine,
    components: &mut component::Linker<GuestState>,
    modules: &mut Linker<GuestState>,
) -> wasmtime::Result<()> {
    #[cfg(feature = "wasi")]
    super::wasi::add_to_linker(components)?;
    functions::define_for_components(components)?;
    functions::define_for_modules(engine, modules)
}

/// A guest that may be computing.
pub(crate) struct Running(Arc<GuestEngine>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.ticker.end();
    }
}
