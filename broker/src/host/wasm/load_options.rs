//! How guests are loaded: [`LoadOptions`].

use super::cache::GuestCache;
use super::loading::{CompilerProcess, LoadLimits};

/// How guests are loaded: what their code may ask of the compiler, where it is compiled, where compiled code is kept.
///
/// ```no_run
/// use blockcast_broker::{Broker, CompilerProcess, LoadOptions};
///
/// // First of all: this program may have been started to compile a guest.
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
    /// The default limits, compiling in this process, keeping nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what a guest's code may ask of the compiler. A guest that is found in the cache is not compiled, so only the
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

    /// Keeps compiled guests in `cache`, and takes them from there.
    #[must_use]
    pub fn cache(mut self, cache: GuestCache) -> Self {
        self.cache = Some(cache);
        self
    }
}
