//! [`Broker`]: the control plane.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use blockcast_blocks::{
    ArenaMemory, NoMappings, OpenError, Payload, Process, PublisherId, Schema, Signal, Writer,
    charge_mappings, text,
};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{Subscriber, SubscriberOptions};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::{Handle, Runtime};

use crate::component::cancellation::ComponentControl;
use crate::component::exit::LoadError;
use crate::component::handle::{Component, ComponentOptions};
use crate::component::restart::{Restart, RestartPolicy};
use crate::control::expectation::Returns;
use crate::control::granted::GrantedTopics;
use crate::control::grants::Grants;
use crate::control::stats::TopicStats;
use crate::control::topic::Topic;
use crate::host::library::{LibraryError, LibraryProgram, LibrarySetup};
use crate::host::linked::{AppOutcome, Launch};
use crate::host::wasm::cache::GuestCache;
use crate::host::wasm::engine::{EngineError, GuestEngine};
use crate::host::wasm::loading::LoadOptions;
use crate::host::wasm::program::{GuestProgram, GuestSource};
use crate::host::wasm::run::ComponentReport;
use crate::host::wasm::signals;
use crate::host::wasm::state::{GuestSetup, LogSink};
use crate::hosting::topic_access::Validator;
use crate::session::Session;

/// Creates topics, admits publishers and subscribers, runs components. Never on the path of a message.
///
/// Cheap to clone; all clones are the same broker.
///
/// # Dropping it
/// Dropping the last clone [cancels](Component::cancel) every component that still runs, as dropping a runtime cancels its
/// tasks, and lets nobody join any more. It does not wait for them: [`Component::ended`] and [`Component::wait`] do. Whoever
/// wants components to finish on their own waits for them first, or calls [`shut_down`](Self::shut_down) and then waits. The
/// threads of the broker end with the last component. Publishers and subscribers of the program itself stay usable, and
/// subscribers end once no publisher is left. An app that holds a clone of the broker keeps it.
///
/// # Topics
/// A topic exists while somebody takes part in it: a publisher, or a subscriber, of the program or of a component. When the
/// last one is gone the topic is removed with its statistics, and the next one may give it another schema. A topic that was
/// [declared](Self::declare) stays, and so do all topics after [`keep_topics`](Self::keep_topics).
///
/// # Code of the program that is called back
/// Log sinks, validators, wakers and the layers of `tracing` may call any method of the broker: nothing is locked while they
/// run. A panic of a log sink or a validator ends the component on whose behalf it was called
/// ([`ExitReason::HostPanicked`](crate::ExitReason::HostPanicked)), one of a waker, a layer or a destructor concerns nobody else.
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Shared>,
    owner: Arc<Owner>,
}

/// What the clones of a broker hold and nothing that it runs: when it is dropped, the program has no broker any more.
struct Owner {
    shared: Arc<Shared>,
    tasks: Arc<Tasks>,
}

/// State shared by all clones of a broker, its sessions and its guests.
pub(crate) struct Shared {
    process: Process,
    topics: Mutex<Topics>,
    closed: AtomicBool,
    /// Never wraps: numbers serve as keys. 2^64 publishers take longer than any process lives.
    next_publisher: AtomicU64,
    components: Mutex<Vec<Arc<ComponentControl>>>,
    engine: OnceLock<Result<Arc<GuestEngine>, EngineError>>,
}

#[derive(Default)]
struct Topics {
    by_name: BTreeMap<String, Arc<Topic>>,
    /// How many there are when those without participants are removed next.
    sweep_at: usize,
    /// All topics stay.
    kept: bool,
}

/// Topics that may be there without participants before they are removed. They are not seen from outside.
const UNSWEPT: usize = 64;

/// Where components run: kept by the broker and by each of them.
pub(crate) enum Tasks {
    /// On the caller's runtime.
    Given(Handle),
    /// On one of our own, made when the first component is started.
    Own(OnceLock<Runtime>, Process),
}

