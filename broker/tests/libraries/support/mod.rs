//! Native components in C, built when a test needs one.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test uses some of it")]

mod build;

use std::path::Path;

use blockcast_broker::{Broker, Component, ComponentLimits, ComponentOptions, Grants, LibraryProgram};

pub use build::{build, library};

/// Loads it.
pub fn load(broker: &Broker, library: &Path) -> LibraryProgram {
    // SAFETY: `component.c` keeps the contract as far as that is about soundness.
    unsafe { broker.load_library(library) }.expect("it loads")
}

/// What a component is granted here, within these limits.
pub fn grants(limits: ComponentLimits) -> Grants {
    Grants::new()
        .publish("own")
        .publish("second")
        .publish("out")
        .subscribe("own")
        .subscribe("second")
        .limits(limits)
}

/// How a component runs that does this, within these limits.
pub fn options(deed: &str, limits: impl FnOnce(&mut ComponentLimits)) -> ComponentOptions {
    let mut set = ComponentLimits::default();
    limits(&mut set);
    ComponentOptions::new().grants(grants(set)).parameter("do", deed)
}

/// Starts it.
pub fn start(broker: &Broker, deed: &str, limits: impl FnOnce(&mut ComponentLimits)) -> Component {
    broker.supervise_library(&load(broker, library()), options(deed, limits)).expect("it starts")
}
