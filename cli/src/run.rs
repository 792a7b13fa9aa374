//! `blockcast run`: runs a plan and reports what happens.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockcast::{
    Broker, Component, ComponentOptions, ComponentState, ExitReason, GuestCache, GuestProgram, GuestSource,
    InvalidPayload, LibraryProgram, StartError, Validator,
};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::Refused;
use crate::args::{Loading, Run};
use crate::bridge::{Planned, Running};
use crate::hosting;
use crate::input;
use crate::log;
use crate::manifest::Kind;
use crate::plan::{Declared, Instance, Plan};
use crate::stats::Snapshot;

/// Exit code after a second Ctrl-C: the one that shells report for a program ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// `SIGXFSZ`: standard output or error is a file that has reached the process's size limit.
const FILE_TOO_LARGE: i32 = 25;

/// Runs everything that the command line names until it ends.
pub fn run(arguments: &Run) -> Result<ExitCode, Refused> {
    let plan = Plan::new(arguments)?;
    let settings = Settings { loading: &arguments.loading, json: arguments.json, socket: None };
    start(plan, settings, "warn")
}

/// How to run a plan.
pub struct Settings<'a> {
    pub loading: &'a Loading,
    /// Print the counters as JSON.
    pub json: bool,
    /// Where to host the topics, if other processes may join.
    pub socket: Option<hosting::Socket>,
}

/// Runs a plan until it ends. `log` selects the broker's own log lines, unless the environment does.
pub fn start(plan: Plan, settings: Settings<'_>, log: &str) -> Result<ExitCode, Refused> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| log.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))?;
    let outcome = runtime.block_on(deploy(plan, settings));
    // A thread may be blocked on standard input forever.
    runtime.shutdown_background();
    outcome
}

async fn deploy(plan: Plan, settings: Settings<'_>) -> Result<ExitCode, Refused> {
    let mut interrupts = Interrupts::new().map_err(|error| format!("cannot handle signals: {error}"))?;
    // With a handler, a write beyond `ulimit -f` is an error. Otherwise it would end the tool.
    let _too_large = signal(SignalKind::from_raw(FILE_TOO_LARGE));
    let broker = Broker::on_runtime(tokio::runtime::Handle::current());
    let mut loading = settings.loading.options();
    if let Some(folder) = &plan.cache {
        loading = loading.cache(GuestCache::open(folder).map_err(|error| error.to_string())?);
    }
    broker.load_with(loading).map_err(|error| error.to_string())?;
    let hosts = settings.socket.is_some();
    if !hosts {
        // The final report includes all topics, when every participant has left. A host may see any number.
        broker.keep_topics();
    }
    for topic in &plan.topics {
        let declared = broker.declare(&topic.name, &topic.schema, topic.validator());
        declared.map_err(|error| format!("topic {:?}: {error}", topic.name))?;
    }
    let programs = tokio::select! {
        programs = load(&broker, &plan.components) => programs?,
        () = interrupts.next() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let serving = settings.socket.map(|socket| socket.serve(&broker, &plan.serve)).transpose()?;
    let began = Instant::now();
    let mut components = Vec::new();
    let width = plan.components.iter().map(|instance| instance.name.chars().count()).max().unwrap_or(0);
    let bridges = match &serving {
        Some(serving) => start_bridges(&plan.bridges, width, serving.path())?,
        None => Vec::new(),
    };
    for instance in &plan.components {
        let options = instance.options.clone().log(log::sink(&instance.name, width, instance.log));
        let started = match &instance.process {
            Some(process) => broker.supervise_process(process, options),
            None => programs[&instance.file].start(&broker, options),
        };
        components.push(started.map_err(|error| format!("{}: {error}", instance.name))?);
    }
    let instances = plan.components.len();
    let (readers_gone, readers) = input::Readers::new();
    for input in &plan.inputs {
        components.push(input::start(&broker, input, &readers)?);
    }
    let report = Reporter {
        broker: &broker,
        components: &components,
        instances,
        began,
        json: settings.json,
        width,
        readers_gone,
        hosts,
    };
    let interrupted = report.watch(&mut interrupts, plan.stats).await;
    // They send what the components have published last.
    drop(bridges);
    drop(serving);
    if !hosts || !components.is_empty() {
        report.print().await;
    }
    let failed: Vec<String> = components.iter().filter_map(failure).collect();
    for failed in &failed {
        log::say(failed);
    }
    Ok(match (interrupted, failed.is_empty()) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    })
}

/// Starts the programs that carry topics to other machines.
fn start_bridges(planned: &[Planned], width: usize, socket: &Path) -> Result<Vec<Running>, Refused> {
    let start = |(index, planned): (usize, &Planned)| {
        let name = if index == 0 { "bridge".to_owned() } else { format!("bridge-{}", index + 1) };
        planned.start(&name, width, socket)
    };
    planned.iter().enumerate().map(start).collect()
}

impl Declared {
    fn validator(&self) -> Option<Validator> {
        let schema = self.flat.clone()?;
        let name = self.schema.name().to_owned();
        Some(Arc::new(move |bytes| {
            schema
                .validate(bytes)
                .map_err(|error| InvalidPayload { schema: name.clone(), reason: error.to_string() })
        }))
    }
}

/// The code loaded from a file.
enum Program {
    Guest(GuestProgram),
    Library(LibraryProgram),
}

impl Program {
    async fn load(broker: &Broker, kind: Kind, file: PathBuf) -> Result<Self, StartError> {
        match kind {
            Kind::Wasm => broker.load_in_background(GuestSource::File(file)).await.map(Self::Guest),
            Kind::Library | Kind::Program => {
                let broker = broker.clone();
                // SAFETY: with `--native` or `[[library]]`, the user vouches for the file's code.
                let loading = tokio::task::spawn_blocking(move || unsafe { broker.load_library(&file) });
                loading.await.map_err(std::io::Error::other)?.map(Self::Library)
            }
        }
    }

