//! The project's targets, and whether a run meets them.

use std::fmt::Write;

use super::work::Work;
use crate::record::Record;

/// What Blockcast's time is compared with.
#[derive(Clone, Copy, Debug)]
enum Other {
    /// The times of peers for the same work.
    Peers(&'static [&'static str]),
    /// Its own time for other work.
    Own(Work),
    /// One nanosecond.
    Nanosecond,
}

/// How the ratio of the times must be.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// The other's time over Blockcast's is at least this.
    Ahead(f64),
    /// Blockcast's time over the other's is at most this.
    Within(f64),
}

/// One target. The worst of its kinds of work and peers counts.
struct Target {
    text: &'static str,
    works: Vec<Work>,
    other: Other,
    bound: Bound,
}

const CHANNELS: &[&str] = &["kanal", "crossbeam-channel", "flume", "std-mpsc", "bus", "tokio-broadcast"];
const OTHERS: &[&str] = &[
    "rtrb",
    "kanal",
    "crossbeam-channel",
    "flume",
    "std-mpsc",
    "bus",
    "tokio-broadcast",
    "iceoryx2-local",
    "iceoryx2-ipc",
];
const FORMATS: &[&str] = &["blockcast-rkyv", "flatbuffers", "capnp", "postcard", "bincode", "serde-json"];
const DISRUPTOR: Other = Other::Peers(&["disruptor"]);

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn targets() -> Vec<Target> {
    use Bound::{Ahead, Within};
    use Other::{Nanosecond, Own, Peers};
    let fan_out = |subscribers| Work::of("fan-out").payload(64).subscribers(subscribers);
    let guests = |payload| {
        [1, 8, 64].map(|count| Work::of("guest-fan-out").payload(payload).subscribers(count)).to_vec()
    };
    let spinning = |bench, payload| vec![Work::of(bench).mode("spinning").payload(payload)];
    let target = |text, works, other, bound| Target { text, works, other, bound };
    vec![
        target(
            "by reference, 1 subscriber: 3 times ahead of every channel",
            vec![fan_out(1)],
            Peers(CHANNELS),
            Ahead(3.0),
        ),
        target(
            "by reference, 64 subscribers: 8 times ahead of every channel",
            vec![fan_out(64)],
            Peers(CHANNELS),
            Ahead(8.0),
        ),
        target(
            "1 subscriber: 15 times ahead of `iceoryx2-local`",
            vec![fan_out(1)],
            Peers(&["iceoryx2-local"]),
            Ahead(15.0),
        ),
        target(
            "64 subscribers: 40 times ahead of `iceoryx2-local`",
            vec![fan_out(64)],
            Peers(&["iceoryx2-local"]),
            Ahead(40.0),
        ),
        target(
            "1 subscriber: within 1.5 times the time of `disruptor`",
            vec![fan_out(1)],
            DISRUPTOR,
            Within(1.5),
        ),
        target(
            "8 and 64 subscribers: not slower than `disruptor`",
            vec![fan_out(8), fan_out(64)],
            DISRUPTOR,
            Within(1.0),
        ),
        target(
            "16 MiB that are not rewritten: within 1.2 times the time of 64 B, 1 subscriber",
            vec![Work::of("fan-out").payload(16 * MIB).subscribers(1)],
            Own(fan_out(1)),
            Within(1.2),
        ),
        target(
            "samples that can be kept: not slower than any peer that has them",
            [1, 2, 8, 64].map(|count| Work::of("fan-out-owned").payload(64).subscribers(count)).to_vec(),
            Peers(OTHERS),
            Ahead(1.0),
        ),
        target(
            "two threads, not written: within 1.5 times the time of `disruptor`",
            spinning("two-threads", 64),
            DISRUPTOR,
            Within(1.5),
        ),
        target(
            "two threads, not written: not slower than the others",
            spinning("two-threads", 64),
            Peers(OTHERS),
            Ahead(1.0),
        ),
        target(
            "two threads, 64 B written: not slower than `disruptor`",
            spinning("two-threads-written", 64),
            DISRUPTOR,
            Within(1.0),
        ),
        target(
            "two threads, 64 B written: 3 times ahead of every channel",
            spinning("two-threads-written", 64),
            Peers(CHANNELS),
            Ahead(3.0),
        ),
        target(
            "two threads, 1 MiB written: not slower than `iceoryx2`",
            spinning("two-threads-written", MIB),
            Peers(&["iceoryx2-local", "iceoryx2-ipc"]),
            Within(1.0),
        ),
        target("ping-pong: not slower than `disruptor`", spinning("ping-pong", 64), DISRUPTOR, Within(1.0)),
        target(
            "ping-pong, blocking: within 500 ns one way",
            vec![Work::of("ping-pong").mode("blocking")],
            Nanosecond,
            Within(500.0),
        ),
        target(
            "1, 8 and 64 guests, 64 B: 5 times ahead of `list<u8>`",
            guests(64),
            Peers(&["list-u8"]),
            Ahead(5.0),
        ),
        target(
            "1, 8 and 64 guests, 64 KiB: 40 times ahead of `list<u8>`",
            guests(64 * KIB),
            Peers(&["list-u8"]),
            Ahead(40.0),
        ),
        target(
            "1, 8 and 64 guests, 1 MiB: 1,000 times ahead of `list<u8>`",
            guests(MIB),
            Peers(&["list-u8"]),
            Ahead(1000.0),
        ),
        target(
            "a guest reads attached memory as fast as its own",
            [64 * KIB, MIB].map(|payload| Work::of("guest-read").payload(payload)).to_vec(),
            Peers(&["own-memory"]),
            Within(1.1),
        ),
        target(
            "building a value in a block: not slower than any other format",
            [
                "10 strings",
                "1,000 strings",
                "100,000 strings",
                "record of 20 fields",
                "map of 10,000",
                "1,000,000 f32",
            ]
            .map(|value| Work::of("payload-build").value(value))
            .to_vec(),
            Peers(FORMATS),
            Ahead(1.0),
        ),
        target(
            "reading one of 100,000 strings: as fast as one of 10",
            vec![Work::of("payload-read").mode("one element").value("100,000 strings")],
            Own(Work::of("payload-read").mode("one element").value("10 strings")),
            Within(1.1),
        ),
    ]
}

