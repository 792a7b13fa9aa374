//! The two processes of a run. They talk with the one that has started them by lines of text.

use std::io::{BufRead, Write as _};
use std::sync::mpsc;
use std::time::Duration;

use blockcast_blocks::Pod;
use blockcast_broker::Broker;
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{RecvError, SubscriberOptions};
use blockcast_zenoh::{Bridge, BridgeOptions, Direction, Rule, Rules};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use zenoh::qos::CongestionControl;
use zenoh::sample::Sample;
use zenoh::{Session, Wait as _};
use zenoh_ext::{
    AdvancedPublisherBuilderExt as _, AdvancedSubscriberBuilderExt as _, CacheConfig, HistoryConfig,
    MissDetectionConfig, RecoveryConfig,
};

use crate::clock;
use crate::message::{END, Head, MEASURED, WARM_UP};
use crate::{Arguments, Candidate, Failure, Measure};

/// An end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Send,
    Receive,
}

const TOPIC: &str = "messages";
const PREFIX: &str = "beside";
/// Messages that a cache keeps.
const CACHED: usize = 100;
/// Bytes that share a sample.
const BATCH: usize = 32 << 10;
/// Nanoseconds between the first message that arrives and the first that is measured.
const WARMING: u64 = 200_000_000;
/// Between repetitions of the end.
const PAUSE: Duration = Duration::from_millis(10);
/// Longer than any message takes, in nanoseconds.
const LONGEST: u64 = 100_000_000_000;
/// Words of a wrong message that are shown.
const SHOWN: usize = 16;

type Words = Pod<u64>;

/// The same for all candidates.
fn session(role: Role, endpoint: &str) -> Result<Session, Failure> {
    let mut config = zenoh::Config::default();
    let (listen, connect) = match role {
        Role::Receive => (format!("[{endpoint:?}]"), "[]".to_owned()),
        Role::Send => ("[]".to_owned(), format!("[{endpoint:?}]")),
    };
    for (key, value) in [
        ("mode", r#""peer""#),
        ("scouting/multicast/enabled", "false"),
        ("scouting/gossip/enabled", "false"),
        ("listen/endpoints", &listen),
        ("connect/endpoints", &connect),
    ] {
        config.insert_json5(key, value)?;
    }
    zenoh::open(config).wait()
}

/// A broker with a bridge.
fn bridge(candidate: Candidate, session: &Session) -> Result<(Broker, Bridge), Failure> {
    let broker = Broker::new();
    let cache = if candidate == Candidate::CachingBridge { CACHED } else { 0 };
    let batch = if candidate == Candidate::BridgeBatch { BATCH } else { 0 };
    let options = BridgeOptions::new()
        .back_pressure(true)
        .cache(cache)
        .batch(batch)
        .check(candidate != Candidate::BridgeUnchecked)
        .interval(Duration::from_millis(10));
    let rules = Rules::new(PREFIX)?.with(Rule::new(TOPIC, Direction::Both))?;
    let bridge = Bridge::new(&broker, session.clone(), rules, options)?;
    Ok((broker, bridge))
}

pub(crate) fn run(arguments: &Arguments, role: Role) -> Result<(), Failure> {
    let (&[candidate], &[measure], &[bytes]) =
        (&*arguments.candidates, &*arguments.measures, &*arguments.bytes)
    else {
        return Err("a process of the benchmark does one thing".into());
    };
    let session = session(role, &arguments.endpoint)?;
    match role {
        Role::Send => {
            let pace = Pace::new(measure, bytes, arguments.seconds);
            // A MiB, or a few large ones: enough to keep both sides busy, and little for caches.
            let blocks = arguments.blocks.unwrap_or(((1 << 20) / bytes).clamp(8, 1024) as u32);
            send(candidate, &session, (bytes, blocks), &pace)?;
        }
        Role::Receive => receive(candidate, &session, bytes)?,
    }
    session.close().wait()
}

/// Tells the parent.
fn say(line: &str) {
    println!("{line}");
    // Otherwise the parent is gone, and its pipe's end shows so.
    let _ = std::io::stdout().flush();
}

/// Waits for a line of the parent, or for its end.
fn hear() {
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}

/// When to publish.
struct Pace {
    /// Nanoseconds between messages, 0 for none.
    interval: u64,
    /// Nanoseconds that are measured.
    duration: u64,
}

impl Pace {
    fn new(measure: Measure, bytes: usize, seconds: f64) -> Self {
        let interval = match measure {
            Measure::Throughput => 0,
            // At most 100 MB per second, so that nothing queues.
            Measure::Latency => (bytes as u64 * 10).max(1_000_000),
        };
        Self { interval, duration: (seconds * 1e9) as u64 }
    }
}

/// Publishes messages that start with these words, each copied from memory that holds `bytes`.
fn send(
    candidate: Candidate,
    session: &Session,
    (bytes, blocks): (usize, u32),
    pace: &Pace,
) -> Result<(), Failure> {
    match candidate {
        Candidate::Zenoh | Candidate::Channel => {
            let publisher = session
                .declare_publisher(format!("{PREFIX}/{TOPIC}"))
                .congestion_control(CongestionControl::Block)
                .wait()?;
            while !publisher.matching_status().wait()?.matching() {
                std::thread::sleep(PAUSE);
            }
            let mut template = vec![0; bytes];
            paced(pace, |head| {
                head_of(&mut template, head);
                publisher.put(template.clone()).wait()
            })
        }
        Candidate::Advanced => {
            let publisher = session
                .declare_publisher(format!("{PREFIX}/{TOPIC}"))
                .congestion_control(CongestionControl::Block)
                .cache(CacheConfig::default().max_samples(CACHED))
                .sample_miss_detection(
                    MissDetectionConfig::default().sporadic_heartbeat(Duration::from_millis(200)),
                )
                .publisher_detection()
                .wait()?;
            while !publisher.matching_status().wait()?.matching() {
                std::thread::sleep(PAUSE);
            }
            let mut template = vec![0; bytes];
            paced(pace, |head| {
                head_of(&mut template, head);
                publisher.put(template.clone()).wait()
            })
        }
        Candidate::Bridge
        | Candidate::BridgeBatch
        | Candidate::BridgeUnchecked
        | Candidate::CachingBridge => {
            let (broker, bridge) = bridge(candidate, session)?;
            let options = PublisherOptions::new().block_size(bytes).blocks(blocks);
            let mut publisher: Publisher<Words> = broker.publisher(TOPIC, options)?;
            while bridge.stats().sending == 0 {
                std::thread::sleep(PAUSE);
            }
            let mut template = vec![0; bytes / 8];
            paced(pace, |head| {
                template[..2].copy_from_slice(&head.words());
                *template.last_mut().expect("it has room for a head") = head.check();
                publisher.blocking_loan(None)?.send(&template)?;
                Ok(())
            })?;
            drop(publisher);
            bridge.close();
            Ok(())
        }
    }
}

fn head_of(message: &mut [u8], head: Head) {
    for (bytes, word) in message.chunks_exact_mut(8).zip(head.words()) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let (_, last) = message.split_last_chunk_mut().expect("it has room for a head");
    *last = head.check().to_le_bytes();
}

/// Waits for a line of the parent on another thread.
fn heard() -> mpsc::Receiver<()> {
    let (heard, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        hear();
        heard.send(())
    });
    receiver
}

