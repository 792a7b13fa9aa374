//! The state of one running guest: the data of its store.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use blockcast_blocks::Signal;
use blockcast_blocks::abi::{Error, Level, PublisherStats};
use slab::Slab;
use wasmtime::Trap;

use super::blocks::{BlockContext, MemoryBlocks};
use super::publisher::{GuestPublisher, Publishers};
use super::setup::GuestSetup;
use super::subscription::GuestSubscription;
use super::ticker::Pulse;
use super::trap;
#[cfg(feature = "wasi")]
use super::wasi::{Wasi, WasiCtxView, WasiView, exit_status};
use crate::component::exit::ExitReason;
use crate::component::limit_policy::{Limit, LimitPolicy};
use crate::component::stats::ComponentStats;
use crate::host::wasm::abi::store::{CoreModule, StoreData};
use crate::host::wasm::idle_yield::IdleYield;
use crate::host::wasm::memory::fault::WindowTable;
use crate::host::wasm::memory::growth::GrowthLimiter;
use crate::host::wasm::memory::linear::{GuestMemory, PendingMemory};
use crate::host::wasm::memory::window::{Owner, Windows};
use crate::hosting::held_blocks::HeldBlocks;
use crate::hosting::log::line;
use crate::hosting::meter::Meter;

/// The data of a guest's store.
pub(crate) struct GuestState {
    pub(crate) setup: GuestSetup,
    pub(crate) growth: GrowthLimiter,
    pub(crate) windows: Windows,
    pub(crate) subscriptions: Slab<GuestSubscription>,
    pub(crate) publishers: Publishers,
    pub(crate) blocks: MemoryBlocks,
    /// Counters of subscriptions and publishers that are closed.
    closed: ComponentStats,
    pub(crate) meter: Meter,
    pub(crate) policy: LimitPolicy,
    pub(crate) held_blocks: HeldBlocks,
    /// Whether `run` has been called. Before that, the guest may not join topics.
    pub(crate) started: bool,
    pending_memory: PendingMemory,
    #[cfg(feature = "wasi")]
    pub(crate) wasi: Wasi,
    core: CoreModule,
    /// The text of the last `session.fail`.
    failure: Option<String>,
    /// Why the host ends the guest, if it does.
    pub(crate) ending: Option<ExitReason>,
    /// Whether `wait` has reported the request to finish.
    pub(crate) shutdown_seen: bool,
    pub(crate) idle_yield: IdleYield,
    next_owner: u64,
    pub(crate) pulse: Pulse,
    /// When the current phase must be over, and the limit that it exceeds then.
    pub(crate) deadline: Option<(Instant, Limit)>,
    /// When `run` was called.
    began: Option<Instant>,
    /// The guest has to end, but was in a function that cannot end it.
    must_end: bool,
}

impl GuestState {
    /// `pending_memory` receives the guest's memory.
    pub(crate) fn new(
        setup: GuestSetup,
        table: Arc<WindowTable>,
        pending_memory: PendingMemory,
        pulse: Pulse,
    ) -> Self {
        let policy = LimitPolicy::new(&setup.limits);
        let meter = Meter::new(&setup.limits);
        Self {
            growth: GrowthLimiter::new(&setup.limits, policy.clone()),
            windows: Windows::new(table, setup.limits.windows),
            #[cfg(feature = "wasi")]
            wasi: Wasi::new(&setup, meter.lines(), &policy),
            meter,
            held_blocks: HeldBlocks::new(&setup.limits),
            policy,
            setup,
            subscriptions: Slab::new(),
            publishers: Publishers::new(),
            blocks: MemoryBlocks::default(),
            closed: ComponentStats::default(),
            started: false,
            pending_memory,
            core: CoreModule::default(),
            failure: None,
            ending: None,
            shutdown_seen: false,
            idle_yield: IdleYield::default(),
            next_owner: 0,
            pulse,
            deadline: None,
            began: None,
            must_end: false,
        }
    }

    /// Every host call begins with this. It stops a guest that has written to read-only memory, that is
    /// cancelled or that has used up its time. For code without loops, nothing else does.
    #[inline]
    pub(crate) fn enter(&mut self) -> wasmtime::Result<()> {
        self.meter.call(&self.policy)?;
        if self.windows.violated() {
            return Err(ended());
        }
        if self.must_end || self.pulse.has_moved() || self.setup.control.is_cancelled() {
            self.tick()
        } else {
            Ok(())
        }
    }

    /// Like [`enter`](Self::enter), for functions that cannot end the guest. Returns `false` if the guest has
    /// to end: every later call and the next tick end it.
    #[cfg(feature = "wasi")]
    pub(crate) fn may_enter(&mut self) -> bool {
        self.must_end = self.must_end || self.enter().is_err();
        !self.must_end
    }

