//! Guests in C together with guests and apps in Rust: the same topics, messages and counts.
//!
//! The guests are those beside their source (`examples/guests/c`), or those in the folder that
//! `BLOCKCAST_GUESTS` names.

#[path = "support/reports.rs"]
mod reports;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use blockcast::{
    Broker, Bytes, Component, ExitReason, Grants, GuestProgram, GuestSource, PublisherOptions,
    SubscriberOptions,
};
use complex_subscriber::Tally;
use reports::{PATIENCE, parameters};

fn c_guest(broker: &Broker, name: &str) -> GuestProgram {
    let folder = std::env::var_os("BLOCKCAST_GUESTS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/c")),
        PathBuf::from,
    );
    broker.load(&GuestSource::File(folder.join(name).with_extension("wasm"))).expect("the guest loads")
}

fn start(broker: &Broker, program: &GuestProgram, grants: Grants, parameters: &[(&str, &str)]) -> Component {
    broker.spawn_guest(program, grants, self::parameters(parameters)).expect("the guest starts")
}

fn subscriber(broker: &Broker, program: &GuestProgram, name: &str) -> Component {
    start(broker, program, Grants::new().subscribe("lines").publish("reports"), &[("name", name)])
}

#[test]
fn rust_and_c_read_messages_of_a_guest_in_c() {
    let broker = Broker::new();
    let mut output = broker.subscriber("reports", SubscriberOptions::new()).expect("a new topic");
    let rust = broker.load(&GuestSource::File(complex_subscriber::component_file())).expect("loads");
    let grants = Grants::new().subscribe("lines").publish("reports");
    let components = [
        broker
            .run("linked", grants, parameters(&[("name", "linked")]), complex_subscriber::run)
            .expect("the app starts"),
        subscriber(&broker, &rust, "rust"),
        subscriber(&broker, &c_guest(&broker, "c-subscriber"), "c"),
        start(
            &broker,
            &c_guest(&broker, "c-publisher"),
            Grants::new().publish("lines"),
            &[("lines", "12345"), ("subscribers", "3")],
        ),
    ];
    let reports = reports::of(&components, &mut output);
    reports::check(&reports, &["c", "linked", "rust"], 12345, 124);
}

#[test]
fn a_guest_in_c_reads_messages_of_rust() {
    let text = "to be\u{2003}or not\n\n\tthat is  the question \u{fc}\u{1f980}\n".repeat(2000);
    let broker = Broker::new();
    let mut output = broker.subscriber("reports", SubscriberOptions::new()).expect("a new topic");
    let options = PublisherOptions::new().block_size(4096).blocks(8);
    let mut input = broker.publisher::<Bytes>("text", options).expect("a new topic");
    let rust = broker.load(&GuestSource::File(complex_publisher::component_file())).expect("loads");
    let components = [
        subscriber(&broker, &c_guest(&broker, "c-subscriber"), "c"),
        start(&broker, &rust, Grants::new().subscribe("text").publish("lines"), &[("subscribers", "1")]),
    ];
    let started = Instant::now();
    while input.subscriber_count() == 0 {
        assert!(started.elapsed() < PATIENCE, "the publisher does not subscribe");
        std::thread::sleep(Duration::from_millis(1));
    }
    for chunk in text.as_bytes().chunks(1000) {
        let deadline = Some(Instant::now() + PATIENCE);
        input.blocking_loan(deadline).expect("a block comes free").send(chunk).expect("the chunk fits");
    }
    drop(input);
    let reports = reports::of(&components, &mut output);
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].name.as_str(), reports[0].tally), ("c", Tally::of(&text)));
}

#[test]
fn large_messages_that_a_guest_in_c_builds_arrive_without_a_copy() {
    let broker = Broker::new();
    let mut output = broker.subscriber("reports", SubscriberOptions::new()).expect("a new topic");
    let grants = Grants::new().subscribe("lines").publish("reports");
    let name = parameters(&[("name", "linked")]);
    let linked = broker.run("linked", grants, name, complex_subscriber::run).expect("the app starts");
    let c = subscriber(&broker, &c_guest(&broker, "c-subscriber"), "c");
    // More than a megabyte each, and more messages than there are blocks.
    let asked = [("lines", "600000"), ("batch", "60000"), ("subscribers", "2")];
    let publisher = start(&broker, &c_guest(&broker, "c-publisher"), Grants::new().publish("lines"), &asked);
    let stats = publisher.wait().stats;
    assert!(stats.published == 10 && stats.publish_copied_bytes == 0, "{stats:?}");
    let reports = reports::of(&[linked, c, publisher], &mut output);
    reports::check(&reports, &["c", "linked"], 600_000, 10);
}

#[test]
fn a_guest_in_c_reports_why_it_failed() {
    let broker = Broker::new();
    let program = c_guest(&broker, "c-publisher");
    for (grants, lines, expected) in [
        (Grants::new(), "10", "the topic lines is not granted"),
        (Grants::new().publish("lines"), "ten", "lines is not a number"),
    ] {
        let reason = start(&broker, &program, grants, &[("lines", lines)]).wait().reason;
        assert_eq!(reason, ExitReason::Failed(expected.to_owned()));
    }
}