/// A component could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The guest's code was refused.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The native library was refused.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The wasm engine could not be made.
    #[error("the wasm engine cannot be created: {0}")]
    Engine(String),
    /// No threads for the component's task.
    #[error("the runtime for components cannot be created: {0}")]
    Runtime(#[from] std::io::Error),
    /// The process has too few memory mappings left for another component.
    #[error(transparent)]
    Mappings(#[from] NoMappings),
    /// A guest's first fault would end the process, as the engine's signal handler is not there any more.
    #[error("guests cannot run: {0}")]
    Signals(String),
    /// The runtime that the broker was given was shut down.
    #[error(
        "the runtime on which components run was shut down: give the broker one that outlives its components"
    )]
    RuntimeShutDown,
    /// The broker is shutting down.
    #[error("the broker is shutting down")]
    Closed,
    /// The process was forked after the broker was made, and its threads are the parent's: make another broker in the child.
    #[error("the broker belongs to the process that was forked: make one in this process")]
    Forked,
}

impl Broker {
    /// A broker without topics. Components run on a tokio runtime of its own, which is made when the first
    /// one is started.
    #[must_use]
    pub fn new() -> Self {
        Self::with_tasks(Tasks::Own(OnceLock::new(), Process::current()))
    }

    /// A broker whose components run on the caller's tokio runtime, which must have its timer enabled.
    #[must_use]
    pub fn on_runtime(runtime: Handle) -> Self {
        Self::with_tasks(Tasks::Given(runtime))
    }

    fn with_tasks(tasks: Tasks) -> Self {
        let process = Process::current();
        let shared = Arc::new(Shared {
            process,
            topics: Mutex::default(),
            closed: AtomicBool::new(false),
            next_publisher: AtomicU64::new(1),
            components: Mutex::default(),
            engine: OnceLock::new(),
        });
        let owner = Arc::new(Owner { shared: Arc::clone(&shared), tasks: Arc::new(tasks) });
        Self { shared, owner }
    }

    /// Opens a topic for publishing; it comes into being if it does not exist. About twenty system calls.
    ///
    /// # Errors
    /// [`OpenError`], above all a schema that differs from the topic's.
    pub fn publisher<P: Payload>(
        &self,
        topic: &str,
        options: PublisherOptions,
    ) -> Result<Publisher<P>, OpenError> {
        self.shared.publisher("", topic, options, None, None)
    }

    /// As [`publisher`](Self::publisher), with blocks in memory that the caller brings.
    ///
    /// # Errors
    /// As for [`publisher`](Self::publisher), and [`ChannelError::Memory`](blockcast_blocks::ChannelError::Memory) if it is too small.
    pub fn publisher_over<P: Payload>(
        &self,
        topic: &str,
        options: PublisherOptions,
        memory: ArenaMemory,
    ) -> Result<Publisher<P>, OpenError> {
        self.shared.publisher("", topic, options, Some(memory), None)
    }

    /// Opens a topic for subscribing; it comes into being if it does not exist. Every message published
    /// after this returns is received, or counted as lost where the options allow losses.
    ///
    /// # Errors
    /// [`OpenError`], above all a schema that differs from the topic's.
    pub fn subscriber<P: Payload>(
        &self,
        topic: &str,
        options: SubscriberOptions,
    ) -> Result<Subscriber<P>, OpenError> {
        self.shared.subscriber("", topic, options, options.get_await_restarts())
    }

