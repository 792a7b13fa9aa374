//! [`Work`]: selects records.

use crate::peers::REFERENCE;
use crate::record::Record;
use crate::report;

/// One kind of work that one record per candidate describes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    bench: &'static str,
    mode: Option<&'static str>,
    value: Option<&'static str>,
    payload: Option<usize>,
    subscribers: Option<usize>,
    processes: Option<usize>,
}

impl Work {
    pub(super) const fn of(bench: &'static str) -> Self {
        Self { bench, mode: None, value: None, payload: None, subscribers: None, processes: None }
    }

    /// The same conditions for other work.
    pub(super) const fn with_bench(self, bench: &'static str) -> Self {
        Self { bench, ..self }
    }

    pub(super) const fn mode(self, mode: &'static str) -> Self {
        Self { mode: Some(mode), ..self }
    }

    pub(super) const fn value(self, value: &'static str) -> Self {
        Self { value: Some(value), ..self }
    }

    pub(super) const fn payload(self, payload: usize) -> Self {
        Self { payload: Some(payload), ..self }
    }

    pub(super) const fn subscribers(self, subscribers: usize) -> Self {
        Self { subscribers: Some(subscribers), ..self }
    }

    pub(super) const fn processes(self, processes: usize) -> Self {
        Self { processes: Some(processes), ..self }
    }

    /// Finds the record of a candidate.
    pub(super) fn record<'r>(&self, records: &'r [Record], candidate: &str) -> Option<&'r Record> {
        // Some work has no subscribers.
        let is_fan_out = |row: &Record| {
            row.subscribers == 0 || self.subscribers.is_none_or(|subscribers| subscribers == row.subscribers)
        };
        records.iter().find(|row| {
            row.bench == self.bench
                && row.candidate == candidate
                && row.mode.as_deref() == self.mode
                && (self.value.is_none() || row.value.as_deref() == self.value)
                && self.payload.is_none_or(|payload| payload == row.payload)
                && is_fan_out(row)
                && (self.processes.is_none() || row.processes == self.processes)
        })
    }

    /// Nanoseconds of Blockcast.
    pub(super) fn own(&self, records: &[Record]) -> Option<f64> {
        self.record(records, REFERENCE).map(Record::nanoseconds)
    }
}

/// Describes what distinguishes a record from others of the same kind of work.
pub(super) fn label(row: &Record) -> String {
    if let Some(value) = &row.value {
        return value.clone();
    }
    let size = report::bytes(row.payload);
    match row.subscribers {
        0 | 1 => size,
        count => format!("{size} to {count}"),
    }
}
