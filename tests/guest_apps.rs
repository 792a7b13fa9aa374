//! The apps of the complex example, linked in and as guests, in every mix, with texts that are hard to cut.
//!
//! The guests are those beside their source, or those in the folder that `BLOCKCAST_GUESTS` names.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use blockcast::{
    Broker, Bytes, Component, ExitReason, Grants, GuestProgram, GuestSource, Publisher, PublisherOptions,
    RecvError, Subscriber, SubscriberOptions,
};
use complex_subscriber::{Report, ReportLayout, Tally};

/// Bounds the wait for one message, for a free block, or for a subscriber. Long enough for a slow machine:
/// whatever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Deployment {
    Linked,
    Guest,
}
use Deployment::{Guest, Linked};

const MIXES: [(Deployment, [Deployment; 2]); 4] = [
    (Linked, [Linked, Linked]),
    (Linked, [Linked, Guest]),
    (Guest, [Linked, Guest]),
    (Guest, [Guest, Guest]),
];

/// The complex example without its table.
struct Run {
    text: Publisher<Bytes>,
    reports: Subscriber<ReportLayout>,
    publisher: Component,
    subscribers: Vec<Component>,
    _broker: Broker,
}

fn parameters(given: &[(&str, &str)]) -> Vec<(String, String)> {
    given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Compiled once for all tests.
static PUBLISHER: LazyLock<GuestProgram> = LazyLock::new(|| load(complex_publisher::component_file()));
static SUBSCRIBER: LazyLock<GuestProgram> = LazyLock::new(|| load(complex_subscriber::component_file()));

fn load(file: PathBuf) -> GuestProgram {
    Broker::new().load(&GuestSource::File(file)).expect("the guest loads")
}

fn guest(broker: &Broker, program: &GuestProgram, grants: Grants, given: &[(&str, &str)]) -> Component {
    broker.spawn_guest(program, grants, parameters(given)).expect("the guest starts")
}

impl Run {
    fn start(publisher: Deployment, subscribers: [Deployment; 2], given: &[(&str, &str)]) -> Self {
        let broker = Broker::new();
        let reports = broker.subscriber("reports", SubscriberOptions::new()).expect("a new topic");
        let options = PublisherOptions::new().block_size(4096).blocks(8);
        let text = broker.publisher::<Bytes>("text", options).expect("a new topic");

        let grants = Grants::new().subscribe("lines").publish("reports");
        let subscribers = subscribers.into_iter().zip(["first", "second"]).map(|(deployment, name)| {
            let given = [("name", name)];
            match deployment {
                Linked => broker
                    .run(name, grants.clone(), parameters(&given), complex_subscriber::run)
                    .expect("the app starts"),
                Guest => guest(&broker, &SUBSCRIBER, grants.clone(), &given),
            }
        });
        let subscribers = subscribers.collect();
        let grants = Grants::new().subscribe("text").publish("lines");
        let given = [&[("subscribers", "2")], given].concat();
        let publisher = match publisher {
            Linked => broker
                .run("publisher", grants, parameters(&given), complex_publisher::run)
                .expect("the app starts"),
            Guest => guest(&broker, &PUBLISHER, grants, &given),
        };
        Self { text, reports, publisher, subscribers, _broker: broker }
    }

    /// Publishes the text in chunks of `size` bytes, and ends it.
    fn feed(self, text: &[u8], size: usize) -> End {
        let Self { text: mut input, mut reports, publisher, subscribers, _broker } = self;
        let started = Instant::now();
        while input.subscriber_count() == 0 && publisher.report().is_none() {
            assert!(started.elapsed() < PATIENCE, "the publisher does not subscribe");
            std::thread::sleep(Duration::from_millis(1));
        }
        for chunk in text.chunks(size) {
            let deadline = Some(Instant::now() + PATIENCE);
            input.blocking_loan(deadline).expect("a block comes free").send(chunk).expect("the chunk fits");
        }
        drop(input);

        let mut received = Vec::new();
        let exits = subscribers.iter().map(|component| component.wait().reason).collect();
        let publisher = publisher.wait().reason;
        loop {
            match reports.blocking_recv_ref(Some(Instant::now() + PATIENCE)) {
                Ok(report) => received.push(Report::read(report.view())),
                Err(RecvError::Ended) => break,
                Err(error) => panic!("{error}"),
            }
        }
        received.sort_by(|one, other| one.name.cmp(&other.name));
        End { publisher, subscribers: exits, reports: received }
    }
}

/// Result of a run.
struct End {
    publisher: ExitReason,
    subscribers: Vec<ExitReason>,
    reports: Vec<Report>,
}

fn check(mix: (Deployment, [Deployment; 2]), text: &str, size: usize, given: &[(&str, &str)]) {
    let end = Run::start(mix.0, mix.1, given).feed(text.as_bytes(), size);
    let context = format!("{mix:?}, {} bytes in chunks of {size}, {given:?}", text.len());
    assert_eq!(end.publisher, ExitReason::Finished, "{context}");
    assert_eq!(end.subscribers, [ExitReason::Finished, ExitReason::Finished], "{context}");
    let names: Vec<&str> = end.reports.iter().map(|report| &*report.name).collect();
    assert_eq!(names, ["first", "second"], "{context}");
    for report in &end.reports {
        assert_eq!(report.tally, Tally::of(text), "{} of {context}", report.name);
    }
}

#[test]
fn a_text_arrives_complete_in_every_mix_of_linked_apps_and_guests() {
    let text: String = (0..3000).map(|n| format!("line {n} {}\n", "wörd ".repeat(n % 40))).collect();
    for mix in MIXES {
        check(mix, &text, 4096, &[]);
    }
}

#[test]
fn a_text_arrives_complete_in_a_guest_however_it_is_cut() {
    let text = "größer\r\n\nπ ≤ 4\n".repeat(20) + "no end";
    for size in [1, 2, 3, 7, 64] {
        check((Guest, [Guest, Guest]), &text, size, &[("block-size", "128"), ("blocks", "2")]);
    }
}

#[test]
fn an_empty_text_ends_every_mix() {
    for mix in MIXES {
        check(mix, "", 1, &[]);
    }
}

#[test]
fn a_line_that_cannot_be_published_ends_linked_apps_and_guests_alike() {
    let long = format!("fine\n{}\nnever", "x".repeat(5000));
    let cases: [(&[u8], &str); 2] = [
        (long.as_bytes(), "line 2 is too long: it has"),
        (b"fine\n\xFF\nnever", "line 2 is not UTF-8: the byte at offset 5 of the text is wrong"),
    ];
    for (text, message) in cases {
        for deployment in [Linked, Guest] {
            let run = Run::start(deployment, [Linked, Guest], &[("block-size", "1024")]);
            let end = run.feed(text, 4000);
            let ExitReason::Failed(said) = &end.publisher else {
                panic!("{deployment:?}: {}", end.publisher)
            };
            assert!(said.starts_with(message), "{deployment:?}: {said}");
            for report in &end.reports {
                assert_eq!(report.tally, Tally::of("fine\n"), "what was published is not lost");
            }
            assert_eq!(end.reports.len(), 2);
        }
    }
}

#[test]
fn a_guest_that_is_not_granted_a_topic_reports_it() {
    let broker = Broker::new();
    let guest = guest(&broker, &SUBSCRIBER, Grants::new().publish("reports"), &[]);
    let ExitReason::Failed(said) = guest.wait().reason else { panic!("{}", guest.wait().reason) };
    assert_eq!(said, "not granted: subscribe \"lines\"");
}
