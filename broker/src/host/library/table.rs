//! The functions that native components call: the table of `blockcast_blocks::abi`, interfaces `session` and
//! `topics`.
//!
//! None of them unwinds: a panic in a call becomes a status. `pointers` checks what a component passes, and
//! `state` checks its handles. By the contract of the table, the component vouches for the pointers it
//! passes.

use std::ffi::c_void;

use blockcast_blocks::Timestamp;
use blockcast_blocks::abi::{
    Area, Error, Host, Level, Loan, PublisherOptions, PublisherStats, Record, Status, SubscriptionOptions,
    SubscriptionStats, Text, VALID, VERSION,
};

use super::block_table as blocks;
use super::direct_table as direct;
use super::instance::{Instance, find};
use super::pointers::{self, Out};
use super::state::LibraryState;
use super::validation::Validation;
use super::wait::wait;
use crate::hosting::publishing::Trust;

/// Builds the table of a run.
pub(crate) fn host(instance: &Instance) -> Host {
    Host {
        version: VERSION,
        size: size_of::<Host>() as u32,
        context: instance.context(),
        parameter,
        log,
        fail,
        now,
        shutdown_requested,
        wait,
        wake,
        subscription_open,
        subscription_close,
        subscription_minimum_size,
        subscription_add_storage,
        subscription_remove_storage,
        subscription_poll,
        subscription_hold,
        subscription_unhold,
        subscription_leave,
        subscription_stats,
        publisher_open,
        publisher_close,
        publisher_block_size,
        publisher_publish,
        publisher_in_place_from,
        publisher_loan,
        publisher_publish_block,
        publisher_free_blocks,
        publisher_subscriber_count,
        publisher_stats,
        memory_block_new: blocks::new,
        memory_block_close: blocks::close,
        memory_block_clone: blocks::clone,
        memory_block_minimum_size: blocks::minimum_size,
        memory_block_optimum_size: blocks::optimum_size,
        memory_block_add_storage: blocks::add_storage,
        memory_block_remove_storage: blocks::remove_storage,
        memory_block_attach: blocks::attach,
        memory_block_detach: blocks::detach,
        memory_block_create_partition: blocks::create_partition,
        memory_block_create_local: blocks::create_local,
        publisher_direct: Some(direct::words),
        publisher_take_blocks: Some(direct::take_blocks),
        publisher_published: Some(direct::published),
        publisher_publish_taken: Some(direct::publish_taken),
    }
}

/// Serves a call that can be refused. Calls after the end of the run return `closed`.
#[inline]
pub(super) fn status(
    context: *mut c_void,
    call: impl FnOnce(&mut LibraryState) -> Result<(), Error>,
) -> Status {
    match find(context, |instance| instance.call(call)) {
        Some(Ok(())) => Status::OK,
        Some(Err(status)) => status,
        None => Status::CLOSED,
    }
}

/// Serves a call that returns a value, or the default if the call is refused.
#[inline]
pub(super) fn value<T: Default>(
    context: *mut c_void,
    call: impl FnOnce(&mut LibraryState) -> Result<T, Error>,
) -> T {
    find(context, |instance| instance.call(call)).and_then(Result::ok).unwrap_or_default()
}

/// Serves a call that publishes. If the component does not vouch for the bytes, they are checked first,
/// without access to the state.
///
/// # Safety
/// The bytes that `find_bytes` names are readable, and nobody writes to them during the call.
#[inline]
pub(super) unsafe fn publishing(
    context: *mut c_void,
    length: u32,
    find_bytes: impl FnOnce(&mut LibraryState) -> Result<Validation, Error>,
    publish: impl FnOnce(&mut LibraryState, Trust) -> Result<(), Error>,
) -> Status {
    if length & VALID != 0 {
        return status(context, |state| publish(state, Trust::Vouched));
    }
    let published = find(context, |instance| {
        let validation = instance.call(find_bytes)?;
        // SAFETY: the caller guarantees this.
        let trust = unsafe { instance.validate(&validation) }?;
        instance.continue_call(|state| publish(state, trust))
    });
    match published {
        Some(Ok(())) => Status::OK,
        Some(Err(status)) => status,
        None => Status::CLOSED,
    }
}

/// Serves a call that is never refused.
pub(super) fn always(context: *mut c_void, call: impl FnOnce(&mut LibraryState)) {
    let _ = find(context, |instance| instance.always(call));
}

/// Counts a call that is never refused. Exceeding the limit still ends the run.
fn count(instance: &Instance) {
    let _ = instance.call(|_| Ok(()));
}

// Interface `session`.

unsafe extern "C" fn parameter(context: *mut c_void, name: Text, value: *mut Text) -> u32 {
    let found = find(context, |instance| {
        count(instance);
        // SAFETY: by the contract, the component passes a valid text.
        let name = unsafe { name.str() }?;
        let found = instance.setup.parameters.get(name)?;
        let value = Out::new(value).ok()?;
        // SAFETY: by the contract, the component passes a valid place for the result. The text stays
        // unchanged until the run has ended.
        unsafe { value.set(Text::of(found)) };
        Some(())
    });
    u32::from(found.flatten().is_some())
}

