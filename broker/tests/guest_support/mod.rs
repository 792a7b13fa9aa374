//! Shared by the tests of guests: a bus of topics, guests written as text, and the state of the process.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    unused_macros,
    reason = "each test program uses only a part of it"
)]

pub mod bus;
pub mod child;
pub mod codes;
pub mod process;
pub mod wasi;
pub mod wat;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use blockcast_blocks::{Bytes, ChannelConfig, Payload, PublisherId};
use blockcast_broker::{
    Broker, Component, ComponentControl, ComponentLimits, ComponentOptions, ComponentReport, ExitReason,
    Grants, GuestEngine, GuestProgram, GuestSetup, GuestSource, Isolation, Level, RestartPolicy, TopicAccess,
};

/// The binary form of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Component,
    Module,
}

/// The kind of guest that a module of tests runs. The same tests run for several kinds.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub form: Form,
    pub isolation: Isolation,
}

impl Kind {
    /// Builds a guest of this kind whose core module contains `body`; see [`wat::component`].
    pub fn guest(self, engine: &Arc<GuestEngine>, exchange: Arc<dyn TopicAccess>, body: &str) -> Guest {
        Guest::of_form(self.form, engine, exchange, body).limits(|limits| limits.isolation = self.isolation)
    }
}

impl Form {
    /// Writes a guest of this form whose core module contains `body`; see [`wat::component`].
    pub fn source(self, name: &str, body: &str) -> GuestSource {
        let code = match self {
            Self::Component => wat::component(body),
            Self::Module => wat::module(body),
        };
        GuestSource::bytes(name, code.into_bytes())
    }
}

/// Checks that a guest ended because it wrote to the `bytes` of a read-only block of `topic`.
///
/// The violation may name any of these bytes, because the processor and the C library choose the order in
/// which they write several bytes.
#[track_caller]
pub fn assert_violation(reason: &ExitReason, topic: &str, bytes: Range<u64>, body: &str) {
    match reason {
        ExitReason::ReadOnlyViolation { topic: of, offset } if of == topic && bytes.contains(offset) => (),
        other => panic!("{body}: {other:?} is not a violation of {topic:?} within {bytes:?}"),
    }
}

/// Runs a guest that writes to the first message it receives, such as a [`wat::violator`]. The violation must
/// name one of `bytes`, and another subscriber must see the message unchanged.
pub async fn assert_violates(bus: &bus::Bus, guest: &Guest, bytes: Range<u64>, body: &str) {
    let mut writer = bus.writer("topic", 4096, 64);
    let mut own = bus.reader("topic");
    let running = guest.spawn();
    bus::subscribed(&writer, 2).await;
    assert!(bus::publish(&mut writer, &[7; 4096]));
    let reason = running.await.expect("no panic").reason;
    assert_violation(&reason, "topic", bytes, body);
    let message = own.receive().expect("the message");
    assert!(message.bytes().iter().all(|&byte| byte == 7), "{body}");
}

/// Checks that a guest trapped with a message that contains `text`.
#[track_caller]
pub fn assert_trapped(reason: &ExitReason, text: &str) {
    let ExitReason::Trapped { message, .. } = reason else { panic!("{reason:?}") };
    assert!(message.contains(text), "{message}");
}

/// Loads a component whose core module contains `body`; see [`wat::component`].
pub fn load(broker: &Broker, body: &str) -> GuestProgram {
    broker.load(&Form::Component.source("test", body)).unwrap_or_else(|error| panic!("{error}\n{body}"))
}

/// Starts a component with all permissions, within `limits`.
pub fn start(
    broker: &Broker,
    body: &str,
    restart: RestartPolicy,
    limits: impl FnOnce(&mut ComponentLimits),
) -> Component {
    let mut granted = ComponentLimits::default();
    limits(&mut granted);
    let options = ComponentOptions::new().grants(Grants::all().limits(granted)).restart(restart);
    broker.supervise_guest(&load(broker, body), options).expect("starts")
}

/// A runtime that runs everything on the thread that blocks on it.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// Bytes that a channel with these blocks takes.
pub fn channel_memory(block_size: usize, blocks: u32) -> u64 {
    let mut config = ChannelConfig::new(PublisherId::new(1), Bytes::schema());
    (config.block_size, config.blocks) = (block_size, blocks);
    config.memory().expect("in range")
}

/// Lines that a guest logged.
pub type Log = Arc<Mutex<Vec<String>>>;

/// A guest that is ready to run, and its log.
pub struct Guest {
    pub program: GuestProgram,
    pub setup: GuestSetup,
    pub log: Log,
}

impl Guest {
    /// Builds a component whose core module contains `body`; see [`wat::component`].
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
        let program = GuestProgram::load(engine, &form.source("test", body));
        Self::of_program(program.unwrap_or_else(|error| panic!("{error}\n{body}")), exchange)
    }

    /// Builds a guest that runs `program`.
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

    /// Runs the guest in a task of its own.
    pub fn spawn(&self) -> tokio::task::JoinHandle<ComponentReport> {
        let (program, setup) = (self.program.clone(), self.setup.clone());
        tokio::spawn(async move { program.run(setup).await })
    }

    /// The numbers that the guest logged with `$report` under `tag`.
    pub fn reported(&self, tag: char) -> Vec<u64> {
        let prefix = format!("{tag}:");
        let lines = self.log.lock().unwrap();
        let numbers = lines.iter().filter_map(|line| line.strip_prefix(&prefix));
        numbers.map(|number| u64::from_str_radix(number, 16).expect("a number")).collect()
    }
}
