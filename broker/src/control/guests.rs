//! Loading and starting wasm guests: the only place where the control plane knows the wasm host.

use std::sync::Arc;

use blockcast_blocks::charge_mappings;
use futures::FutureExt;

use crate::component::handle::{Component, ComponentOptions};
use crate::control::broker::Broker;
use crate::control::grants::Grants;
use crate::control::start_error::StartError;
use crate::host::wasm::{self, GuestCache, GuestEngine, GuestProgram, GuestSetup, GuestSource, LoadOptions};

impl Broker {
    /// Stores compiled guests in `cache` and loads them from there. Call this before the first guest is
    /// loaded.
    ///
    /// # Errors
    /// [`StartError::Engine`] if guests cannot run here, or if one was loaded before.
    pub fn keep_compiled(&self, cache: GuestCache) -> Result<(), StartError> {
        self.load_with(LoadOptions::new().cache(cache))
    }

    /// Sets how guests are loaded. Call this before the first guest is loaded.
    ///
    /// # Errors
    /// [`StartError::Engine`] if guests cannot run here, if this was called before, or if a guest was loaded
    /// before.
    pub fn load_with(&self, options: LoadOptions) -> Result<(), StartError> {
        self.shared.check_start()?;
        let engine =
            GuestEngine::with_options(options).map_err(|error| StartError::Engine(error.to_string()))?;
        let late = |_| {
            StartError::Engine(
                "load options can be set only once, before the first guest is loaded".to_owned(),
            )
        };
        self.shared.engine.set(Ok(engine)).map_err(late)
    }

    /// Reads, validates and compiles a guest, once for any number of runs. Compiling takes milliseconds to
    /// seconds.
    ///
    /// # Errors
    /// [`StartError::Load`] says what is wrong with the file.
    pub fn load(&self, source: &GuestSource) -> Result<GuestProgram, StartError> {
        self.shared.check_start()?;
        let engine = self.shared.engine.get_or_init(GuestEngine::new);
        let engine = engine.as_ref().map_err(|error| StartError::Engine(error.to_string()))?;
        Ok(GuestProgram::load(engine, source)?)
    }

    /// Like [`load`](Self::load), but for async callers: runs on a thread for blocking work.
    ///
    /// [`LoadLimits`](crate::LoadLimits) bound what code may ask of the compiler, but compiling in this
    /// process cannot be interrupted. Compile code that you do not trust in a [child
    /// process](crate::CompilerProcess).
    ///
    /// # Errors
    /// The same as for [`load`](Self::load), and [`StartError::Runtime`].
    pub async fn load_in_background(&self, source: GuestSource) -> Result<GuestProgram, StartError> {
        self.shared.check_start()?;
        let broker = self.clone();
        let loading = self.owner.tasks.handle()?.spawn_blocking(move || broker.load(&source));
        loading.await.map_err(std::io::Error::other)?
    }

    /// Runs a wasm guest as a task of its own.
    ///
    /// # Errors
    /// [`StartError::Runtime`], [`StartError::Closed`], [`StartError::Mappings`], [`StartError::Signals`].
    /// Later failures are reported as the component's [exit reason](crate::ExitReason).
    pub fn spawn_guest(
        &self,
        program: &GuestProgram,
        grants: Grants,
        parameters: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Component, StartError> {
        self.supervise_guest(program, ComponentOptions::new().grants(grants).parameters(parameters))
    }

    /// Runs a wasm guest like [`spawn_guest`](Self::spawn_guest), and restarts it according to the options'
    /// [restart policy](ComponentOptions::restart). Each run is a new instance that joins its topics anew. By
    /// then, everything that the previous run held has been released.
    ///
    /// # Errors
    /// [`StartError::Runtime`], [`StartError::Closed`], [`StartError::Mappings`], [`StartError::Signals`].
    pub fn supervise_guest(
        &self,
        program: &GuestProgram,
        options: ComponentOptions,
    ) -> Result<Component, StartError> {
        wasm::check_signals().map_err(|error| StartError::Signals(error.to_string()))?;
        // Only checks that mappings are left: each run charges its own.
        charge_mappings(0)?;
        let policy = options.restart.clone();
        let admitted = self.admit(options, program.name(), &policy)?;
        let setup = GuestSetup {
            limits: admitted.options.grants.get_limits().clone(),
            wasi: admitted.options.grants.get_wasi().to_vec(),
            log: admitted.log(),
            name: admitted.name.clone(),
            topics: admitted.topics(&self.shared),
            parameters: admitted.options.parameters.clone(),
            control: Arc::clone(&admitted.control),
        };
        let program = program.clone();
        admitted.spawn(policy, move || {
            let (program, setup) = (program.clone(), setup.clone());
            async move { program.run(setup).await }.boxed()
        })
    }
}
