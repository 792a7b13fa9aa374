//! Runs a guest that makes arbitrary calls next to the host's own publisher and subscriber, and checks that
//! it harms nobody. The broker's tests and the fuzz target `host_calls` share this file.

#![allow(dead_code, unreachable_pub, reason = "each user needs only a part of it")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blockcast_blocks::{Bytes, InvalidPayload, Overflow, Payload};
use blockcast_broker::{
    Broker, Component, ComponentLimits, ComponentOptions, ExitReason, Grants, GuestProgram, GuestSource,
    Isolation, Level, Rate,
};
use blockcast_publisher::{Publisher, PublisherOptions};
use blockcast_subscriber::{Subscriber, SubscriberOptions};
use tokio::runtime::Runtime;

use super::interpreter::{self, CALLS};
use super::process;

const MS: Duration = Duration::from_millis(1);

/// The topics that guests reach, and whether they are unsealed.
const TOPICS: [(&str, bool); 2] = [("topic", false), ("bytes", true)];

/// The number of blocks of the host's own publisher.
const BLOCKS: u32 = 8;

/// Options chosen by the first byte of an input.
mod options {
    /// The guest is a core module.
    pub const MODULE: u8 = 1;
    /// The guest sees only the messages that it is attached to.
    pub const STRICT: u8 = 2;
    /// The host's publisher keeps a message for late subscribers.
    pub const HISTORY: u8 = 4;
    /// The host's subscriber does not make publishers wait.
    pub const DROP_OLDEST: u8 = 8;
    /// The host gives the guest the time that a short wait takes.
    pub const PATIENT: u8 = 16;
}

/// A broker, and the interpreter as a component and as a core module.
pub struct Stage {
    runtime: Runtime,
    broker: Broker,
    programs: [GuestProgram; 2],
}

/// The observations of a run.
#[derive(Debug)]
pub struct Observation {
    pub reason: ExitReason,
    /// Calls that returned: the name, and 0 or the number of the error plus 1.
    pub calls: BTreeSet<(&'static str, u8)>,
    /// The number of all calls.
    pub made: u64,
    /// Messages that the guest received.
    pub received: u64,
    /// Messages that the guest published.
    pub published: u64,
}

impl Stage {
    /// `component` and `module` build a guest from the content of a core module. If `log_calls`, the guest
    /// logs its calls, so that observations contain them.
    pub fn new(component: fn(&str) -> String, module: fn(&str) -> String, log_calls: bool) -> Self {
        // With one thread, the same input leads to the same order of events.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let broker = Broker::on_runtime(runtime.handle().clone());
        // Bytes that begin with an exclamation mark are invalid.
        let validator = |bytes: &[u8]| match bytes.first() {
            Some(b'!') => Err(InvalidPayload::of::<Bytes>("an exclamation mark")),
            _ => Ok(()),
        };
        for (topic, unsealed) in TOPICS {
            if unsealed {
                broker.declare_unsealed(topic, &Bytes::schema()).expect("declared");
            } else {
                broker.declare(topic, &Bytes::schema(), Some(Arc::new(validator))).expect("declared");
            }
        }
        let body = interpreter::module(log_calls);
        let programs = [component(&body), module(&body)].map(|code| {
            broker.load(&GuestSource::bytes("interpreter", code.into_bytes())).expect("the interpreter loads")
        });
        Self { runtime, broker, programs }
    }

