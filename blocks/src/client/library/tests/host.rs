//! A host of one publisher and one subscription, which the test controls.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::entry::run_app;
use super::super::runtime::Runtime;
use crate::abi::*;

/// One run at a time: a library's image belongs to one component.
static ONE: Mutex<()> = Mutex::new(());

/// Keeps other tests from running an app.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The result of a test's app.
pub(super) type Outcome = Result<(), String>;

#[derive(Default)]
pub(super) struct State {
    /// Names of the functions that were called, except `wait` and those of the session.
    pub(super) calls: Vec<&'static str>,
    pub(super) log: Vec<(u32, String)>,
    pub(super) failed: String,
    pub(super) shutdown: bool,
    pub(super) cancelled: bool,
    /// `wait` has returned for the sake of the subscription, and nobody has looked since.
    reported: bool,
    /// A loan found no block, and its thread has not been told yet that there is one.
    refused: bool,
    woken: bool,
    /// How many threads are in `wait`.
    pub(super) waiting: u32,
    /// Messages to be delivered: bytes, length with flag, lost.
    pub(super) incoming: VecDeque<(&'static [u8], u32, u32)>,
    pub(super) ended: bool,
    pub(super) delivered: u64,
    /// The latest release by the app.
    pub(super) released: u64,
    /// Numbers of the deliveries that are held.
    pub(super) holds: BTreeMap<u32, u64>,
    pub(super) subscriptions: u32,
    /// Blocks that are free.
    pub(super) free: u32,
    /// Whether a publish also returns the next loan.
    pub(super) returns_next: bool,
    loans: BTreeMap<u64, Box<[u8]>>,
    next_handle: u64,
    /// Messages that were published, with the flag.
    pub(super) published: Vec<(Vec<u8>, bool)>,
    /// If set, the next call that returns a status returns this one instead of doing anything.
    pub(super) refuses: Option<Status>,
}

impl State {
    fn enter(&mut self, name: &'static str) -> Status {
        self.calls.push(name);
        if self.cancelled { Status::CANCELLED } else { self.refuses.take().unwrap_or(Status::OK) }
    }

    fn loan_block(&mut self, size: usize) -> Loan {
        self.free -= 1;
        self.next_handle += 1;
        let mut block = vec![0; size.max(64)].into_boxed_slice();
        let loan = Loan { block: self.next_handle, address: block.as_mut_ptr(), capacity: block.len() };
        self.loans.insert(loan.block, block);
        loan
    }

    /// Whether `wait` has something to report.
    fn progress(&self) -> bool {
        let message = !self.reported && (!self.incoming.is_empty() || self.ended);
        message || (self.refused && self.free > 0)
    }