    fn start(&self, broker: &Broker, options: ComponentOptions) -> Result<Component, StartError> {
        match self {
            Self::Guest(program) => broker.supervise_guest(program, options),
            Self::Library(program) => broker.supervise_library(program, options),
        }
    }
}

/// Loads each file once, all of them concurrently.
async fn load(broker: &Broker, instances: &[Instance]) -> Result<BTreeMap<PathBuf, Program>, Refused> {
    let mut files = BTreeMap::new();
    for instance in instances.iter().filter(|instance| instance.process.is_none()) {
        files.entry(instance.file.clone()).or_insert((instance.kind, &instance.error_prefix));
    }
    let loading = files.into_iter().map(|(file, (kind, prefix))| async move {
        match Program::load(broker, kind, file.clone()).await {
            Ok(program) => Ok((file, program)),
            Err(error) => {
                let error = chain(&error);
                Err(prefix.as_ref().map_or(error.clone(), |prefix| format!("{prefix}\n    {error}")))
            }
        }
    });
    let mut loading: FuturesUnordered<_> = loading.collect();
    let mut programs = BTreeMap::new();
    while let Some(loaded) = loading.next().await {
        let (file, program) = loaded?;
        programs.insert(file, program);
    }
    Ok(programs)
}

/// Formats an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Returns why a component has failed, if it has.
fn failure(component: &Component) -> Option<String> {
    let reason = component.report()?.reason;
    let name = component.name();
    match (reason, component.state()) {
        (ExitReason::Finished | ExitReason::Cancelled, ComponentState::Ended) => None,
        (reason, ComponentState::GivenUp) => {
            Some(format!("{name} was given up after {} restarts: {reason}", component.restarts()))
        }
        (reason, _) => Some(format!("{name} {reason}")),
    }
}

/// Receives Ctrl-C and requests to terminate.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Reports events to the user.
struct Reporter<'a> {
    broker: &'a Broker,
    /// The guests and libraries, followed by the inputs.
    components: &'a [Component],
    /// Number of guests and libraries.
    instances: usize,
    began: Instant,
    json: bool,
    width: usize,
    /// Receives `true` when all guests and libraries have ended.
    readers_gone: watch::Sender<bool>,
    /// Whether other processes may join, so that this continues without components.
    hosts: bool,
}

impl Reporter<'_> {
    /// Reports ends and prints counters until all components have ended. Returns `true` if the user has ended
    /// them.
    async fn watch(&self, interrupts: &mut Interrupts, every: Option<Duration>) -> bool {
        let mut watched: FuturesUnordered<_> =
            self.components.iter().map(|component| self.report_ends(component)).collect();
        let every = every.filter(|every| !every.is_zero());
        // Without an interval, the period is so long that it never ends.
        let mut ticks = tokio::time::interval(every.unwrap_or(Duration::from_secs(1 << 30)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        ticks.tick().await;
        let instances = self.components[..self.instances].iter().map(Component::ended);
        let mut instances: FuturesUnordered<_> = instances.collect();
        let mut asked = false;
        loop {
            tokio::select! {
                ended = watched.next(), if asked || !self.hosts || !watched.is_empty() => {
                    if ended.is_none() {
                        return false;
                    }
                }
                // Once all have ended, the inputs end, too.
                instance = instances.next(), if !*self.readers_gone.borrow() => if instance.is_none() {
                    // Without inputs, nobody receives this.
                    let _ = self.readers_gone.send(true);
                },
                _ = ticks.tick() => self.print().await,
                () = interrupts.next() => {
                    if asked {
                        self.components.iter().for_each(Component::cancel);
                        while watched.next().await.is_some() {}
                        return true;
                    }
                    asked = true;
                    log::say(&self.farewell());
                    self.broker.shut_down();
                }
            }
        }
    }

    /// Describes what happens next after the first Ctrl-C.
    fn farewell(&self) -> String {
        let running = self.components.iter().filter(|component| component.report().is_none());
        let running: Vec<_> = running.map(|component| component.name()).collect();
        match (running.is_empty(), self.hosts) {
            (false, true) => {
                let running = running.join(", ");
                format!("asked all to finish: waiting for {running}; press Ctrl-C again to end them")
            }
            (true, true) => "ends; processes that share topics go on without a host".to_owned(),
            (_, false) => "asked all to finish; press Ctrl-C again to end them".to_owned(),
        }
    }

    async fn report_ends(&self, component: &Component) {
        let mut run = 0;
        while let Some(exit) = component.exit_of(run).await {
            run = exit.run + 1;
            let word = if exit.reason.is_success() { "ENDED" } else { "ERROR" };
            let mut text = format!("{} after {:.1?}", exit.reason, exit.lasted);
            if let ExitReason::Trapped { backtrace, .. } = &exit.reason
                && !backtrace.is_empty()
            {
                text = format!("{text}\n{backtrace}");
            }
            log::about(component.name(), self.width, word, &text);
        }
    }

    async fn print(&self) {
        let instances = &self.components[..self.instances];
        let snapshot = Snapshot::take(self.began.elapsed(), instances, &self.broker.topics()).await;
        // Ignore a closed standard output, or a file at its size limit.
        let mut out = std::io::stdout().lock();
        if self.json {
            let _ = writeln!(out, "{}", log::printable_json(&snapshot.json()));
        } else {
            let _ = writeln!(out, "{}", log::printable(&snapshot.table()));
        }
    }
}
