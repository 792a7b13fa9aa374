//! Starting components: the methods of [`Broker`] that load code and run it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use blockcast_blocks::{charge_mappings, text};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;

use crate::component::cancellation::ComponentControl;
use crate::component::exit::ComponentReport;
use crate::component::handle::{Component, ComponentOptions};
use crate::component::restart::{Restart, RestartPolicy};
use crate::control::broker::Broker;
use crate::control::expectation::RestartExpectation;
use crate::control::granted::GrantedTopics;
use crate::control::grants::Grants;
use crate::control::shared::{Shared, lock};
use crate::control::start_error::StartError;
use crate::control::tasks::Tasks;
use crate::host::library::{LibraryProgram, LibrarySetup};
use crate::host::linked::{AppOutcome, Launch};
use crate::hosting::log::LogSink;
use crate::peers::children::{Children, Restartable};
use crate::peers::registry::ComponentNumber;
use crate::session::{LinkedHost, Session};

impl Broker {
    /// Runs an app that is linked into this program: an `async fn` as a task, a plain `fn` on a thread of its
    /// own. [`Session::parameter`] returns the `parameters`.
    ///
    /// If the app panics, only the component ends.
    ///
    /// ```
    /// use blockcast_blocks::Pod;
    /// use blockcast_broker::{Broker, Grants, OpenError, Session};
    ///
    /// fn greet(session: Session) -> Result<(), OpenError> {
    ///     let mut numbers = session.blocking_publisher::<Pod<u32>>("numbers", Default::default())?;
    ///     numbers.blocking_subscribers(1, None);
    ///     numbers.blocking_loan(None).unwrap().send(&[1, 2, 3][..]).unwrap();
    ///     Ok(())
    /// }
    ///
    /// let broker = Broker::new();
    /// let mut subscriber = broker.subscriber::<Pod<u32>>("numbers", Default::default())?;
    /// let app = broker.run("greeter", Grants::new().publish("numbers"), [], greet)?;
    /// assert_eq!(subscriber.blocking_recv_ref(None)?.view(), [1, 2, 3]);
    /// assert!(app.wait().reason.is_success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cancelling a plain `fn`
    /// When a plain `fn` is [cancelled](Component::cancel), the next blocking call in which it has to wait
    /// does not return: the stack is unwound from there, everything that the app holds is dropped, and the
    /// app ends as [`Cancelled`]. Code that catches panics should resume this one (its payload is not text).
    ///
    /// Code that neither waits nor returns cannot be ended: after the [grace
    /// period](crate::ComponentLimits::shutdown_grace) it is [`Abandoned`]. So is an app in a program built
    /// with `panic = "abort"`, unless it returns once blocking calls with a deadline report a timeout. The
    /// broker ignores threads that the app has started.
    ///
    /// An app that only uses `try_` methods should poll [`Session::shutdown_requested`], which is true from
    /// the cancellation on.
    ///
    /// # Errors
    /// [`StartError::Runtime`] and [`StartError::Closed`].
    ///
    /// [`Cancelled`]: crate::ExitReason::Cancelled
    /// [`Abandoned`]: crate::ExitReason::Abandoned
    pub fn run<K, A, R>(
        &self,
        name: impl Into<String>,
        grants: Grants,
        parameters: impl IntoIterator<Item = (String, String)>,
        app: A,
    ) -> Result<Component, StartError>
    where
        A: FnOnce(Session) -> R + Send + 'static,
        R: AppOutcome<K>,
    {
        self.run_once(ComponentOptions::new().name(name).grants(grants).parameters(parameters), app)
    }

    /// Runs a linked app like [`run`](Self::run), but never restarts it, whatever its options are.
    pub(crate) fn run_once<K, A, R>(&self, options: ComponentOptions, app: A) -> Result<Component, StartError>
    where
        A: FnOnce(Session) -> R + Send + 'static,
        R: AppOutcome<K>,
    {
        let admitted = self.admit(options, "", &RestartPolicy::never())?;
        // Begun here, and only once, since it is never restarted.
        let mut run = Some(R::run(app, admitted.launch(&self.shared)));
        admitted.spawn(RestartPolicy::never(), move || {
            run.take().unwrap_or_else(|| std::future::pending().boxed())
        })
    }

    /// Runs a linked app like [`run`](Self::run), and restarts it according to the options'
    /// [restart policy](ComponentOptions::restart). Each run calls `app`.
    ///
    /// # Errors
    /// [`StartError::Runtime`] and [`StartError::Closed`].
    pub fn supervise<K, A, R>(&self, options: ComponentOptions, app: A) -> Result<Component, StartError>
    where
        A: FnMut(Session) -> R + Send + 'static,
        R: AppOutcome<K>,
    {
        let policy = options.restart.clone();
        let admitted = self.admit(options, "", &policy)?;
        let (launch, shared) = (admitted.clone(), Arc::clone(&self.shared));
        // A plain `fn` is called on the thread of its run. Only one run exists at a time, so nobody waits for
        // the lock.
        let app = Arc::new(Mutex::new(app));
        admitted.spawn(policy, move || {
            let app = Arc::clone(&app);
            R::run(move |session| lock(&app)(session), launch.launch(&shared))
        })
    }

