//! The functions for direct publishing that native components call: they publish messages without a call
//! each. By the contract of the table, the component vouches for the pointers it passes.

use std::ffi::c_void;

use blockcast_blocks::abi::{DirectPublisher, Error, Status, VALID};

use super::instance::find;
use super::pointers::Out;
use super::state::LibraryState;
use super::table::{always, publishing, status};

pub(super) unsafe extern "C" fn words(
    context: *mut c_void,
    publisher: u64,
    answer: *mut DirectPublisher,
) -> Status {
    status(context, |state| {
        Out::new(answer)?;
        // SAFETY: by the contract, the component has set the size. The pointer is not null and is aligned.
        let size = unsafe { (&raw const (*answer).size).read() } as usize;
        if size < size_of::<DirectPublisher>() {
            return Err(Error::WrongSize); // the component would lack fields that it needs
        }
        let over = find(context, |instance| instance.over()).ok_or(Error::Closed)?;
        let found = DirectPublisher { over, ..state.publisher_direct(publisher)? };
        // SAFETY: by the contract, the component passes a valid place for the result.
        unsafe { answer.write(found) };
        Ok(())
    })
}

pub(super) unsafe extern "C" fn take_blocks(
    context: *mut c_void,
    publisher: u64,
    room: u32,
    first: *mut u64,
    count: *mut u32,
) -> Status {
    status(context, |state| {
        let (first, count) = (Out::new(first)?, Out::new(count)?);
        if room == 0 {
            return Err(Error::WrongSize);
        }
        let (sequence, taken) = state.take_blocks(publisher, room)?;
        // SAFETY: by the contract, the component passes a valid place for the result.
        unsafe { first.set(sequence) };
        // SAFETY: as above.
        unsafe { count.set(taken) };
        Ok(())
    })
}

pub(super) unsafe extern "C" fn published(context: *mut c_void, publisher: u64) -> Status {
    // Done first, even if the run is to end: the message is published, and nobody else wakes those who wait
    // for it.
    always(context, |state| {
        if let Ok(publisher) = state.publisher(publisher) {
            publisher.wake_subscribers();
        }
    });
    status(context, |state| state.publisher(publisher).map(drop))
}

pub(super) unsafe extern "C" fn publish_taken(
    context: *mut c_void,
    publisher: u64,
    word: u64,
    length: u32,
    sequence: *mut u64,
) -> Status {
    let len = length & !VALID;
    let find = |state: &mut LibraryState| state.direct_validation(publisher, word, len);
    let publish = |state: &mut LibraryState, trust| {
        let answer = Out::optional(sequence)?;
        state.may_publish()?;
        let published = state.publisher(publisher)?.publish_direct(word, len, trust)?;
        if let Some(answer) = answer {
            // SAFETY: by the contract, the component passes a valid place for the result.
            unsafe { answer.set(published) };
        }
        Ok(())
    };
    // SAFETY: by the contract, the component no longer writes to the block.
    unsafe { publishing(context, length, find, publish) }
}
