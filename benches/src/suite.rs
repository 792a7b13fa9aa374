//! Lists the comparisons: groups of candidates that do the same work.

use std::time::{Duration, Instant};

use crate::latencies::Latencies;
use crate::limits;
use crate::machine;
use crate::pair::Pair;
use crate::payloads::{self, Kind, Step};
use crate::peers;
use crate::record::{Record, Statistic};
use crate::rounds::{Failure, Timed, Work, interleave};
use crate::work::{Candidate, Content, FanOut, Halves, Shape, Wait};

/// Maximum number of messages in flight.
pub const POOL: usize = 64;

/// Numbers of subscribers to compare.
pub const FAN_OUTS: [usize; 4] = [1, 2, 8, 64];

/// Message sizes to compare, in bytes.
pub const PAYLOADS: [usize; 5] = [64, 4 << 10, 64 << 10, 1 << 20, 16 << 20];

/// Selects the participants: all, or Blockcast, the machine's own limits, and those whose name contains one
/// of these.
#[derive(Clone, Debug, Default)]
pub struct Only(pub Vec<String>);

impl Only {
    pub(crate) fn admits(&self, name: &str) -> bool {
        self.0.is_empty() || name == peers::REFERENCE || self.0.iter().any(|part| name.contains(part))
    }

    fn peers(&self) -> Vec<Box<dyn Candidate>> {
        let mut peers = peers::all();
        peers.retain(|candidate| self.admits(candidate.name()));
        peers
    }
}

/// Creates the candidates of a group, except those that are not selected.
pub(crate) type Make = fn(&Group, &Only) -> Vec<Timed>;

/// Candidates that do the same work.
#[derive(Debug)]
pub struct Group {
    /// Kind of work, such as `fan-out`.
    pub bench: &'static str,
    /// For two threads, how they wait. For values, what is read.
    pub mode: Option<&'static str>,
    /// For work with values, which value is built or read and at which step.
    pub value: Option<(Kind, Step)>,
    /// Size and receivers of the messages.
    pub shape: Shape,
    /// Number of subscribing processes, if the ends are processes.
    pub processes: Option<usize>,
    pub(crate) make: Make,
    pub(crate) statistic: Statistic,
    pub(crate) slice: Duration,
    pub(crate) rounds: usize,
}

impl Group {
    /// Number of rounds.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Whether one end publishes while another receives, as fast as both can.
    fn is_throughput(&self) -> bool {
        ["two-threads", "two-processes"].iter().any(|work| self.bench.starts_with(work))
    }

    /// Measures the group. Calls `tick` after each round. Also returns why peers were left out.
    ///
    /// # Errors
    /// [`Failure`] if a candidate lost a message, or one of Blockcast's processes failed.
    pub fn run(&self, only: &Only, tick: impl FnMut()) -> Result<(Vec<Record>, Vec<Failure>), Failure> {
        let mut candidates = self.candidates(only);
        let left_out = interleave(&mut candidates, self.slice, self.rounds, tick)?;
        Ok((self.records(&candidates), left_out))
    }

    /// Creates the candidates of this group, ready to work.
    #[must_use]
    pub fn candidates(&self, only: &Only) -> Vec<Timed> {
        (self.make)(self, only)
    }

    fn records(&self, candidates: &[Timed]) -> Vec<Record> {
        let of = |timed: &Timed| match self.statistic {
            Statistic::Min => timed.min(),
            Statistic::Median => timed.median(),
        };
        let reference = candidates.iter().find(|timed| timed.candidate == peers::REFERENCE).map(of);
        let per_second = |timed: &Timed| self.is_throughput().then(|| (1e9 / of(timed)).round());
        candidates
            .iter()
            .map(|timed| Record {
                bench: self.bench.to_owned(),
                payload: timed.bytes.unwrap_or(self.shape.payload),
                value: self.value.map(|(kind, _)| kind.name().to_owned()),
                subscribers: self.shape.subscribers,
                processes: self.processes,
                mode: self.mode.map(str::to_owned),
                candidate: timed.candidate.clone(),
                ns_min: round(timed.min()),
                ns_median: round(timed.median()),
                noise: (timed.noise() * 1000.0).round() / 1000.0,
                statistic: self.statistic,
                ratio: (of(timed) / reference.unwrap_or(f64::NAN) * 100.0).round() / 100.0,
                messages_per_second: per_second(timed),
                bytes_per_second: per_second(timed)
                    .filter(|_| self.shape.content == Content::Numbered)
                    .map(|messages| messages * self.shape.payload as f64),
                latency_ns: timed.latencies.as_ref().map(Latencies::percentiles),
            })
            .collect()
    }
}

