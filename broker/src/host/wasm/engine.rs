//! The engine that all guests of a broker share: compiled code, host functions, and the clock that interrupts.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use blockcast_blocks::Process;
use wasmtime::{Config, Engine, Linker, component};

use super::loading::LoadOptions;
use super::signals;
use super::state::GuestState;
use crate::host::wasm::abi::link::ComponentLinkage;
use crate::host::wasm::abi::module::ModuleLinkage;
use crate::host::wasm::cache::{EngineId, GuestCache};
use crate::host::wasm::memory::linear::GuestMemoryCreator;

/// How often a computing guest is interrupted: to let other tasks run, and to look at its limits.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// Bytes that the strings and lists of a single host call may have in all.
const CALL_BYTES: usize = 1 << 20;

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
    /// An engine without guests, which compiles each of them when it is loaded.
    ///
    /// # Errors
    /// The text says what this machine lacks (signal handlers that could not be installed, an unsupported
    /// processor).
    pub fn new() -> Result<Arc<Self>, EngineError> {
        Self::with_options(LoadOptions::new())
    }

    /// An engine without guests, which compiles a guest once and then takes it from `cache`.
    ///
    /// # Errors
    /// Like [`new`](Self::new).
    pub fn with_cache(cache: GuestCache) -> Result<Arc<Self>, EngineError> {
        Self::with_options(LoadOptions::new().cache(cache))
    }

    /// An engine without guests, which loads them as `loading` says.
    ///
    /// # Errors
    /// Like [`new`](Self::new).
    pub fn with_options(loading: LoadOptions) -> Result<Arc<Self>, EngineError> {
        let engine = Engine::new(&config()).map_err(|error| EngineError(format!("{error:#}")))?;
        signals::remember();
        let mut components = component::Linker::new(&engine);
        let mut modules = Linker::new(&engine);
        define(&engine, &mut components, &mut modules).map_err(|error| EngineError(format!("{error:#}")))?;
        let ticker = Ticker::start(engine.clone()).map_err(|error| EngineError(error.to_string()))?;
        let id = EngineId::of(&engine);
        Ok(Arc::new(Self { engine, components, modules, ticker, id, loading }))
    }

    /// Where compiled guests are kept, if anywhere.
    #[must_use]
    pub fn cache(&self) -> Option<&GuestCache> {
        self.loading.cache.as_ref()
    }

    /// How guests are loaded.
    pub(crate) fn loading(&self) -> &LoadOptions {
        &self.loading
    }

    /// What compiled code of this engine is marked with.
    pub(crate) fn id(&self) -> EngineId {
        self.id
    }

    pub(crate) fn wasm(&self) -> &Engine {
        &self.engine
    }

    /// What components may import.
    pub(crate) fn components(&self) -> &component::Linker<GuestState> {
        &self.components
    }

    /// What core modules may import.
    pub(crate) fn modules(&self) -> &Linker<GuestState> {
        &self.modules
    }

    /// What a guest of this engine sees of its clock.
    pub(crate) fn pulse(&self) -> Pulse {
        Pulse { ticks: Arc::clone(&self.ticker.ticks), seen: 0 }
    }

    /// Keeps the clock ticking for as long as the value lives.
    pub(crate) fn running(self: &Arc<Self>) -> Running {
        self.ticker.shared.change(|clock| clock.guests += 1);
        Running(Arc::clone(self))
    }

    pub(crate) const fn call_bytes() -> usize {
        CALL_BYTES
    }
}

impl fmt::Debug for GuestEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestEngine").finish_non_exhaustive()
    }
}

/// The engine could not be made.
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
    ComponentLinkage::define(components)?;
    ModuleLinkage::define(engine, modules)
}

/// The settings of every engine, those in compiling child processes included.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config
        // Windows are mapped into memories of our own, which must start as plain zeroed pages and never move.
        .with_host_memory(Arc::new(GuestMemoryCreator))
        .memory_init_cow(false)
        .memory_may_move(false)
        // Host functions are told addresses of 32 bits, in memories of whole 64 KiB pages.
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        // A call into the host costs three times as much with it.
        .concurrency_support(false)
        // The compiler's threads are the parent's in a forked child, which would wait for them for ever.
        .parallel_compilation(!Process::current().is_forked())
        .epoch_interruption(true);
    config
}

/// Tells a guest that a tick has passed, for one load.
///
/// The engine interrupts wasm code at its loops and function entries only. Code that runs straight on, from one host call to
/// the next, is interrupted at host calls, by this.
#[derive(Debug)]
pub(crate) struct Pulse {
    ticks: Arc<AtomicU64>,
    seen: u64,
}

impl Pulse {
    /// Whether a tick has passed since the last [`catch_up`](Self::catch_up).
    #[inline]
    pub(crate) fn has_moved(&self) -> bool {
        // Ordering: Relaxed; whoever sees a tick a little later is interrupted a little later.
        self.ticks.load(Ordering::Relaxed) != self.seen
    }

    pub(crate) fn catch_up(&mut self) {
        self.seen = self.ticks.load(Ordering::Relaxed);
    }
}

/// A guest that may be computing.
pub(crate) struct Running(Arc<GuestEngine>);

impl Drop for Running {
    fn drop(&mut self) {
        if !self.0.ticker.process.is_current() {
            return;
        }
        self.0.ticker.shared.change(|clock| clock.guests -= 1);
    }
}

#[derive(Default)]
struct Clock {
    guests: usize,
    stopped: bool,
}

#[derive(Default)]
struct Shared {
    clock: Mutex<Clock>,
    changed: Condvar,
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Clock)) {
        // No code panics while the lock is held, and the counters would be right even then.
        change(&mut self.clock.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }
}

/// The thread that advances the engine's epoch while there are guests. Ends when dropped.
struct Ticker {
    process: Process,
    shared: Arc<Shared>,
    ticks: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        // Apart from what it shares else, so that its cache line is written once per tick and not more often.
        let ticks = Arc::new(AtomicU64::new(0));
        let (clock, counter) = (Arc::clone(&shared), Arc::clone(&ticks));
        let thread = thread::Builder::new()
            .name("blockcast-epoch".to_owned())
            .spawn(move || tick(&clock, &counter, &engine))?;
        Ok(Self { process: Process::current(), shared, ticks, thread: Some(thread) })
    }
}

fn tick(shared: &Shared, ticks: &AtomicU64, engine: &Engine) {
    let mut clock = shared.clock.lock().unwrap_or_else(PoisonError::into_inner);
    while !clock.stopped {
        if clock.guests == 0 {
            clock = shared.changed.wait(clock).unwrap_or_else(PoisonError::into_inner);
        } else {
            drop(clock);
            thread::sleep(TICK);
            engine.increment_epoch();
            ticks.fetch_add(1, Ordering::Relaxed);
            clock = shared.clock.lock().unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if !self.process.is_current() {
            // A forked child: the thread is the parent's, and may have had the lock.
            std::mem::forget(self.thread.take());
            return;
        }
        self.shared.change(|clock| clock.stopped = true);
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic; if it did, there is nothing to end.
            let _ = thread.join();
        }
    }
}