    /// Declares a topic in which guests need not give up write access to what they publish: large messages are built
    /// in place and published without a system call, and a guest that writes into one later changes it under its readers.
    ///
    /// Therefore only guests can subscribe to it (to a native subscriber a changing message is undefined behaviour, to a
    /// guest it is data that makes no sense), of [`Isolation::Arena`](crate::Isolation::Arena), and no message is marked as valid:
    /// readers check for themselves. The topic must not exist yet, and stays until it is [undeclared](Self::undeclare).
    ///
    /// # Errors
    /// [`OpenError::Sealed`] if it exists, [`OpenError::BadName`], [`OpenError::Closed`].
    pub fn declare_unsealed(&self, topic: &str, schema: &Schema) -> Result<(), OpenError> {
        self.shared.check()?;
        let made = Arc::new(Topic::new(topic, schema.clone())?.unsealed());
        made.keep(true);
        // Dropped when nothing is locked any more.
        let (is_new, _gone) = {
            let mut topics = self.shared.topics();
            if self.shared.closed.load(Ordering::Acquire) {
                return Err(OpenError::Closed);
            }
            let gone = topics.remove_unused(topic);
            let is_new = !topics.by_name.contains_key(topic);
            if is_new {
                topics.by_name.insert(topic.to_owned(), made);
            }
            (is_new, gone)
        };
        if is_new { Ok(()) } else { Err(OpenError::Sealed { topic: topic.to_owned() }) }
    }

