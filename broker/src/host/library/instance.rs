//! One run of a native component: [`Instance`]; and [`find`], by which a call finds it.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use blockcast_blocks::abi::{Error, Level, Status};
use blockcast_blocks::biased::{Biased, Refused};
use blockcast_blocks::shield::Panicked;

use super::state::LibraryState;
use super::validation::Validation;
use crate::component::cancellation::ComponentControl;
use crate::component::exit::ExitReason;
use crate::component::limit_policy::LimitExceeded;
use crate::component::limits::ComponentLimits;
use crate::component::stats::ComponentStats;
use crate::control::granted::GrantedTopics;
use crate::hosting::log::LogSink;
use crate::hosting::meter::Admission;
use crate::hosting::publishing::Trust;

/// The inputs of a native component's run.
#[derive(Clone)]
pub(crate) struct LibrarySetup {
    pub(crate) topics: Arc<GrantedTopics>,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) limits: ComponentLimits,
    pub(crate) log: LogSink,
    pub(crate) control: Arc<ComponentControl>,
}

/// One run of a native component. Its threads and its watchers share it.
pub(crate) struct Instance {
    /// Identifies the run in calls. Never 0, and unique among all runs.
    id: usize,
    pub(crate) setup: Arc<LibrarySetup>,
    state: Biased<LibraryState>,
    /// Not 0 once the run has to end: its calls are refused. The component may read this word until its
    /// library is closed.
    over: Arc<AtomicU32>,
    /// Why the host ends the run, if it does.
    ending: Mutex<Option<ExitReason>>,
    /// `wake` was called, and no `wait` has seen it yet.
    pub(super) woken: AtomicBool,
    /// Whether a thread is in `wait`.
    pub(super) waiting: AtomicBool,
    /// The processor-time clock of the thread that runs it.
    clock: OnceLock<libc::clockid_t>,
}

/// How long `stats` waits for a call in progress. The call may itself be waiting for the caller of `stats`.
const PATIENCE: Duration = Duration::from_millis(10);

/// The current runs. Calls from threads other than that of `run` find theirs here.
static RUNS: RwLock<Option<HashMap<usize, Arc<Instance>>>> = RwLock::new(None);

static NEXT_ID: AtomicUsize = AtomicUsize::new(1);

thread_local! {
    /// The run to which this thread belongs: its id and its address.
    static CURRENT: Cell<(usize, *const Instance)> = const { Cell::new((0, std::ptr::null())) };
}

impl Instance {
    pub(crate) fn new(setup: LibrarySetup) -> Arc<Self> {
        let setup = Arc::new(setup);
        Arc::new(Self {
            // Ordering: only uniqueness matters.
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            state: Biased::new(LibraryState::new(Arc::clone(&setup))),
            setup,
            over: Arc::default(),
            ending: Mutex::default(),
            woken: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            clock: OnceLock::new(),
        })
    }

    /// The context that is passed to the functions of the table: a number that is never dereferenced.
    pub(crate) fn context(&self) -> *mut c_void {
        std::ptr::without_provenance_mut(self.id)
    }

