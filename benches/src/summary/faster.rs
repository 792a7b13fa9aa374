//! Lists the peers that are faster than Blockcast.

use std::fmt::Write;

use super::work::label;
use crate::record::Record;

/// A peer counts as faster if its time is at most this part of Blockcast's. Less is noise.
const FASTER: f64 = 0.95;

/// Candidates that are no peers: other settings of Blockcast, and what the machine can do.
fn is_peer(row: &Record) -> bool {
    let others = ["limit", "own-memory", "copied", "in-place", "memset", "memcpy"];
    !row.candidate.starts_with("blockcast") && !others.contains(&row.candidate.as_str())
}

/// One row per kind of work and peer that is faster in at least one of its rows.
pub(super) fn table(records: &[Record]) -> String {
    let mut text = "| peer | work | where it is faster | its time over Blockcast's |\n".to_owned();
    text += "| --- | --- | --- | ---: |\n";
    let mut seen: Vec<(&str, &str, Option<&str>)> = Vec::new();
    for row in records.iter().filter(|row| is_peer(row)) {
        let work = (row.candidate.as_str(), row.bench.as_str(), row.mode.as_deref());
        if seen.contains(&work) {
            continue;
        }
        seen.push(work);
        let (candidate, bench, mode) = work;
        let all: Vec<&Record> = records
            .iter()
            .filter(|row| row.candidate == candidate && row.bench == bench && row.mode.as_deref() == mode)
            .collect();
        let faster: Vec<&Record> = all.iter().copied().filter(|row| row.ratio <= FASTER).collect();
        if faster.is_empty() {
            continue;
        }
        let place = if faster.len() == all.len() && all.len() > 1 {
            "everywhere".to_owned()
        } else {
            faster.iter().map(|row| label(row)).collect::<Vec<_>>().join("; ")
        };
        let (low, high) = faster
            .iter()
            .fold((f64::INFINITY, 0.0_f64), |(low, high), row| (low.min(row.ratio), high.max(row.ratio)));
        let ratios = if low < high { format!("{low:.2} to {high:.2}") } else { format!("{low:.2}") };
        let mode = mode.map(|mode| format!(", {mode}")).unwrap_or_default();
        writeln!(text, "| `{candidate}` | `{bench}`{mode} | {place} | {ratios} |")
            .expect("writing to a string succeeds");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn peers_are_listed_where_they_are_faster_beyond_noise() {
        let mut records = Vec::new();
        for (candidate, ratios) in
            [("blockcast-rkyv", [0.1, 0.1]), ("one", [0.5, 0.6]), ("two", [0.96, 0.9]), ("three", [1.0, 2.0])]
        {
            for (payload, ratio) in [64, 4096].into_iter().zip(ratios) {
                records.push(Record { ratio, ..record("fan-out", candidate, payload, 10.0) });
            }
        }
        let expected = "| `one` | `fan-out` | everywhere | 0.50 to 0.60 |\n\
                        | `two` | `fan-out` | 4 KiB | 0.90 |\n";
        assert!(table(&records).ends_with(&format!("---: |\n{expected}")), "{}", table(&records));
    }
}
