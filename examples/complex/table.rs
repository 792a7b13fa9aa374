//! What came of it: the table at the end, and whether the subscribers saw what went in.

use std::fmt;
use std::time::Duration;

use blockcast::{GuestReport, TopicStats};
use complex_subscriber::Report;

use crate::deployment::{Deployment, Kind};
use crate::input::Fed;

/// Everything that is known at the end.
pub struct Summary<'s> {
    pub deployment: Deployment,
    pub fed: &'s Fed,
    pub elapsed: Duration,
    /// Publisher, subscribers 1 and 2.
    pub kinds: [Kind; 3],
    /// Publisher, subscribers 1 and 2.
    pub ended: &'s [GuestReport; 3],
    pub reports: &'s [Report],
    pub lines: Option<TopicStats>,
}

impl Summary<'_> {
    /// # Errors
    /// If a subscriber did not count exactly what is in the input, or a block is missing.
    pub fn check(&self) -> Result<(), String> {
        let expected = self.fed.expected.ok_or_else(|| format!("{} is not UTF-8", self.fed.name))?;
        if self.reports.len() != 2 {
            return Err(format!("{} of 2 subscribers reported", self.reports.len()));
        }
        for report in self.reports {
            if report.tally != expected {
                return Err(format!(
                    "{} counted {:?}, and the input has {expected:?}",
                    report.name, report.tally
                ));
            }
        }
        if !self.fed.all_blocks_back || self.attached() != 0 {
            return Err("a block did not come back to its pool".to_owned());
        }
        Ok(())
    }

    /// Publishers of lines that have gone and whose blocks are not all back.
    fn attached(&self) -> usize {
        self.lines.as_ref().map_or(0, |lines| lines.departed.attached)
    }

    fn rate(&self, bytes: u64) -> f64 {
        bytes as f64 / 1e6 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (published, bytes) =
            self.lines.as_ref().map_or((0, 0), |lines| (lines.published(), lines.bytes()));
        writeln!(
            f,
            "{} ({} bytes), deployment {:?}, {:.1} ms",
            self.fed.name,
            self.fed.bytes,
            self.deployment,
            self.elapsed.as_secs_f64() * 1e3
        )?;
        writeln!(
            f,
            "{:<13} {:<7} {:>9} {:>10} {:>12} {:>9} {:>13} {:>7}",
            "", "runs as", "messages", "strings", "bytes", "MB/s", "bytes copied", "lost"
        )?;
        let strings = self.reports.first().map_or(0, |report| report.tally.lines);
        let [publisher, subscribers @ ..] = self.ended;
        writeln!(
            f,
            "{:<13} {:<7} {published:>9} {strings:>10} {bytes:>12} {:>9.1} {:>13} {:>7}",
            "publisher",
            self.kinds[0],
            self.rate(bytes),
            publisher.stats.publish_copied_bytes,
            "-"
        )?;
        for (index, ended) in subscribers.iter().enumerate() {
            let name = format!("subscriber {}", index + 1);
            let Some(report) = self.reports.iter().find(|report| report.name == name) else {
                writeln!(f, "{name:<13} {:<7} no report: {}", self.kinds[index + 1], ended.reason)?;
                continue;
            };
            writeln!(
                f,
                "{name:<13} {:<7} {:>9} {:>10} {bytes:>12} {:>9.1} {:>13} {:>7}",
                self.kinds[index + 1],
                report.messages,
                report.tally.lines,
                self.rate(bytes),
                ended.stats.delivery_copied_bytes,
                published - report.messages.min(published)
            )?;
        }
        if let Some(report) = self.reports.first() {
            let tally = report.tally;
            writeln!(
                f,
                "text          {} lines, {} words, longest line {} bytes, hash {:016x}",
                tally.lines, tally.words, tally.longest, tally.hash
            )?;
        }
        let back = self.fed.all_blocks_back && self.attached() == 0;
        writeln!(f, "blocks        {}", if back { "all back in their pools" } else { "NOT all back in their pools" })
    }
}
