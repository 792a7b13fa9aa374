//! Two threads on two processors, which stay for all rounds of a candidate.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::machine;
use crate::work::{Halves, Sink, Source, Tally};

/// Round trips between two readings of the clock.
const SLICE: u64 = 64;

/// The threads of a publisher and a subscriber. They sleep between rounds.
#[derive(Debug)]
pub struct Pair {
    commands: Vec<Sender<u64>>,
    results: Receiver<Outcome>,
    threads: Vec<JoinHandle<()>>,
}

/// Result of a round of [`Pair::run`].
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Nanoseconds per message (throughput) or one way (ping-pong, median of its slices).
    pub nanoseconds: f64,
    /// Received in the second thread.
    pub there: Tally,
    /// Received in the first thread (ping-pong only).
    pub back: Tally,
    /// Nanoseconds of each round trip ([`Pair::latencies`] only).
    pub trips: Vec<u64>,
}

#[derive(Debug)]
enum Outcome {
    Published { started: Instant },
    Received { ended: Instant, tally: Tally },
    Pinged { one_way: f64, tally: Tally },
    Timed { trips: Vec<u64>, tally: Tally },
    Ponged { tally: Tally },
}

impl Pair {
    /// One thread publishes, the other receives.
    #[must_use]
    pub fn throughput(halves: Halves) -> Self {
        let Halves { source, sink } = halves;
        Self::spawn(
            move |together| {
                together();
                let mut source = source();
                together();
                Box::new(move |first, messages| {
                    let started = Instant::now();
                    source.publish(first, messages);
                    Outcome::Published { started }
                })
            },
            move |together| {
                let mut sink = sink();
                together();
                together();
                Box::new(move |first, messages| {
                    let tally = sink.receive(first, messages);
                    Outcome::Received { ended: Instant::now(), tally }
                })
            },
        )
    }

    /// Each message is answered before the next is sent.
    #[must_use]
    pub fn ping_pong(there: Halves, back: Halves) -> Self {
        Self::answered(there, back, |source, sink, first, messages| {
            let (one_way, tally) = ping(source, sink, first, messages);
            Outcome::Pinged { one_way, tally }
        })
    }

    /// Like [`ping_pong`](Self::ping_pong), and takes the time of each round trip.
    #[must_use]
    pub fn latencies(there: Halves, back: Halves) -> Self {
        Self::answered(there, back, |source, sink, first, messages| {
            let (trips, tally) = ping_each(source, sink, first, messages);
            Outcome::Timed { trips, tally }
        })
    }

    fn answered(there: Halves, back: Halves, ping: Ping) -> Self {
        Self::spawn(
            move |together| {
                let mut sink = (back.sink)();
                together();
                let mut source = (there.source)();
                together();
                Box::new(move |first, messages| ping(&mut *source, &mut *sink, first, messages))
            },
            move |together| {
                let mut sink = (there.sink)();
                together();
                let mut source = (back.source)();
                together();
                Box::new(move |first, messages| Outcome::Ponged {
                    tally: pong(&mut *source, &mut *sink, first, messages),
                })
            },
        )
    }

    /// Runs `messages` further messages, numbered on from the previous ones.
    pub fn run(&mut self, messages: u64) -> Round {
        for command in &self.commands {
            command.send(messages).expect("the threads wait for commands");
        }
        let mut round = Round::default();
        let (mut started, mut ended) = (None, None);
        for _ in 0..self.commands.len() {
            match self.results.recv().expect("a thread of the pair has panicked") {
                Outcome::Published { started: at } => started = Some(at),
                Outcome::Received { ended: at, tally } => {
                    ended = Some(at);
                    round.there = tally;
                }
                Outcome::Pinged { one_way, tally } => {
                    round.nanoseconds = one_way;
                    round.back = tally;
                }
                Outcome::Timed { trips, tally } => {
                    (round.nanoseconds, round.trips) = (one_way_of(&trips), trips);
                    round.back = tally;
                }
                Outcome::Ponged { tally } => round.there = tally,
            }
        }
        if let (Some(started), Some(ended)) = (started, ended) {
            round.nanoseconds = ended.duration_since(started).as_nanos() as f64 / messages as f64;
        }
        round
    }