unsafe extern "C" fn log(context: *mut c_void, level: u32, text: Text) {
    // SAFETY: by the contract, the component passes a valid text.
    let Some(text) = (unsafe { text.bytes() }) else { return };
    let level = Level::of_number(level);
    find(context, |instance| {
        // Logging counts as a call. If the call is refused, nothing is logged.
        if instance.call(|_| Ok(())).is_ok() {
            instance.log(level, &String::from_utf8_lossy(text));
        }
    });
}

unsafe extern "C" fn fail(context: *mut c_void, text: Text) {
    // SAFETY: by the contract, the component passes a valid text.
    let Some(text) = (unsafe { text.bytes() }) else { return };
    always(context, |state| state.fail(&String::from_utf8_lossy(text)));
}

unsafe extern "C" fn now(context: *mut c_void) -> u64 {
    find(context, count);
    Timestamp::now().as_nanos()
}

unsafe extern "C" fn shutdown_requested(context: *mut c_void) -> u32 {
    // After the end of the run, it is requested.
    let requested = find(context, |instance| {
        count(instance);
        instance.setup.control.is_shutdown_requested()
    });
    requested.unwrap_or(true).into()
}

unsafe extern "C" fn wake(context: *mut c_void) {
    find(context, Instance::wake);
}

// Interface `topics`, subscriptions.

unsafe extern "C" fn subscription_open(
    context: *mut c_void,
    topic: Text,
    schema_name: Text,
    fingerprint: u64,
    options: *const SubscriptionOptions,
    subscription: *mut u64,
) -> Status {
    status(context, |state| {
        let answer = Out::new(subscription)?;
        // SAFETY: by the contract, the component passes valid texts.
        let (topic, schema) = unsafe { pointers::topic(topic, schema_name, fingerprint) }?;
        // SAFETY: by the contract, this is null or points to options.
        let (options, name) = unsafe { pointers::reader_options(options) }?;
        let opened = state.open_subscription(topic, &schema, options, name.as_deref())?;
        // SAFETY: by the contract, the component passes a valid place for the result.
        unsafe { answer.set(opened) };
        Ok(())
    })
}

unsafe extern "C" fn subscription_close(context: *mut c_void, subscription: u64) {
    always(context, |state| state.close_subscription(subscription));
}

unsafe extern "C" fn subscription_minimum_size(_context: *mut c_void, _subscription: u64) -> usize {
    0
}

unsafe extern "C" fn subscription_add_storage(
    context: *mut c_void,
    subscription: u64,
    _storage: Area,
) -> Status {
    status(context, |state| state.subscription(subscription).map(drop))
}

unsafe extern "C" fn subscription_remove_storage(
    context: *mut c_void,
    subscription: u64,
    _storage: Area,
) -> Status {
    status(context, |state| state.subscription(subscription).map(drop))
}

unsafe extern "C" fn subscription_poll(
    context: *mut c_void,
    subscription: u64,
    batch: *mut Record,
    room: u32,
    released_before: u64,
    count: *mut u32,
) -> Status {
    status(context, |state| {
        let count = if room == 0 { Out::optional(count) } else { Out::new(count).map(Some) }?;
        if room > 0 {
            Out::new(batch)?;
        }
        // SAFETY: by the contract, the component passes room for that many records; it is aligned, or not
        // used.
        let delivered = unsafe { state.poll(subscription, (batch, room), released_before) }?;
        if let Some(count) = count {
            // SAFETY: by the contract, the component passes a valid place for the result.
            unsafe { count.set(delivered) };
        }
        Ok(())
    })
}

unsafe extern "C" fn subscription_hold(
    context: *mut c_void,
    subscription: u64,
    index: u64,
    hold: *mut u32,
) -> Status {
    status(context, |state| {
        let answer = Out::new(hold)?;
        let hold = state.hold(subscription, index)?;
        // SAFETY: by the contract, the component passes a valid place for the result.
        unsafe { answer.set(hold) };
        Ok(())
    })
}

unsafe extern "C" fn subscription_unhold(context: *mut c_void, subscription: u64, hold: u32) -> Status {
    status(context, |state| state.unhold(subscription, hold))
}

unsafe extern "C" fn subscription_leave(context: *mut c_void, subscription: u64) -> Status {
    status(context, |state| {
        state.subscription(subscription)?.leave(&mut super::space::ThisProcess);
        Ok(())
    })
}

unsafe extern "C" fn subscription_stats(
    context: *mut c_void,
    subscription: u64,
    stats: *mut SubscriptionStats,
) -> Status {
    status(context, |state| {
        let answer = Out::new(stats)?;
        let stats = state.subscription(subscription)?.stats();
        // SAFETY: by the contract, the component passes a valid place for the result.
        unsafe { answer.set(stats) };
        Ok(())
    })
}

// Interface `topics`, publishers.

