//! Guests that are plain core modules: they import the interface by its lowered names, and pay a tenth for a host call.
//!
//! Such a module imports functions from modules called like the interfaces (`blockcast:blocks/topics@0.1.0`), by their names in the
//! canonical ABI (`[method]subscription.poll`, `[resource-drop]subscription`), with flattened parameters. It exports
//! its one memory as `memory`, `run` without parameters and an `i32` as result, and `cabi_realloc` if it asks for a parameter
//! (the only function whose result is a string). That is what a compiler makes before the result is wrapped into a component,
//! so one source serves both. What it can do, and what becomes of it if it does not keep the rules, is the same.

use std::mem::MaybeUninit;

use wasmtime::{Caller, Engine, ExternType, FuncType, Linker, Module, ValRaw, ValType};

use super::canonical::{Flat, Layout, Place, locate, return_area, trap, write};
use super::link::{HostResource, Linkage, Outcome, Parameters, Text};
use crate::host::wasm::abi::functions;
use crate::host::wasm::abi::values::{BLOCKS, SESSION, TOPICS, TYPES};
use crate::host::wasm::loading::LoadError;
use crate::host::wasm::memory::window::Area;
use crate::host::wasm::state::GuestState;
use crate::hosting::log::line;

/// Name of the export with which the host gets memory for a result.
const REALLOC: &str = "cabi_realloc";

/// Defines the host functions for core modules.
pub(crate) struct ModuleLinkage<'a> {
    engine: &'a Engine,
    linker: &'a mut Linker<GuestState>,
}

impl<'a> ModuleLinkage<'a> {
    /// Defines everything that a core module may import.
    pub(crate) fn define(engine: &'a Engine, linker: &'a mut Linker<GuestState>) -> wasmtime::Result<()> {
        linker.func_wrap_async(
            TOPICS,
            "wait",
            |mut caller: Caller<'_, GuestState>, (timeout,): (u64,)| {
                Box::new(async move {
                    enter(caller.data_mut())?;
                    Ok(functions::wait(caller.data_mut(), timeout).await?.as_array()[0])
                })
            },
        )?;
        linker.func_wrap_async(SESSION, "parameter", |caller, (name, len, area): (u32, u32, u32)| {
            Box::new(parameter(caller, Area { address: name, size: len }, area))
        })?;
        functions::define(&mut Self { engine, linker })
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
        call: impl Fn(&mut GuestState, &mut [MaybeUninit<ValRaw>]) -> wasmtime::Result<()> + Send + Sync + 'static,
    ) -> wasmtime::Result<()> {
        let call = move |mut caller: Caller<'_, GuestState>, values: &mut [MaybeUninit<ValRaw>]| {
            let state = caller.data_mut();
            enter(state)?;
            call(state, values)
        };
        // SAFETY: promised by the caller; there are no references among the values.
        unsafe { self.linker.func_new_unchecked(interface, name, ty, call) }?;
        Ok(())
    }
}

/// What every host call begins with. A component's engine sees to the second itself.
#[inline]
fn enter(state: &mut GuestState) -> wasmtime::Result<()> {
    state.enter()?;
    if state.called_back {
        return Err(trap(format!("a host call from inside of {REALLOC}")));
    }
    Ok(())
}

impl Linkage for ModuleLinkage<'_> {
    fn resource<T: HostResource>(
        &mut self,
        interface: &'static str,
        drop: fn(&mut GuestState, u32) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()> {
        let ty = FuncType::new(self.engine, [ValType::I32], []);
        // SAFETY: one i32 is read, nothing is written.
        unsafe {
            self.define_unchecked(
                interface,
                &format!("[resource-drop]{}", T::NAME),
                ty,
                move |state, values| {
                    let mut flat = Flat::new(values);
                    let rep = state.handles.remove::<T>(flat.u32())?;
                    drop(state, rep)
                },
            )
        }
    }

    fn function<P: Parameters, R: Outcome>(
        &mut self,
        interface: &'static str,
        name: &'static str,
        call: impl Fn(&mut GuestState, P) -> wasmtime::Result<R> + Send + Sync + 'static,
    ) -> wasmtime::Result<()> {
        let mut parameters = P::flat();
        parameters.extend(R::AREA.map(|_| ValType::I32));
        let ty = FuncType::new(self.engine, parameters, R::FLAT.iter().cloned());
        let call = move |state: &mut GuestState, values: &mut [MaybeUninit<ValRaw>]| {
            // SAFETY: the parameters of this call; `P::read` reads the values of `P::flat`, and the area's address
            // follows them where there is one.
            let mut flat = unsafe { Flat::new(values) };
            let parameters = P::read(&mut flat, state)?;
            let area = flat.return_area(R::AREA, state)?;
            let outcome = call(state, parameters)?;
            // SAFETY: the type has the result of `R::FLAT`; the area is that of `R::AREA`, found during this call.
            outcome.give(unsafe { Place::new(values, area) }, state)
        };
        // SAFETY: as many values are read as `P::flat` and the area have, and the one of `R::FLAT` is written.
        unsafe { self.define_unchecked(interface, name, ty, call) }
    }
}

