//! Prints the results as text.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::latencies::Percentiles;
use crate::machine::Machine;
use crate::peers::REFERENCE;
use crate::record::{Record, Statistic};

/// Prints all tables, one per kind of work.
#[must_use]
pub fn text(machine: &Machine, records: &[Record]) -> String {
    let mut text = format!("{machine}\n");
    for (bench, mode) in works(records) {
        let rows: Vec<&Record> =
            records.iter().filter(|record| record.bench == bench && record.mode.as_deref() == mode).collect();
        let title = mode.map_or(bench.to_owned(), |mode| format!("{bench}, {mode}"));
        let fan_outs: BTreeSet<usize> = rows.iter().map(|row| row.subscribers).collect();
        let processes: BTreeSet<Option<usize>> = rows.iter().map(|row| row.processes).collect();
        if rows.iter().any(|row| row.latency_ns.is_some()) {
            text += &latencies(&title, &rows);
        } else if processes.len() > 1 {
            let title = format!("{title}, {}", bytes(rows[0].payload));
            text += &table(&title, &rows, "subscribing processes", |row| {
                row.processes.map(|count| count.to_string()).unwrap_or_default()
            });
        } else if rows[0].value.is_some() {
            text += &table(&title, &rows, "value", value);
            if bench == "payload-build" {
                text += "\nBytes of a message:\n\n";
                text += &cells(&rows, "value", value, |row| row.payload.to_string());
            }
        } else if fan_outs.len() > 1 {
            let payloads: BTreeSet<usize> = rows.iter().map(|row| row.payload).collect();
            for payload in payloads {
                let rows: Vec<&Record> = rows.iter().copied().filter(|row| row.payload == payload).collect();
                let title = format!("{title}, {}", bytes(payload));
                text += &table(&title, &rows, "subscribers", |row| row.subscribers.to_string());
            }
        } else {
            text += &table(&title, &rows, "payload", |row| bytes(row.payload));
            if rows.iter().any(|row| row.messages_per_second.is_some()) {
                text += "\nMessages per second, and bytes if they are written:\n\n";
                text += &cells(&rows, "payload", |row| bytes(row.payload), rate);
            }
        }
    }
    text
}

/// Pairs of bench and mode, in order of first occurrence.
fn works(records: &[Record]) -> Vec<(&str, Option<&str>)> {
    let mut works = Vec::new();
    for record in records {
        let work = (record.bench.as_str(), record.mode.as_deref());
        if !works.contains(&work) {
            works.push(work);
        }
    }
    works
}

/// Returns which value was built or read.
fn value(row: &Record) -> String {
    row.value.clone().unwrap_or_default()
}

/// Prints a table of times, with a title and the noise.
fn table(title: &str, rows: &[&Record], what: &str, column: impl Fn(&Record) -> String) -> String {
    let statistic = match rows[0].statistic {
        Statistic::Min => "minimum",
        Statistic::Median => "median",
    };
    let mut text = format!("\n### {title}: ns per message, {statistic} (times Blockcast)\n\n");
    text += &cells(rows, what, column, |row| {
        let ratio = if row.ratio.is_finite() { format!(" ({:.2})", row.ratio) } else { String::new() };
        format!("{}{ratio}", number(row.nanoseconds()))
    });
    let mut noises: Vec<f64> = rows.iter().map(|row| row.noise).collect();
    noises.sort_by(f64::total_cmp);
    let (middle, worst) = (noises[noises.len() / 2], noises[noises.len() - 1]);
    writeln!(text, "\nNoise (interquartile range): {:.0} %, worst {:.0} %.", middle * 100.0, worst * 100.0)
        .expect("writing to a string succeeds");
    text
}

/// Prints a table of latencies.
fn latencies(title: &str, rows: &[&Record]) -> String {
    let mut text = format!("\n### {title}, {}: ns one way (times Blockcast)\n\n", bytes(rows[0].payload));
    text += "| percentile | 50 | 99 | 99.9 | longest | messages |\n";
    text += "| --- | ---: | ---: | ---: | ---: | ---: |\n";
    let reference =
        rows.iter().find(|row| row.candidate == REFERENCE).and_then(|row| row.latency_ns.as_ref());
    for row in rows {
        let Some(found) = &row.latency_ns else { continue };
        write!(text, "| {} |", row.candidate).expect("writing to a string succeeds");
        let times: [fn(&Percentiles) -> Option<u64>; 4] =
            [|of| Some(of.p50), |of| of.p99, |of| of.p99_9, |of| Some(of.max)];
        for time in times {
            let ratio = time(found).zip(reference.and_then(time));
            let ratio =
                ratio.map_or(String::new(), |(own, other)| format!(" ({:.2})", own as f64 / other as f64));
            let cell = time(found).map_or("too few".to_owned(), |time| format!("{time}{ratio}"));
            write!(text, " {cell} |").expect("writing to a string succeeds");
        }
        writeln!(text, " {} |", found.messages).expect("writing to a string succeeds");
    }
    text
}

/// Formats messages and bytes per second.
fn rate(row: &Record) -> String {
    let Some(messages) = row.messages_per_second else { return String::new() };
    let messages = match messages {
        1e6.. => format!("{:.1} million", messages / 1e6),
        _ => format!("{:.1} thousand", messages / 1e3),
    };
    match row.bytes_per_second {
        Some(bytes) => format!("{messages}, {:.2} GB", bytes / 1e9),
        None => messages,
    }
}

/// Prints one row per candidate, with columns in order of first occurrence.
fn cells(
    rows: &[&Record],
    what: &str,
    column: impl Fn(&Record) -> String,
    cell: impl Fn(&Record) -> String,
) -> String {
    let mut columns: Vec<String> = Vec::new();
    let mut candidates: Vec<&str> = Vec::new();
    for row in rows {
        let label = column(row);
        if !columns.contains(&label) {
            columns.push(label);
        }
        if !candidates.contains(&row.candidate.as_str()) {
            candidates.push(&row.candidate);
        }
    }
    let mut text = format!("| {what} |");
    columns.iter().for_each(|label| write!(text, " {label} |").expect("writing to a string succeeds"));
    text += "\n| --- |";
    columns.iter().for_each(|_| text += " ---: |");
    for candidate in candidates {
        write!(text, "\n| {candidate} |").expect("writing to a string succeeds");
        for label in &columns {
            let row = rows.iter().find(|row| row.candidate == candidate && column(row) == *label);
            text += &row.map_or(" |".to_owned(), |row| format!(" {} |", cell(row)));
        }
    }
    text + "\n"
}

/// Formats nanoseconds with a sensible number of digits.
#[must_use]
pub fn number(nanoseconds: f64) -> String {
    if nanoseconds < 100.0 { format!("{nanoseconds:.1}") } else { format!("{nanoseconds:.0}") }
}

/// Formats a size for readers.
#[must_use]
pub fn bytes(count: usize) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..0x10_0000 => format!("{} KiB", count >> 10),
        _ => format!("{} MiB", count >> 20),
    }
}