unsafe extern "C" fn publisher_open(
    context: *mut c_void,
    topic: Text,
    schema_name: Text,
    fingerprint: u64,
    options: *const PublisherOptions,
    publisher: *mut u64,
) -> Status {
    status(context, |state| {
        let answer = Out::new(publisher)?;
        // SAFETY: by the contract, the component passes valid texts.
        let (topic, schema) = unsafe { pointers::topic(topic, schema_name, fingerprint) }?;
        // SAFETY: by the contract, this is null or points to options.
        let (options, name) = unsafe { pointers::publisher_options(options) }?;
        let opened = state.open_publisher(topic, &schema, options, name.as_deref())?;
        // SAFETY: by the contract, the component passes a valid place for the result.
        unsafe { answer.set(opened) };
        Ok(())
    })
}

unsafe extern "C" fn publisher_close(context: *mut c_void, publisher: u64) {
    always(context, |state| state.close_publisher(publisher));
}

unsafe extern "C" fn publisher_block_size(context: *mut c_void, publisher: u64) -> u32 {
    value(context, |state| Ok(state.publisher(publisher)?.block_size()))
}

unsafe extern "C" fn publisher_publish(
    context: *mut c_void,
    publisher: u64,
    message: *const u8,
    length: u32,
    sequence: *mut u64,
) -> Status {
    let len = length & !VALID;
    let (message, is_null) = match message.is_null() {
        true => (std::ptr::dangling(), len > 0),
        false => (message, false),
    };
    let find = |state: &mut LibraryState| {
        if is_null { Err(Error::OutOfBounds) } else { state.validation(publisher, message, len) }
    };
    let publish = |state: &mut LibraryState, trust| {
        let answer = Out::optional(sequence)?;
        if is_null {
            return Err(Error::OutOfBounds);
        }
        // SAFETY: by the contract, that many bytes are readable and nobody changes them.
        let published = unsafe { state.publish(publisher, message, len, trust) }?;
        if let Some(answer) = answer {
            // SAFETY: by the contract, the component passes a valid place for the result.
            unsafe { answer.set(published) };
        }
        Ok(())
    };
    // SAFETY: as above; for a null pointer, `find` refuses.
    unsafe { publishing(context, length, find, publish) }
}

unsafe extern "C" fn publisher_in_place_from(_context: *mut c_void, _publisher: u64) -> u32 {
    0
}

unsafe extern "C" fn publisher_loan(
    context: *mut c_void,
    publisher: u64,
    size: u32,
    loan: *mut Loan,
) -> Status {
    status(context, |state| {
        let answer = Out::new(loan)?;
        let loan = state.loan(publisher, size)?;
        // SAFETY: by the contract, the component passes a valid place for the result.
        unsafe { answer.set(loan) };
        Ok(())
    })
}

unsafe extern "C" fn publisher_publish_block(
    context: *mut c_void,
    publisher: u64,
    block: u64,
    length: u32,
    sequence: *mut u64,
    next: *mut Loan,
) -> Status {
    let wanted = match Out::optional(next) {
        Ok(None) => None,
        Ok(Some(place)) => {
            // SAFETY: by the contract, the component has set it.
            let capacity = unsafe { place.read() }.capacity;
            // SAFETY: by the contract, the component passes a valid place for the result. This holds until a
            // block is loaned.
            unsafe { place.set(Loan::NONE) };
            Some(capacity)
        }
        Err(_) => return Status::OUT_OF_BOUNDS,
    };
    let len = length & !VALID;
    let find = |state: &mut LibraryState| state.block_validation(publisher, block, len);
    let publish = |state: &mut LibraryState, trust| {
        let answer = Out::optional(sequence)?;
        let published = state.publish_block(publisher, block, len, trust)?;
        if let Some(answer) = answer {
            // SAFETY: by the contract, the component passes a valid place for the result.
            unsafe { answer.set(published) };
        }
        if let Some(wanted) = wanted
            && let Some(loan) = state.loan_free(publisher, wanted)
        {
            // SAFETY: by the contract, the component passes a valid place for the result; it was checked
            // above.
            unsafe { next.write(loan) };
        }
        Ok(())
    };
    // SAFETY: by the contract, the component no longer writes to the block.
    unsafe { publishing(context, length, find, publish) }
}

unsafe extern "C" fn publisher_free_blocks(context: *mut c_void, publisher: u64) -> u32 {
    value(context, |state| state.free_blocks(publisher))
}

unsafe extern "C" fn publisher_subscriber_count(context: *mut c_void, publisher: u64) -> u32 {
    value(context, |state| Ok(state.publisher(publisher)?.subscribers()))
}

unsafe extern "C" fn publisher_stats(
    context: *mut c_void,
    publisher: u64,
    stats: *mut PublisherStats,
) -> Status {
    status(context, |state| {
        let answer = Out::new(stats)?;
        let stats = state.publisher(publisher)?.stats();
        // SAFETY: by the contract, the component passes a valid place for the result.
        unsafe { answer.set(stats) };
        Ok(())
    })
}
