//! The table at the end, and the check that the subscribers saw the input.

use std::fmt;
use std::time::Duration;

use blockcast::{ComponentReport, ExitReason, TopicStats};
use complex_subscriber::Report;

use crate::deployment::{Deployment, Kind};
use crate::input::{Fed, Refused};
use crate::running::Running;

/// Everything known at the end of the run.
pub struct Summary<'s> {
    pub deployment: Deployment,
    pub fed: &'s Fed,
    pub elapsed: Duration,
    /// Like `ended`, in the order of [`Running::NAMES`].
    pub kinds: [Kind; 3],
    pub ended: &'s [ComponentReport; 3],
    pub reports: &'s [Report],
    pub topics: Vec<TopicStats>,
    /// Whether the user ended the input with Ctrl-C.
    pub interrupted: bool,
}

impl Summary<'_> {
    /// Everything that went wrong, one line each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        // An app that was ended because another one failed is not a cause.
        let mut cancelled = Vec::new();
        for (name, report) in Running::NAMES.iter().zip(self.ended) {
            match &report.reason {
                ExitReason::Finished => {}
                ExitReason::Cancelled if self.interrupted => {
                    problems.push(format!("{name}: interrupted before it had received everything"));
                }
                ExitReason::Cancelled => cancelled.push(format!("{name}: {}", report.reason)),
                // The publisher's line errors concern the input.
                ExitReason::Failed(text) if self.line_refused() => {
                    let advice = match self.fed.refused {
                        Some(Refused::TooLong) => ", which --block-size sets",
                        _ => "",
                    };
                    problems.push(format!("{}: {text}{advice}", self.fed.name));
                }
                reason => problems.push(format!("{name}: {reason}")),
            }
        }
        if problems.is_empty() {
            problems = cancelled;
        }
        problems.extend(self.fed.failure.clone());
        problems.extend(self.lost());
        let not_back = not_back(&self.topics);
        if not_back > 0 {
            problems.push(format!("blocks of {not_back} publishers are not back in their pools"));
        }
        if problems.is_empty() && self.fed.bytes == 0 && !self.interrupted {
            problems.push(format!("{} is empty: there was nothing to publish", self.fed.name));
        }
        problems
    }

    /// Whether the publisher ended because of a line, as it should.
    fn line_refused(&self) -> bool {
        let [publisher, ..] = self.ended;
        self.fed.refused.is_some() && matches!(publisher.reason, ExitReason::Failed(_))
    }

    /// Lists the messages that subscribers did not receive although they finished.
    fn lost(&self) -> Vec<String> {
        let [publisher, subscribers @ ..] = self.ended;
        let complete = publisher.reason == ExitReason::Finished || self.line_refused();
        let (published, _) = self.published();
        let finished = subscribers.iter().zip(&Running::NAMES[1..]);
        let finished = finished.filter(|(report, _)| report.reason == ExitReason::Finished);
        let wrong = finished.filter_map(|(_, name)| match self.report(name) {
            None => Some(format!("{name} has not reported")),
            Some(report) if report.messages != published => {
                Some(format!("{name} received {} of {published} messages", report.messages))
            }
            Some(report) if complete && report.tally != self.fed.expected => {
                Some(format!("{name} counted {:?}, and the input has {:?}", report.tally, self.fed.expected))
            }
            Some(_) => None,
        });
        wrong.collect()
    }

    fn report(&self, name: &str) -> Option<&Report> {
        self.reports.iter().find(|report| report.name == name)
    }

    /// Messages and bytes published on the topic of lines.
    fn published(&self) -> (u64, u64) {
        match self.topics.iter().find(|topic| topic.name == "lines") {
            Some(lines) => (lines.published(), lines.bytes()),
            // Only other processes take part in the topic. The publisher has no other one.
            None => (self.ended[0].stats.published, self.ended[0].stats.published_bytes),
        }
    }

    fn rate(&self, bytes: u64) -> f64 {
        bytes as f64 / 1e6 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Number of publishers whose blocks have not all returned, because someone is still attached or the
/// publisher still exists.
pub fn not_back(topics: &[TopicStats]) -> usize {
    topics.iter().map(|topic| topic.departed.attached + topic.publishers.len()).sum()
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (published, bytes) = self.published();
        writeln!(
            f,
            "{} ({} bytes), deployment {}, {:.1} ms",
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
        let [publisher, subscribers @ ..] = self.ended;
        let strings = self.reports.iter().map(|report| report.tally.lines).max().unwrap_or(0);
        writeln!(
            f,
            "{:<13} {:<7} {published:>9} {strings:>10} {bytes:>12} {:>9.1} {:>13} {:>7}",
            Running::NAMES[0],
            self.kinds[0],
            self.rate(bytes),
            publisher.stats.publish_copied_bytes,
            "-"
        )?;
        for ((name, kind), ended) in Running::NAMES.iter().zip(self.kinds).skip(1).zip(subscribers) {
            let Some(report) = self.report(name) else {
                writeln!(f, "{name:<13} {kind:<7} no report: {}", ended.reason)?;
                continue;
            };
            writeln!(
                f,
                "{name:<13} {kind:<7} {:>9} {:>10} {bytes:>12} {:>9.1} {:>13} {:>7}",
                report.messages,
                report.tally.lines,
                self.rate(bytes),
                "-",
                published.saturating_sub(report.messages)
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
        let all = not_back(&self.topics) == 0;
        let back = if all { "all back in their pools" } else { "NOT all back in their pools" };
        writeln!(f, "blocks        {back}")?;
        if self.interrupted && self.problems().is_empty() {
            writeln!(f, "interrupted   everything that was published before has been received")?;
        }
        Ok(())
    }
}
