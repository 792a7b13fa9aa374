//! A subscriber's report when it has read everything.

use blockcast::{Flat, Payload};

use crate::tally::Tally;

/// Layout of a report: name, messages, then the [`Tally`] in the order of its fields.
pub type ReportLayout = Flat<(String, u64, u64, u64, u64, u64, u64)>;

/// The counts of a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Name of the subscriber.
    pub name: String,
    /// Number of messages received.
    pub messages: u64,
    /// Counts of their content.
    pub tally: Tally,
}

impl Report {
    /// Returns the fields in the order in which they are published.
    #[must_use]
    pub fn fields(&self) -> (&str, u64, u64, u64, u64, u64, u64) {
        let Tally { lines, words, bytes, longest, hash } = self.tally;
        (&self.name, self.messages, lines, words, bytes, longest, hash)
    }

    /// Reads the report from a message.
    #[must_use]
    pub fn read(view: <ReportLayout as Payload>::View<'_>) -> Self {
        let (name, messages, lines, words, bytes, longest, hash) = view;
        Self { name: name.to_owned(), messages, tally: Tally { lines, words, bytes, longest, hash } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_published() {
        let report = Report { name: "wasm".to_owned(), messages: 3, tally: Tally::of("to be\nor not") };
        let bytes = ReportLayout::to_vec(report.fields()).expect("it fits");
        assert_eq!(Report::read(ReportLayout::access(&bytes).expect("it is valid")), report);
    }
}
