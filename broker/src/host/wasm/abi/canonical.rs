//! The canonical ABI for core modules: parameters as core values, results through a return area.
//!
//! Source: the component model's `CanonicalABI.md`, as far as the interface in `wit/` needs it. A result of
//! more than one core value goes to a return area, whose address is the last parameter. Before a call does
//! anything, addresses are checked in 64-bit arithmetic against the memory's current size. A return area in a
//! read-only window is no error here: the write faults, and the guest's fault handler treats it like any
//! other (see `fault`).

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
    /// The layout of no value.
    pub(crate) const UNIT: Self = Self { size: 0, align: 1 };

    /// The layout of the Rust type, which is a number or a `repr(C)` record of numbers.
    pub(crate) const fn of<T>() -> Self {
        Self { size: size_of::<T>(), align: align_of::<T>() }
    }

    /// `result<value, enum>`: one byte for the case, then the larger of the two, aligned.
    pub(crate) const fn result(value: Self) -> Self {
        let payload = if value.size == 0 { 1 } else { value.size };
        Self { size: (value.align + payload).next_multiple_of(value.align), align: value.align }
    }
}

/// Size of the largest return area, in bytes.
const MAX_AREA: usize = 64;

/// The remaining core values of a call.
#[derive(Debug)]
pub(crate) struct Flat<'a>(&'a [MaybeUninit<ValRaw>]);

impl<'a> Flat<'a> {
    /// # Safety
    /// `values` begins with the parameters of a call from wasm, and no more values are read than there are
    /// parameters.
    pub(crate) unsafe fn new(values: &'a [MaybeUninit<ValRaw>]) -> Self {
        Self(values)
    }

    #[inline]
    fn next(&mut self) -> ValRaw {
        let (first, rest) = self.0.split_first().expect("as many as the function's type has");
        self.0 = rest;
        // SAFETY: a parameter, by the contract of `new`, which the engine has initialised.
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

    /// The number of an enum's case, which is below `cases`.
    pub(crate) fn case(&mut self, cases: u32) -> wasmtime::Result<u32> {
        let case = self.u32();
        if case < cases {
            Ok(case)
        } else {
            Err(trap(format!("invalid discriminant: there is no case {case} of {cases}")))
        }
    }

    /// The address in this process of the result's return area, if it needs one.
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

/// The address in this process of a return area for this layout at the guest's `address`.
#[inline]
pub(crate) fn return_area(address: u32, layout: Layout, state: &impl StoreData) -> wasmtime::Result<*mut u8> {
    if !(address as usize).is_multiple_of(layout.align) {
        return Err(trap(format!("the return area at {address} is not aligned to {}", layout.align)));
    }
    // Fits: at most `MAX_AREA`.
    locate(state, Area { address, size: layout.size as u32 })
}

/// The address in this process of the first byte of `area`, if all of it is inside the guest's memory.
#[inline]
pub(crate) fn locate(state: &impl StoreData, area: Area) -> wasmtime::Result<*mut u8> {
    match state.memory() {
        Some(memory) if u64::from(area.address) + u64::from(area.size) <= memory.size() => {
            Ok(memory.base().wrapping_add(area.address as usize))
        }
        _ => Err(trap(format!(
            "pointer out of bounds: {} bytes at {} are not inside the guest's memory",
            area.size, area.address
        ))),
    }
}

/// Receives the outcome of a call.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    values: &'a mut [MaybeUninit<ValRaw>],
    area: *mut u8,
}

impl<'a> Place<'a> {
    /// # Safety
    /// `values` has a slot for a result, if the function's type has one. `area` was returned by
    /// [`return_area`] during this call for the layout of the function's outcome, if it has one.
    pub(crate) unsafe fn new(values: &'a mut [MaybeUninit<ValRaw>], area: *mut u8) -> Self {
        Self { values, area }
    }

    /// Sets the outcome to this one value.
    #[inline]
    pub(crate) fn value(self, value: ValRaw) -> wasmtime::Result<()> {
        self.values[0].write(value);
        Ok(())
    }

    /// Sets the outcome to what `store` writes into zeroed bytes of `layout`, the layout of the function's
    /// outcome.
    #[inline]
    pub(crate) fn fill(
        self,
        layout: Layout,
        store: impl FnOnce(&mut [u8]) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()> {
        let mut bytes = [0; MAX_AREA];
        let bytes = &mut bytes[..layout.size];
        store(bytes)?;
        // SAFETY: by the contract of `new`, `size` bytes of the guest's memory, which never shrinks. If a
        // window was mapped over them since, the fault handler of the guest that makes this call makes them
        // writable.
        unsafe { write(self.area, bytes) };
        Ok(())
    }
}

/// Copies `bytes` into the guest's memory.
///
/// # Safety
/// `to` points to as many bytes in the memory of the guest that makes the current host call.
#[inline]
pub(crate) unsafe fn write(to: *mut u8, bytes: &[u8]) {
    // SAFETY: promised by the caller; `bytes` are the host's own.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
}
