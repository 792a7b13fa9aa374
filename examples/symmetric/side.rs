//! One deployment of the app with its own broker, and the other end of its topics.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use blockcast::{
    Broker, Component, ExitReason, Grants, GuestSource, Publisher, PublisherOptions, Subscriber,
    SubscriberOptions,
};
use symmetric_app::{Burst, Reading, Told, fold};

use crate::{Error, Row, library};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the app runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deployment {
    /// As a task of this program.
    Linked,
    /// As a native library, loaded at run time.
    Library,
    /// As a wasm component.
    Component,
}

impl Deployment {
    pub const ALL: [Self; 3] = [Self::Linked, Self::Library, Self::Component];

    fn start(self, broker: &Broker, burst: Burst) -> Result<Component, Error> {
        let grants = Grants::new().subscribe("in").subscribe("go").publish("out").publish("told");
        Ok(match self {
            Self::Linked => broker.run("linked", grants, burst.parameters(), symmetric_app::run)?,
            Self::Library => {
                let file = library::build("symmetric-app")?;
                // SAFETY: built just now from this repository's source, which is safe Rust with
                // `blockcast::export!`.
                let library = unsafe { broker.load_library(file) }?;
                broker.spawn_library(&library, grants, burst.parameters())?
            }
            Self::Component => {
                let component = broker.load(&GuestSource::File(component_file()))?;
                broker.spawn_guest(&component, grants, burst.parameters())?
            }
        })
    }
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Linked => "linked",
            Self::Library => "library",
            Self::Component => "component",
        })
    }
}

/// Path of the component: beside the app's source, or in the folder that `BLOCKCAST_GUESTS` names.
fn component_file() -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/symmetric/app");
    let folder = std::env::var_os("BLOCKCAST_GUESTS").unwrap_or_else(|| beside.into());
    PathBuf::from(folder).join("symmetric-app.wasm")
}

/// The app in one deployment.
pub struct Side {
    deployment: Deployment,
    burst: Burst,
    component: Component,
    go: Publisher<Reading>,
    input: Publisher<Reading>,
    output: Subscriber<Reading>,
    told: Subscriber<Reading>,
    bursts: Vec<Told>,
    /// Checksum of the last burst that the app published.
    checksum: u64,
    /// A broker's components end with it.
    _broker: Broker,
}

impl Side {
    /// Starts the app and waits until it has subscribed.
    pub fn start(deployment: Deployment, burst: Burst) -> Result<Self, Error> {
        let broker = Broker::new();
        let output = broker.subscriber("out", SubscriberOptions::new())?;
        let told = broker.subscriber("told", SubscriberOptions::new())?;
        let input = broker.publisher("in", burst.options())?;
        let go = broker.publisher("go", PublisherOptions::new().block_size(64).blocks(2))?;
        let component = deployment.start(&broker, burst)?;
        let deadline = Instant::now() + PATIENCE;
        while input.subscriber_count() == 0 || go.subscriber_count() == 0 {
            if let Some(report) = component.report() {
                return Err(report.reason.to_string().into());
            }
            if Instant::now() > deadline {
                return Err("it does not subscribe".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Self {
            deployment,
            burst,
            component,
            go,
            input,
            output,
            told,
            bursts: Vec::new(),
            checksum: 0,
            _broker: broker,
        })
    }

    /// Lets the app receive one burst and publish one.
    pub fn burst(&mut self, counted: bool) -> Result<(), Error> {
        let deadline = Some(Instant::now() + PATIENCE);
        for number in 0..u64::from(self.burst.messages) {
            self.burst
                .send(self.input.blocking_loan(deadline)?, number)
                .map_err(|error| -> Error { error })?;
        }
        self.go.blocking_loan(deadline)?.send(&[0][..])?;
        let Self { deployment, component, told, .. } = self;
        let told = told.blocking_recv_ref(deadline).map_err(|error| match component.report() {
            Some(report) => format!("{deployment}: {}", report.reason),
            None => format!("{deployment}: {error}"),
        })?;
        let told = Told::read(told.view()).ok_or("the app says something else")?;
        self.checksum = 0;
        for _ in 0..self.burst.messages {
            self.checksum = fold(self.checksum, self.output.blocking_recv_ref(deadline)?.view());
        }
        self.bursts.extend(counted.then_some(told));
        Ok(())
    }

    /// Ends the app and returns its results.
    pub fn finish(self) -> Result<Row, Error> {
        let Self { deployment, burst, component, go, input, bursts, checksum, .. } = self;
        drop((go, input));
        let reason = component.wait().reason;
        if reason != ExitReason::Finished {
            return Err(format!("{deployment}: {reason}").into());
        }
        let seen = bursts.last().map_or(0, |told| told.checksum);
        if bursts.iter().any(|told| told.checksum != seen) {
            return Err(format!("{deployment}: not every burst was the same").into());
        }
        let median = |of: fn(&Told) -> f64| {
            let mut all: Vec<f64> = bursts.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
        };
        Ok(Row {
            deployment,
            receiving: median(|told| told.received as f64) / f64::from(burst.messages),
            publishing: median(|told| told.published as f64) / f64::from(burst.messages),
            call: median(Told::call),
            checksums: (seen, checksum),
        })
    }
}
