//! How each app runs: the same source as a task of this program, a wasm guest or a native library.

use std::fmt;
use std::path::PathBuf;

use blockcast::{Broker, Component, ComponentLimits, Grants, GuestProgram, GuestSource, LibraryProgram};
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
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Native => "native",
            Self::Mixed => "mixed",
            Self::Wasm => "wasm",
            Self::Library => "library",
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
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Native => "native",
            Self::Guest => "wasm",
            Self::Library => "library",
        })
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
}

impl Program {
    fn load(broker: &Broker, kind: Kind, package: &str, folder: &str) -> Result<Self, String> {
        let loaded = match kind {
            Kind::Native => return Ok(Self::Linked),
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
        let load = |app, package, folder| Program::load(broker, deployment.kind(app), package, folder);
        Ok(Self {
            deployment,
            publisher: load(App::Publisher, "complex-publisher", "publisher")?,
            subscriber: load(App::Subscriber(2), "complex-subscriber", "subscriber")?,
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
