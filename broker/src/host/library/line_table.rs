//! The functions that native components call: publishers' lines, by which they publish without a call.

use std::ffi::c_void;

use blockcast_blocks::abi::{Error, PublishingLine, Status, VALID};

use super::instance::find;
use super::pointers::Out;
use super::state::LibraryState;
use super::table::{always, publishing, status};

// In each function the component vouches for its pointers as the table's description says.

pub(super) unsafe extern "C" fn line(
    context: *mut c_void,
    publisher: u64,
    line: *mut PublishingLine,
) -> Status {
    status(context, |state| {
        Out::new(line)?;
        // SAFETY: the component has set it, by the contract; it is no null pointer and aligned.
        let size = unsafe { (&raw const (*line).size).read() } as usize;
        if size < size_of::<PublishingLine>() {
            return Err(Error::WrongSize); // what it lacks it would need
        }
        let over = find(context, |instance| instance.over()).ok_or(Error::Closed)?;
        let found = PublishingLine { over, ..state.publisher_line(publisher)? };
        // SAFETY: the component's place for it, by the contract.
        unsafe { line.write(found) };
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
        let (sequence, lent) = state.take_blocks(publisher, room)?;
        // SAFETY: the component's place for it, by the contract.
        unsafe { first.set(sequence) };
        // SAFETY: as above.
        unsafe { count.set(lent) };
        Ok(())
    })
}

pub(super) unsafe extern "C" fn published(context: *mut c_void, publisher: u64) -> Status {
    // First of all, also where the run is to end: the message is out, and nobody else wakes whoever waits for it.
    always(context, |state| {
        if let Ok(publisher) = state.publisher(publisher) {
            publisher.wake_behind_line();
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
    let find = |state: &mut LibraryState| state.line_validation(publisher, word, len);
    let publish = |state: &mut LibraryState, trust| {
        let answer = Out::optional(sequence)?;
        state.may_publish()?;
        let published = state.publisher(publisher)?.publish_from_line(word, len, trust)?;
        if let Some(answer) = answer {
            // SAFETY: the component's place for it, by the contract.
            unsafe { answer.set(published) };
        }
        Ok(())
    };
    // SAFETY: the component does not write the block any more, by the contract.
    unsafe { publishing(context, length, find, publish) }
}
