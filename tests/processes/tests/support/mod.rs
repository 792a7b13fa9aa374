//! Starts the tests' program, and collects its log.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use blockcast::{
    Broker, Component, ComponentLimits, ComponentOptions, Grants, Level, Pod, ProcessSource, Publisher,
    PublisherOptions, Subscriber, SubscriberOptions,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long to wait for other processes before a test fails. None of them takes a second.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub type Numbers = Pod<u64>;

pub fn deadline() -> Option<Instant> {
    Some(Instant::now() + PATIENCE)
}

/// The program of these tests.
pub fn program() -> ProcessSource {
    ProcessSource::program(env!("CARGO_BIN_EXE_process_child"))
}

/// The log of a component.
#[derive(Clone, Default)]
pub struct Said(Arc<Shared>);

#[derive(Default)]
struct Shared {
    lines: Mutex<Vec<(Level, String)>>,
    changed: Condvar,
}

impl Said {
    pub fn lines(&self) -> Vec<String> {
        self.levels().into_iter().map(|(_, line)| line).collect()
    }

    pub fn levels(&self) -> Vec<(Level, String)> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line that begins with `beginning`, and returns the rest.
    #[track_caller]
    pub fn await_line(&self, beginning: &str) -> String {
        let find = |lines: &[(Level, String)]| {
            lines.iter().find_map(|(_, line)| line.strip_prefix(beginning).map(str::to_owned))
        };
        let lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.changed.wait_timeout_while(lines, PATIENCE, |lines| find(lines).is_none());
        let (lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        find(&lines).unwrap_or_else(|| panic!("it has not said {beginning:?}: {lines:?}"))
    }

    /// Waits until it runs, and returns its process ID.
    #[track_caller]
    pub fn await_running(&self) -> u32 {
        self.await_line("running ").parse().expect("a number")
    }

    fn add(&self, level: Level, line: &str) {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).push((level, line.to_owned()));
        self.0.changed.notify_all();
    }
}

/// Options for a component that performs `task`, within limits that none of these tests reaches by accident.
pub fn options(task: &str, limits: impl FnOnce(&mut ComponentLimits)) -> (ComponentOptions, Said) {
    let mut set = ComponentLimits::default();
    (set.start_up, set.shutdown_grace) = (PATIENCE, PATIENCE);
    limits(&mut set);
    let grants = Grants::new().publish("out").publish("new*").subscribe("in").limits(set);
    let said = Said::default();
    let sink = said.clone();
    let options = ComponentOptions::new()
        .grants(grants)
        .parameter("do", task)
        .log(Arc::new(move |level, line| sink.add(level, line)));
    (options, said)
}

/// Starts a process that performs `task`.
pub fn start(broker: &Broker, task: &str) -> (Component, Said) {
    let (options, said) = options(task, |_| {});
    (broker.supervise_process(&program(), options).expect("it starts"), said)
}

pub fn publisher(broker: &Broker) -> Publisher<Numbers> {
    let few = PublisherOptions::new().blocks(8).block_size(64);
    broker.publisher("in", few).expect("it opens")
}

pub fn subscriber(broker: &Broker) -> Subscriber<Numbers> {
    broker.subscriber("out", SubscriberOptions::new()).expect("it opens")
}

pub fn publish(publisher: &mut Publisher<Numbers>, number: u64) {
    publisher.blocking_loan(deadline()).expect("a block comes free").send(&[number][..]).expect("it fits");
}

#[track_caller]
pub fn receive(subscriber: &mut Subscriber<Numbers>) -> u64 {
    subscriber.blocking_recv_ref(deadline()).expect("it was published").view()[0]
}

/// A process that another process has started.
pub struct Process(OwnedFd);

impl Process {
    pub fn new(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.cast_signed()).expect("a number of a process");
        Self(pidfd_open(pid, PidfdFlags::empty()).expect("it runs"))
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn await_end(&self) {
        let timeout = PATIENCE.try_into().expect("a short time");
        let ended =
            poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)).expect("it can be awaited");
        assert_eq!(ended, 1, "it still runs");
    }
}

/// Sends a signal to the process of a component.
pub fn send(pid: u32, signal: i32) {
    // SAFETY: sends a signal to a child of this process that nobody has waited for.
    assert_eq!(unsafe { libc::kill(pid.cast_signed(), signal) }, 0);
}

/// Waits until `is_true` returns `true`.
#[track_caller]
pub fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
