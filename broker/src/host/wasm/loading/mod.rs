//! How a guest's code is accepted and compiled.
//!
//! ```text
//!  bytes ── text format? ──▶ binary ── check ──▶ compile ──▶ compiled code ──▶ cache, program
//!            text_bytes        LoadLimits     │ in this process,
//!                                             └ or in a child process with limits of its own
//! ```
//!
//! Two layers keep hostile code from exhausting the host: `check` bounds what the code asks of the compiler before it is
//! compiled, and a [`CompilerProcess`] bounds what the compiler then takes. The first is always on; the second is the
//! default of the command line tool and an option of [`LoadOptions`].

mod check;
mod child;
mod compiler;
mod error;
mod function;
mod limits;

use crate::host::wasm::cache::GuestCache;

pub(crate) use check::{Checked, check};
pub use child::compile_child_main;
pub(crate) use compiler::Outcome;
pub use compiler::{CompilerError, CompilerProcess};
pub use error::LoadError;
pub(crate) use function::Refused;
pub(crate) use limits::Exceeded;
pub use limits::{LoadLimit, LoadLimits, UnknownLoadLimit};

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
