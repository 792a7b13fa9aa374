//! The reports of subscribers of lines, in Rust and in C, linked in, as libraries and as guests.

use std::time::{Duration, Instant};

use blockcast::{Component, ExitReason, RecvError, Subscriber};
use complex_subscriber::{Report, ReportLayout, Tally};

/// Bounds the wait for one message, for a free block, or for a subscriber. All components already run, so
/// whatever takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// Returns the reports by name, once all components have finished.
pub fn of(components: &[Component], reports: &mut Subscriber<ReportLayout>) -> Vec<Report> {
    for component in components {
        assert_eq!(component.wait().reason, ExitReason::Finished, "{}", component.name());
    }
    let mut received = Vec::new();
    loop {
        match reports.blocking_recv_ref(Some(Instant::now() + PATIENCE)) {
            Ok(report) => received.push(Report::read(report.view())),
            Err(RecvError::Ended) => break,
            Err(error) => panic!("{error}"),
        }
    }
    received.sort_by(|one, other| one.name.cmp(&other.name));
    received
}

/// Checks the counts of lines that `c-publisher` publishes: the name of each subscriber, and the number of
/// lines and messages.
pub fn check(reports: &[Report], names: &[&str], lines: u32, messages: u64) {
    let found: Vec<&str> = reports.iter().map(|report| &*report.name).collect();
    assert_eq!(found, names);
    let text: String = (0..lines).map(|number| format!("line {number}\n")).collect();
    for report in reports {
        assert_eq!((report.messages, report.tally), (messages, Tally::of(&text)), "{}", report.name);
    }
}

/// Returns the parameters of an app.
pub fn parameters(given: &[(&str, &str)]) -> Vec<(String, String)> {
    given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
