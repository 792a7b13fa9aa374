//! How each app runs: the same source as a task of this program, a guest, a native library or a process.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use blockcast::{
    Broker, Component, ComponentLimits, ComponentOptions, Grants, GuestProgram, GuestSource, LibraryProgram,
    ProcessSource,
};
use clap::ValueEnum;

use crate::library;
use crate::running::GRACE;

/// How the three apps run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Deployment {
    /// All as tasks of this program.
    Native,
    /// The publisher and the first subscriber as tasks, the second subscriber as a guest.
    Mixed,
    /// All as guests: three separate components.
    Wasm,
    /// All as native libraries, built on demand.
    Library,
    /// All in processes of their own, which run this program.
    Process,
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Native => "native",
            Self::Mixed => "mixed",
            Self::Wasm => "wasm",
            Self::Library => "library",
            Self::Process => "process",
        })
    }
}

impl Deployment {
    /// Returns how `app` runs in this deployment.
    fn kind(self, app: App) -> Kind {
        match (self, app) {
            (Self::Native, _) | (Self::Mixed, App::Publisher | App::Subscriber(1)) => Kind::Native,
            (Self::Mixed | Self::Wasm, _) => Kind::Guest,
            (Self::Library, _) => Kind::Library,
            (Self::Process, _) => Kind::Process,
        }
    }
}

/// One of the apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum App {
    /// Cuts the text into lines.
    Publisher,
    /// Reads the lines.
    Subscriber(u32),
}

/// How one app runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As a task of this program.
    Native,
    /// As a wasm guest.
    Guest,
    /// As a native library.
    Library,
    /// In a process of its own.
    Process,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Native => "native",
            Self::Guest => "wasm",
            Self::Library => "library",
            Self::Process => "process",
        })
    }
}

/// An app that runs as this program, in a process that a broker has started for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AsProgram {
    Publisher,
    Subscriber,
}

impl AsProgram {
    /// Runs the app as the whole program.
    pub fn run(self) -> ExitCode {
        match self {
            Self::Publisher => blockcast::process_main(complex_publisher::run),
            Self::Subscriber => blockcast::process_main(complex_subscriber::run),
        }
    }

    /// Returns this program as the source of such a process.
    fn source(self) -> Result<ProcessSource, String> {
        let program =
            std::env::current_exe().map_err(|error| format!("this program cannot start itself: {error}"))?;
        let app = match self {
            Self::Publisher => "publisher",
            Self::Subscriber => "subscriber",
        };
        Ok(ProcessSource::program(program).arguments(["--as-program", app]))
    }
}

/// The apps' code, if it has to be loaded.
pub struct Apps {
    deployment: Deployment,
    publisher: Program,
    subscriber: Program,
}

/// The code of an app.
enum Program {
    /// Linked into this program.
    Linked,
    Guest(GuestProgram),
    Library(LibraryProgram),
    Process(ProcessSource),
}

impl Program {
    fn load(
        broker: &Broker,
        kind: Kind,
        package: &str,
        folder: &str,
        program: AsProgram,
    ) -> Result<Self, String> {
        let loaded = match kind {
            Kind::Native => return Ok(Self::Linked),
            Kind::Process => return program.source().map(Self::Process),
            Kind::Guest => broker.load(&GuestSource::File(guest_path(package, folder))).map(Self::Guest),
            Kind::Library => {
                let file = library::file(package)?;
                // SAFETY: the library was built from the source beside this one, or the user named it to be
                // run. For an app in safe Rust, `blockcast::export!` generates what the host expects.
                unsafe { broker.load_library(file) }.map(Self::Library)
            }
        };
        loaded.map_err(|error| {
            let mut message = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                let more = error.to_string();
                if !message.ends_with(&more) {
                    message = format!("{message}: {more}");
                }
                cause = error.source();
            }
            message
        })
    }
}

impl Apps {
    /// Loads the code that the deployment needs.
    pub fn load(broker: &Broker, deployment: Deployment) -> Result<Self, String> {
        let load = |app, package, folder, program| {
            Program::load(broker, deployment.kind(app), package, folder, program)
        };
        Ok(Self {
            deployment,
            publisher: load(App::Publisher, "complex-publisher", "publisher", AsProgram::Publisher)?,
            subscriber: load(App::Subscriber(2), "complex-subscriber", "subscriber", AsProgram::Subscriber)?,
        })
    }

    /// Returns how `app` runs.
    pub fn kind(&self, app: App) -> Kind {
        self.deployment.kind(app)
    }

    /// Starts an app.
    pub fn start<const N: usize>(
        &self,
        broker: &Broker,
        app: App,
        parameters: [(&str, String); N],
    ) -> Result<Component, String> {
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value));
        let mut limits = ComponentLimits::default();
        limits.shutdown_grace = GRACE * 2; // longer than this program itself waits
        let grants = Grants::new().limits(limits);
        let grants = match app {
            App::Publisher => grants.subscribe("text").publish("lines"),
            App::Subscriber(_) => grants.subscribe("lines").publish("reports"),
        };
        let (program, name) = match app {
            App::Publisher => (&self.publisher, "publisher".to_owned()),
            App::Subscriber(number) => (&self.subscriber, format!("subscriber {number}")),
        };
        let started = match (program, self.kind(app), app) {
            (Program::Guest(program), Kind::Guest, _) => broker.spawn_guest(program, grants, parameters),
            (Program::Library(program), _, _) => broker.spawn_library(program, grants, parameters),
            (Program::Process(source), _, _) => {
                let options = ComponentOptions::new().name(name).grants(grants).parameters(parameters);
                broker.supervise_process(source, options)
            }
            (_, _, App::Publisher) => broker.run(name, grants, parameters, complex_publisher::run),
            (_, _, App::Subscriber(_)) => broker.run(name, grants, parameters, complex_subscriber::run),
        };
        started.map_err(|error| error.to_string())
    }
}

/// Path of the guest `package`: in the folder that `BLOCKCAST_GUESTS` names, or committed beside its source.
fn guest_path(package: &str, folder: &str) -> PathBuf {
    let file = format!("{package}.wasm");
    match std::env::var_os("BLOCKCAST_GUESTS") {
        Some(guests) => PathBuf::from(guests).join(file),
        None => [env!("CARGO_MANIFEST_DIR"), "examples", "complex", folder, &file].iter().collect(),
    }
}
