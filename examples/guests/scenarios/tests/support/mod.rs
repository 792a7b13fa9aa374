//! Runs the apps of a case, each in its own deployment, and collects their logs.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blockcast::{
    Broker, Component, ComponentLimits, ComponentOptions, ExitReason, Grants, GuestProgram, GuestSource,
    Isolation, Level, LibraryProgram, ProcessSource,
};

mod library;
mod module;

/// Bounds the wait until all apps of a case run, and then until all have ended. They are all compiled before
/// the first one starts.
const PATIENCE: Duration = Duration::from_secs(600);

/// How an app runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deployment {
    Linked,
    Component,
    Module,
    Strict,
    Copied,
    Library,
    Process,
}

impl Deployment {
    pub fn all() -> &'static [Self] {
        &[
            Self::Linked,
            Self::Component,
            Self::Module,
            Self::Strict,
            Self::Copied,
            Self::Library,
            Self::Process,
        ]
    }

    fn start(self, broker: &Broker, options: ComponentOptions, grants: Grants) -> Component {
        let mut limits = ComponentLimits::default();
        // Some apps keep nearly all blocks.
        limits.pool_share = 100;
        limits.isolation = match self {
            Self::Strict => Isolation::Strict,
            Self::Copied => Isolation::Copied,
            _ => Isolation::Arena,
        };
        let options = options.grants(grants.limits(limits));
        let started = match self {
            Self::Linked => broker.supervise(options, guest_scenarios::run),
            Self::Library => broker.supervise_library(&LIBRARY, options),
            Self::Process => broker.supervise_process(&ProcessSource::program(PROGRAM), options),
            Self::Module => broker.supervise_guest(&MODULE, options),
            Self::Component | Self::Strict | Self::Copied => broker.supervise_guest(&COMPONENT, options),
        };
        started.expect("the app starts")
    }
}

/// The apps as an ordinary program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_scenarios_program");

/// Compiled once for all tests.
static COMPONENT: LazyLock<GuestProgram> = LazyLock::new(|| {
    let file = guest_scenarios::component_file();
    Broker::new().load(&GuestSource::File(file)).expect("the guest loads")
});

static MODULE: LazyLock<GuestProgram> = LazyLock::new(|| {
    let file = std::fs::read(guest_scenarios::component_file()).expect("the guest's file");
    let module = module::core_module(&file).expect("a component has a core module");
    Broker::new().load(&GuestSource::bytes("module", module)).expect("the guest loads")
});

/// Built by cargo, once for all tests.
static LIBRARY: LazyLock<LibraryProgram> = LazyLock::new(library::load);

/// Returns the mixes of deployments for a number of apps: all pairs for the first two, and a third that
/// rotates so that it forms all pairs with each of them.
pub fn mixes(apps: usize) -> impl Iterator<Item = Vec<Deployment>> {
    let all = Deployment::all();
    let pairs = (0..all.len()).flat_map(|first| (0..all.len()).map(move |second| (first, second)));
    pairs.map(move |(first, second)| {
        let third = (first + second) % all.len();
        [first, second, third].into_iter().take(apps).map(|index| all[index]).collect()
    })
}

/// How an app ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Finished,
    Failed(&'static str),
    Panicked(&'static str),
    Cancelled,
}

impl End {
    /// Returns whether `reason` is this end. Deployments embed a panic's message differently.
    pub fn is(self, reason: &ExitReason) -> bool {
        match (self, reason) {
            (Self::Finished, ExitReason::Finished) | (Self::Cancelled, ExitReason::Cancelled) => true,
            (Self::Failed(text), ExitReason::Failed(found)) => text == found,
            (Self::Panicked(text), ExitReason::Trapped { message, .. }) => message.contains(text),
            _ => false,
        }
    }
}

/// Log and end of an app.
#[derive(Debug)]
pub struct Outcome {
    pub reason: ExitReason,
    pub says: Vec<String>,
}

#[derive(Default)]
struct Said {
    /// Keyed by role.
    lines: Mutex<BTreeMap<String, Vec<String>>>,
    changed: Condvar,
}

impl Said {
    fn lines(&self) -> MutexGuard<'_, BTreeMap<String, Vec<String>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A broker with the running apps of a case.
pub struct Stage {
    pub broker: Broker,
    said: Arc<Said>,
    components: Vec<(&'static str, Component)>,
}

impl Stage {
    /// Starts the apps in order.
    pub fn start(case: &str, roles: impl Iterator<Item = (&'static str, Deployment)>) -> Self {
        let broker = Broker::new();
        let said = Arc::new(Said::default());
        let components = roles.map(|(role, deployment)| {
            let said = Arc::clone(&said);
            let options =
                ComponentOptions::new().name(role).parameter("scenario", case).parameter("role", role).log(
                    Arc::new(move |level, line| {
                        // What a process writes to standard error, such as the message of a panic, is not the
                        // app's log.
                        if deployment == Deployment::Process && level == Level::Warn {
                            return;
                        }
                        said.lines().entry(role.to_owned()).or_default().push(line.to_owned());
                        said.changed.notify_all();
                    }),
                );
            // Everything except `secret`, which a case uses as a topic that is not granted.
            let words = [
                "numbers",
                "left",
                "right",
                "both",
                "published",
                "ready",
                "look*",
                "ended",
                "end seen",
                "there*",
                "went*",
            ];
            let grants =
                words.iter().fold(Grants::new(), |grants, word| grants.publish(*word).subscribe(*word));
            (role, deployment.start(&broker, options, grants))
        });
        let components = components.collect();
        Self { broker, said, components }
    }

    pub fn component(&self, role: &str) -> &Component {
        let found = self.components.iter().find(|(name, _)| *name == role);
        found.map(|(_, component)| component).expect("the case has this role")
    }

    /// Waits until `count` apps have logged that they are running.
    pub fn running(&self, count: usize) {
        let waiting = |lines: &mut BTreeMap<String, Vec<String>>| {
            lines.values().filter(|lines| lines.iter().any(|line| line == "running")).count() < count
        };
        let waited = self.said.changed.wait_timeout_while(self.said.lines(), PATIENCE, waiting);
        let (lines, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "not all are running: {lines:?}");
    }

    /// Waits until all apps have ended.
    pub fn outcomes(self, mix: &[Deployment]) -> Vec<Outcome> {
        let deadline = Instant::now() + PATIENCE;
        let mut outcomes = Vec::new();
        for (role, component) in &self.components {
            while component.report().is_none() {
                assert!(Instant::now() < deadline, "{role} of {mix:?} does not end: {:?}", self.said.lines());
                std::thread::sleep(Duration::from_micros(200));
            }
            let reason = component.wait().reason;
            let says = self.said.lines().remove(*role).unwrap_or_default();
            outcomes.push(Outcome { reason, says });
        }
        outcomes
    }
}
