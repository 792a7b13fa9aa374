//! Native components in C, built when a test needs them.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test uses only a part of it")]

mod build;

use std::path::Path;

use blockcast_broker::{
    Broker, Component, ComponentLimits, ComponentOptions, ExitReason, Grants, LibraryProgram,
};

pub use build::{build, library};

/// Loads a library that was built here.
pub fn load(broker: &Broker, library: &Path) -> LibraryProgram {
    // SAFETY: `component.c` keeps those parts of the contract that soundness depends on.
    unsafe { broker.load_library(library) }.expect("it loads")
}

/// The permissions of the tests' components, within these limits.
pub fn grants(limits: ComponentLimits) -> Grants {
    Grants::new()
        .publish("own")
        .publish("second")
        .publish("out")
        .subscribe("own")
        .subscribe("second")
        .limits(limits)
}

/// Options for a component that performs `task` within these limits.
pub fn options(task: &str, limits: impl FnOnce(&mut ComponentLimits)) -> ComponentOptions {
    let mut set = ComponentLimits::default();
    limits(&mut set);
    ComponentOptions::new().grants(grants(set)).parameter("do", task)
}

/// Starts a component that performs `task` within these limits.
pub fn start(broker: &Broker, task: &str, limits: impl FnOnce(&mut ComponentLimits)) -> Component {
    broker.supervise_library(&load(broker, library()), options(task, limits)).expect("it starts")
}

/// Waits for a component, which must finish and leave nothing behind.
#[track_caller]
pub fn assert_finishes(broker: &Broker, component: &Component) {
    let report = component.wait();
    assert_eq!(report.reason, ExitReason::Finished, "{report:?}");
    for topic in broker.topics() {
        let left = (topic.subscriptions, topic.publishers.len(), topic.departed.attached);
        assert_eq!(left, (0, 0, 0), "{topic}");
    }
}

/// Runs a component that performs `task`. It must finish and leave nothing behind.
#[track_caller]
pub fn finishes(task: &str) {
    let broker = Broker::new();
    broker.keep_topics();
    assert_finishes(&broker, &start(&broker, task, |_| {}));
}
