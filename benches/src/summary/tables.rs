//! The short tables: which candidates and which of their figures answer a reader's question.

use super::work::Work;
use crate::latencies::Percentiles;
use crate::limits::LIMIT;
use crate::peers::REFERENCE;
use crate::record::Record;
use crate::report;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A short table.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// What the columns are.
    corner: &'static str,
    columns: Vec<Column>,
    rows: Vec<Row>,
}

/// One figure of every candidate.
struct Column {
    title: String,
    work: Work,
    figure: Figure,
}

/// One candidate.
struct Row {
    label: &'static str,
    candidate: &'static str,
    /// Other work than that of the columns.
    bench: Option<&'static str>,
}

/// How a record is shown.
#[derive(Clone, Copy, Debug)]
enum Figure {
    Nanoseconds,
    /// Million messages per second.
    Messages,
    /// Gigabytes per second.
    Gigabytes,
    /// Bytes of a message.
    Bytes,
    Percentile(fn(&Percentiles) -> Option<u64>),
}

impl Figure {
    fn of(self, row: &Record) -> Option<f64> {
        match self {
            Self::Nanoseconds => Some(row.nanoseconds()),
            Self::Messages => Some(1e3 / row.nanoseconds()),
            Self::Gigabytes => Some(row.payload as f64 / row.nanoseconds()),
            Self::Bytes => Some(row.payload as f64),
            Self::Percentile(of) => row.latency_ns.as_ref().and_then(of).map(|time| time as f64),
        }
    }

    /// Whether one figure is better than the other by more than noise.
    fn is_better(self, one: f64, other: f64) -> bool {
        match self {
            Self::Messages | Self::Gigabytes => one >= 1.05 * other,
            _ => one <= 0.95 * other,
        }
    }

    fn show(self, figure: f64) -> String {
        match self {
            Self::Nanoseconds => report::number(figure),
            Self::Messages | Self::Gigabytes if figure < 10.0 => format!("{figure:.2}"),
            Self::Messages | Self::Gigabytes => format!("{figure:.0}"),
            Self::Bytes | Self::Percentile(_) => format!("{figure:.0}"),
        }
    }
}

impl Row {
    /// The candidate's record for a column's work, or for the row's own.
    fn record<'r>(&self, records: &'r [Record], column: &Column) -> Option<&'r Record> {
        let work = self.bench.map_or(column.work, |bench| column.work.with_bench(bench));
        work.record(records, self.candidate)
    }

    /// Whether it is a peer that does the same work.
    fn is_peer(&self) -> bool {
        self.bench.is_none() && self.candidate != LIMIT && !self.candidate.starts_with(REFERENCE)
    }
}

impl Table {
    /// Returns the table, without candidates and columns that have no figures.
    pub(super) fn text(&self, records: &[Record]) -> String {
        let figure = |row: &Row, column: &Column| {
            row.record(records, column).and_then(|record| column.figure.of(record))
        };
        let columns: Vec<&Column> = self
            .columns
            .iter()
            .filter(|column| self.rows.iter().any(|row| figure(row, column).is_some()))
            .collect();
        if columns.is_empty() {
            return "Not measured in this run.\n".to_owned();
        }
        let titles: Vec<&str> = columns.iter().map(|column| column.title.as_str()).collect();
        let mut text = format!("| {} | {} |\n", self.corner, titles.join(" | "));
        text += &format!("| --- |{}\n", " ---: |".repeat(columns.len()));
        for row in &self.rows {
            let cells: Vec<String> = columns
                .iter()
                .map(|column| {
                    let Some(found) = figure(row, column) else { return "–".to_owned() };
                    let own =
                        column.work.record(records, REFERENCE).and_then(|record| column.figure.of(record));
                    let shown = column.figure.show(found);
                    let is_better = own.is_some_and(|own| column.figure.is_better(found, own));
                    if row.is_peer() && is_better { format!("**{shown}**") } else { shown }
                })
                .collect();
            if cells.iter().any(|cell| cell != "–") {
                text += &format!("| {} | {} |\n", row.label, cells.join(" | "));
            }
        }
        text
    }
}

fn row(label: &'static str, candidate: &'static str) -> Row {
    Row { label, candidate, bench: None }
}