    /// Runs an app that is linked into this program: an `async fn` as a task, a plain `fn` on a thread of its own. `parameters` are
    /// what [`Session::parameter`] answers.
    ///
    /// The app's panic ends the component, not the program.
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
    /// When it is [cancelled](Component::cancel), the blocking call in which it next has to wait does not return: the app's stack is
    /// unwound from there, so that everything that it holds is dropped, and it ends as [`Cancelled`]. Whoever catches
    /// panics in between should let this one pass on (its payload is no text). Code that neither waits nor returns cannot be
    /// ended: after the [grace](crate::ComponentLimits::shutdown_grace) it is [`Abandoned`], and so is it in a program that is built with
    /// `panic = "abort"`, unless it returns because blocking calls with a deadline report that it has passed. Threads that the app
    /// has started are its own affair.
    ///
    /// Where it only uses `try_` methods it looks at [`Session::shutdown_requested`], which is true from then on.
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
        let options = ComponentOptions::new().name(name).grants(grants).parameters(parameters);
        let admitted = self.admit(options, "", &RestartPolicy::never())?;
        // Begun here and once: it is never restarted.
        let mut run = Some(R::run(app, admitted.launch(&self.shared)));
        admitted.spawn(RestartPolicy::never(), move || {
            run.take().unwrap_or_else(|| std::future::pending().boxed())
        })
    }

    /// Runs an app that is linked into this program as [`run`](Self::run) does, and starts it again as the options'
    /// [restart policy](ComponentOptions::restart) says: `app` is called for each run.
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
        // A plain `fn` is called on the thread of its run. There is one run at a time, so nobody waits for the lock.
        let app = Arc::new(Mutex::new(app));
        admitted.spawn(policy, move || {
            let app = Arc::clone(&app);
            R::run(move |session| lock(&app)(session), launch.launch(&shared))
        })
    }

    /// Keeps compiled guests in `cache`, and takes them from there. To be called before the first guest is loaded.
    ///
    /// # Errors
    /// [`StartError::Engine`]: guests cannot run here, or one was loaded before.
    pub fn keep_compiled(&self, cache: GuestCache) -> Result<(), StartError> {
        self.load_with(LoadOptions::new().cache(cache))
    }

    /// Loads guests as `options` say. Call it before the first guest is loaded.
    ///
    /// # Errors
    /// [`StartError::Engine`]: guests cannot run here, or this was called before, or a guest was loaded before.
    pub fn load_with(&self, options: LoadOptions) -> Result<(), StartError> {
        self.shared.check_start()?;
        let engine =
            GuestEngine::with_options(options).map_err(|error| StartError::Engine(error.to_string()))?;
        let late = |_| {
            StartError::Engine("how guests are loaded has to be set once, before the first is".to_owned())
        };
        self.shared.engine.set(Ok(engine)).map_err(late)
    }

    /// Loads a guest's code: read, checked and compiled, once for any number of runs. Compiling takes
    /// milliseconds to seconds.
    ///
    /// # Errors
    /// [`StartError::Load`] says what is wrong with the file.
    pub fn load(&self, source: &GuestSource) -> Result<GuestProgram, StartError> {
        self.shared.check_start()?;
        let engine = self.shared.engine.get_or_init(GuestEngine::new);
        let engine = engine.as_ref().map_err(|error| StartError::Engine(error.to_string()))?;
        Ok(GuestProgram::load(engine, source)?)
    }

    /// Like [`load`](Self::load), on a thread for work that takes long, for async callers.
    ///
    /// [`LoadLimits`](crate::LoadLimits) bound what code may ask of the compiler, but compiling in this process cannot be
    /// interrupted. For code that you do not trust, compile in a [child process](crate::CompilerProcess).
    ///
    /// # Errors
    /// As for [`load`](Self::load), and [`StartError::Runtime`].
    pub async fn load_in_background(&self, source: GuestSource) -> Result<GuestProgram, StartError> {
        self.shared.check_start()?;
        let broker = self.clone();
        let loading = self.owner.tasks.handle()?.spawn_blocking(move || broker.load(&source));
        loading.await.map_err(std::io::Error::other)?
    }

    /// Runs a wasm guest as a task of its own.
    ///
    /// # Errors
    /// [`StartError::Runtime`], [`StartError::Closed`], [`StartError::Mappings`], [`StartError::Signals`]. What goes wrong from then on is the component's
    /// [exit reason](crate::ExitReason).
    pub fn spawn_guest(
        &self,
        program: &GuestProgram,
        grants: Grants,
        parameters: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Component, StartError> {
        self.supervise_guest(program, ComponentOptions::new().grants(grants).parameters(parameters))
    }

    /// Runs a wasm guest as [`spawn_guest`](Self::spawn_guest) does, and starts it again as the options'
    /// [restart policy](ComponentOptions::restart) says. Each run is a new instance that joins its topics anew;
    /// whatever the former one held is back by then.
    ///
    /// # Errors
    /// [`StartError::Runtime`], [`StartError::Closed`], [`StartError::Mappings`], [`StartError::Signals`].
    pub fn supervise_guest(
        &self,
        program: &GuestProgram,
        options: ComponentOptions,
    ) -> Result<Component, StartError> {
        signals::check().map_err(|error| StartError::Signals(error.to_string()))?;
        // It is charged when it runs.
        charge_mappings(0)?;
        let policy = options.restart.clone();
        let admitted = self.admit(options, program.name(), &policy)?;
        let Admitted { name, control, options, returns, .. } = admitted.clone();
        let setup = GuestSetup {
            limits: options.grants.guest_limits().clone(),
            wasi: options.grants.guest_wasi().to_vec(),
            log: options.log.unwrap_or_else(|| log_of(&name)),
            name,
            // Kept over restarts, and with it the number of topics that the guest has created.
            exchange: Arc::new(GrantedTopics::new(
                Arc::clone(&self.shared),
                options.grants,
                returns,
                options.await_restarts,
            )),
            parameters: options.parameters,
            control,
        };
        let program = program.clone();
        admitted.spawn(policy, move || {
            let (program, setup) = (program.clone(), setup.clone());
            async move { program.run(setup).await }.boxed()
        })
    }

    /// Loads a native library: read, and looked at whether it fits, once for any number of runs. It runs in this process, with
    /// no wall around it: see [`library`](crate::host::library).
    ///
    /// # Errors
    /// [`StartError::Library`] says what is wrong with the file.
    ///
    /// # Safety
    /// Loading and running the file runs its code in this process: its constructors, its `blockcast_app`, its app, its
    /// destructors. The caller vouches that this code is sound and keeps the contract that [`blockcast_blocks::abi`] describes,
    /// as a library that is built from safe Rust with `blockcast::export!` does.
    pub unsafe fn load_library(&self, path: impl AsRef<Path>) -> Result<LibraryProgram, StartError> {
        // SAFETY: the caller vouches for the file.
        Ok(unsafe { LibraryProgram::load(path.as_ref()) }?)
    }

    /// Runs a native library on a thread of its own.
    ///
    /// The app's panic ends the component, not the program. Its grants and limits hold as for a guest, as far as its
    /// calls go: a contract, not a wall. Memory and isolation are not limited. An app that neither calls nor returns cannot be
    /// ended: see [`ExitReason::Abandoned`](crate::ExitReason::Abandoned).
    ///
    /// # Errors
    /// [`StartError::Runtime`], [`StartError::Closed`], [`StartError::Mappings`]. What goes wrong from then on is the component's
    /// [exit reason](crate::ExitReason).
    pub fn spawn_library(
        &self,
        program: &LibraryProgram,
        grants: Grants,
        parameters: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Component, StartError> {
        self.supervise_library(program, ComponentOptions::new().grants(grants).parameters(parameters))
    }

    /// Runs a native library as [`spawn_library`](Self::spawn_library) does, and starts it again as the options'
    /// [restart policy](ComponentOptions::restart) says. Each run has static variables of its own and joins its topics anew;
    /// whatever the former one held is back by then.
    ///
    /// # Errors
    /// [`StartError::Runtime`], [`StartError::Closed`], [`StartError::Mappings`].
    pub fn supervise_library(
        &self,
        program: &LibraryProgram,
        options: ComponentOptions,
    ) -> Result<Component, StartError> {
        charge_mappings(0)?;
        let policy = options.restart.clone();
        let admitted = self.admit(options, program.name(), &policy)?;
        let Admitted { name, control, options, returns, .. } = admitted.clone();
        let limits = options.grants.guest_limits().clone();
        let log = options.log.unwrap_or_else(|| log_of(&name));
        // Kept over restarts, and with it the number of topics that the component has created.
        let topics = Arc::new(GrantedTopics::new(
            Arc::clone(&self.shared),
            options.grants,
            returns,
            options.await_restarts,
        ));
        let parameters = options.parameters;
        let program = program.clone();
        admitted.spawn(policy, move || {
            let setup = LibrarySetup {
                topics: Arc::clone(&topics),
                parameters: parameters.clone(),
                limits: limits.clone(),
                log: Arc::clone(&log),
                control: Arc::clone(&control),
            };
            let program = program.clone();
            async move { program.run(setup).await }.boxed()
        })
    }

    /// Creates a topic that stays although nobody takes part in it, so that nobody else decides what it carries. If it exists
    /// already with the same schema, it stays from now on, and the `rule` is added.
    ///
    /// A rule decides which messages components may publish: one that it refuses is an error for the publisher, and
    /// nobody sees it. The rule comes on top of the layout's own check, which typed publishers and subscribers of this
    /// process bring along and which runs first. A rule does not vouch for the layout: if the broker does not know it,
    /// typed subscribers check each message themselves. Rules do not apply to publishers of the program itself, to
    /// messages for which a native library vouches, and to [unsealed](Self::declare_unsealed) topics.
    ///
    /// # Errors
    /// [`OpenError::SchemaMismatch`], [`OpenError::BadName`], [`OpenError::Closed`], and [`OpenError::Refused`] if the
    /// topic was declared with another rule.
    pub fn declare(&self, topic: &str, schema: &Schema, rule: Option<Validator>) -> Result<(), OpenError> {
        let topic = self.shared.open_topic(topic, schema, None, &mut |_| true)?;
        topic.keep(true);
        rule.map_or(Ok(()), |rule| topic.set_rule(&rule))
    }

    /// Lets a declared topic go: it is removed as soon as nobody takes part in it. Its rule holds until then. Nothing
    /// happens if there is no such topic, and in a forked child.
    pub fn undeclare(&self, topic: &str) {
        if self.shared.is_inherited() {
            return;
        }
        let topic = self.shared.topics().by_name.get(topic).cloned();
        topic.inspect(|topic| topic.keep(false));
    }

    /// From now on topics stay although nobody takes part in them, with their statistics: for programs with a known set of
    /// topics that want to see the counters of those that have left. Nothing happens in a forked child.
    pub fn keep_topics(&self) {
        if !self.shared.is_inherited() {
            self.shared.topics().kept = true;
        }
    }

    fn admit(
        &self,
        options: ComponentOptions,
        name: &str,
        policy: &RestartPolicy,
    ) -> Result<Admitted, StartError> {
        self.shared.check_start()?;
        let runtime = self.owner.tasks.handle()?;
        // It is the name of a thread, and part of the log.
        let name = text::line(options.name.as_deref().unwrap_or(name)).into_owned();
        let control = self.shared.admit_component(&name)?;
        let returns = Returns::new(policy.restart != Restart::Never);
        let tasks = Arc::clone(&self.owner.tasks);
        Ok(Admitted { name, control, options, runtime, returns, tasks })
    }

    /// Counters of all topics, by name. A topic that was removed, and its counters with it, is not among them. None in a
    /// forked child.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicStats> {
        if self.shared.is_inherited() {
            return Vec::new();
        }
        self.shared.sweep();
        self.shared.all_topics().iter().map(|topic| topic.stats()).collect()
    }

    /// Counters of one topic, if it exists.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<TopicStats> {
        if self.shared.is_inherited() {
            return None;
        }
        let (topic, _gone) = {
            let mut topics = self.shared.topics();
            let gone = topics.remove_unused(name);
            (topics.by_name.get(name).cloned(), gone)
        };
        topic.map(|topic| topic.stats())
    }

    /// Asks every component to finish and admits nobody any more. Subscriptions end once the publishers that
    /// are there have gone.
    pub fn shut_down(&self) {
        self.shared.close(|control| control.request_shutdown());
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close(|control| control.cancel());
    }
}