    /// Runs an input: a byte of options, then a program.
    ///
    /// # Panics
    /// If the guest ends without a named reason, or leaves anything behind.
    pub fn run(&self, input: &[u8]) -> Option<Observation> {
        let [chosen, program @ ..] = input else { return None };
        let chooses = |option: u8| chosen & option != 0;
        let history = u32::from(chooses(options::HISTORY));
        let mut publisher = self
            .broker
            .publisher::<Bytes>(
                "topic",
                PublisherOptions::new().block_size(64).blocks(BLOCKS).history(history),
            )
            .expect("opens");
        let overflow = if chooses(options::DROP_OLDEST) { Overflow::DropOldest } else { Overflow::Block };
        let mut subscriber = self
            .broker
            .subscriber::<Bytes>("topic", SubscriberOptions::new().overflow(overflow))
            .expect("opens");
        let logged = Arc::new(Mutex::new(BTreeSet::new()));
        let lines = Arc::clone(&logged);
        let isolation = if chooses(options::STRICT) { Isolation::Strict } else { Isolation::Arena };
        let component = self
            .broker
            .supervise_guest(
                &self.programs[usize::from(chooses(options::MODULE))],
                ComponentOptions::new()
                    .name("guest")
                    .grants(Grants::all().limits(limits(isolation)))
                    .parameter("program", interpreter::encode(program))
                    .log(Arc::new(move |_: Level, line: &str| {
                        lines.lock().expect("no panic").extend(call_of(line));
                    })),
            )
            .expect("starts");
        let patience = if chooses(options::PATIENT) { 2 * MS } else { Duration::ZERO };
        self.runtime.block_on(accompany(&component, &mut publisher, &mut subscriber, patience));
        let report = component.report().expect("it has ended");
        match &report.reason {
            ExitReason::System(error) => panic!("the host failed: {error}"),
            ExitReason::NotStarted(why) => panic!("the interpreter did not start: {why}"),
            _ => {}
        }
        drop(component);
        drop(subscriber);
        let kept =
            history.min(u32::try_from(publisher.writer().channel().stats().published).unwrap_or(u32::MAX));
        assert_eq!(publisher.reclaim(), BLOCKS - kept, "every block of the host's publisher has returned");
        drop(publisher);
        for (topic, _) in TOPICS {
            let topic = self.broker.topic(topic).expect("declared");
            assert_eq!(
                (topic.subscriptions, topic.publishers.len()),
                (0, 0),
                "the guest has left {}",
                topic.name
            );
            assert_eq!(
                topic.departed.attached, 0,
                "every block of the guest's publishers of {} has returned",
                topic.name
            );
        }
        assert_eq!(remains(), (0, 0), "mappings and open files");
        let calls = std::mem::take(&mut *logged.lock().expect("no panic"));
        let stats = report.stats;
        Some(Observation {
            reason: report.reason,
            calls,
            made: stats.host_calls,
            received: stats.received,
            published: stats.published,
        })
    }
}

/// Publishes and receives next to the guest until it ends. A guest that has been idle for a while is asked to
/// shut down, and then cancelled.
async fn accompany(
    component: &Component,
    publisher: &mut Publisher<Bytes>,
    subscriber: &mut Subscriber<Bytes>,
    patience: Duration,
) {
    let own = publisher.writer().channel().publisher();
    let mut ended = std::pin::pin!(component.ended());
    let (mut sent, mut idle) = (0, 0);
    loop {
        tokio::select! {
            biased;
            _ = &mut ended => return,
            // Lets the guest run until it waits.
            () = tokio::task::yield_now() => {}
        }
        idle += 1;
        if sent < 32
            && let Ok(loan) = publisher.try_loan()
        {
            loan.send(&[b'm'; 7][..]).expect("fits");
            (sent, idle) = (sent + 1, 0);
        }
        // Messages from the guest were validated and are readable to the last byte. Those from the host are
        // unchanged.
        while let Ok(message) = subscriber.try_recv_ref() {
            idle = 0;
            assert_ne!(message.view().first(), Some(&b'!'), "the validator refuses such a message");
            if message.publisher() == own {
                assert_eq!(message.view(), [b'm'; 7]);
            }
            std::hint::black_box(message.view().iter().map(|&byte| u64::from(byte)).sum::<u64>());
        }
        match idle {
            8 => tokio::time::sleep(patience).await,
            16 => component.request_shutdown(),
            32 => component.cancel(),
            _ => {}
        }
    }
}

/// Limits that are small enough for a guest to reach all of them.
fn limits(isolation: Isolation) -> ComponentLimits {
    let mut limits = ComponentLimits::default();
    limits.isolation = isolation;
    limits.memory = 2 << 20;
    limits.windows = 1 << 20;
    (limits.subscriptions, limits.publishers) = (4, 4);
    limits.publisher_bytes = 1 << 20;
    limits.topics = 0;
    (limits.attached, limits.held) = (8, 4);
    limits.memory_blocks = 16;
    limits.memory_block_bytes = 1 << 20;
    limits.loans = 3;
    limits.in_place = 8192;
    limits.log_lines = Rate::per_second(1_000_000);
    limits.publish_messages = Some(Rate::per_second(1_000_000).burst(64));
    limits.compute = Some(10_000 * MS);
    // On a busy machine, or in an emulator, a guest may take long to start and to end.
    (limits.start_up, limits.shutdown_grace) = (120_000 * MS, 120_000 * MS);
    limits
}

/// The call that a line of the interpreter's log reports.
fn call_of(line: &str) -> Option<(&'static str, u8)> {
    let number = usize::from_str_radix(line.strip_prefix("c:")?, 16).ok()?;
    // The mask keeps it below 256.
    Some((CALLS.get(number >> 8)?.0, (number & 255) as u8))
}

/// Counts the remains of blocks in this process: mappings, and open files of memory.
fn remains() -> (usize, usize) {
    let mappings = process::mappings().into_iter().filter(|mapping| mapping.name.contains("memfd:blockcast"));
    let files = std::fs::read_dir("/proc/self/fd").expect("a Linux process").filter_map(Result::ok);
    let links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    (mappings.count(), links.filter(|link| link.to_string_lossy().contains("memfd:blockcast")).count())
}
