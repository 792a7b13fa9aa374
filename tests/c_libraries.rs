//! Apps in C as shared libraries, from the source of the guests in C, together with apps in Rust.
//!
//! `examples/guests/c/build --library` builds them with the machine's C compiler. Without one, the tests
//! print that and check nothing.

#[path = "support/reports.rs"]
mod reports;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use blockcast::{Broker, Component, ExitReason, Grants, LibraryFile, SubscriberOptions};
use reports::parameters;

/// The folder with the libraries, or `None` if there is no C compiler.
fn folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("c-libraries");
        std::fs::create_dir_all(&folder).expect("a folder");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/c/build");
        let built = Command::new(script).args(["--library", "--out"]).arg(&folder).status().expect("bash");
        match built.code() {
            Some(0) => Some(folder),
            Some(3) => None,
            other => panic!("the libraries do not build: {other:?}"),
        }
    });
    if folder.is_none() {
        eprintln!("there is no C compiler: apps in C were not checked as libraries");
    }
    folder.as_deref()
}

fn start(broker: &Broker, name: &str, grants: Grants, parameters: &[(&str, &str)]) -> Option<Component> {
    let file = folder()?.join(name).with_extension("so");
    // SAFETY: the apps in C keep the contract of the table.
    let library = unsafe { broker.load_library(file) }.expect("the library loads");
    Some(broker.spawn_library(&library, grants, self::parameters(parameters)).expect("the library starts"))
}

#[test]
fn rust_and_c_read_messages_of_a_library_in_c() {
    let broker = Broker::new();
    let mut output = broker.subscriber("reports", SubscriberOptions::new()).expect("a new topic");
    let grants = Grants::new().subscribe("lines").publish("reports");
    let name = parameters(&[("name", "linked")]);
    let linked = broker.run("linked", grants.clone(), name, complex_subscriber::run).expect("the app starts");
    // Load it twice: each copy has its own variables.
    let Some(one) = start(&broker, "c-subscriber", grants.clone(), &[("name", "one")]) else {
        return linked.cancel();
    };
    let two = start(&broker, "c-subscriber", grants, &[("name", "two")]).expect("as the first");
    let publishes = Grants::new().publish("lines");
    let asked = [("lines", "12345"), ("subscribers", "3")];
    let publisher = start(&broker, "c-publisher", publishes, &asked).expect("as the first");

    let reports = reports::of(&[linked, one, two, publisher], &mut output);
    reports::check(&reports, &["linked", "one", "two"], 12345, 124);
}

#[test]
fn large_messages_that_a_library_in_c_builds_arrive_without_a_copy() {
    let broker = Broker::new();
    let mut output = broker.subscriber("reports", SubscriberOptions::new()).expect("a new topic");
    let grants = Grants::new().subscribe("lines").publish("reports");
    let Some(c) = start(&broker, "c-subscriber", grants.clone(), &[("name", "c")]) else { return };
    let name = parameters(&[("name", "linked")]);
    let linked = broker.run("linked", grants, name, complex_subscriber::run).expect("the app starts");
    let asked = [("lines", "600000"), ("batch", "60000"), ("subscribers", "2")];
    let publisher =
        start(&broker, "c-publisher", Grants::new().publish("lines"), &asked).expect("as the first");
    let stats = publisher.wait().stats;
    assert!(stats.published == 10 && stats.publish_copied_bytes == 0, "{stats:?}");
    let reports = reports::of(&[linked, c, publisher], &mut output);
    reports::check(&reports, &["c", "linked"], 600_000, 10);
}

#[test]
fn a_library_in_c_reports_why_it_failed() {
    let broker = Broker::new();
    for (grants, lines, expected) in [
        (Grants::new(), "10", "the topic lines is not granted"),
        (Grants::new().publish("lines"), "ten", "lines is not a number"),
    ] {
        let Some(component) = start(&broker, "c-publisher", grants, &[("lines", lines)]) else { return };
        assert_eq!(component.wait().reason, ExitReason::Failed(expected.to_owned()));
    }
}

#[test]
fn a_library_in_c_that_waits_is_asked_to_finish_or_cancelled() {
    let broker = Broker::new();
    for cancels in [false, true] {
        let grants = Grants::new().publish("lines");
        let Some(component) = start(&broker, "c-publisher", grants, &[("subscribers", "9")]) else { return };
        std::thread::sleep(Duration::from_millis(50));
        let reason = if cancels {
            component.cancel();
            component.wait().reason
        } else {
            component.request_shutdown();
            component.wait().reason
        };
        let expected = if cancels { ExitReason::Cancelled } else { ExitReason::Finished };
        assert_eq!(reason, expected);
    }
}

#[test]
fn a_library_in_c_is_inspected_without_running_it() {
    let Some(folder) = folder() else { return };
    LibraryFile::read(folder.join("c-publisher.so")).expect("it exports the one symbol");
}
