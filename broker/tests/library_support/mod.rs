//! Native components in C, built when a test needs one.

#![allow(dead_code, unreachable_pub, reason = "each test uses some of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use blockcast_broker::{Broker, Component, ComponentOptions, Grants, GuestLimits, LibraryProgram};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A library of `component.c`, built with these macros.
pub fn build(macros: &[&str]) -> PathBuf {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let file = format!("libcomponent-{}-{number}.so", std::process::id());
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/library_support/component.c");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let built = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-pthread"])
        .args(macros.iter().map(|name| format!("-D{name}")))
        .args([Path::new("-o"), &library, &source])
        .output()
        .expect("there is a C compiler");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

/// The usual one.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| build(&[]))
}

/// Loads it.
pub fn load(broker: &Broker, library: &Path) -> LibraryProgram {
    // SAFETY: `component.c` keeps the contract as far as that is about soundness.
    unsafe { broker.load_library(library) }.expect("it loads")
}

/// What a component is granted here, within these limits.
pub fn grants(limits: GuestLimits) -> Grants {
    Grants::new()
        .publish("own")
        .publish("second")
        .publish("out")
        .subscribe("own")
        .subscribe("second")
        .limits(limits)
}

/// How a component runs that does this, within these limits.
pub fn options(deed: &str, limits: impl FnOnce(&mut GuestLimits)) -> ComponentOptions {
    let mut set = GuestLimits::default();
    limits(&mut set);
    ComponentOptions::new().grants(grants(set)).parameter("do", deed)
}

/// Starts it.
pub fn start(broker: &Broker, deed: &str, limits: impl FnOnce(&mut GuestLimits)) -> Component {
    broker.supervise_library(&load(broker, library()), options(deed, limits)).expect("it starts")
}
