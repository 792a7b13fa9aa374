//! One run of a guest, from instantiation to the release of everything that it held.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use blockcast_blocks::charge_mappings;
use blockcast_blocks::shield::Panicked;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use wasmtime::{Store, UpdateDeadline};

use super::abi::text::CALL_BYTES;
use super::program::GuestProgram;
use super::setup::GuestSetup;
use super::signals;
use super::state::GuestState;
use super::thread;
use crate::component::cancellation::ComponentControl;
use crate::component::exit::{ComponentReport, ExitReason};
use crate::component::limit_policy::Limit;
use crate::component::stats::ComponentStats;
use crate::host::wasm::memory::fault::{self, WindowTable};
use crate::host::wasm::memory::linear::PendingMemory;

/// Memory mappings that a guest takes in addition to its windows: memory (2), stack (2), tables, and spare
/// ones (3).
const MAPPINGS: usize = 10;

/// How long a guest waits if its thread has no memory for it.
const RETRY: Duration = Duration::from_millis(100);

impl GuestProgram {
    /// Runs the guest until it ends in any way. Spawn this as a task of its own on a runtime with a timer.
    ///
    /// When the future completes or is dropped, the guest is gone: its memory is unmapped, and its
    /// subscriptions, holds and publishers are released.
    pub async fn run(&self, setup: GuestSetup) -> ComponentReport {
        if let Err(refused) = admit() {
            return ComponentReport {
                reason: ExitReason::NotStarted(refused),
                stats: ComponentStats::default(),
            };
        }
        let _running = self.engine().running();
        let control = Arc::clone(&setup.control);
        control.clock().reset();
        let table = Arc::new(WindowTable::new());
        let engine = self.engine().wasm();
        let pending_memory = PendingMemory::default();
        let state = GuestState::new(setup, Arc::clone(&table), pending_memory.clone(), self.engine().pulse());
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.growth);
        store.set_hostcall_fuel(CALL_BYTES);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut guest| {
            guest.data_mut().tick()?;
            Ok(UpdateDeadline::Yield(1))
        });
        let spares = Arc::clone(&table);
        fault::install(&mut store, engine, table);
        // If the host's own code panics (a payload's validator, a log), only this guest ends.
        let outcome = {
            let mut drive = pin!(AssertUnwindSafe(self.drive(&mut store, &pending_memory)).catch_unwind());
            let mut later = pin!(tokio::time::sleep(Duration::ZERO));
            poll_fn(|cx| {
                // A future that started on another thread can neither continue nor be dropped on an
                // unprepared one.
                if !(thread::prepare() || spares.let_go_of_spares() && thread::prepare()) {
                    later.as_mut().reset(tokio::time::Instant::now() + RETRY);
                    // Registers the waker, since the deadline lies in the future.
                    let _ = later.as_mut().poll(cx);
                    return Poll::Pending;
                }
                control.clock().resume();
                let polled = drive.as_mut().poll(cx);
                control.clock().update();
                polled
            })
            .await
        };
        let state = store.data_mut();
        let reason = match outcome {
            Ok(outcome) => state.exit_reason(outcome),
            Err(payload) => ExitReason::HostPanicked(Panicked::new(payload).to_string()),
        };
        let stats = state.stats();
        ComponentReport { reason, stats }
    }

    async fn drive(
        &self,
        store: &mut Store<GuestState>,
        pending_memory: &PendingMemory,
    ) -> wasmtime::Result<u32> {
        if let Some(missing) = self.needs().missing(&store.data().setup.wasi) {
            return Err(store.data_mut().end(ExitReason::NotStarted(missing)));
        }
        let control = Arc::clone(&store.data().setup.control);
        let limits = store.data().setup.limits.clone();
        let end = Instant::now().checked_add(limits.start_up);
        store.data_mut().deadline = end.map(|end| (end, Limit::StartUp));
        let instantiate = pending_memory.scope(self.code().instantiate(&mut *store));
        let entry =
            match supervise(&control, Some((Limit::StartUp, limits.start_up)), None, instantiate).await {
                Ok(entry) => entry?,
                Err(reason) => return Err(store.data_mut().end(reason)),
            };
        store.data_mut().start();
        let run_time = limits.run_time.map(|time| (Limit::RunTime, time));
        let call = entry.call(&mut *store);
        match supervise(&control, run_time, Some(limits.shutdown_grace), call).await {
            Ok(outcome) => outcome,
            Err(reason) => Err(store.data_mut().end(reason)),
        }
    }
}

/// Checks that the process can take a guest: that it has mappings, and handlers for the guest's faults.
fn admit() -> Result<(), String> {
    signals::check().map_err(|error| error.to_string())?;
    // Even on a thread that has run guests before: the program may have blocked them since.
    signals::unblock();
    charge_mappings(MAPPINGS).map_err(|error| error.to_string())
}

/// Completes `work`, or drops it when a limit or a request ends it first.
async fn supervise<F: Future>(
    control: &ComponentControl,
    limit: Option<(Limit, Duration)>,
    grace: Option<Duration>,
    work: F,
) -> Result<F::Output, ExitReason> {
    let mut work = pin!(work);
    // Separate from the work: the set polls only those that were woken.
    let mut ends = FuturesUnordered::new();
    ends.push(control.cancelled().map(|()| ExitReason::Cancelled).boxed());
    if let Some((limit, time)) = limit {
        ends.push(tokio::time::sleep(time).map(move |()| ExitReason::Killed(limit)).boxed());
    }
    if let Some(grace) = grace {
        // Two stages: the request to finish, then the grace.
        let over = control.shutdown().then(move |()| tokio::time::sleep(grace));
        ends.push(over.map(|()| ExitReason::Killed(Limit::ShutdownGrace)).boxed());
    }
    tokio::select! {
        biased;
        output = &mut work => Ok(output),
        // Cancellation takes precedence over all other reasons.
        Some(reason) = ends.next() => Err(if control.is_cancelled() { ExitReason::Cancelled } else { reason }),
    }
}
