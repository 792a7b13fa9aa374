//! Starting components in processes of their own.

use std::sync::Arc;

use futures::FutureExt;

use crate::component::handle::{Component, ComponentOptions};
use crate::control::broker::Broker;
use crate::control::grants::Grants;
use crate::control::shared::lock;
use crate::control::start_error::StartError;
use crate::host::process::ProcessSetup;
use crate::host::process::error::ProcessError;
use crate::host::process::source::ProcessSource;
use crate::peers::children::Children;

impl Broker {
    /// Runs a component in a process of its own: a program, or a native library. Whatever it does, it harms
    /// nobody else; it is ended when this process ends. See [`process`](crate::host::process).
    ///
    /// The broker need not [serve](Self::serve). From now on, opening a publisher or a subscriber waits for
    /// the processes of components to join, as for all other processes, but no longer than 30 seconds.
    ///
    /// # Grants and limits
    /// This process enforces the grants of topics, publishers and subscriptions, and the limits on topics, on
    /// bytes of publishers, on back-pressure, on time, on computing and on the log. The limit on memory
    /// bounds the writable memory that the process does not share, apart from 32 MiB: allocations beyond it
    /// fail. In the process of a library, all other limits apply as to libraries in this process. A program
    /// cannot have limits on the rates of messages and calls.
    ///
    /// # Errors
    /// [`StartError::Process`], [`StartError::Runtime`], [`StartError::Closed`]. Later failures are reported
    /// as the component's [exit reason](crate::ExitReason).
    pub fn spawn_process(
        &self,
        source: &ProcessSource,
        grants: Grants,
        parameters: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Component, StartError> {
        self.supervise_process(source, ComponentOptions::new().grants(grants).parameters(parameters))
    }

    /// Returns the handle that adds processes to this broker.
    fn children(&self) -> Result<Arc<Children>, ProcessError> {
        let mut kept = lock(&self.owner.children);
        if let Some(children) = &*kept {
            return Ok(Arc::clone(children));
        }
        let children = Arc::new(Children::of(&self.shared)?);
        *kept = Some(Arc::clone(&children));
        Ok(children)
    }

    /// Runs a component in a process of its own like [`spawn_process`](Self::spawn_process), and restarts it
    /// according to the options' [restart policy](ComponentOptions::restart). Each run is a new process. By
    /// then, everything that the previous one held has been released.
    ///
    /// # Errors
    /// [`StartError::Process`], [`StartError::Runtime`], [`StartError::Closed`].
    pub fn supervise_process(
        &self,
        source: &ProcessSource,
        options: ComponentOptions,
    ) -> Result<Component, StartError> {
        self.shared.check_start()?;
        let program = source.checked(options.grants.get_limits())?;
        let policy = options.restart.clone();
        let admitted = self.admit(options, program.name(), &policy)?;
        let children = self.children()?;
        let component = admitted.expect_processes(&policy, &children);
        let setup = ProcessSetup {
            name: admitted.name.clone(),
            grants: admitted.options.grants.clone(),
            parameters: admitted.options.parameters.clone(),
            await_restarts: admitted.options.await_restarts,
            log: admitted.log(),
            control: Arc::clone(&admitted.control),
            children,
            component,
        };
        admitted.spawn(policy, move || {
            let (program, setup) = (program.clone(), setup.clone());
            async move { program.run(setup).await }.boxed()
        })
    }
}