fn round(nanoseconds: f64) -> f64 {
    (nanoseconds * 10.0).round() / 10.0
}

/// Returns all comparisons. `quick` omits most sizes and rounds.
#[must_use]
pub fn groups(quick: bool) -> Vec<Group> {
    let mut groups = Vec::new();
    let milliseconds = Duration::from_millis;
    for payload in PAYLOADS {
        for subscribers in FAN_OUTS {
            let is_quick = payload == 64 || (payload == 1 << 20 && subscribers == 1);
            if quick && !is_quick {
                continue;
            }
            groups.push(Group {
                bench: "fan-out",
                mode: None,
                value: None,
                shape: one_thread_shape(payload, subscribers),
                processes: None,
                make: fan_out,
                statistic: Statistic::Min,
                slice: if quick { Duration::from_micros(500) } else { milliseconds(2) },
                rounds: if quick { 11 } else { 21 },
            });
        }
    }
    for (payload, subscribers) in [(64, 1), (64, 2), (64, 8), (64, 64), (1 << 20, 8)] {
        if quick && (payload != 64 || subscribers == 2) {
            continue;
        }
        groups.push(Group {
            bench: "fan-out-owned",
            mode: None,
            value: None,
            shape: one_thread_shape(payload, subscribers),
            processes: None,
            make: fan_out_owned,
            statistic: Statistic::Min,
            slice: if quick { Duration::from_micros(500) } else { milliseconds(2) },
            rounds: if quick { 11 } else { 21 },
        });
    }
    if machine::has_two_processors() {
        two_threads(&mut groups, quick);
    }
    #[cfg(feature = "processes")]
    groups.extend(crate::processes::groups::groups(quick));
    #[cfg(feature = "guests")]
    guest_groups(&mut groups, quick);
    payload_groups(&mut groups, quick);
    for payload in PAYLOADS {
        if quick && payload != 1 << 20 {
            continue;
        }
        groups.push(Group {
            bench: "machine",
            mode: None,
            value: None,
            shape: one_thread_shape(payload, 0),
            processes: None,
            make: |group, _| limits::memory(group.shape.payload),
            statistic: Statistic::Min,
            slice: milliseconds(2),
            rounds: if quick { 5 } else { 15 },
        });
    }
    groups
}

fn two_threads(groups: &mut Vec<Group>, quick: bool) {
    let shape = |payload, content, wait| Shape { payload, subscribers: 1, blocks: POOL, content, wait };
    // Many short slices, so that interrupted ones do not affect the median.
    let rounds = if quick { 9 } else { 41 };
    let slice = Duration::from_micros(if quick { 1000 } else { 3000 });
    let spinning_and_blocking = [(Wait::Spin, "spinning"), (Wait::Block, "blocking")];
    let mut throughput = |bench, shape, mode, slice| {
        groups.push(Group {
            bench,
            mode: Some(mode),
            value: None,
            shape,
            processes: None,
            make: throughput,
            statistic: Statistic::Median,
            slice,
            rounds,
        });
    };
    for (wait, mode) in spinning_and_blocking {
        throughput("two-threads", shape(64, Content::Marked, wait), mode, slice);
        throughput("two-threads-written", shape(64, Content::Numbered, wait), mode, slice);
    }
    throughput("two-threads-written", shape(1 << 20, Content::Numbered, Wait::Spin), "spinning", slice * 3);
    for (wait, mode) in spinning_and_blocking {
        groups.push(Group {
            bench: "ping-pong",
            mode: Some(mode),
            value: None,
            shape: shape(64, Content::Numbered, wait),
            processes: None,
            make: ping_pong,
            statistic: Statistic::Median,
            slice,
            rounds,
        });
    }
    for (wait, mode) in spinning_and_blocking {
        groups.push(Group {
            bench: "latency",
            mode: Some(mode),
            value: None,
            shape: shape(64, Content::Numbered, wait),
            processes: None,
            make: latency,
            statistic: Statistic::Median,
            slice,
            rounds,
        });
    }
}