impl Topics {
    /// Removes a topic in which nobody takes part. It is for the caller to drop when nothing is locked any more.
    fn remove_unused(&mut self, name: &str) -> Option<Arc<Topic>> {
        let unused = !self.kept && is_unused(self.by_name.get(name)?);
        if unused { self.by_name.remove(name) } else { None }
    }

    /// Removes all of them.
    fn sweep(&mut self) -> Vec<Arc<Topic>> {
        let Self { by_name, kept, .. } = self;
        let unused = by_name.extract_if(.., |_, topic| !*kept && is_unused(topic));
        let unused = unused.map(|(_, topic)| topic).collect();
        // So that sweeping costs each new topic a few steps on average.
        self.sweep_at = UNSWEPT + 2 * self.by_name.len();
        unused
    }
}

/// Whether nobody takes part in a topic, nor is about to: references are taken under the lock of the topics only.
fn is_unused(topic: &Arc<Topic>) -> bool {
    Arc::strong_count(topic) == 1 && topic.is_unused()
}

/// A component that may run.
#[derive(Clone)]
struct Admitted {
    name: String,
    control: Arc<ComponentControl>,
    options: ComponentOptions,
    runtime: Handle,
    returns: Arc<Returns>,
    tasks: Arc<Tasks>,
}

impl Admitted {
    /// What a run of a linked app begins with.
    fn launch(&self, shared: &Arc<Shared>) -> Launch {
        let session = Session::new(
            self.name.clone(),
            Arc::clone(shared),
            self.options.clone(),
            Arc::clone(&self.control),
            self.runtime.clone(),
            Arc::clone(&self.returns),
        );
        Launch {
            name: self.name.clone(),
            session,
            control: Arc::clone(&self.control),
            grace: self.options.grants.guest_limits().shutdown_grace,
            runtime: self.runtime.clone(),
        }
    }