impl Target {
    /// Returns the worst ratio, and with whom. `None` if nothing of it was measured.
    fn worst(&self, records: &[Record]) -> Option<(f64, Option<&'static str>)> {
        let mut ratios = Vec::new();
        for work in &self.works {
            let Some(own) = work.own(records) else { continue };
            let mut add = |other_over_own: Option<f64>, name| {
                let ratio = other_over_own.map(|ratio| match self.bound {
                    Bound::Ahead(_) => ratio,
                    Bound::Within(_) => 1.0 / ratio,
                });
                ratios.extend(ratio.map(|ratio| (ratio, name)));
            };
            match self.other {
                Other::Peers(names) => {
                    names.iter().for_each(|name| {
                        add(work.record(records, name).map(|row| row.ratio), Some(*name));
                    });
                }
                Other::Own(other) => add(other.own(records).map(|other| other / own), None),
                Other::Nanosecond => add(Some(1.0 / own), None),
            }
        }
        ratios.into_iter().reduce(|worst, next| {
            let is_worse = match self.bound {
                Bound::Ahead(_) => next.0 < worst.0,
                Bound::Within(_) => next.0 > worst.0,
            };
            if is_worse { next } else { worst }
        })
    }

    /// Whether a ratio meets the target. Differences that two digits do not show are noise.
    fn is_met(&self, ratio: f64) -> bool {
        let ratio = (ratio * 100.0).round() / 100.0;
        match self.bound {
            Bound::Ahead(least) => ratio >= least,
            Bound::Within(most) => ratio <= most,
        }
    }
}

/// One row per target.
pub(super) fn table(records: &[Record]) -> String {
    let mut text = "| target | measured | |\n| --- | ---: | --- |\n".to_owned();
    for target in targets() {
        let Some((ratio, name)) = target.worst(records) else { continue };
        let name = name.map(|name| format!("`{name}` ")).unwrap_or_default();
        let figure = if ratio < 10.0 { format!("{ratio:.2}") } else { format!("{ratio:.0}") };
        let verdict = if target.is_met(ratio) { "met" } else { "**missed**" };
        writeln!(text, "| {} | {name}{figure} | {verdict} |", target.text)
            .expect("writing to a string succeeds");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn the_worst_peer_decides_whether_a_target_is_met() {
        let mut records: Vec<Record> = [("blockcast", 1.0), ("disruptor", 0.5), ("kanal", 3.0), ("bus", 2.9)]
            .map(|(candidate, ratio)| Record { ratio, ..record("fan-out", candidate, 64, 10.0 * ratio) })
            .to_vec();
        let text = table(&records);
        assert!(text.contains("every channel | `bus` 2.90 | **missed** |"), "{text}");
        assert!(text.contains("time of `disruptor` | `disruptor` 2.00 | **missed** |"), "{text}");
        assert!(!text.contains("iceoryx2"), "not measured: {text}");
        records[3].ratio = 3.1;
        let text = table(&records);
        assert!(text.contains("every channel | `kanal` 3.00 | met |"), "{text}");
    }
}
