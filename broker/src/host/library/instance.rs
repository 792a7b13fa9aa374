//! One run of a native component: [`Instance`], and how a call finds it.

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

/// What a run of a native component is given.
#[derive(Clone)]
pub(crate) struct LibrarySetup {
    pub(crate) topics: Arc<GrantedTopics>,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) limits: ComponentLimits,
    pub(crate) log: LogSink,
    pub(crate) control: Arc<ComponentControl>,
}

/// One run of a native component, shared by its threads and those that watch it.
pub(crate) struct Instance {
    /// What its calls bring along. Never 0, and never that of another run.
    id: usize,
    pub(crate) setup: Arc<LibrarySetup>,
    state: Biased<LibraryState>,
    /// Not 0: it is to end, and its calls are refused. The component may look at it until its library is closed.
    over: Arc<AtomicU32>,
    /// Why, if it is the host that ends it.
    ending: Mutex<Option<ExitReason>>,
    /// Somebody called `wake`, and no `wait` has seen it.
    pub(super) woken: AtomicBool,
    /// A thread is in `wait`.
    pub(super) waiting: AtomicBool,
    /// The clock of the processor time of the thread that runs it.
    clock: OnceLock<libc::clockid_t>,
}

/// How long `stats` waits for a call in progress, which may itself be waiting for the caller of `stats`.
const PATIENCE: Duration = Duration::from_millis(10);

/// The runs that go on, for calls from threads that are not those of `run`.
static RUNS: RwLock<Option<HashMap<usize, Arc<Instance>>>> = RwLock::new(None);

static NEXT_ID: AtomicUsize = AtomicUsize::new(1);

thread_local! {
    /// The run to which this thread belongs: its id, and where it is.
    static CURRENT: Cell<(usize, *const Instance)> = const { Cell::new((0, std::ptr::null())) };
}

impl Instance {
    pub(crate) fn new(setup: LibrarySetup) -> Arc<Self> {
        let setup = Arc::new(setup);
        Arc::new(Self {
            // Ordering: only that each is another one matters.
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

    /// What the functions of the table are called with: a number, behind which nobody looks.
    pub(crate) fn context(&self) -> *mut c_void {
        std::ptr::without_provenance_mut(self.id)
    }

    /// Makes this the run of the calling thread, whose functions can be called until the returned value is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Entered<'_> {
        let mut clock = 0;
        // SAFETY: this thread is alive, and the place for the answer is ours.
        if unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) } == 0 {
            let _ = self.clock.set(clock);
        }
        let mut runs = RUNS.write().unwrap_or_else(PoisonError::into_inner);
        runs.get_or_insert_default().insert(self.id, Arc::clone(self));
        CURRENT.set((self.id, Arc::as_ptr(self)));
        Entered(self)
    }