/// Publishes at this pace. Measures once the parent says that something has arrived, and ends when it says
/// that the end has.
fn paced(pace: &Pace, mut publish: impl FnMut(Head) -> Result<(), Failure>) -> Result<(), Failure> {
    say("ready");
    let arrives = heard();
    let mut number = 0;
    let mut next = |phase, time| {
        number += 1;
        publish(Head { phase, number: number - 1, time })
    };
    let (mut phase, mut until) = (WARM_UP, u64::MAX);
    let (mut measured, mut processor) = (0, 0);
    let mut due = clock::now();
    loop {
        let mut now = clock::now();
        if until == u64::MAX && arrives.try_recv().is_ok() {
            until = now + WARMING;
        }
        if now >= until {
            if phase == MEASURED {
                break;
            }
            (phase, until, processor) = (MEASURED, now + pace.duration, clock::processor_time());
        }
        if pace.interval > 0 {
            due += pace.interval;
            if let Some(early) = due.checked_sub(now) {
                std::thread::sleep(Duration::from_nanos(early));
            }
            now = clock::now();
        }
        next(phase, now)?;
        measured += u64::from(phase == MEASURED);
    }
    next(END, 0)?;
    let processor = clock::processor_time() - processor;
    // An end may be lost.
    let arrived = heard();
    while arrived.recv_timeout(PAUSE) == Err(mpsc::RecvTimeoutError::Timeout) {
        next(END, 0)?;
    }
    say(&format!("{measured} {processor}"));
    hear();
    Ok(())
}

/// What arrives.
struct Tally {
    candidate: Candidate,
    /// Whether messages may be missing without a report.
    may_skip: bool,
    /// The number that comes next.
    next: Option<u64>,
    /// Messages that were reported as missing.
    lost: u64,
    received: u64,
    began: Option<(u64, u64)>,
    latencies: Histogram<u64>,
    has_ended: bool,
}

