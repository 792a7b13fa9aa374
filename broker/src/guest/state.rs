//! What the broker keeps for one running guest: the data of its store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockcast_blocks::Signal;
use slab::Slab;
use wasmtime::Trap;

use super::abi::{Error, Level, PublisherStats, SubscriptionStats};
use super::blocks::{Means, MemoryBlocks};
use super::control::GuestControl;
use super::engine::TICK;
use super::exchange::Exchange;
use super::exit::{ExitReason, Limit};
use super::fault::WindowTable;
use super::handles::Handles;
use super::limits::{GrowthLimiter, GuestLimits};
use super::memory::{GuestMemory, Nursery};
use super::publisher::GuestPublisher;
use super::subscription::GuestSubscription;
use super::window::{Owner, Windows};

/// Longest text of a log line or of a failure that is kept, in bytes.
pub(crate) const MAX_TEXT: usize = 8 << 10;

/// Receives the lines of a guest's log.
pub type LogSink = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// What a run of a guest is given.
#[derive(Clone)]
pub struct GuestSetup {
    /// Name in logs and statistics.
    pub name: String,
    /// Through which it reaches topics, as far as it was granted them.
    pub exchange: Arc<dyn Exchange>,
    /// What `session.parameter` answers.
    pub parameters: BTreeMap<String, String>,
    /// What it may use.
    pub limits: GuestLimits,
    /// Where its log goes.
    pub log: LogSink,
    /// How it is stopped.
    pub control: Arc<GuestControl>,
}

impl fmt::Debug for GuestSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestSetup")
            .field("name", &self.name)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Counters of one run of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestStats {
    /// Messages delivered to it.
    pub received: u64,
    /// Messages it lost to overflow policies.
    pub lost: u64,
    /// Bytes copied to deliver messages to it: there is no such copy, so this is 0 unless one is added.
    pub delivery_copied_bytes: u64,
    /// Messages it published.
    pub published: u64,
    /// Bytes copied from its memory into blocks when it published.
    pub publish_copied_bytes: u64,
    /// Times that it computed for a whole tick of the engine's clock without waiting.
    pub ticks: u64,
}

impl GuestStats {
    pub(crate) fn add_subscription(&mut self, stats: &SubscriptionStats) {
        self.received += stats.received;
        self.lost += stats.lost;
    }

    pub(crate) fn add_publisher(&mut self, stats: &PublisherStats) {
        self.published += stats.published;
        self.publish_copied_bytes += stats.copied;
    }
}

/// The data of a guest's store.
pub(crate) struct GuestState {
    pub(crate) setup: GuestSetup,
    pub(crate) growth: GrowthLimiter,
    pub(crate) windows: Windows,
    pub(crate) subscriptions: Slab<GuestSubscription>,
    pub(crate) publishers: Slab<GuestPublisher>,
    pub(crate) blocks: MemoryBlocks,
    pub(crate) stats: GuestStats,
    /// Whether `run` has been called: before that the guest has no business with topics.
    pub(crate) started: bool,
    nursery: Nursery,
    /// Of a core module; the engine keeps those of a component.
    pub(crate) handles: Handles,
    /// Whether a core module's allocator is being called by the host.
    pub(crate) called_back: bool,
    lines: LogGate,
    /// The text of the last `session.fail`.
    said: Option<String>,
    /// Why the host ends the guest, where it is the host.
    pub(crate) ending: Option<ExitReason>,
    /// Whether `wait` has reported the request to finish.
    pub(crate) shutdown_seen: bool,
    next_owner: u64,
}

impl GuestState {
    /// `nursery` is where the guest's memory is going to be.
    pub(crate) fn new(setup: GuestSetup, table: Arc<WindowTable>, nursery: Nursery) -> Self {
        Self {
            growth: GrowthLimiter::new(&setup.limits),
            windows: Windows::new(table, setup.limits.windows),
            setup,
            subscriptions: Slab::new(),
            publishers: Slab::new(),
            blocks: MemoryBlocks::default(),
            stats: GuestStats::default(),
            started: false,
            nursery,
            handles: Handles::default(),
            called_back: false,
            lines: LogGate::new(),
            said: None,
            ending: None,
            shutdown_seen: false,
            next_owner: 0,
        }
    }

    /// What every host call begins with: a guest that has written where it may only read goes no further.
    #[inline]
    pub(crate) fn enter(&self) -> wasmtime::Result<()> {
        if self.windows.violated() { Err(ended()) } else { Ok(()) }
    }

    /// What a host call ends with that may have replaced windows.
    #[inline]
    pub(crate) fn whole(&mut self) -> wasmtime::Result<()> {
        if self.windows.is_broken() {
            return Err(self.end(ExitReason::System("no memory to replace a window".to_owned())));
        }
        Ok(())
    }

    /// What a host call begins with that joins a topic: not for a guest that is still being instantiated.
    pub(crate) fn require_started(&self) -> Result<(), Error> {
        if self.started { Ok(()) } else { Err(Error::Denied) }
    }

    /// The guest's linear memory, if it has one.
    #[inline]
    pub(crate) fn memory(&self) -> Option<&Arc<GuestMemory>> {
        self.nursery.memory()
    }