fn row_of(bench: &'static str, label: &'static str, candidate: &'static str) -> Row {
    Row { label, candidate, bench: Some(bench) }
}

fn column(title: impl Into<String>, work: Work, figure: Figure) -> Column {
    Column { title: title.into(), work, figure }
}

/// All tables.
pub(super) fn all() -> Vec<Table> {
    vec![
        readme(),
        fan_out(),
        threads(),
        latency(),
        processes(),
        fan_out_processes(),
        sleepers(),
        guest_delivery(),
        guest_publishing(),
        building(),
        reading(),
        sizes(),
    ]
}

/// One column per number of subscribers to messages of 64 bytes.
fn by_subscribers(bench: &'static str) -> impl Iterator<Item = Column> {
    [1, 8, 64].into_iter().map(move |count| {
        let work = Work::of(bench).payload(64).subscribers(count);
        column(count.to_string(), work, Figure::Nanoseconds)
    })
}

/// One column per payload.
fn by_payload(work: Work) -> Vec<Column> {
    [64, 4 * KIB, 64 * KIB, MIB, 16 * MIB]
        .map(|payload| column(report::bytes(payload), work.payload(payload), Figure::Nanoseconds))
        .into_iter()
        .collect()
}

fn readme() -> Table {
    Table {
        name: "readme",
        corner: "subscribers",
        columns: by_subscribers("fan-out").collect(),
        rows: vec![
            row("Blockcast, by reference", "blockcast"),
            row("Blockcast, with timestamps (the default)", "blockcast-stamped"),
            row("`disruptor` (fixed subscribers, nothing can be kept)", "disruptor"),
            row("`rtrb`, one ring per subscriber", "rtrb"),
            row("`tokio` broadcast", "tokio-broadcast"),
            row("`iceoryx2-local`", "iceoryx2-local"),
            row_of("guest-fan-out", "wasm guests, Blockcast", "blockcast"),
            row_of("guest-fan-out", "wasm guests called with `list<u8>`", "list-u8"),
        ],
    }
}

fn fan_out() -> Table {
    let kept = Work::of("fan-out-owned").payload(64);
    let kept =
        [1, 64].map(|count| column(format!("{count}, kept"), kept.subscribers(count), Figure::Nanoseconds));
    Table {
        name: "fan-out",
        corner: "subscribers",
        columns: by_subscribers("fan-out").chain(kept).collect(),
        rows: vec![
            row("**Blockcast**", "blockcast"),
            row("Blockcast, with timestamps", "blockcast-stamped"),
            row("`disruptor`", "disruptor"),
            row("`rtrb`", "rtrb"),
            row("`kanal`", "kanal"),
            row("`crossbeam-channel`", "crossbeam-channel"),
            row("`bus`", "bus"),
            row("`tokio` broadcast", "tokio-broadcast"),
            row("`iceoryx2`", "iceoryx2-local"),
        ],
    }
}

fn threads() -> Table {
    Table {
        name: "threads",
        corner: "",
        columns: vec![
            column("million/s", Work::of("two-threads").mode("spinning"), Figure::Messages),
            column("million/s, blocking", Work::of("two-threads").mode("blocking"), Figure::Messages),
            column("million/s, written", written("two-threads-written", 64), Figure::Messages),
            column("GB/s, 1 MiB written", written("two-threads-written", MIB), Figure::Gigabytes),
        ],
        rows: vec![
            row("**Blockcast**", "blockcast"),
            row("`disruptor`", "disruptor"),
            row("`rtrb`", "rtrb"),
            row("`kanal`", "kanal"),
            row("`crossbeam-channel`", "crossbeam-channel"),
            row("`bus`", "bus"),
            row("`tokio` broadcast", "tokio-broadcast"),
            row("`iceoryx2`", "iceoryx2-local"),
            row("machine's limit", LIMIT),
        ],
    }
}

fn written(bench: &'static str, payload: usize) -> Work {
    Work::of(bench).mode("spinning").payload(payload)
}

