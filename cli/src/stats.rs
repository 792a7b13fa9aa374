//! The counters of a deployment, as a table or as JSON.

use std::time::Duration;

use blockcast::{ChannelStats, Component, ComponentState, ComponentStats, TopicStats, text};
use serde::Serialize;

use crate::units;

/// All counters at one point in time.
#[derive(Serialize)]
pub struct Snapshot {
    /// Seconds since the start.
    elapsed: f64,
    components: Vec<ComponentRow>,
    topics: Vec<TopicRow>,
}

#[derive(Serialize)]
struct ComponentRow {
    name: String,
    state: &'static str,
    restarts: u64,
    /// How the last run ended, if one has ended.
    exit: Option<String>,
    received: u64,
    received_bytes: u64,
    lost: u64,
    published: u64,
    published_bytes: u64,
    publish_copied_bytes: u64,
    host_calls: u64,
    refusals: u64,
    log_lines: u64,
    log_lines_dropped: u64,
    computed_seconds: f64,
    memory: u64,
    windows: u64,
    subscriptions: u32,
    publishers: u32,
    attached: u32,
    held: u32,
}

#[derive(Serialize)]
struct TopicRow {
    name: String,
    schema: String,
    publishers: usize,
    subscriptions: usize,
    published: u64,
    bytes: u64,
    lost: u64,
    blocks: u32,
    free: u32,
    /// Number of publishers that have left and whose blocks are still in use.
    attached: usize,
}

impl Snapshot {
    /// Takes a snapshot of the counters.
    pub async fn take(elapsed: Duration, components: &[Component], topics: &[TopicStats]) -> Self {
        let mut rows = Vec::new();
        for component in components {
            rows.push(ComponentRow::new(component, &component.stats().await));
        }
        let topics = topics.iter().map(TopicRow::new).collect();
        Self { elapsed: elapsed.as_secs_f64(), components: rows, topics }
    }

    /// Formats the counters as one line of JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// Formats the counters as two tables.
    pub fn table(&self) -> String {
        let mut components = vec![
            [
                "component",
                "state",
                "restarts",
                "received",
                "published",
                "bytes",
                "copied",
                "lost",
                "calls",
                "cpu",
                "memory",
                "held",
                "refused",
                "last end",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        components.extend(self.components.iter().map(ComponentRow::row));
        let mut topics = vec![
            [
                "topic",
                "publishers",
                "subscriptions",
                "published",
                "bytes",
                "lost",
                "free blocks",
                "left, in use",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        topics.extend(self.topics.iter().map(TopicRow::row));
        format!("after {:.1} s\n{}\n{}", self.elapsed, align(&components, &[0, 1, 13]), align(&topics, &[0]))
    }
}

impl ComponentRow {
    fn new(component: &Component, stats: &ComponentStats) -> Self {
        let exit = component.exits().last().map(|exit| exit.reason.to_string());
        Self {
            name: component.name().to_owned(),
            state: match component.state() {
                ComponentState::Running => "running",
                ComponentState::Pausing => "pausing",
                ComponentState::GivenUp => "given up",
                _ => "ended",
            },
            restarts: component.restarts(),
            exit,
            received: stats.received,
            received_bytes: stats.received_bytes,
            lost: stats.lost,
            published: stats.published,
            published_bytes: stats.published_bytes,
            publish_copied_bytes: stats.publish_copied_bytes,
            host_calls: stats.host_calls,
            refusals: stats.refusals,
            log_lines: stats.log_lines,
            log_lines_dropped: stats.log_lines_dropped,
            computed_seconds: stats.computed.as_secs_f64(),
            memory: stats.memory,
            windows: stats.windows,
            subscriptions: stats.subscriptions,
            publishers: stats.publishers,
            attached: stats.attached,
            held: stats.held,
        }
    }

    fn row(&self) -> Vec<String> {
        let memory = units::of_bytes(self.memory.saturating_sub(self.windows));
        vec![
            cell(&self.name),
            self.state.to_owned(),
            self.restarts.to_string(),
            self.received.to_string(),
            self.published.to_string(),
            units::of_bytes(self.received_bytes + self.published_bytes),
            units::of_bytes(self.publish_copied_bytes),
            self.lost.to_string(),
            self.host_calls.to_string(),
            format!("{:.3} s", self.computed_seconds),
            format!("{memory} + {}", units::of_bytes(self.windows)),
            (self.attached + self.held).to_string(),
            self.refusals.to_string(),
            self.exit.as_deref().map_or("-", first_line).to_owned(),
        ]
    }
}

impl TopicRow {
    fn new(topic: &TopicStats) -> Self {
        // Other processes count their own blocks, and may count anything.
        let total =
            |count: fn(&ChannelStats) -> u32| topic.publishers.iter().map(count).fold(0, u32::saturating_add);
        Self {
            name: topic.name.clone(),
            schema: topic.schema.name().to_owned(),
            publishers: topic.publishers.len(),
            subscriptions: topic.subscriptions,
            published: topic.published(),
            bytes: topic.bytes(),
            lost: topic.lost(),
            blocks: total(|publisher| publisher.blocks),
            free: total(|publisher| publisher.free),
            attached: topic.departed.attached,
        }
    }

    fn row(&self) -> Vec<String> {
        vec![
            cell(&self.name),
            self.publishers.to_string(),
            self.subscriptions.to_string(),
            self.published.to_string(),
            units::of_bytes(self.bytes),
            self.lost.to_string(),
            format!("{}/{}", self.free, self.blocks),
            self.attached.to_string(),
        ]
    }
}

/// Text that fits a table's cell.
fn cell(text: &str) -> String {
    text::line(text).into_owned()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Pads cells so that columns line up. Columns in `left` are left-aligned, all others right-aligned.
pub fn align(rows: &[Vec<String>], left: &[usize]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if left.contains(&column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["a", "number", "end"]), row(["longer", "5", ""])];
        assert_eq!(align(&rows, &[0, 2]), "a       number  end\nlonger       5\n");
    }
}