/// Message sizes around the size from which guests build in place.
#[cfg(feature = "guests")]
const BUILT: [usize; 6] = [64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, 16 << 20];

#[cfg(feature = "guests")]
fn guest_groups(groups: &mut Vec<Group>, quick: bool) {
    let mut add = |bench, make: Make, shape: Shape, rounds| {
        groups.push(Group {
            bench,
            mode: None,
            value: None,
            shape,
            processes: None,
            make,
            statistic: Statistic::Min,
            slice: Duration::from_millis(if quick { 1 } else { 3 }),
            rounds,
        });
    };
    let rounds = if quick { 9 } else { 21 };
    let of_size = |payload| !quick || payload == 64 || payload == 64 << 10;
    for payload in PAYLOADS.into_iter().filter(|&payload| of_size(payload)) {
        let shape = delivery_shape(payload, 1);
        add("guest-delivery", |group, _| crate::guests::delivery(group.shape), shape, rounds);
    }
    for payload in PAYLOADS.into_iter().filter(|&payload| of_size(payload)) {
        let shape = one_thread_shape(payload, 1);
        add("guest-publish", |group, _| crate::guests::publishing(group.shape), shape, rounds);
    }
    for payload in BUILT.into_iter().filter(|&payload| of_size(payload)) {
        let shape = one_thread_shape(payload, 1);
        add("guest-build", |group, _| crate::guests::building(group.shape), shape, rounds);
    }
    for payload in PAYLOADS.into_iter().filter(|&payload| of_size(payload)) {
        for guests in GUESTS {
            let shape = delivery_shape(payload, guests);
            add("guest-fan-out", |group, _| crate::guests::fan_out(group.shape), shape, rounds.min(9));
        }
    }
    for guests in GUESTS {
        let shape = delivery_shape(64, guests);
        add("guest-wake", |group, _| crate::guests::waking(group.shape), shape, rounds);
    }
    for payload in [64 << 10, 1 << 20] {
        if of_size(payload) {
            let shape = one_thread_shape(payload, 1);
            add("guest-read", |group, _| crate::guests::reading(group.shape), shape, rounds);
        }
    }
}

/// The same number of blocks for all sizes, so that batches have the same number of messages. Almost nothing
/// of the blocks is written.
#[cfg(feature = "guests")]
fn delivery_shape(payload: usize, subscribers: usize) -> Shape {
    Shape { blocks: POOL, ..one_thread_shape(payload, subscribers) }
}

/// Numbers of guests that all receive the same messages.
#[cfg(feature = "guests")]
const GUESTS: [usize; 3] = [1, 8, 64];

fn payload_groups(groups: &mut Vec<Group>, quick: bool) {
    let steps = [
        ("payload-build", None, Step::Build),
        ("payload-read", Some("all of it"), Step::ReadAll),
        ("payload-read", Some("one element"), Step::ReadOne),
        ("payload-read", Some("validation"), Step::Validate),
    ];
    for (bench, mode, step) in steps {
        for kind in payloads::KINDS {
            if quick && matches!(kind, Kind::Strings(100_000) | Kind::Floats(_)) {
                continue;
            }
            groups.push(Group {
                bench,
                mode,
                value: Some((kind, step)),
                shape: one_thread_shape(64, 0),
                processes: None,
                make: build_or_read,
                statistic: Statistic::Min,
                slice: Duration::from_millis(if quick { 1 } else { 2 }),
                rounds: if quick { 3 } else { 11 },
            });
        }
    }
}

/// One thread, with fewer blocks if 64 of them would take gigabytes.
fn one_thread_shape(payload: usize, subscribers: usize) -> Shape {
    let blocks = ((256 << 20) / payload).clamp(4, POOL);
    Shape { payload, subscribers, blocks, content: Content::Marked, wait: Wait::Spin }
}

fn fan_out(group: &Group, only: &Only) -> Vec<Timed> {
    one_thread(group.shape, only, |candidate, shape| candidate.fan_out(shape))
}