    /// Makes this the run of the calling thread. Its functions can be called until the returned value is
    /// dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Entered<'_> {
        let mut clock = 0;
        // SAFETY: this thread is alive, and `clock` is a valid place for the result.
        if unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) } == 0 {
            let _ = self.clock.set(clock);
        }
        let mut runs = RUNS.write().unwrap_or_else(PoisonError::into_inner);
        runs.get_or_insert_default().insert(self.id, Arc::clone(self));
        CURRENT.set((self.id, Arc::as_ptr(self)));
        Entered(self)
    }

    /// Accesses the state. `access` should not call the program's validators and log sinks; call them before
    /// or after. Wakers and `tracing` layers cannot be avoided.
    ///
    /// # Errors
    /// [`Refused::Inside`] if `access` calls this again.
    #[inline]
    pub(crate) fn with<R>(&self, access: impl FnOnce(&mut LibraryState) -> R) -> Result<R, Refused> {
        if self.is_current() {
            // SAFETY: `enter` has made this thread the owner, and `is_current` is true for no other thread.
            unsafe { self.state.as_owner(access) }
        } else {
            self.state.from_elsewhere(access)
        }
    }

    /// Whether the calling thread is the one that runs this component.
    #[inline]
    fn is_current(&self) -> bool {
        let (id, instance) = CURRENT.get();
        id == self.id && std::ptr::eq(instance, self)
    }

    /// Serves a call that can be refused.
    #[inline]
    pub(crate) fn call<T>(
        &self,
        body: impl FnOnce(&mut LibraryState) -> Result<T, Error>,
    ) -> Result<T, Status> {
        self.answer(body, |state| state.meter.call(&state.limit_policy))
    }

    /// Serves the second part of a call that has already been counted.
    pub(crate) fn continue_call<T>(
        &self,
        body: impl FnOnce(&mut LibraryState) -> Result<T, Error>,
    ) -> Result<T, Status> {
        self.answer(body, |_| Ok(()))
    }

    #[inline]
    fn answer<T>(
        &self,
        body: impl FnOnce(&mut LibraryState) -> Result<T, Error>,
        count: impl FnOnce(&mut LibraryState) -> Result<(), LimitExceeded>,
    ) -> Result<T, Status> {
        if self.is_over() {
            return Err(Status::CANCELLED);
        }
        let answered = catch_unwind(AssertUnwindSafe(|| {
            self.with(|state| {
                if state.is_released() {
                    return Ok(Err(Error::Closed)); // the run has ended meanwhile
                }
                count(state)?;
                let answer = body(state);
                state.limit_policy.settle().map(|()| answer)
            })
        }));
        match answered {
            Ok(Err(Refused::Inside | Refused::Busy)) => Err(Status::BUSY),
            Ok(Ok(Ok(answer))) => answer.map_err(Error::status),
            Ok(Ok(Err(LimitExceeded(limit)))) => {
                self.end(ExitReason::Killed(limit));
                Err(Status::CANCELLED)
            }
            Err(payload) => {
                self.end(ExitReason::HostPanicked(Panicked::new(payload).to_string()));
                Err(Status::CANCELLED)
            }
        }
    }

    /// Serves a call that cannot be refused, even if the run has to end.
    pub(crate) fn always<T>(&self, body: impl FnOnce(&mut LibraryState) -> T) -> Option<T> {
        catch_unwind(AssertUnwindSafe(|| self.with(body))).map_err(Panicked::new).ok()?.ok()
    }

    /// Runs the program's checks on a message that is about to be published. They may call back, so the state
    /// is not accessed meanwhile.
    ///
    /// # Safety
    /// The bytes are readable, and nobody writes to them during the call.
    pub(crate) unsafe fn validate(&self, validation: &Validation) -> Result<Trust, Status> {
        // SAFETY: the caller guarantees this.
        catch_unwind(AssertUnwindSafe(|| unsafe { validation.run() })).map_err(|payload| {
            self.end(ExitReason::HostPanicked(Panicked::new(payload).to_string()));
            Status::CANCELLED
        })
    }

    /// Passes on a line of the component's log, or drops it if there are too many.
    pub(crate) fn log(&self, level: Level, text: &str) {
        // The log sink is called without the lock, since it may access this component.
        let written = catch_unwind(AssertUnwindSafe(|| {
            // A line that is written from within a call cannot be counted.
            let admission = self.with(LibraryState::line).unwrap_or(Admission::Line);
            if !admission.write(&self.setup.log, level, text)
                && let Ok(Err(LimitExceeded(limit))) = self.with(|state| state.limit_policy.settle())
            {
                self.end(ExitReason::Killed(limit));
            }
        }));
        if let Err(payload) = written {
            self.end(ExitReason::HostPanicked(Panicked::new(payload).to_string()));
        }
    }

    /// Whether the run has to end.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        // Ordering: pairs with the store in `end`, so that the reason is visible.
        self.over.load(Ordering::Acquire) != 0
    }

    /// Ends the run: refuses calls from now on, and makes a `wait` return. The first reason counts.
    pub(crate) fn end(&self, reason: ExitReason) {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.over.store(1, Ordering::Release);
        self.setup.control.signal().wake();
    }

    /// The word that tells the component that the run has to end.
    pub(crate) fn over(&self) -> *const u32 {
        self.over.as_ptr()
    }

    /// Why the host has ended the run, if it has.
    pub(crate) fn ending(&self) -> Option<ExitReason> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a `wait` return.
    pub(crate) fn wake(&self) {
        // Ordering: pairs with the swap in `wait`, which registers its waker first.
        self.woken.store(true, Ordering::SeqCst);
        self.setup.control.signal().wake();
    }

    /// Processor time that the thread of `run` has used. Takes a system call.
    pub(crate) fn computed(&self) -> Duration {
        let Some(&clock) = self.clock.get() else { return Duration::ZERO };
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid place for the result. If the thread has ended, its clock is invalid and
        // the call fails.
        if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
            return Duration::ZERO;
        }
        let part = |part: i64| u64::try_from(part).unwrap_or(0);
        Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
    }

    /// The counters. `None` if a call in progress does not end in time: it may be waiting for the caller.
    pub(crate) fn stats(&self) -> Option<ComponentStats> {
        let count = |state: &mut LibraryState| state.stats();
        let stats = if self.is_current() { self.with(count) } else { self.state.within(PATIENCE, count) };
        Some(ComponentStats { computed: self.computed(), ..stats.ok()? })
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("id", &self.id)
            .field("over", &self.is_over())
            .finish_non_exhaustive()
    }
}

/// The period in which a run's calls are served. Dropped by the thread that created it.
#[derive(Debug)]
pub(crate) struct Entered<'r>(&'r Arc<Instance>);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // For components that check this word. One that does not, and still publishes directly, uses memory
        // that `run` keeps.
        self.0.over.store(1, Ordering::Release);
        // Makes a thread in `wait` notice.
        self.0.setup.control.signal().wake();
        CURRENT.set((0, std::ptr::null()));
        let mut runs = RUNS.write().unwrap_or_else(PoisonError::into_inner);
        runs.get_or_insert_default().remove(&self.0.id);
    }
}

/// Finds the run of a call. Returns `None` if there is none: it has ended, or the number is made up.
#[inline]
pub(crate) fn find<T>(context: *mut c_void, call: impl FnOnce(&Instance) -> T) -> Option<T> {
    let (id, instance) = CURRENT.get();
    if id == context.addr() && id != 0 {
        // SAFETY: `Entered` keeps the run and resets this before it drops it.
        return Some(call(unsafe { &*instance }));
    }
    find_from_elsewhere(context).map(|instance| call(&instance))
}

#[cold]
fn find_from_elsewhere(context: *mut c_void) -> Option<Arc<Instance>> {
    let runs = RUNS.read().unwrap_or_else(PoisonError::into_inner);
    runs.as_ref()?.get(&context.addr()).cloned()
}