impl Tally {
    fn new(candidate: Candidate) -> Self {
        // Zenoh's recovery skips messages under load: see README.md.
        let may_skip = candidate == Candidate::Advanced;
        let latencies = Histogram::new_with_bounds(1, LONGEST, 3).expect("correct bounds");
        Self {
            candidate,
            may_skip,
            next: None,
            lost: 0,
            received: 0,
            began: None,
            latencies,
            has_ended: false,
        }
    }

    /// Messages are missing here.
    fn lose(&mut self, count: u64) {
        self.next = self.next.map(|next| next + count);
        self.lost += count;
    }

    /// Takes note of a message of this number of words. Returns the line for the parent at the end.
    fn take(&mut self, len: usize, word: impl Fn(usize) -> u64) -> Option<String> {
        let head = Head::of([word(0), word(1)]);
        let gap = self.next.map_or(0, |next| head.number.wrapping_sub(next));
        if word(len - 1) != head.check() || gap != 0 && !(self.may_skip && gap < u64::MAX / 2) {
            let Self { candidate, next, lost, received, .. } = self;
            eprintln!(
                "{candidate:?}: {head:?} arrives instead of {next:?}, with {:#x} at its end instead of {:#x}; \
                 {received} received and {lost} lost before; it starts with {:x?}",
                word(len - 1),
                head.check(),
                (0..len.min(SHOWN)).map(&word).collect::<Vec<_>>(),
            );
            // A panic would end zenoh's thread only.
            std::process::exit(1);
        }
        let is_first = self.next.replace(head.number + 1).is_none();
        match head.phase {
            WARM_UP if is_first => Some("arrives".to_owned()),
            MEASURED => {
                let now = clock::now();
                if self.began.is_none() {
                    self.began = Some((now, clock::processor_time()));
                }
                self.received += 1;
                self.latencies.saturating_record(now.saturating_sub(head.time));
                None
            }
            END if !self.has_ended => {
                self.has_ended = true;
                // Otherwise all were lost.
                let (began, processor) = self.began.unwrap_or((0, clock::processor_time()));
                Some(format!(
                    "{} {} {} {} {}",
                    self.received,
                    clock::now() - began,
                    clock::processor_time() - processor,
                    self.latencies.value_at_quantile(0.5),
                    self.latencies.value_at_quantile(0.99),
                ))
            }
            _ => None,
        }
    }
}

fn receive(candidate: Candidate, session: &Session, bytes: usize) -> Result<(), Failure> {
    let mut tally = Tally::new(candidate);
    let callback = move |sample: Sample| {
        let payload = sample.payload().to_bytes();
        if payload.len() != bytes {
            return;
        }
        let (words, _) = payload.as_chunks();
        let word = |index: usize| u64::from_le_bytes(words[index]);
        if let Some(line) = tally.take(words.len(), word) {
            say(&line);
        }
    };
    let key = format!("{PREFIX}/{TOPIC}");
    match candidate {
        Candidate::Channel => {
            let subscriber = session.declare_subscriber(key).wait()?;
            let subscriber = std::sync::Arc::new(subscriber);
            let receiving = std::sync::Arc::clone(&subscriber);
            std::thread::spawn(move || {
                let mut callback = callback;
                while let Ok(sample) = receiving.recv() {
                    callback(sample);
                }
            });
            say("ready");
            hear();
        }
        Candidate::Zenoh => {
            let _subscriber = session.declare_subscriber(key).callback_mut(callback).wait()?;
            say("ready");
            hear();
        }
        Candidate::Advanced => {
            let callback = std::sync::Mutex::new(callback);
            let _subscriber = session
                .declare_subscriber(key)
                .callback(move |sample| callback.lock().expect("it does not panic")(sample))
                .history(HistoryConfig::default().detect_late_publishers())
                .recovery(RecoveryConfig::default().heartbeat())
                .wait()?;
            say("ready");
            hear();
        }
        Candidate::Bridge
        | Candidate::BridgeBatch
        | Candidate::BridgeUnchecked
        | Candidate::CachingBridge => receive_bridged(candidate, session)?,
    }
    Ok(())
}

fn receive_bridged(candidate: Candidate, session: &Session) -> Result<(), Failure> {
    let (broker, bridge) = bridge(candidate, session)?;
    let mut subscriber = broker.subscriber::<Words>(TOPIC, SubscriberOptions::new())?;
    say("ready");
    let mut tally = Tally::new(candidate);
    loop {
        match subscriber.blocking_recv_ref(None) {
            Ok(message) => {
                let words = message.view();
                if let Some(line) = tally.take(words.len(), |index| words[index]) {
                    say(&line);
                }
            }
            Err(RecvError::Lost(count)) => tally.lose(count),
            Err(RecvError::Ended) => break,
            Err(error) => return Err(error.into()),
        }
    }
    hear();
    drop(subscriber);
    bridge.close();
    Ok(())
}
