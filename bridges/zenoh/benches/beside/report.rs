//! Tables in Markdown.

use crate::run::Outcome;
use crate::{Candidate, Measure};

/// The runs of one candidate with messages of one size.
pub(crate) struct Row {
    pub(crate) candidate: Candidate,
    pub(crate) bytes: usize,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Candidate {
    fn label(self) -> &'static str {
        match self {
            Self::Zenoh => "zenoh, callback",
            Self::Channel => "zenoh, channel",
            Self::Bridge => "bridge",
            Self::BridgeBatch => "bridge, batches",
            Self::BridgeUnchecked => "bridge, unchecked",
            Self::Advanced => "zenoh, advanced",
            Self::CachingBridge => "bridge with cache",
        }
    }

    /// Whom it is compared with.
    fn baseline(self) -> Self {
        match self {
            Self::Zenoh | Self::Channel | Self::Bridge | Self::BridgeBatch | Self::BridgeUnchecked => {
                Self::Zenoh
            }
            Self::Advanced | Self::CachingBridge => Self::Advanced,
        }
    }
}

impl Row {
    fn median(&self, value: impl Fn(&Outcome) -> f64) -> f64 {
        let mut values: Vec<_> = self.outcomes.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Messages per second.
    fn rate(&self) -> f64 {
        self.median(|run| run.received as f64 * 1e9 / run.nanoseconds as f64)
    }

    /// Microseconds of processor time per message: of the sender, and of the receiver.
    fn processor(&self) -> (f64, f64) {
        let each = |time: u64, count: u64| time as f64 / 1e3 / count.max(1) as f64;
        (self.median(|run| each(run.sender, run.sent)), self.median(|run| each(run.receiver, run.received)))
    }
}

/// Prints what the figures depend on.
pub(crate) fn machine() {
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores, {}; load {}", model.map_or("unknown", |(_, model)| model), load.trim());
}

pub(crate) fn print(measure: Measure, rows: &[Row]) {
    match measure {
        Measure::Throughput => throughput(rows),
        Measure::Latency => latency(rows),
    }
}

fn baseline<'r>(rows: &'r [Row], row: &Row) -> Option<&'r Row> {
    rows.iter().find(|other| other.bytes == row.bytes && other.candidate == row.candidate.baseline())
}

fn throughput(rows: &[Row]) {
    println!(
        "\n| bytes | candidate | messages/s | GB/s | ratio | lost | CPU µs per message: sender | receiver | more |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for row in rows {
        let rate = row.rate();
        let (sender, receiver) = row.processor();
        let (ratio, more) = baseline(rows, row).map_or((f64::NAN, f64::NAN), |base| {
            let (before, after) = base.processor();
            (rate / base.rate(), sender + receiver - before - after)
        });
        println!(
            "| {} | {} | {rate:.0} | {:.3} | {ratio:.2} | {} | {sender:.2} | {receiver:.2} | {more:.2} |",
            row.bytes,
            row.candidate.label(),
            rate * row.bytes as f64 / 1e9,
            row.outcomes.iter().map(|run| run.lost).sum::<u64>(),
        );
    }
}

fn latency(rows: &[Row]) {
    println!("\n| bytes | candidate | one way, µs: p50 | p99 | ratio of p50 | lost |");
    println!("| ---: | --- | ---: | ---: | ---: | ---: |");
    for row in rows {
        let median = row.median(|run| run.median as f64 / 1e3);
        let p99 = row.median(|run| run.p99 as f64 / 1e3);
        let base = baseline(rows, row).map_or(f64::NAN, |base| base.median(|run| run.median as f64 / 1e3));
        println!(
            "| {} | {} | {median:.0} | {p99:.0} | {:.2} | {} |",
            row.bytes,
            row.candidate.label(),
            median / base,
            row.outcomes.iter().map(|run| run.lost).sum::<u64>(),
        );
    }
}