fn latency() -> Table {
    let percentiles = |title: &str, work: Work| {
        let p50: fn(&Percentiles) -> Option<u64> = |of| Some(of.p50);
        [
            column(format!("{title}, 50 %"), work, Figure::Percentile(p50)),
            column(format!("{title}, 99 %"), work, Figure::Percentile(|of| of.p99)),
            column(format!("{title}, 99.9 %"), work, Figure::Percentile(|of| of.p99_9)),
        ]
    };
    Table {
        name: "latency",
        corner: "ns one way",
        columns: percentiles("threads", Work::of("latency").mode("spinning"))
            .into_iter()
            .chain(percentiles("processes", Work::of("latency-processes").mode("spinning")))
            .collect(),
        rows: vec![
            row("**Blockcast**", "blockcast"),
            row("`disruptor`", "disruptor"),
            row("`rtrb`", "rtrb"),
            row("`crossbeam-channel`", "crossbeam-channel"),
            row("`tokio` broadcast", "tokio-broadcast"),
            row("`iceoryx2`", "iceoryx2-ipc"),
            row("Unix socket", "unix-socket"),
            row("pipe", "pipe"),
            row("machine's limit", LIMIT),
        ],
    }
}

fn between_processes() -> Vec<Row> {
    vec![
        row("**Blockcast**", "blockcast"),
        row("Blockcast, as threads of one process", "blockcast-threads"),
        row("`iceoryx2`", "iceoryx2-ipc"),
        row("`zenoh`, shared memory", "zenoh-shm"),
        row("Unix socket", "unix-socket"),
        row("pipe", "pipe"),
        row("machine's limit", LIMIT),
    ]
}

fn processes() -> Table {
    Table {
        name: "processes",
        corner: "",
        columns: vec![
            column("million/s", Work::of("two-processes").mode("spinning"), Figure::Messages),
            column("million/s, blocking", Work::of("two-processes").mode("blocking"), Figure::Messages),
            column("million/s, written", written("two-processes-written", 64), Figure::Messages),
            column("GB/s, 1 MiB written", written("two-processes-written", MIB), Figure::Gigabytes),
            column("ns one way", Work::of("ping-pong-processes").mode("spinning"), Figure::Nanoseconds),
        ],
        rows: between_processes(),
    }
}

fn fan_out_processes() -> Table {
    let publishing = Work::of("fan-out-processes").mode("publishing to 64 subscribers").processes(8);
    Table {
        name: "fan-out-processes",
        corner: "subscribing processes",
        columns: [1, 2, 8]
            .map(|count| {
                let work = Work::of("fan-out-processes").processes(count);
                column(count.to_string(), work, Figure::Nanoseconds)
            })
            .into_iter()
            .chain([column("publishing only, 8 with 8 subscribers each", publishing, Figure::Nanoseconds)])
            .collect(),
        rows: between_processes(),
    }
}

fn sleepers() -> Table {
    let blocking = |bench| Work::of(bench).mode("blocking").payload(64);
    Table {
        name: "sleepers",
        corner: "ns one way",
        columns: vec![
            column("asleep, processes", Work::of("ping-pong-processes").mode("asleep"), Figure::Nanoseconds),
            column("blocking, processes", blocking("ping-pong-processes"), Figure::Nanoseconds),
            column("blocking, threads", blocking("ping-pong"), Figure::Nanoseconds),
        ],
        rows: vec![
            row("**Blockcast**", "blockcast"),
            row("`iceoryx2`", "iceoryx2-ipc"),
            row("Unix socket", "unix-socket"),
            row("pipe", "pipe"),
            row("`kanal`", "kanal"),
            row("`crossbeam-channel`", "crossbeam-channel"),
            row("`bus`", "bus"),
            row("`std` mpsc", "std-mpsc"),
            row("`tokio` broadcast", "tokio-broadcast"),
            row("machine's limit", LIMIT),
        ],
    }
}

fn guest_delivery() -> Table {
    let many = Work::of("guest-fan-out").subscribers(64);
    let mut columns = by_payload(Work::of("guest-delivery"));
    columns.push(column("64 guests, 64 B", many.payload(64), Figure::Nanoseconds));
    columns.push(column("64 guests, 1 MiB", many.payload(MIB), Figure::Nanoseconds));
    Table {
        name: "guest-delivery",
        corner: "payload",
        columns,
        rows: vec![
            row("**Blockcast**", "blockcast"),
            row("`list<u8>`", "list-u8"),
            row("`list<u8>`, 64 messages per call", "list-u8-batches"),
            row("Blockcast, `Isolation::Strict`", "blockcast-strict"),
            row("Blockcast, copying", "blockcast-copied"),
        ],
    }
}