/// `session.parameter`: the value goes to memory that the guest's own allocator provides.
async fn parameter(mut caller: Caller<'_, GuestState>, name: Area, area: u32) -> wasmtime::Result<()> {
    const OPTION: Layout = Layout { size: 12, align: 4 };
    enter(caller.data_mut())?;
    let state = caller.data();
    let name = Text::read(state, name)?;
    let area = return_area(area, OPTION, state)? as usize;
    let value = functions::parameter(state, name.as_ref());
    let mut option = [0; OPTION.size];
    if let Some(value) = value {
        // Fits: whoever starts a guest with a parameter of 4 GiB gets a trap of the guest's allocator at the latest.
        let size = u32::try_from(value.len()).map_err(|_| trap("a parameter that is too long".to_owned()))?;
        let address = allocate(&mut caller, size).await?;
        let place = locate(caller.data(), Area { address, size })?;
        // SAFETY: `size` bytes of the guest's memory, as just checked.
        unsafe { write(place, value.as_bytes()) };
        option[0] = 1;
        option[4..8].copy_from_slice(&address.to_le_bytes());
        option[8..].copy_from_slice(&size.to_le_bytes());
    }
    // SAFETY: checked above for this layout, and memory does not shrink.
    unsafe { write(area as *mut u8, &option) };
    Ok(())
}

/// Asks the guest for `size` bytes.
async fn allocate(caller: &mut Caller<'_, GuestState>, size: u32) -> wasmtime::Result<u32> {
    let realloc = caller.get_export(REALLOC).and_then(wasmtime::Extern::into_func);
    let realloc = realloc.ok_or_else(|| trap(format!("a parameter is asked for without {REALLOC}")))?;
    let realloc = realloc
        .typed::<(u32, u32, u32, u32), u32>(&mut *caller)
        .map_err(|error| trap(format!("{REALLOC} has another type: {error:#}")))?;
    caller.data_mut().called_back = true;
    let address = realloc.call_async(&mut *caller, (0, 0, 1, size)).await?;
    caller.data_mut().called_back = false;
    Ok(address)
}

/// Checks that a core module can be a guest, as far as the linker does not do it.
pub(crate) fn check(guest: &str, module: &Module) -> Result<(), LoadError> {
    check_imports(guest, module)?;
    check_memory(guest, module)?;
    check_run(guest, module)
}

fn check_imports(guest: &str, module: &Module) -> Result<(), LoadError> {
    match module.imports().find(|import| ![TYPES, BLOCKS, TOPICS, SESSION].contains(&import.module())) {
        None => Ok(()),
        Some(import) => Err(LoadError::UnknownImport {
            guest: guest.to_owned(),
            import: line(&format!("{}::{}", import.module(), import.name())).into_owned(),
        }),
    }
}

fn check_memory(guest: &str, module: &Module) -> Result<(), LoadError> {
    let wrong =
        |reason: &str| Err(LoadError::NoMemory { guest: guest.to_owned(), reason: reason.to_owned() });
    if module.resources_required().num_memories > 1 {
        return wrong("it has several memories");
    }
    match module.get_export("memory") {
        Some(ExternType::Memory(memory)) if memory.is_shared() => wrong("it is shared between threads"),
        Some(ExternType::Memory(memory)) if memory.is_64() => wrong("its addresses have 64 bits"),
        Some(ExternType::Memory(_)) => Ok(()),
        Some(_) => wrong("the export of that name is not a memory"),
        None => wrong("it has no export of that name"),
    }
}

fn check_run(guest: &str, module: &Module) -> Result<(), LoadError> {
    let wrong = |reason: &str| Err(LoadError::NoRun { guest: guest.to_owned(), reason: reason.to_owned() });
    match module.get_export("run") {
        None => wrong("it has no export of that name"),
        Some(ExternType::Func(run)) => {
            let mut results = run.results();
            match (run.params().len(), results.next(), results.next()) {
                (0, Some(ValType::I32), None) => Ok(()),
                (0, _, _) => wrong("its result is another one"),
                _ => wrong("it takes parameters"),
            }
        }
        Some(_) => wrong("the export of that name is not a function"),
    }
}