    /// How many blocks are loaned.
    pub(super) fn loaned(&self) -> usize {
        self.loans.len()
    }
}

#[derive(Default)]
pub(super) struct Mock {
    state: Mutex<State>,
    changed: Condvar,
}

impl Mock {
    pub(super) fn new() -> Self {
        let mock = Self::default();
        mock.state().free = 8;
        mock
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that `wait` may report.
    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Returns once a thread is in `wait`.
    pub(super) fn until_waiting(&self) {
        while self.state().waiting == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn table(&self) -> Host {
        Host { context: std::ptr::from_ref(self).cast_mut().cast(), ..TABLE }
    }

    /// Runs `app` as a host does.
    pub(super) fn run<F: Future<Output = Outcome>>(&self, app: impl FnOnce(Runtime) -> F) -> u32 {
        let _one = alone();
        let table = self.table();
        // SAFETY: the table is complete; it and the context outlive the run, after which nothing of it is
        // called.
        unsafe { run_app(&raw const table, app) }
    }
}

/// # Safety
/// `context` is that of a mock's table.
unsafe fn mock<'m>(context: *mut c_void) -> &'m Mock {
    // SAFETY: a table's context is its mock, which outlives the run.
    unsafe { &*context.cast::<Mock>() }
}

/// # Safety
/// The same as for [`mock`].
unsafe fn state<'m>(context: *mut c_void) -> MutexGuard<'m, State> {
    // SAFETY: as the caller promises.
    unsafe { mock(context) }.state()
}

/// Defines functions of the table; the body has a state.
macro_rules! functions {
    ($(fn $name:ident($state:ident $(, $argument:ident: $kind:ty)*) $(-> $output:ty)? $body:block)*) => {$(
        unsafe extern "C" fn $name(context: *mut c_void $(, $argument: $kind)*) $(-> $output)? {
            #[allow(unused_mut, reason = "some only look")]
            // SAFETY: called by the app's side with the context of its table.
            let mut $state = unsafe { state(context) };
            $body
        }
    )*};
}

/// # Safety
/// The same as for [`Text::str`].
unsafe fn text(text: Text) -> String {
    // SAFETY: as the caller promises.
    unsafe { text.str() }.expect("a text").to_owned()
}

/// # Safety
/// `to` is valid for writing.
unsafe fn set<T>(to: *mut T, value: T) {
    // SAFETY: as the caller promises.
    unsafe { to.write(value) };
}

unsafe extern "C" fn wait(context: *mut c_void, timeout: u64) -> u32 {
    // SAFETY: called by the app's side with the context of its table.
    let mock = unsafe { mock(context) };
    let mut state = mock.state();
    assert_eq!(state.waiting, 0, "one thread at a time waits");
    state.waiting += 1;
    let timeout = Duration::from_nanos(timeout).min(Duration::from_secs(20));
    let idle = |state: &mut State| !(state.progress() || state.woken || state.cancelled || state.shutdown);
    let (mut state, slept) =
        mock.changed.wait_timeout_while(state, timeout, idle).unwrap_or_else(PoisonError::into_inner);
    state.waiting -= 1;
    state.woken = false;
    let progress = state.progress();
    state.reported |= progress;
    state.refused &= !progress;
    let reason = |is: bool, reason: u32| if is { reason } else { 0 };
    reason(progress, WAKE_PROGRESS)
        | reason(slept.timed_out(), WAKE_TIMEOUT)
        | reason(state.shutdown, WAKE_SHUTDOWN)
        | reason(state.cancelled, WAKE_CANCELLED)
}

unsafe extern "C" fn wake(context: *mut c_void) {
    // SAFETY: called by the app's side with the context of its table.
    unsafe { mock(context) }.change(|state| state.woken = true);
}

// SAFETY, of all blocks in here: the app's side gives pointers that are valid for the call.
functions! {
    fn parameter(_state, name: Text, value: *mut Text) -> u32 {
        // SAFETY: see above.
        if unsafe { text(name) } != "greeting" { return 0 }
        // SAFETY: see above.
        unsafe { set(value, Text::of("hello")) };
        1
    }
    fn log(state, level: u32, line: Text) {
        // SAFETY: see above.
        state.log.push((level, unsafe { text(line) }));
    }
    fn fail(state, line: Text) {
        // SAFETY: see above.
        state.failed = unsafe { text(line) };
    }
    fn now(_state) -> u64 { 1 }
    fn shutdown_requested(state) -> u32 { u32::from(state.shutdown) }
    fn subscription_open(
        state, topic: Text, schema: Text, _fingerprint: u64, options: *const SubscriptionOptions, handle: *mut u64
    ) -> Status {
        let status = state.enter("subscription_open");
        // SAFETY: see above.
        let (topic, schema, options) = unsafe { (text(topic), text(schema), *options) };
        assert_eq!((topic.as_str(), schema.as_str(), options.size), ("topic", "bytes", 32));
        state.subscriptions += 1;
        // SAFETY: see above.
        unsafe { set(handle, 7) };
        status
    }
    fn subscription_close(state, handle: u64) {
        assert_eq!(handle, 7);
        state.subscriptions -= 1;
        state.holds.clear();
    }
    fn subscription_poll(
        state, handle: u64, batch: *mut Record, room: u32, released: u64, count: *mut u32
    ) -> Status {
        assert_eq!(handle, 7);
        let status = state.enter(if room == 0 { "release" } else { "subscription_poll" });
        if !status.is_ok() { return status }
        state.reported &= room == 0;
        assert!(released <= state.delivered && state.released <= released);
        state.released = released;
        let mut written = 0;
        while written < room && let Some((bytes, length, lost)) = state.incoming.pop_front() {
            let sequence = state.delivered;
            let address = bytes.as_ptr();
            let record = Record { sequence, time: 5, address, length, publisher: 3, lost, reserved: 0 };
            // SAFETY: see above; there is room for that many.
            unsafe { set(batch.add(written as usize), record) };
            state.delivered += 1;
            written += 1;
        }
        if room > 0 && written == 0 && state.ended { return Status::CLOSED }
        // SAFETY: see above.
        unsafe { set(count, written) };
        Status::OK
    }
    fn subscription_hold(state, _handle: u64, index: u64, hold: *mut u32) -> Status {
        let status = state.enter("subscription_hold");
        if !status.is_ok() { return status }
        assert!(state.released <= index && index < state.delivered);
        let number = index as u32 + 100;
        state.holds.insert(number, index);
        // SAFETY: see above.
        unsafe { set(hold, number) };
        Status::OK
    }
    fn subscription_unhold(state, _handle: u64, hold: u32) -> Status {
        if state.holds.remove(&hold).is_some() { Status::OK } else { Status::INVALID_HANDLE }
    }
    fn subscription_leave(state, _handle: u64) -> Status { state.enter("subscription_leave") }
    fn subscription_stats(state, _handle: u64, stats: *mut SubscriptionStats) -> Status {
        // SAFETY: see above.
        unsafe { set(stats, SubscriptionStats { received: state.delivered, ..Default::default() }) };
        Status::OK
    }
    fn publisher_open(
        state, topic: Text, schema: Text, _fingerprint: u64, options: *const PublisherOptions, handle: *mut u64
    ) -> Status {
        let status = state.enter("publisher_open");
        // SAFETY: see above.
        let (topic, schema, options) = unsafe { (text(topic), text(schema), *options) };
        assert_eq!((topic.as_str(), schema.as_str(), options.larger_count), ("topic", "bytes", 1));
        // SAFETY: see above; there is one.
        assert_eq!(unsafe { *options.larger }.block_size, 4096);
        // SAFETY: see above.
        unsafe { set(handle, 9) };
        status
    }
    fn publisher_close(state, _handle: u64) { state.loans.clear(); state.calls.push("publisher_close") }
    fn publisher_block_size(_state, _handle: u64) -> u32 { 64 }
    fn publisher_loan(state, _handle: u64, size: u32, loan: *mut Loan) -> Status {
        let status = state.enter("publisher_loan");
        if !status.is_ok() { return status }
        state.refused = state.free == 0;
        if state.refused { return Status::EXHAUSTED }
        let loaned = state.loan_block(size as usize);
        // SAFETY: see above.
        unsafe { set(loan, loaned) };
        Status::OK
    }
    fn publisher_publish_block(
        state, _handle: u64, block: u64, length: u32, sequence: *mut u64, next: *mut Loan
    ) -> Status {
        let status = state.enter("publisher_publish_block");
        if !status.is_ok() { return status }
        let Some(bytes) = state.loans.remove(&block) else { return Status::INVALID_HANDLE };
        let message = bytes[..(length & !VALID) as usize].to_vec();
        // SAFETY: see above.
        unsafe { set(sequence, state.published.len() as u64) };
        state.published.push((message, length & VALID != 0));
        if !next.is_null() {
            // SAFETY: see above.
            let wanted = unsafe { (*next).capacity };
            let loaned = if state.returns_next && state.free > 0 { state.loan_block(wanted) } else { Loan::NONE };
            // SAFETY: see above.
            unsafe { set(next, loaned) };
        }
        Status::OK
    }
    fn publisher_subscriber_count(_state, _handle: u64) -> u32 { 2 }
    fn publisher_stats(_state, _handle: u64, _stats: *mut PublisherStats) -> Status { Status::INTERNAL }
    fn memory_block_close(state, block: u64) {
        state.calls.push("memory_block_close");
        if state.loans.remove(&block).is_some() { state.free += 1 }
    }
    // The app's side has no use for the others.
    fn area_of(_state, _handle: u64, _area: Area) -> Status { Status::INTERNAL }
    fn area(_state, _area: Area) -> Status { Status::INTERNAL }
    fn size(_state, _handle: u64) -> usize { 0 }
    fn number(_state, _handle: u64) -> u32 { 0 }
    fn publish(_state, _handle: u64, _at: *const u8, _size: u32, _sequence: *mut u64) -> Status { Status::INTERNAL }
    fn block_new(_state, _size: usize) -> u64 { 0 }
    fn block_clone(_state, _block: u64, _clone: *mut u64) -> Status { Status::INTERNAL }
    fn block_optimum(_state, _count: u32, _size: usize) -> usize { 0 }
    fn block_attach(_state, _block: u64, _access: u32, _area: *mut Area) -> Status { Status::INTERNAL }
    fn block_detach(_state, _block: u64, _consumed: usize) -> Status { Status::INTERNAL }
    fn block_part(_state, _block: u64, _start: usize, _size: usize, _access: u32, _part: *mut u64) -> Status {
        Status::INTERNAL
    }
    fn block_local(_state, _area: Area, _block: *mut u64) -> Status { Status::INTERNAL }
}

const TABLE: Host = Host {
    version: VERSION,
    size: size_of::<Host>() as u32,
    context: std::ptr::null_mut(),
    parameter,
    log,
    fail,
    now,
    shutdown_requested,
    wait,
    wake,
    subscription_open,
    subscription_close,
    subscription_minimum_size: size,
    subscription_add_storage: area_of,
    subscription_remove_storage: area_of,
    subscription_poll,
    subscription_hold,
    subscription_unhold,
    subscription_leave,
    subscription_stats,
    publisher_open,
    publisher_close,
    publisher_block_size,
    publisher_publish: publish,
    publisher_in_place_from: number,
    publisher_loan,
    publisher_publish_block,
    publisher_free_blocks: number,
    publisher_subscriber_count,
    publisher_stats,
    memory_block_new: block_new,
    memory_block_close,
    memory_block_clone: block_clone,
    memory_block_minimum_size: size,
    memory_block_optimum_size: block_optimum,
    memory_block_add_storage: area,
    memory_block_remove_storage: area,
    memory_block_attach: block_attach,
    memory_block_detach: block_detach,
    memory_block_create_partition: block_part,
    memory_block_create_local: block_local,
    publisher_direct: None,
    publisher_take_blocks: None,
    publisher_published: None,
    publisher_publish_taken: None,
};