    /// Reads a native library and checks that it fits the broker, once for any number of runs. The library
    /// runs in this process, without isolation: see [`library`](crate::host::library).
    ///
    /// # Errors
    /// [`StartError::Library`] says what is wrong with the file.
    ///
    /// # Safety
    /// Loading and running the file runs its code in this process: its constructors, its `blockcast_app`, its
    /// app and its destructors. The caller vouches that this code is sound and keeps the contract that
    /// [`blockcast_blocks::abi`] describes, as a library built from safe Rust with `blockcast::export!` does.
    pub unsafe fn load_library(&self, path: impl AsRef<Path>) -> Result<LibraryProgram, StartError> {
        // SAFETY: the caller vouches for the file.
        Ok(unsafe { LibraryProgram::load(path.as_ref()) }?)
    }

    /// Runs a native library on a thread of its own.
    ///
    /// If the app panics, only the component ends. Its grants and limits apply to its calls, as they do for a
    /// guest, but as a contract: nothing isolates native code. Its memory is not limited. An app that neither
    /// calls nor returns cannot be ended: see [`ExitReason::Abandoned`](crate::ExitReason::Abandoned).
    ///
    /// # Errors
    /// [`StartError::Runtime`], [`StartError::Closed`], [`StartError::Mappings`]. Later failures are reported
    /// as the component's [exit reason](crate::ExitReason).
    pub fn spawn_library(
        &self,
        program: &LibraryProgram,
        grants: Grants,
        parameters: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Component, StartError> {
        self.supervise_library(program, ComponentOptions::new().grants(grants).parameters(parameters))
    }

    /// Runs a native library like [`spawn_library`](Self::spawn_library), and restarts it according to the
    /// options' [restart policy](ComponentOptions::restart). Each run has its own static variables and joins
    /// its topics anew. By then, everything that the previous run held has been released.
    ///
    /// # Errors
    /// [`StartError::Runtime`], [`StartError::Closed`], [`StartError::Mappings`].
    pub fn supervise_library(
        &self,
        program: &LibraryProgram,
        options: ComponentOptions,
    ) -> Result<Component, StartError> {
        // Only checks that mappings are left: each run charges its own.
        charge_mappings(0)?;
        let policy = options.restart.clone();
        let admitted = self.admit(options, program.name(), &policy)?;
        let setup = LibrarySetup {
            topics: admitted.topics(&self.shared),
            parameters: admitted.options.parameters.clone(),
            limits: admitted.options.grants.get_limits().clone(),
            log: admitted.log(),
            control: Arc::clone(&admitted.control),
        };
        let program = program.clone();
        admitted.spawn(policy, move || {
            let (program, setup) = (program.clone(), setup.clone());
            async move { program.run(setup).await }.boxed()
        })
    }

    pub(super) fn admit(
        &self,
        options: ComponentOptions,
        program: &str,
        policy: &RestartPolicy,
    ) -> Result<Admitted, StartError> {
        self.shared.check_start()?;
        let runtime = self.owner.tasks.handle()?;
        // The name also names a thread and appears in logs.
        let name = text::line(options.name.as_deref().unwrap_or(program)).into_owned();
        let control = self.shared.admit_component(&name)?;
        let expectation = RestartExpectation::new(policy.restart != Restart::Never);
        let tasks = Arc::clone(&self.owner.tasks);
        Ok(Admitted { name, control, options, runtime, expectation, tasks })
    }
}

/// A component that may run.
#[derive(Clone)]
pub(super) struct Admitted {
    pub(super) name: String,
    pub(super) control: Arc<ComponentControl>,
    pub(super) options: ComponentOptions,
    runtime: Handle,
    expectation: Arc<RestartExpectation>,
    tasks: Arc<Tasks>,
}

impl Admitted {
    /// Prepares a run of a linked app.
    fn launch(&self, shared: &Arc<Shared>) -> Launch {
        let host = LinkedHost::new(
            self.name.clone(),
            Arc::clone(shared),
            self.options.clone(),
            Arc::clone(&self.control),
            self.runtime.clone(),
            Arc::clone(&self.expectation),
        );
        Launch {
            name: self.name.clone(),
            session: Session::new(host),
            control: Arc::clone(&self.control),
            grace: self.options.grants.get_limits().shutdown_grace,
            runtime: self.runtime.clone(),
        }
    }

    /// The topics that the component may use. All its runs share them, and with them the number of topics
    /// that the component has created.
    pub(super) fn topics(&self, shared: &Arc<Shared>) -> Arc<GrantedTopics> {
        Arc::new(GrantedTopics::new(
            Arc::clone(shared),
            self.options.grants.clone(),
            Arc::clone(&self.expectation),
            self.options.await_restarts,
        ))
    }

    /// Lets subscriptions of all processes wait for restarts, if there are any. Call this for a component
    /// whose runs are processes.
    pub(super) fn expect_processes(
        &self,
        policy: &RestartPolicy,
        children: &Arc<Children>,
    ) -> Option<ComponentNumber> {
        let restartable = (policy.restart != Restart::Never).then(|| Restartable::new(children))?;
        let component = restartable.component();
        self.expectation.keep(restartable);
        Some(component)
    }

    /// The sink for the component's log. By default, lines become `tracing` events with its name.
    pub(super) fn log(&self) -> LogSink {
        self.options.log.clone().unwrap_or_else(|| {
            let name: Arc<str> = self.name.as_str().into();
            Arc::new(move |level, text| crate::session::trace(&name, level, text))
        })
    }

    pub(super) fn spawn(
        self,
        policy: RestartPolicy,
        run: impl FnMut() -> BoxFuture<'static, ComponentReport> + Send + 'static,
    ) -> Result<Component, StartError> {
        let Self { name, control, runtime, expectation, tasks, .. } = self;
        Component::spawn(&runtime, name, control, policy, (expectation, tasks), run)
    }
}
