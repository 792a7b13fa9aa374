//! How the apps run: the same source as a task of this program or as a wasm guest.

use std::fmt;
use std::path::PathBuf;

use blockcast::{Broker, Component, Grants, GuestLimits, GuestProgram, GuestSource};
use clap::ValueEnum;

use crate::running::GRACE;

/// Where the three apps run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Deployment {
    /// All as tasks of this program.
    Native,
    /// The publisher and the first subscriber as tasks, the second subscriber as a guest.
    Mixed,
    /// All as guests, three separate components.
    Wasm,
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Native => "native",
            Self::Mixed => "mixed",
            Self::Wasm => "wasm",
        })
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
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Native => "native",
            Self::Guest => "wasm",
        })
    }
}

/// The apps' code, as far as it has to be loaded.
pub struct Apps {
    deployment: Deployment,
    publisher: Option<GuestProgram>,
    subscriber: Option<GuestProgram>,
}

impl Apps {
    /// Loads the guests that the deployment needs.
    pub fn load(broker: &Broker, deployment: Deployment) -> Result<Self, String> {
        let load = |package: &str, folder: &str| {
            let path = guest_path(package, folder);
            broker.load(&GuestSource::File(path)).map(Some).map_err(|error| {
                let mut message = error.to_string();
                let mut cause = std::error::Error::source(&error);
                while let Some(error) = cause {
                    message = format!("{message}: {error}");
                    cause = error.source();
                }
                message
            })
        };
        let mut apps = Self { deployment, publisher: None, subscriber: None };
        if apps.kind(App::Publisher) == Kind::Guest {
            apps.publisher = load("complex-publisher", "publisher")?;
        }
        if apps.kind(App::Subscriber(2)) == Kind::Guest {
            apps.subscriber = load("complex-subscriber", "subscriber")?;
        }
        Ok(apps)
    }

    /// How an app runs.
    pub fn kind(&self, app: App) -> Kind {
        match (self.deployment, app) {
            (Deployment::Native, _) | (Deployment::Mixed, App::Publisher | App::Subscriber(1)) => {
                Kind::Native
            }
            (Deployment::Mixed | Deployment::Wasm, _) => Kind::Guest,
        }
    }

    /// Starts an app.
    pub fn start<const N: usize>(
        &self,
        broker: &Broker,
        app: App,
        parameters: [(&str, String); N],
    ) -> Result<Component, String> {
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value));
        let mut limits = GuestLimits::default();
        limits.shutdown_grace = GRACE * 2; // this program has its own eye on it
        let grants = Grants::new().limits(limits);
        let grants = match app {
            App::Publisher => grants.subscribe("text").publish("lines"),
            App::Subscriber(_) => grants.subscribe("lines").publish("reports"),
        };
        let program = match app {
            App::Publisher => &self.publisher,
            App::Subscriber(_) => &self.subscriber,
        };
        let started = match (self.kind(app), program) {
            (Kind::Guest, Some(program)) => broker.spawn_guest(program, grants, parameters),
            _ => match app {
                App::Publisher => broker.run("publisher", grants, parameters, complex_publisher::run),
                App::Subscriber(number) => {
                    broker.run(format!("subscriber {number}"), grants, parameters, complex_subscriber::run)
                }
            },
        };
        started.map_err(|error| error.to_string())
    }
}

/// The guest of `package`: in the folder that `BLOCKCAST_GUESTS` names, or beside its source, where it is
/// committed.
fn guest_path(package: &str, folder: &str) -> PathBuf {
    let file = format!("{package}.wasm");
    match std::env::var_os("BLOCKCAST_GUESTS") {
        Some(guests) => PathBuf::from(guests).join(file),
        None => [env!("CARGO_MANIFEST_DIR"), "examples", "complex", folder, &file].iter().collect(),
    }
}