    /// Looks at the state. `look` had better call no code of the program (validators, log sinks): that runs before or after.
    /// Some cannot be avoided, wakers and `tracing` layers.
    ///
    /// # Errors
    /// [`Refused::Inside`] if `look` comes back here.
    #[inline]
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut LibraryState) -> R) -> Result<R, Refused> {
        if self.is_current() {
            // SAFETY: this thread, which `enter` made the one of this run, is the only one for which this is so.
            unsafe { self.state.as_owner(look) }
        } else {
            self.state.from_elsewhere(look)
        }
    }

    /// Whether the calling thread is the one of this run.
    #[inline]
    fn is_current(&self) -> bool {
        let (id, instance) = CURRENT.get();
        id == self.id && std::ptr::eq(instance, self)
    }

    /// Does a call that can be refused.
    #[inline]
    pub(crate) fn call<T>(
        &self,
        body: impl FnOnce(&mut LibraryState) -> Result<T, Error>,
    ) -> Result<T, Status> {
        self.answer(body, |state| state.meter.call(&state.excess))
    }

    /// Does the second part of a call that was counted.
    pub(crate) fn go_on<T>(
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
                    return Ok(Err(Error::Closed)); // meanwhile
                }
                count(state)?;
                let answer = body(state);
                state.excess.settle().map(|()| answer)
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

    /// Does a call that cannot be refused, also when the run is to end.
    pub(crate) fn always<T>(&self, body: impl FnOnce(&mut LibraryState) -> T) -> Option<T> {
        catch_unwind(AssertUnwindSafe(|| self.with(body))).map_err(Panicked::new).ok()?.ok()
    }

    /// Has what it is about to publish checked by code of the program, which may call back: nothing is looked at meanwhile.
    ///
    /// # Safety
    /// The bytes are readable, and nobody writes them meanwhile.
    pub(crate) unsafe fn validate(&self, validation: &Validation) -> Result<Trust, Status> {
        // SAFETY: the caller's promise.
        catch_unwind(AssertUnwindSafe(|| unsafe { validation.run() })).map_err(|payload| {
            self.end(ExitReason::HostPanicked(Panicked::new(payload).to_string()));
            Status::CANCELLED
        })
    }

    /// Passes a line of its log on, or drops it where there are too many.
    pub(crate) fn log(&self, level: Level, text: &str) {
        // The log is called outside of the lock: it may look at this component.
        let written = catch_unwind(AssertUnwindSafe(|| {
            // A line that is written from within a call cannot be counted.
            let admission = self.with(LibraryState::line).unwrap_or(Admission::Line);
            if !admission.write(&self.setup.log, level, text)
                && let Ok(Err(LimitExceeded(limit))) = self.with(|state| state.excess.settle())
            {
                self.end(ExitReason::Killed(limit));
            }
        }));
        if let Err(payload) = written {
            self.end(ExitReason::HostPanicked(Panicked::new(payload).to_string()));
        }
    }

    /// Whether it is to end.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        // Ordering: pairs with `end`; who sees it finds the reason.
        self.over.load(Ordering::Acquire) != 0
    }

    /// Tells it to end: calls are refused from now on, and whoever waits goes on. The first reason counts.
    pub(crate) fn end(&self, reason: ExitReason) {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.over.store(1, Ordering::Release);
        self.setup.control.signal().wake();
    }

    /// The word that says so, for the component to look at.
    pub(crate) fn over(&self) -> *const u32 {
        self.over.as_ptr()
    }

    /// Why the host has ended it, if it has.
    pub(crate) fn ending(&self) -> Option<ExitReason> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a `wait` return.
    pub(crate) fn wake(&self) {
        // Ordering: pairs with the swap in `wait`, which registers before it looks.
        self.woken.store(true, Ordering::SeqCst);
        self.setup.control.signal().wake();
    }

    /// Processor time that the thread of `run` has used. A system call.
    pub(crate) fn computed(&self) -> Duration {
        let Some(&clock) = self.clock.get() else { return Duration::ZERO };
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the place for the answer is ours. If the thread has ended, there is no such clock, and an error.
        if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
            return Duration::ZERO;
        }
        let part = |part: i64| u64::try_from(part).unwrap_or(0);
        Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
    }

    /// The counters, unless a call goes on that does not end: it may be waiting for whoever asks.
    pub(crate) fn stats(&self) -> Option<ComponentStats> {
        let look = |state: &mut LibraryState| state.stats();
        let looked = if self.is_current() { self.with(look) } else { self.state.within(PATIENCE, look) };
        Some(ComponentStats { computed: self.computed(), ..looked.ok()? })
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

/// The time in which calls of a run are answered. Dropped by the thread that made it.
#[derive(Debug)]
pub(crate) struct Entered<'r>(&'r Arc<Instance>);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // For a component that looks. One that does not and publishes by a line after this reaches what `run` keeps.
        self.0.over.store(1, Ordering::Release);
        // One of its threads that waits goes on, and finds out.
        self.0.setup.control.signal().wake();
        CURRENT.set((0, std::ptr::null()));
        let mut runs = RUNS.write().unwrap_or_else(PoisonError::into_inner);
        runs.get_or_insert_default().remove(&self.0.id);
    }
}

/// Finds the run that a call is about. `None` if there is none: it has ended, or the number was made up.
#[inline]
pub(crate) fn find<T>(context: *mut c_void, call: impl FnOnce(&Instance) -> T) -> Option<T> {
    let (id, instance) = CURRENT.get();
    if id == context.addr() && id != 0 {
        // SAFETY: the run is kept by `Entered`, which sets this back before it lets go of it.
        return Some(call(unsafe { &*instance }));
    }
    find_from_elsewhere(context).map(|instance| call(&instance))
}

#[cold]
fn find_from_elsewhere(context: *mut c_void) -> Option<Arc<Instance>> {
    let runs = RUNS.read().unwrap_or_else(PoisonError::into_inner);
    runs.as_ref()?.get(&context.addr()).cloned()
}