    /// Called when the guest has computed for a whole tick.
    pub(crate) fn tick(&mut self) -> wasmtime::Result<()> {
        self.enter()?;
        self.stats.ticks += 1;
        if self.setup.control.is_cancelled() {
            return Err(self.end(ExitReason::Cancelled));
        }
        if let Some(compute) = self.setup.limits.compute
            && TICK.saturating_mul(u32::try_from(self.stats.ticks).unwrap_or(u32::MAX)) > compute
        {
            return Err(self.end(ExitReason::Killed(Limit::Compute)));
        }
        Ok(())
    }

    /// The memory blocks, and what they need beside themselves.
    #[inline]
    pub(crate) fn blocks(&mut self) -> (&mut MemoryBlocks, Means<'_>) {
        let Self { blocks, windows, publishers, setup, .. } = self;
        (blocks, Means { windows, publishers, limits: &setup.limits })
    }

    /// Notes why the guest ends and returns the error that unwinds it.
    pub(crate) fn end(&mut self, reason: ExitReason) -> wasmtime::Error {
        self.ending.get_or_insert(reason);
        ended()
    }

    /// How the guest has ended, given what its `run` returned.
    pub(crate) fn exit_reason(&mut self, outcome: wasmtime::Result<u32>) -> ExitReason {
        if let Some((owner, offset)) = self.windows.violation() {
            let read = self.subscriptions.iter().map(|(_, this)| (this.owner(), this.topic()));
            let written = self.publishers.iter().map(|(_, this)| (this.owner(), this.topic()));
            let topic = read.chain(written).find(|(this, _)| Some(*this) == owner);
            let topic = topic.map(|(_, topic)| topic.to_owned()).unwrap_or_default();
            return ExitReason::ReadOnlyViolation { topic, offset };
        }
        if let Some(reason) = self.ending.take() {
            return reason;
        }
        match outcome {
            Ok(0) => ExitReason::Finished,
            Ok(_) => ExitReason::Failed(self.said.take().unwrap_or_else(|| "it did not say why".to_owned())),
            Err(error) if !self.started && !error.is::<Trap>() => {
                ExitReason::NotStarted(format!("{error:#}"))
            }
            Err(error) => ExitReason::from_trap(&error, self.said.as_deref()),
        }
    }

    /// Lets the guest have to do with topics, and with windows in its memory.
    pub(crate) fn start(&mut self) {
        if let Some(memory) = self.nursery.memory() {
            self.windows.open(Arc::clone(memory));
        }
        self.started = true;
    }

    /// Lets the guest's memory grow by the address space that it was asked to donate.
    pub(crate) fn allow_growth(&mut self) {
        let asked: u64 = self.subscriptions.iter().map(|(_, subscription)| subscription.asked).sum();
        let asked = asked.saturating_add(self.blocks.asked);
        self.growth.asked = self.windows.donated().saturating_add(asked).min(self.setup.limits.windows);
    }

    /// The counters, including what is still open.
    pub(crate) fn final_stats(&self) -> GuestStats {
        let mut stats = self.stats;
        for (_, subscription) in &self.subscriptions {
            stats.add_subscription(&subscription.stats());
        }
        for (_, publisher) in &self.publishers {
            stats.add_publisher(&publisher.stats());
        }
        stats
    }

    pub(crate) fn fail(&mut self, text: &str) {
        self.said = Some(shorten(text).to_owned());
    }

    /// Passes a line on, or drops it where there are too many.
    pub(crate) fn log(&mut self, level: Level, text: &str) {
        match self.lines.admit() {
            Admission::Line => (self.setup.log)(level, shorten(text)),
            Admission::LineAfter(dropped) => {
                (self.setup.log)(Level::Warn, &format!("{dropped} lines were dropped: too many in a second"));
                (self.setup.log)(level, shorten(text));
            }
            Admission::Dropped => {}
        }
    }

    pub(crate) fn new_owner(&mut self) -> Owner {
        self.next_owner += 1;
        Owner(self.next_owner)
    }

    pub(crate) fn signal(&self) -> &Arc<Signal> {
        self.setup.control.signal()
    }
}

impl fmt::Debug for GuestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestState").field("setup", &self.setup).finish_non_exhaustive()
    }
}

/// Lines of a guest's log that are passed on per second.
const LINES_PER_SECOND: u32 = 1000;

/// Lets [`LINES_PER_SECOND`] lines through.
struct LogGate {
    second: Instant,
    lines: u32,
    dropped: u64,
}

/// What becomes of a line.
enum Admission {
    Line,
    /// The first line after that many were dropped.
    LineAfter(u64),
    Dropped,
}

impl LogGate {
    fn new() -> Self {
        Self { second: Instant::now(), lines: 0, dropped: 0 }
    }

    fn admit(&mut self) -> Admission {
        if self.lines == LINES_PER_SECOND && self.second.elapsed() >= Duration::from_secs(1) {
            (self.second, self.lines) = (Instant::now(), 0);
        }
        if self.lines == LINES_PER_SECOND {
            self.dropped += 1;
            return Admission::Dropped;
        }
        self.lines += 1;
        match std::mem::take(&mut self.dropped) {
            0 => Admission::Line,
            dropped => Admission::LineAfter(dropped),
        }
    }
}

/// The beginning of `text`, at most [`MAX_TEXT`] bytes.
pub(crate) fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// Unwinds a guest that the host ends; the reason stands in its state.
fn ended() -> wasmtime::Error {
    wasmtime::Error::msg("ended by the host")
}
