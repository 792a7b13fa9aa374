//! The canonical ABI as a core module meets it: parameters as core values, results through a return area.
//!
//! Source: the component model's `CanonicalABI.md`, as far as the interface in `wit/` needs it. A result of
//! more than one core value goes to an area whose address is the last parameter. Addresses are checked in 64-bit arithmetic
//! against the memory's current size before the call does anything. An area that lies in a read-only window is no error
//! here: the write faults, and the guest's fault handler deals with it as with any other (see `fault`).

use std::mem::MaybeUninit;

use wasmtime::ValRaw;

use super::store::{StoreData, trap};
use crate::host::wasm::memory::area::Area;

/// Size and alignment in bytes of a value in linear memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) size: usize,
    pub(crate) align: usize,
}

impl Layout {
    /// Nothing.
    pub(crate) const UNIT: Self = Self { size: 0, align: 1 };

    /// As the Rust type, which is a number or a `repr(C)` record of numbers.
    pub(crate) const fn of<T>() -> Self {
        Self { size: size_of::<T>(), align: align_of::<T>() }
    }

    /// `result<value, enum>`: one byte for the case, then the larger of the two, aligned.
    pub(crate) const fn result(value: Self) -> Self {
        let payload = if value.size == 0 { 1 } else { value.size };
        Self { size: (value.align + payload).next_multiple_of(value.align), align: value.align }
    }
}

/// Largest area of a result, in bytes.
const MAX_AREA: usize = 64;

/// The core values of a call that have not been read yet.
#[derive(Debug)]
pub(crate) struct Flat<'a>(&'a [MaybeUninit<ValRaw>]);

impl<'a> Flat<'a> {
    /// # Safety
    /// `values` begins with the parameters of a call from wasm, of which no more are read than there are.
    pub(crate) unsafe fn new(values: &'a [MaybeUninit<ValRaw>]) -> Self {
        Self(values)
    }

    #[inline]
    fn next(&mut self) -> ValRaw {
        let (first, rest) = self.0.split_first().expect("as many as the function's type has");
        self.0 = rest;
        // SAFETY: the contract of `new`: a parameter, which the engine has initialised.
        unsafe { first.assume_init() }
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> u32 {
        self.next().get_u32()
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> u64 {
        self.next().get_u64()
    }

    /// A range of the caller's memory.
    pub(crate) fn area(&mut self) -> Area {
        Area { address: self.u32(), size: self.u32() }
    }

    /// The number of a case below `cases`.
    pub(crate) fn case(&mut self, cases: u32) -> wasmtime::Result<u32> {
        let case = self.u32();
        if case < cases {
            Ok(case)
        } else {
            Err(trap(format!("invalid discriminant: there is no case {case} of {cases}")))
        }
    }

    /// The return area of a result, if it needs one.
    #[inline]
    pub(crate) fn return_area(
        &mut self,
        layout: Option<Layout>,
        state: &impl StoreData,
    ) -> wasmtime::Result<*mut u8> {
        match layout {
            None => Ok(std::ptr::null_mut()),
            Some(layout) => return_area(self.u32(), layout, state),
        }
    }
}

/// Where a result of this layout goes to that the guest wants at `address`.
#[inline]
pub(crate) fn return_area(address: u32, layout: Layout, state: &impl StoreData) -> wasmtime::Result<*mut u8> {
    if !(address as usize).is_multiple_of(layout.align) {
        return Err(trap(format!("the return area at {address} is not aligned to {}", layout.align)));
    }
    // Fits: the size of a result, at most `MAX_AREA`.
    locate(state, Area { address, size: layout.size as u32 })
}

/// The first byte of `area` in this process, if all of it lies inside of the guest's memory.
#[inline]
pub(crate) fn locate(state: &impl StoreData, area: Area) -> wasmtime::Result<*mut u8> {
    match state.memory() {
        Some(memory) if u64::from(area.address) + u64::from(area.size) <= memory.size() => {
            Ok(memory.base().wrapping_add(area.address as usize))
        }
        _ => Err(trap(format!(
            "pointer out of bounds: {} bytes from {} on do not lie inside of the guest's memory",
            area.size, area.address
        ))),
    }
}

/// Where the outcome of a call goes.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    values: &'a mut [MaybeUninit<ValRaw>],
    area: *mut u8,
}

impl<'a> Place<'a> {
    /// # Safety
    /// `values` has a slot for a result, if the function's type has one. `area` was returned by [`return_area`] during this call
    /// for the layout of the function's outcome, if it has one.
    pub(crate) unsafe fn new(values: &'a mut [MaybeUninit<ValRaw>], area: *mut u8) -> Self {
        Self { values, area }
    }

    /// The outcome is this one value.
    #[inline]
    pub(crate) fn value(self, value: ValRaw) -> wasmtime::Result<()> {
        self.values[0].write(value);
        Ok(())
    }

    /// The outcome is what `store` writes into zeroed bytes of `layout`, which is that of the function's outcome.
    #[inline]
    pub(crate) fn fill(
        self,
        layout: Layout,
        store: impl FnOnce(&mut [u8]) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()> {
        let mut bytes = [0; MAX_AREA];
        let bytes = &mut bytes[..layout.size];
        store(bytes)?;
        // SAFETY: the contract of `new`: `size` bytes of the guest's memory, which does not shrink. Where a window was mapped over
        // them since, the fault handler of the guest that makes this call makes them writable.
        unsafe { write(self.area, bytes) };
        Ok(())
    }
}

/// Copies `bytes` into the guest's memory.
///
/// # Safety
/// As many bytes of the memory of the guest that makes the current host call lie at `to`.
#[inline]
pub(crate) unsafe fn write(to: *mut u8, bytes: &[u8]) {
    // SAFETY: promised by the caller; `bytes` are the host's own.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
}