    fn spawn<A, B>(one: A, other: B) -> Self
    where
        A: FnOnce(&dyn Fn()) -> Job + Send + 'static,
        B: FnOnce(&dyn Fn()) -> Job + Send + 'static,
    {
        let together = Arc::new(Barrier::new(2));
        let start = Arc::new(AtomicU32::new(0));
        let (report, results) = channel();
        let mut pair = Self { commands: Vec::new(), results, threads: Vec::new() };
        let makers: [MakeJob; 2] = [Box::new(one), Box::new(other)];
        for (processor, make) in makers.into_iter().enumerate() {
            let (command, commands) = channel::<u64>();
            let (together, start, report) = (Arc::clone(&together), Arc::clone(&start), report.clone());
            pair.commands.push(command);
            pair.threads.push(thread::spawn(move || {
                machine::pin(processor);
                let mut job = make(&|| {
                    together.wait();
                });
                let mut first = 0;
                for messages in commands {
                    start_together(&start, 2);
                    let outcome = job(first, messages);
                    first += messages;
                    if report.send(outcome).is_err() {
                        return;
                    }
                }
            }));
        }
        pair
    }
}

/// Sends messages that are answered, and measures.
type Ping = fn(&mut dyn Source, &mut dyn Sink, u64, u64) -> Outcome;
/// A thread's work in each round, given the range of message numbers.
type Job = Box<dyn FnMut(u64, u64) -> Outcome>;
/// Creates the work in its own thread. The argument synchronizes both threads.
type MakeJob = Box<dyn FnOnce(&dyn Fn()) -> Job + Send>;

impl Drop for Pair {
    fn drop(&mut self) {
        self.commands.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Sends messages and waits for the answer to each. Returns the nanoseconds of one way: the median of short
/// slices.
pub(crate) fn ping(source: &mut dyn Source, sink: &mut dyn Sink, first: u64, messages: u64) -> (f64, Tally) {
    let mut tally = Tally::default();
    let mut slices = Vec::with_capacity((messages / SLICE + 1) as usize);
    let mut number = first;
    while number < first + messages {
        let until = (number + SLICE).min(first + messages);
        let (began, trips) = (Instant::now(), until - number);
        while number < until {
            source.publish(number, 1);
            tally += sink.receive(number, 1);
            number += 1;
        }
        slices.push(began.elapsed().as_nanos() as f64 / trips as f64 / 2.0);
    }
    (median(&mut slices), tally)
}

/// Sends messages and waits for the answer to each. Returns the nanoseconds of every round trip. The clock is
/// read once per trip, which the times include.
pub(crate) fn ping_each(
    source: &mut dyn Source,
    sink: &mut dyn Sink,
    first: u64,
    messages: u64,
) -> (Vec<u64>, Tally) {
    let mut tally = Tally::default();
    let mut trips = Vec::with_capacity(messages as usize);
    let mut began = Instant::now();
    for number in first..first + messages {
        source.publish(number, 1);
        tally += sink.receive(number, 1);
        let ended = Instant::now();
        trips.push(ended.duration_since(began).as_nanos() as u64);
        began = ended;
    }
    (trips, tally)
}

/// Returns the median nanoseconds of one way, given those of round trips.
pub(crate) fn one_way_of(trips: &[u64]) -> f64 {
    median(&mut trips.iter().map(|&trip| trip as f64 / 2.0).collect::<Vec<_>>())
}

/// Answers messages.
pub(crate) fn pong(source: &mut dyn Source, sink: &mut dyn Sink, first: u64, messages: u64) -> Tally {
    let mut tally = Tally::default();
    for number in first..first + messages {
        tally += sink.receive(number, 1);
        source.publish(number, 1);
    }
    tally
}

/// Returns the median of at least one value.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Releases `ends` threads at the same moment, when all are awake and spinning. `arrivals` counts them.
pub(crate) fn start_together(arrivals: &AtomicU32, ends: u32) {
    // Ordering: nothing depends on it, and there is no reason to use anything weaker than AcqRel and Acquire.
    let round = arrivals.fetch_add(1, Ordering::AcqRel) / ends;
    let mut looks = 0_u32;
    while arrivals.load(Ordering::Acquire) / ends == round {
        looks += 1;
        if looks.is_multiple_of(1 << 14) {
            thread::yield_now();
        }
        std::hint::spin_loop();
    }
}
