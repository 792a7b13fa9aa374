//! `blockcast run`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
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
use crate::args::Run;
use crate::input;
use crate::log;
use crate::manifest::Kind;
use crate::plan::{Declared, Instance, Plan};
use crate::stats::Snapshot;

/// Exit code after a second Ctrl-C, as shells have it for a program that was ended by one.
const INTERRUPTED: u8 = 130;

/// `SIGXFSZ`: standard output or error is a file and has become as large as this process may make one.
const FILE_TOO_LARGE: i32 = 25;

/// Runs what the command line asks for, to its end.
pub fn run(arguments: &Run) -> Result<ExitCode, Refused> {
    let plan = Plan::new(arguments)?;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no threads: {error}"))?;
    let outcome = runtime.block_on(deploy(plan, arguments));
    // A thread may be reading the standard input for ever.
    runtime.shutdown_background();
    outcome
}

async fn deploy(plan: Plan, arguments: &Run) -> Result<ExitCode, Refused> {
    let mut interrupts = Interrupts::new().map_err(|error| format!("no signals: {error}"))?;
    // Handled, it makes a write beyond `ulimit -f` an error, which would end the tool otherwise.
    let _too_large = signal(SignalKind::from_raw(FILE_TOO_LARGE));
    let broker = Broker::on_runtime(tokio::runtime::Handle::current());
    let mut loading = arguments.loading.options();
    if let Some(folder) = &plan.cache {
        loading = loading.cache(GuestCache::open(folder).map_err(|error| error.to_string())?);
    }
    broker.load_with(loading).map_err(|error| error.to_string())?;
    // The report tells of all topics, when everybody has left.
    broker.keep_topics();
    for topic in &plan.topics {
        let declared = broker.declare(&topic.name, &topic.schema, topic.validator());
        declared.map_err(|error| format!("topic {:?}: {error}", topic.name))?;
    }
    let programs = tokio::select! {
        programs = load(&broker, &plan.guests) => programs?,
        () = interrupts.next() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let began = Instant::now();
    let mut components = Vec::new();
    let width = plan.guests.iter().map(|guest| guest.name.chars().count()).max().unwrap_or(0);
    for guest in &plan.guests {
        let options = guest.options.clone().log(log::sink(&guest.name, width, guest.log));
        let started = programs[&guest.file].start(&broker, options);
        components.push(started.map_err(|error| format!("{}: {error}", guest.name))?);
    }
    let guests = plan.guests.len();
    let (guests_gone, readers) = input::Readers::new();
    for input in &plan.inputs {
        components.push(input::start(&broker, input, &readers)?);
    }
    let report = Reporter {
        broker: &broker,
        components: &components,
        guests,
        began,
        json: arguments.json,
        width,
        guests_gone,
    };
    let interrupted = report.watch(&mut interrupts, plan.stats).await;
    report.print().await;
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

impl Declared {
    fn validator(&self) -> Option<Validator> {
        let schema = self.checked.clone()?;
        let name = self.schema.name().to_owned();
        Some(Arc::new(move |bytes| {
            schema
                .validate(bytes)
                .map_err(|error| InvalidPayload { schema: name.clone(), reason: error.to_string() })
        }))
    }
}

/// The code of a file.
enum Program {
    Guest(GuestProgram),
    Library(LibraryProgram),
}

impl Program {
    async fn load(broker: &Broker, kind: Kind, file: PathBuf) -> Result<Self, StartError> {
        match kind {
            Kind::Wasm => broker.load_in_background(GuestSource::File(file)).await.map(Self::Guest),
            Kind::Library => {
                let broker = broker.clone();
                // SAFETY: the user has said that this file's code is to run here (`--native`, or `[[library]]`), and so
                // vouches for it.
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

/// Loads each file once, all at the same time.
async fn load(broker: &Broker, guests: &[Instance]) -> Result<BTreeMap<PathBuf, Program>, Refused> {
    let mut files = BTreeMap::new();
    for guest in guests {
        files.entry(guest.file.clone()).or_insert((guest.kind, &guest.said_by));
    }
    let loading = files.into_iter().map(|(file, (kind, said_by))| async move {
        match Program::load(broker, kind, file.clone()).await {
            Ok(program) => Ok((file, program)),
            Err(error) => {
                let error = chain(&error);
                Err(said_by.as_ref().map_or(error.clone(), |said_by| format!("{said_by}\n    {error}")))
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

/// An error with its causes.
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

/// Why a component counts as failed, if it does.
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

/// Ctrl-C, or a request to terminate.
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

/// Tells the user what happens.
struct Reporter<'a> {
    broker: &'a Broker,
    /// The guests, then the inputs.
    components: &'a [Component],
    guests: usize,
    began: Instant,
    json: bool,
    width: usize,
    /// Learns when all guests have ended.
    guests_gone: watch::Sender<bool>,
}

impl Reporter<'_> {
    /// Tells of ends and prints counters until all have ended; says whether the user has ended them.
    async fn watch(&self, interrupts: &mut Interrupts, every: Option<Duration>) -> bool {
        let mut watched: FuturesUnordered<_> =
            self.components.iter().map(|component| self.tell_of_ends(component)).collect();
        let every = every.filter(|every| !every.is_zero());
        // Without a wish, so rarely that it never happens.
        let mut ticks = tokio::time::interval(every.unwrap_or(Duration::from_secs(1 << 30)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        ticks.tick().await;
        let guests = self.components[..self.guests].iter().map(Component::ended);
        let mut guests: FuturesUnordered<_> = guests.collect();
        let mut asked = false;
        loop {
            tokio::select! {
                ended = watched.next() => if ended.is_none() { return false },
                // Inputs end then, too.
                guest = guests.next(), if !*self.guests_gone.borrow() => if guest.is_none() {
                    // Nobody listens where there are no inputs.
                    let _ = self.guests_gone.send(true);
                },
                _ = ticks.tick() => self.print().await,
                () = interrupts.next() => {
                    if asked {
                        self.components.iter().for_each(Component::cancel);
                        while watched.next().await.is_some() {}
                        return true;
                    }
                    asked = true;
                    log::say("asked all to finish; again ends them");
                    self.broker.shut_down();
                }
            }
        }
    }

    async fn tell_of_ends(&self, component: &Component) {
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
        let guests = &self.components[..self.guests];
        let snapshot = Snapshot::take(self.began.elapsed(), guests, &self.broker.topics()).await;
        // Ignore a closed standard output, or a file that may not grow.
        let mut out = std::io::stdout().lock();
        if self.json {
            let _ = writeln!(out, "{}", log::printable_json(&snapshot.json()));
        } else {
            let _ = writeln!(out, "{}", log::printable(&snapshot.table()));
        }
    }
}
