//! How guests are loaded: [`LoadOptions`].

use super::cache::GuestCache;
use super::loading::{CompilerProcess, LoadLimits};

/// How guests are loaded: the limits on compiling their code, where it is compiled, and where compiled
/// code is stored.
///
/// ```no_run
/// use blockcast_broker::{Broker, CompilerProcess, LoadOptions};
///
/// // Before anything else: this program may have been started to compile a guest.
/// blockcast_broker::compile_child_main();
/// let broker = Broker::new();
/// broker.load_with(LoadOptions::new().compile_in(CompilerProcess::this_program()))?;
/// # Ok::<(), blockcast_broker::StartError>(())
/// ```
#[derive(Debug, Default)]
pub struct LoadOptions {
    pub(crate) limits: LoadLimits,
    pub(crate) compiler: Option<CompilerProcess>,
    pub(crate) cache: Option<GuestCache>,
}

impl LoadOptions {
    /// The default limits, compiling in this process, without a cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the limits on the work of the compiler. A guest from the cache is not compiled, so only the
    /// limits on its size and its components apply to it.
    #[must_use]
    pub fn limits(mut self, limits: LoadLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Compiles guests in a child process, so that the compiler cannot exhaust this one.
    #[must_use]
    pub fn compile_in(mut self, compiler: CompilerProcess) -> Self {
        self.compiler = Some(compiler);
        self
    }

    /// Stores compiled guests in `cache` and loads them from there.
    #[must_use]
    pub fn cache(mut self, cache: GuestCache) -> Self {
        self.cache = Some(cache);
        self
    }
}