    fn spawn(
        self,
        policy: RestartPolicy,
        run: impl FnMut() -> BoxFuture<'static, ComponentReport> + Send + 'static,
    ) -> Result<Component, StartError> {
        let Self { name, control, runtime, returns, tasks, .. } = self;
        Component::spawn(&runtime, name, control, policy, (returns, tasks), run)
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shared.is_inherited() {
            return f.write_str("Broker(of the process that was forked)");
        }
        // Formatting calls code of the user.
        let names: Vec<String> = self.shared.topics().by_name.keys().cloned().collect();
        f.debug_struct("Broker").field("topics", &names).finish_non_exhaustive()
    }
}

impl Shared {
    /// Whether this is a forked child, which has none of the broker's threads, and whose locks may be taken for ever.
    pub(crate) fn is_inherited(&self) -> bool {
        !self.process.is_current()
    }

    fn check(&self) -> Result<(), OpenError> {
        if self.is_inherited() { Err(OpenError::Forked) } else { Ok(()) }
    }

    fn check_start(&self) -> Result<(), StartError> {
        if self.is_inherited() { Err(StartError::Forked) } else { Ok(()) }
    }

    pub(crate) fn publisher<P: Payload>(
        &self,
        name: &str,
        topic: &str,
        options: PublisherOptions,
        memory: Option<ArenaMemory>,
        returns: Option<&Returns>,
    ) -> Result<Publisher<P>, OpenError> {
        let signal = signal_of(options.get_name(), name);
        let topic = self.open_topic(topic, &P::schema(), Some(validator_of::<P>), &mut |_| true)?;
        returns.inspect(|returns| returns.note(&topic));
        let (_, writer) = self.publish(topic, options, signal, memory)?;
        Publisher::new(writer).map_err(|misfit| OpenError::Refused(misfit.to_string()))
    }