    /// The error of a host call that is refused because of `limit`. The call must [settle](Self::settle).
    pub(crate) fn refuse(&self, limit: Limit) -> Error {
        self.policy.note(limit);
        Error::Limit
    }

    /// Ends a host call that may have reached a limit.
    ///
    /// # Errors
    /// If that ends the guest.
    #[inline]
    pub(crate) fn settle<T>(&self, answer: T) -> wasmtime::Result<T> {
        self.policy.settle()?;
        Ok(answer)
    }

    /// Ends a host call that may have replaced windows or reached a limit.
    #[inline]
    pub(crate) fn settle_windows(&mut self) -> wasmtime::Result<()> {
        self.policy.settle()?;
        if self.windows.is_broken() {
            return Err(self.end(ExitReason::System("no memory to replace a window".to_owned())));
        }
        Ok(())
    }

    /// Refuses to let a guest join topics while it is being instantiated.
    pub(crate) fn require_started(&self) -> Result<(), Error> {
        if self.started { Ok(()) } else { Err(Error::Denied) }
    }

    /// Whether the guest, which is idle, should yield before it announces that it sleeps.
    pub(crate) fn should_yield(&mut self) -> bool {
        let received = self.subscriptions.iter().map(|(_, this)| this.deliveries().received()).sum();
        self.idle_yield.begins(received)
    }

    /// Checks the guest's limits of time. Called when it has computed for a whole tick, and at the first host
    /// call after one.
    #[cold]
    pub(crate) fn tick(&mut self) -> wasmtime::Result<()> {
        if self.must_end || self.windows.violated() {
            return Err(ended());
        }
        self.pulse.catch_up();
        let computed = self.setup.control.clock().update();
        self.show_stats();
        for (_, subscription) in &mut self.subscriptions {
            subscription.join();
        }
        // Output of a WASI program notes limits outside of our host functions, so nothing else settles them.
        self.policy.settle()?;
        if self.setup.control.is_cancelled() {
            return Err(self.end(ExitReason::Cancelled));
        }
        if let Some(compute) = self.setup.limits.compute
            && computed > compute
        {
            return Err(self.end(ExitReason::Killed(Limit::Compute)));
        }
        match self.overdue() {
            Some(limit) => Err(self.end(ExitReason::Killed(limit))),
            None => Ok(()),
        }
    }

    /// The limit of time that the guest has exceeded, if any. `run` ends a guest that returns to its task now
    /// and then.
    fn overdue(&self) -> Option<Limit> {
        let now = Instant::now();
        if let Some((at, limit)) = self.deadline
            && now >= at
        {
            return Some(limit);
        }
        let asked = self.setup.control.asked_at()?.max(self.began?);
        let grace_is_over = now.saturating_duration_since(asked) >= self.setup.limits.shutdown_grace;
        grace_is_over.then_some(Limit::ShutdownGrace)
    }

    /// The memory blocks, and the context of their methods.
    #[inline]
    pub(crate) fn blocks(&mut self) -> (&mut MemoryBlocks, BlockContext<'_>) {
        let Self { blocks, windows, publishers, setup, policy, .. } = self;
        (blocks, BlockContext { windows, publishers, limits: &setup.limits, policy })
    }

    /// Records why the guest ends, and returns the error that unwinds it.
    pub(crate) fn end(&mut self, reason: ExitReason) -> wasmtime::Error {
        self.ending.get_or_insert(reason);
        ended()
    }

    /// How the guest has ended, given the result of its `run`.
    pub(crate) fn exit_reason(&mut self, outcome: wasmtime::Result<u32>) -> ExitReason {
        if let Some((owner, offset)) = self.windows.violation() {
            let read = self.subscriptions.iter().map(|(_, this)| (this.owner(), this.topic()));
            let written = self.publishers.iter().map(|this| (this.owner(), this.topic()));
            let topic = read.chain(written).find(|(this, _)| Some(*this) == owner);
            let topic = topic.map(|(_, topic)| topic.to_owned()).unwrap_or_default();
            return ExitReason::ReadOnlyViolation { topic, offset };
        }
        if let Some(reason) = self.ending.take() {
            return reason;
        }
        if let Some(limit) = self.policy.ending() {
            return ExitReason::Killed(limit);
        }
        match outcome {
            Ok(0) => ExitReason::Finished,
            Ok(_) => {
                ExitReason::Failed(self.failure.take().unwrap_or_else(|| "it did not say why".to_owned()))
            }
            #[cfg(feature = "wasi")]
            Err(error) if let Some(status) = exit_status(&error) => match status {
                0 => ExitReason::Finished,
                status => ExitReason::Failed(format!("it exited with status {status}")),
            },
            Err(error) if !self.started && !error.is::<Trap>() => {
                ExitReason::NotStarted(line(&format!("{error:#}")).into_owned())
            }
            Err(error) => trap::exit_reason(&error, self.failure.as_deref()),
        }
    }