fn guest_publishing() -> Table {
    Table {
        name: "guest-publish",
        corner: "payload",
        columns: by_payload(Work::of("guest-publish")),
        rows: vec![row("**Blockcast**", "blockcast"), row("`list<u8>`", "list-u8")],
    }
}

fn formats() -> Vec<Row> {
    vec![
        row("**Blockcast**, `Flat<T>`", "blockcast"),
        row("Blockcast, `Rkyv<T>`", "blockcast-rkyv"),
        row("FlatBuffers", "flatbuffers"),
        row("Cap'n Proto", "capnp"),
        row("`postcard`", "postcard"),
        row("`bincode`", "bincode"),
        row("JSON", "serde-json"),
    ]
}

fn building() -> Table {
    let build = |value| Work::of("payload-build").value(value);
    let values = ["record of 20 fields", "1,000 strings", "map of 10,000", "1,000,000 f32"];
    let mut columns: Vec<Column> =
        values.into_iter().map(|value| column(value, build(value), Figure::Nanoseconds)).collect();
    columns.push(column("bytes of 1,000 strings", build("1,000 strings"), Figure::Bytes));
    Table { name: "building", corner: "value", columns, rows: formats() }
}

fn reading() -> Table {
    let read = |mode, value| Work::of("payload-read").mode(mode).value(value);
    Table {
        name: "reading",
        corner: "",
        columns: vec![
            column("record, all of it", read("all of it", "record of 20 fields"), Figure::Nanoseconds),
            column("1,000 strings, all", read("all of it", "1,000 strings"), Figure::Nanoseconds),
            column("one of 1,000 strings", read("one element", "1,000 strings"), Figure::Nanoseconds),
            column("one key of 10,000", read("one element", "map of 10,000"), Figure::Nanoseconds),
            column("validate 1,000 strings", read("validation", "1,000 strings"), Figure::Nanoseconds),
        ],
        rows: formats(),
    }
}

fn sizes() -> Table {
    Table {
        name: "sizes",
        corner: "payload",
        columns: by_payload(Work::of("fan-out").subscribers(1)),
        rows: vec![
            row("**Blockcast**", "blockcast"),
            row("`disruptor`", "disruptor"),
            row("`rtrb`", "rtrb"),
            row("`crossbeam-channel`", "crossbeam-channel"),
            row("`iceoryx2`", "iceoryx2-local"),
            row_of("machine", "writing every byte (`memset`)", "memset"),
            row_of("machine", "copying every byte (`memcpy`)", "memcpy"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn a_table_has_only_what_was_measured_and_marks_what_is_faster() {
        let records = [
            record("fan-out", "blockcast", 64, 10.0),
            record("fan-out", "disruptor", 64, 5.0),
            record("fan-out", "rtrb", 64, 9.9),
            record("guest-fan-out", "list-u8", 64, 5.0),
        ];
        let expected = "| subscribers | 1 |\n| --- | ---: |\n| Blockcast, by reference | 10.0 |\n\
                        | `disruptor` (fixed subscribers, nothing can be kept) | **5.0** |\n\
                        | `rtrb`, one ring per subscriber | 9.9 |\n\
                        | wasm guests called with `list<u8>` | 5.0 |\n";
        assert_eq!(readme().text(&records), expected);
        assert_eq!(threads().text(&records), "Not measured in this run.\n");
    }

    #[test]
    fn rates_that_are_higher_are_better() {
        let spinning = |candidate: &str, nanoseconds| Record {
            mode: Some("spinning".to_owned()),
            ..record("two-threads-written", candidate, MIB, nanoseconds)
        };
        let text = threads().text(&[spinning("blockcast", 524_288.0), spinning("disruptor", 262_144.0)]);
        assert!(text.ends_with("| **Blockcast** | 2.00 |\n| `disruptor` | **4.00** |\n"), "{text}");
    }

    #[test]
    fn the_names_of_tables_are_unique() {
        let mut names: Vec<&str> = all().iter().map(|table| table.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
