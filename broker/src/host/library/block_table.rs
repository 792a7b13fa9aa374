//! The functions of the interface `memory-blocks` that native components call. By the contract of the table,
//! the component vouches for the pointers it passes.

use std::ffi::c_void;

use blockcast_blocks::abi::{Area, Status};

use super::pointers::Out;
use super::table::{always, status, value};

pub(super) unsafe extern "C" fn new(context: *mut c_void, size: usize) -> u64 {
    value(context, |state| state.new_block(size))
}

pub(super) unsafe extern "C" fn close(context: *mut c_void, block: u64) {
    always(context, |state| state.close_block(block));
}

pub(super) unsafe extern "C" fn clone(context: *mut c_void, block: u64, clone: *mut u64) -> Status {
    status(context, |state| {
        let answer = Out::new(clone)?;
        let clone = state.clone_block(block)?;
        // SAFETY: by the contract, the component passes a valid place for the result.
        unsafe { answer.set(clone) };
        Ok(())
    })
}

pub(super) unsafe extern "C" fn minimum_size(_context: *mut c_void, _block: u64) -> usize {
    0
}

pub(super) unsafe extern "C" fn optimum_size(_context: *mut c_void, _count: u32, _size: usize) -> usize {
    0
}

pub(super) unsafe extern "C" fn add_storage(context: *mut c_void, _storage: Area) -> Status {
    status(context, |_| Ok(()))
}

pub(super) unsafe extern "C" fn remove_storage(context: *mut c_void, _storage: Area) -> Status {
    status(context, |_| Ok(()))
}

pub(super) unsafe extern "C" fn attach(
    context: *mut c_void,
    block: u64,
    access: u32,
    area: *mut Area,
) -> Status {
    status(context, |state| {
        let answer = Out::new(area)?;
        let area = state.attach_block(block, access)?;
        // SAFETY: by the contract, the component passes a valid place for the result.
        unsafe { answer.set(area) };
        Ok(())
    })
}

pub(super) unsafe extern "C" fn detach(context: *mut c_void, block: u64, consumed: usize) -> Status {
    status(context, |state| state.detach_block(block, consumed))
}

pub(super) unsafe extern "C" fn create_partition(
    context: *mut c_void,
    block: u64,
    start: usize,
    size: usize,
    access: u32,
    partition: *mut u64,
) -> Status {
    status(context, |state| {
        let answer = Out::new(partition)?;
        let part = state.divide_block(block, start, size, access)?;
        // SAFETY: by the contract, the component passes a valid place for the result.
        unsafe { answer.set(part) };
        Ok(())
    })
}

pub(super) unsafe extern "C" fn create_local(context: *mut c_void, area: Area, block: *mut u64) -> Status {
    status(context, |state| {
        let answer = Out::new(block)?;
        let block = state.new_local_block(area)?;
        // SAFETY: by the contract, the component passes a valid place for the result.
        unsafe { answer.set(block) };
        Ok(())
    })
}