    pub(crate) fn subscriber<P: Payload>(
        &self,
        name: &str,
        topic: &str,
        options: SubscriberOptions,
        await_restarts: bool,
    ) -> Result<Subscriber<P>, OpenError> {
        let signal = signal_of(options.get_name(), name);
        let topic = self.open_topic(topic, &P::schema(), Some(validator_of::<P>), &mut |_| true)?;
        if topic.is_unsealed() {
            return Err(OpenError::Unsealed { topic: topic.name().to_owned() });
        }
        let subscription = topic.subscribe(options.reader(), signal, await_restarts)?;
        // SAFETY: the subscription is to a topic that admitted the schema of `P`, and admits no publisher with
        // another one.
        Ok(unsafe { Subscriber::new(subscription) })
    }

    /// Adds a publisher to a topic that is there.
    pub(crate) fn publish(
        &self,
        topic: Arc<Topic>,
        options: PublisherOptions,
        signal: Arc<Signal>,
        memory: Option<ArenaMemory>,
    ) -> Result<(Arc<Topic>, Writer), OpenError> {
        self.check()?;
        let id = PublisherId::new(self.next_publisher.fetch_add(1, Ordering::Relaxed));
        let writer = topic.publish(id, &options, signal, memory)?;
        Ok((topic, writer))
    }

    /// The topic of that name, which is made if it is not there and `may_create` says so. Nobody but the caller takes part in
    /// a new one, which is removed unless somebody does when the returned reference is dropped.
    pub(crate) fn open_topic(
        &self,
        name: &str,
        schema: &Schema,
        layout: Option<fn() -> Validator>,
        may_create: &mut dyn FnMut(&Arc<Topic>) -> bool,
    ) -> Result<Arc<Topic>, OpenError> {
        self.check()?;
        // Dropped when nothing is locked any more.
        let mut gone = Vec::new();
        let topic = {
            let mut topics = self.topics();
            if self.closed.load(Ordering::Acquire) {
                return Err(OpenError::Closed);
            }
            gone.extend(topics.remove_unused(name));
            match topics.by_name.get(name) {
                Some(topic) => Arc::clone(topic),
                None => {
                    let topic = Arc::new(Topic::new(name, schema.clone())?);
                    if !may_create(&topic) {
                        return Err(OpenError::Refused(format!("topic {name:?} does not exist")));
                    }
                    if topics.by_name.len() >= topics.sweep_at {
                        gone.extend(topics.sweep());
                    }
                    topics.by_name.insert(name.to_owned(), Arc::clone(&topic));
                    topic
                }
            }
        };
        drop(gone);
        topic.admits(schema)?;
        if let Some(layout) = layout {
            topic.learn_layout(layout);
        }
        Ok(topic)
    }