fn fan_out_owned(group: &Group, only: &Only) -> Vec<Timed> {
    one_thread(group.shape, only, |candidate, shape| candidate.fan_out_owned(shape))
}

fn one_thread(
    shape: Shape,
    only: &Only,
    make: impl Fn(&dyn Candidate, Shape) -> Option<Box<dyn FanOut>>,
) -> Vec<Timed> {
    let mut all = Vec::new();
    for candidate in only.peers() {
        if let Some(fan_out) = make(&*candidate, shape) {
            let work = timed_fan_out(candidate.name(), fan_out, shape);
            all.push(Timed::new(candidate.name(), work).of_pool(shape.blocks));
        }
    }
    all
}

/// Measures a fan-out and checks its tally.
fn timed_fan_out(name: &'static str, mut fan_out: Box<dyn FanOut>, shape: Shape) -> Work {
    Box::new(move |messages| {
        let started = Instant::now();
        let tally = fan_out.run(messages);
        let spent = started.elapsed();
        let expected = messages * shape.subscribers as u64;
        if !tally.is_complete(shape.content, expected) {
            return Err(Failure::Lost { candidate: name.to_owned(), expected, tally });
        }
        Ok(spent.as_nanos() as f64 / messages as f64)
    })
}

fn build_or_read(group: &Group, only: &Only) -> Vec<Timed> {
    let Some((kind, step)) = group.value else { return Vec::new() };
    let mut candidates = payloads::candidates(kind, step);
    candidates.retain(|timed| only.admits(&timed.candidate));
    candidates
}

fn throughput(group: &Group, only: &Only) -> Vec<Timed> {
    let shape = group.shape;
    let mut all = Vec::new();
    for candidate in only.peers() {
        let name = candidate.name();
        let Some(halves) = candidate.halves(shape) else { continue };
        let mut pair = Pair::throughput(halves);
        let work = move |messages| {
            let round = pair.run(messages);
            if !round.there.is_complete(shape.content, messages) {
                return Err(Failure::Lost {
                    candidate: name.to_owned(),
                    expected: messages,
                    tally: round.there,
                });
            }
            Ok(round.nanoseconds)
        };
        all.push(Timed::new(name, Box::new(work)).of_pool(shape.blocks));
    }
    if shape.content == Content::Numbered && shape.wait == Wait::Spin {
        all.push(limits::write(shape.payload));
    }
    all
}

fn ping_pong(group: &Group, only: &Only) -> Vec<Timed> {
    answered(group.shape, only, |name, there, back| {
        timed_answers(name, Pair::ping_pong(there, back), group.shape, None)
    })
}

fn latency(group: &Group, only: &Only) -> Vec<Timed> {
    answered(group.shape, only, |name, there, back| {
        timed_answers(name, Pair::latencies(there, back), group.shape, Some(Latencies::new()))
    })
}

/// Returns all candidates whose messages can be answered, and the limit.
fn answered(shape: Shape, only: &Only, make: impl Fn(&'static str, Halves, Halves) -> Timed) -> Vec<Timed> {
    let mut all = Vec::new();
    for candidate in only.peers() {
        if let (Some(there), Some(back)) = (candidate.halves(shape), candidate.halves(shape)) {
            all.push(make(candidate.name(), there, back));
        }
    }
    let (there, back) = limits::bounce(shape.wait);
    all.push(make(limits::LIMIT, there, back));
    all
}

fn timed_answers(name: &'static str, mut pair: Pair, shape: Shape, latencies: Option<Latencies>) -> Timed {
    let recorded = latencies.clone();
    let work = move |messages| {
        let round = pair.run(messages);
        for tally in [round.there, round.back] {
            if !tally.is_complete(shape.content, messages) {
                return Err(Failure::Lost { candidate: name.to_owned(), expected: messages, tally });
            }
        }
        recorded.iter().for_each(|latencies| latencies.record(&round.trips));
        Ok(round.nanoseconds)
    };
    let timed = Timed::new(name, Box::new(work)).of_pool(shape.blocks);
    match latencies {
        Some(latencies) => timed.with_latencies(latencies),
        None => timed,
    }
}
