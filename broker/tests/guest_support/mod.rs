//! What the guest tests share: a bus of topics, components written as text, and a look at the process from outside.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    unused_macros,
    reason = "every test program uses a part of it"
)]

pub mod bus;
pub mod child;
pub mod process;
pub mod wasi;
pub mod wat;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use blockcast_broker::{
    ComponentControl, ComponentLimits, ComponentReport, ExitReason, GuestEngine, GuestProgram, GuestSetup,
    GuestSource, Isolation, Level, TopicAccess,
};

/// What the guests of a test are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Component,
    Module,
}

/// Which guests a module of tests is about: the same tests run for several kinds.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub form: Form,
    pub isolation: Isolation,
}

impl Kind {
    /// A guest of this kind whose module body is `body`; see [`wat::component`].
    pub fn guest(self, engine: &Arc<GuestEngine>, exchange: Arc<dyn TopicAccess>, body: &str) -> Guest {
        Guest::of_form(self.form, engine, exchange, body).limits(|limits| limits.isolation = self.isolation)
    }
}

impl Form {
    /// A guest of this form; see [`wat::component`].
    pub fn guest(self, name: &str, body: &str) -> GuestSource {
        let code = match self {
            Self::Component => wat::component(body),
            Self::Module => wat::module(body),
        };
        GuestSource::bytes(name, code.into_bytes())
    }
}

/// Checks that a guest ended because of a write to the `bytes` of a read-only block of `topic`.
///
/// Any of these bytes may be the one that the violation names: the processor and the C library choose the order in which
/// they write several bytes.
#[track_caller]
pub fn assert_violation(reason: &ExitReason, topic: &str, bytes: Range<u64>, offence: &str) {
    match reason {
        ExitReason::ReadOnlyViolation { topic: of, offset } if of == topic && bytes.contains(offset) => (),
        other => panic!("{offence}: {other:?}, and not a violation of {topic:?} within {bytes:?}"),
    }
}

/// Lines that a guest has logged.
pub type Log = Arc<Mutex<Vec<String>>>;

/// A guest about to run, and what can be seen of it from outside.
pub struct Guest {
    pub program: GuestProgram,
    pub setup: GuestSetup,
    pub log: Log,
}

impl Guest {
    /// A component whose module body is `body` (see [`wat::component`]).
    pub fn new(engine: &Arc<GuestEngine>, exchange: Arc<dyn TopicAccess>, body: &str) -> Self {
        Self::of_form(Form::Component, engine, exchange, body)
    }

    /// Like [`new`](Self::new), for a guest of the given form.
    pub fn of_form(
        form: Form,
        engine: &Arc<GuestEngine>,
        exchange: Arc<dyn TopicAccess>,
        body: &str,
    ) -> Self {
        let program = GuestProgram::load(engine, &form.guest("test", body));
        Self::of_program(program.unwrap_or_else(|error| panic!("{error}\n{body}")), exchange)
    }

    /// A guest of a program of its own.
    pub fn of_program(program: GuestProgram, exchange: Arc<dyn TopicAccess>) -> Self {
        let log = Log::default();
        let lines = Arc::clone(&log);
        let setup = GuestSetup {
            name: "test".to_owned(),
            topics: exchange,
            parameters: BTreeMap::new(),
            limits: ComponentLimits::default(),
            wasi: Vec::new(),
            log: Arc::new(move |_: Level, line: &str| lines.lock().unwrap().push(line.to_owned())),
            control: ComponentControl::new(),
        };
        Self { program, setup, log }
    }

    pub fn limits(mut self, change: impl FnOnce(&mut ComponentLimits)) -> Self {
        change(&mut self.setup.limits);
        self
    }

    pub async fn run(&self) -> ComponentReport {
        self.program.run(self.setup.clone()).await
    }

    /// Runs as a task of its own.
    pub fn spawn(&self) -> tokio::task::JoinHandle<ComponentReport> {
        let (program, setup) = (self.program.clone(), self.setup.clone());
        tokio::spawn(async move { program.run(setup).await })
    }

    /// The numbers that the guest has logged with `$report` under `tag`.
    pub fn reported(&self, tag: char) -> Vec<u64> {
        let prefix = format!("{tag}:");
        let lines = self.log.lock().unwrap();
        let numbers = lines.iter().filter_map(|line| line.strip_prefix(&prefix));
        numbers.map(|number| u64::from_str_radix(number, 16).expect("a number")).collect()
    }
}