    fn admit_component(&self, name: &str) -> Result<Arc<ComponentControl>, StartError> {
        let control = ComponentControl::named(name);
        let mut components = lock(&self.components);
        if self.closed.load(Ordering::Acquire) {
            return Err(StartError::Closed);
        }
        // One that has ended has left its own reference behind only.
        components.retain(|control| Arc::strong_count(control) > 1);
        components.push(Arc::clone(&control));
        Ok(control)
    }

    /// Removes the topics in which nobody takes part.
    pub(crate) fn sweep(&self) {
        // Dropped when they are not locked any more.
        let _gone = self.topics().sweep();
    }

    fn topics(&self) -> MutexGuard<'_, Topics> {
        lock(&self.topics)
    }

    fn all_topics(&self) -> Vec<Arc<Topic>> {
        self.topics().by_name.values().cloned().collect()
    }

    /// Admits nobody any more, and tells every component to stop.
    fn close(&self, tell: impl Fn(&ComponentControl)) {
        if self.is_inherited() {
            return;
        }
        // Ordering: Release pairs with the Acquire in `open_topic`; the locks below order the rest.
        self.closed.store(true, Ordering::Release);
        // Telling them and ending subscriptions calls wakers, so it happens without a lock.
        let components: Vec<_> = lock(&self.components).clone();
        components.iter().for_each(|control| tell(control));
        self.all_topics().iter().for_each(|topic| topic.close());
    }
}

impl Tasks {
    fn handle(&self) -> Result<Handle, std::io::Error> {
        match self {
            Self::Given(handle) => Ok(handle.clone()),
            Self::Own(runtime, _) => {
                if runtime.get().is_none() {
                    let made = tokio::runtime::Builder::new_multi_thread()
                        .thread_name("blockcast")
                        .on_thread_start(|| {
                            // If that fails now it is tried again when a guest comes.
                            crate::host::wasm::thread::prepare();
                        })
                        .enable_time()
                        .build()?;
                    if let Err(surplus) = runtime.set(made) {
                        surplus.shutdown_background();
                    }
                }
                runtime
                    .get()
                    .map(|runtime| runtime.handle().clone())
                    .ok_or_else(|| std::io::Error::other("the runtime was made and is gone again"))
            }
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        if let Self::Own(runtime, process) = self
            && let Some(runtime) = runtime.take()
        {
            if !process.is_current() {
                // Its threads are the parent's, and may have had its locks.
                std::mem::forget(runtime);
                return;
            }
            // The last reference may be dropped by a task of this very runtime, which must not wait for
            // itself.
            runtime.shutdown_background();
        }
    }
}

/// What a participant waits on, named by its options or else by its component.
fn signal_of(own: &str, component: &str) -> Arc<Signal> {
    Signal::named(if own.is_empty() { component } else { own })
}

/// How bytes are checked against the layout of `P`.
fn validator_of<P: Payload>() -> Validator {
    Arc::new(P::validate)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is changed by single calls of the standard library, so it is sound after a
    // panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A guest's log lines become `tracing` events with the guest's name.
fn log_of(name: &str) -> LogSink {
    let name: Arc<str> = name.into();
    Arc::new(move |level, text| crate::session::trace(&name, level, text))
}

#[cfg(test)]
mod tests {
    use blockcast_blocks::Bytes;

    use super::*;

    #[test]
    fn publisher_numbers_are_unique_beyond_32_bits() {
        let broker = Broker::new();
        let first = u64::from(u32::MAX) - 1;
        broker.shared.next_publisher.store(first, Ordering::Relaxed);
        let options = || PublisherOptions::new().blocks(2).block_size(64);
        let _publishers = [(); 4].map(|()| broker.publisher::<Bytes>("topic", options()).expect("opens"));
        let topic = broker.topic("topic").expect("it is there");
        let numbers: Vec<_> = topic.publishers.iter().map(|channel| channel.publisher.get()).collect();
        assert_eq!(numbers, [first, first + 1, first + 2, first + 3]);
    }
}
