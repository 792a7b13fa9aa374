//! Guests that are plain core modules. They import the interface by its lowered names, and a host call costs
//! them a tenth.
//!
//! Such a module imports functions from modules named like the interfaces (`blockcast:blocks/topics@0.1.0`),
//! by their names in the canonical ABI (`[method]subscription.poll`, `[resource-drop]subscription`), with
//! flattened parameters. It exports its one memory as `memory`, and `run`, which takes no parameters and
//! returns an `i32`. If it calls `session.parameter`, the only function that returns a string, it also
//! exports `cabi_realloc`. Compilers produce exactly that before the result is wrapped into a component, so
//! one source serves both. The same rules apply to both kinds of guests, with the same consequences.

use std::mem::MaybeUninit;

use wasmtime::{Caller, Engine, FuncType, Linker, ValRaw, ValType};

use super::canonical::{Flat, Layout, Place, locate, return_area, write};
use super::handles::HostResource;
use super::link::{Linkage, Outcome, Parameters};
use super::store::{StoreData, trap};
use super::text::Text;
use crate::host::wasm::memory::area::Area;

/// The export that allocates memory for a result.
const REALLOC: &str = "cabi_realloc";

/// Defines the host functions for core modules.
pub(crate) struct ModuleLinkage<'a, S: 'static> {
    engine: &'a Engine,
    linker: &'a mut Linker<S>,
}

impl<'a, S: StoreData> ModuleLinkage<'a, S> {
    pub(crate) const fn new(engine: &'a Engine, linker: &'a mut Linker<S>) -> Self {
        Self { engine, linker }
    }

    /// Defines a function of the core type `ty`.
    ///
    /// # Safety
    /// `call` reads no more values than `ty` has parameters, of their types, and writes the result of `ty`.
    unsafe fn define_unchecked(
        &mut self,
        interface: &str,
        name: &str,
        ty: FuncType,
        call: impl Fn(&mut S, &mut [MaybeUninit<ValRaw>]) -> wasmtime::Result<()> + Send + Sync + 'static,
    ) -> wasmtime::Result<()> {
        let call = move |mut caller: Caller<'_, S>, values: &mut [MaybeUninit<ValRaw>]| {
            let state = caller.data_mut();
            enter(state)?;
            call(state, values)
        };
        // SAFETY: promised by the caller; no value is a reference.
        unsafe { self.linker.func_new_unchecked(interface, name, ty, call) }?;
        Ok(())
    }
}

/// Every host call begins with this. For components, the engine refuses calls from inside `realloc` itself.
#[inline]
pub(crate) fn enter(state: &mut impl StoreData) -> wasmtime::Result<()> {
    state.enter()?;
    if state.core().called_back {
        return Err(trap(format!("a host call from inside of {REALLOC}")));
    }
    Ok(())
}

impl<S: StoreData> Linkage for ModuleLinkage<'_, S> {
    type Data = S;

    fn resource<T: HostResource>(
        &mut self,
        interface: &'static str,
        drop: fn(&mut S, u32) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()> {
        let ty = FuncType::new(self.engine, [ValType::I32], []);
        // SAFETY: one i32 is read, and nothing is written.
        unsafe {
            self.define_unchecked(
                interface,
                &format!("[resource-drop]{}", T::NAME),
                ty,
                move |state, values| {
                    let mut flat = Flat::new(values);
                    let rep = state.core_mut().handles.remove::<T>(flat.u32())?;
                    drop(state, rep)
                },
            )
        }
    }

    fn function<P: Parameters, R: Outcome>(
        &mut self,
        interface: &'static str,
        name: &'static str,
        call: impl Fn(&mut S, P) -> wasmtime::Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<()> {
        let mut parameters = P::flat();
        parameters.extend(R::AREA.map(|_| ValType::I32));
        let ty = FuncType::new(self.engine, parameters, R::FLAT.iter().cloned());
        let call = move |state: &mut S, values: &mut [MaybeUninit<ValRaw>]| {
            // SAFETY: the parameters of this call. `P::read` reads the values of `P::flat`, and the return
            // area's address follows them if there is one.
            let mut flat = unsafe { Flat::new(values) };
            let parameters = P::read(&mut flat, state)?;
            let area = flat.return_area(R::AREA, state)?;
            let outcome = call(state, parameters)?;
            // SAFETY: the type has the result of `R::FLAT`; the area is that of `R::AREA`, found during this
            // call.
            outcome.give(unsafe { Place::new(values, area) }, state)
        };
        // SAFETY: `P::flat` and the return area determine how many values are read, and the one of `R::FLAT`
        // is written.
        unsafe { self.define_unchecked(interface, name, ty, call) }
    }
}

/// `session.parameter`: returns the value in memory that the guest's own allocator provides.
pub(crate) async fn parameter<S: StoreData>(
    mut caller: Caller<'_, S>,
    name: Area,
    area: u32,
    value_of: impl Fn(&S, Option<&Text>) -> Option<String>,
) -> wasmtime::Result<()> {
    const OPTION: Layout = Layout { size: 12, align: 4 };
    enter(caller.data_mut())?;
    let state = caller.data();
    let name = Text::read(state, name)?;
    let area = return_area(area, OPTION, state)? as usize;
    let value = value_of(state, name.as_ref());
    let mut option = [0; OPTION.size];
    if let Some(value) = value {
        // A guest that is started with a parameter of 4 GiB could not allocate it anyway.
        let size = u32::try_from(value.len()).map_err(|_| trap("the parameter is too long".to_owned()))?;
        let address = allocate(&mut caller, size).await?;
        let place = locate(caller.data(), Area { address, size })?;
        // SAFETY: `size` bytes of the guest's memory, as just checked.
        unsafe { write(place, value.as_bytes()) };
        option[0] = 1;
        option[4..8].copy_from_slice(&address.to_le_bytes());
        option[8..].copy_from_slice(&size.to_le_bytes());
    }
    // SAFETY: checked above for this layout, and memory never shrinks.
    unsafe { write(area as *mut u8, &option) };
    Ok(())
}

/// Asks the guest's allocator for `size` bytes.
async fn allocate<S: StoreData>(caller: &mut Caller<'_, S>, size: u32) -> wasmtime::Result<u32> {
    let realloc = caller.get_export(REALLOC).and_then(wasmtime::Extern::into_func);
    let realloc = realloc.ok_or_else(|| trap(format!("a parameter cannot be returned without {REALLOC}")))?;
    let realloc = realloc
        .typed::<(u32, u32, u32, u32), u32>(&mut *caller)
        .map_err(|error| trap(format!("{REALLOC} has another type: {error:#}")))?;
    caller.data_mut().core_mut().called_back = true;
    let address = realloc.call_async(&mut *caller, (0, 0, 1, size)).await?;
    caller.data_mut().core_mut().called_back = false;
    Ok(address)
}