    /// Allows the guest to join topics and to have windows in its memory.
    pub(crate) fn start(&mut self) {
        let now = Instant::now();
        self.began = Some(now);
        let end = self.setup.limits.run_time.and_then(|time| now.checked_add(time));
        self.deadline = end.map(|end| (end, Limit::RunTime));
        self.pending_memory.settle();
        if let Some(memory) = self.pending_memory.memory() {
            self.windows.open(Arc::clone(memory));
        }
        self.started = true;
    }

    /// Allows the guest's memory to grow by the address space that it was asked to donate.
    pub(crate) fn allow_growth(&mut self) {
        let asked: u64 = self.subscriptions.iter().map(|(_, subscription)| subscription.asked).sum();
        let asked = asked.saturating_add(self.blocks.asked);
        self.growth.asked = self.windows.donated().saturating_add(asked).min(self.setup.limits.windows);
    }

    /// The counters, including those of everything still open.
    pub(crate) fn stats(&self) -> ComponentStats {
        let (log_lines, log_lines_dropped) = self.meter.lines().counts();
        let mut stats = ComponentStats {
            host_calls: self.meter.calls(),
            refusals: self.policy.refusals(),
            log_lines,
            log_lines_dropped,
            computed: self.setup.control.computed(),
            memory: self.windows.memory_size(),
            windows: self.windows.donated(),
            // The limits on both have 32 bits.
            subscriptions: self.subscriptions.len() as u32,
            publishers: self.publishers.len() as u32,
            ..self.closed
        };
        for (_, subscription) in &self.subscriptions {
            subscription.deliveries().add_to(&mut stats);
            let now = subscription.deliveries().stats();
            stats.attached = stats.attached.saturating_add(now.attached);
            stats.held = stats.held.saturating_add(now.held);
        }
        for publisher in self.publishers.iter() {
            add_published(&mut stats, publisher);
        }
        stats
    }

    /// Publishes the counters on request.
    pub(crate) fn show_stats(&self) {
        if let Some(asked) = self.setup.control.stats_asked() {
            self.setup.control.show_stats(asked, self.stats());
        }
    }

    /// Adds the counters of a subscription that is about to close.
    pub(crate) fn count_closed_subscription(&mut self, subscription: &GuestSubscription) {
        subscription.deliveries().add_to(&mut self.closed);
    }

    /// Adds the counters of a publisher that is about to close.
    pub(crate) fn count_closed_publisher(&mut self, publisher: &GuestPublisher) {
        add_published(&mut self.closed, publisher);
    }

    pub(crate) fn fail(&mut self, text: &str) {
        self.failure = Some(line(text).into_owned());
    }

    /// Passes a line to the log, or drops it if there are too many.
    pub(crate) fn log(&mut self, level: Level, text: &str) {
        if !self.meter.lines().admit().write(&self.setup.log, level, text) {
            self.policy.note(Limit::LogLines);
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

impl StoreData for GuestState {
    #[inline]
    fn enter(&mut self) -> wasmtime::Result<()> {
        Self::enter(self)
    }

    #[inline]
    fn memory(&self) -> Option<&Arc<GuestMemory>> {
        self.pending_memory.memory()
    }

    #[inline]
    fn is_ordinary(&self, start: *const u8, len: usize) -> bool {
        self.windows.is_ordinary(start, len)
    }

    #[inline]
    fn core(&self) -> &CoreModule {
        &self.core
    }

    #[inline]
    fn core_mut(&mut self) -> &mut CoreModule {
        &mut self.core
    }
}

#[cfg(feature = "wasi")]
impl WasiView for GuestState {
    /// Every function of WASI begins with this. It counts as a host call, and does nothing for a guest that
    /// is cancelled or has used up its time.
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let may_enter = self.may_enter();
        self.wasi.view(may_enter)
    }
}

impl fmt::Debug for GuestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestState").field("setup", &self.setup).finish_non_exhaustive()
    }
}

fn add_published(stats: &mut ComponentStats, publisher: &GuestPublisher) {
    let PublisherStats { published, bytes, copied, .. } = publisher.stats();
    stats.add_published(published, bytes, copied);
}

/// Unwinds a guest that the host ends. The guest's state has the reason.
fn ended() -> wasmtime::Error {
    wasmtime::Error::msg("ended by the host")
}
