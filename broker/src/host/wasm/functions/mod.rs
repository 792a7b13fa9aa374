//! The functions that guests import, as described by the WIT package in `wit/`: one file per interface or
//! resource.
//!
//! They are linked by hand, since generated bindings copy every string before anyone looks at it, and hide
//! the guest's memory, which windows and batches need.

mod memory_block;
mod publisher;
mod session;
mod subscription;
mod topic;
mod wait;

use blockcast_blocks::abi::Error;
use wasmtime::component::WasmStr;
use wasmtime::{Caller, Engine, Linker, component};

use crate::host::wasm::abi::component::ComponentLinkage;
use crate::host::wasm::abi::interfaces::{SESSION, TOPICS, TYPES};
use crate::host::wasm::abi::link::{Argument, Linkage};
use crate::host::wasm::abi::module::{self, ModuleLinkage};
use crate::host::wasm::abi::store::Host;
use crate::host::wasm::abi::text::Text;
use crate::host::wasm::memory::area::Area;
use crate::host::wasm::state::GuestState;

/// The result of an interface function: the outer error ends the guest.
type Answer<T> = wasmtime::Result<Result<T, Error>>;

/// Defines everything that a component may import.
pub(crate) fn define_for_components(linker: &mut component::Linker<GuestState>) -> wasmtime::Result<()> {
    linker.instance(TYPES)?;
    linker.instance(TOPICS)?.func_wrap_async(
        "wait",
        |mut host: Host<'_, GuestState>, (timeout,): (u64,)| {
            Box::new(async move { Ok((wait::wait(host.data_mut(), timeout).await?,)) })
        },
    )?;
    linker.instance(SESSION)?.func_wrap(
        "parameter",
        |mut host: Host<'_, GuestState>, (name,): (WasmStr,)| {
            host.data_mut().enter()?;
            let name = Option::<Text>::lift(name, &host)?;
            Ok((session::parameter(host.data(), name.as_ref()),))
        },
    )?;
    define(&mut ComponentLinkage(linker))
}

/// Defines everything that a core module may import.
pub(crate) fn define_for_modules(engine: &Engine, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.func_wrap_async(TOPICS, "wait", |mut caller: Caller<'_, GuestState>, (timeout,): (u64,)| {
        Box::new(async move {
            module::enter(caller.data_mut())?;
            Ok(wait::wait(caller.data_mut(), timeout).await?.as_array()[0])
        })
    })?;
    linker.func_wrap_async(SESSION, "parameter", |caller, (name, len, area): (u32, u32, u32)| {
        Box::new(module::parameter(caller, Area { address: name, size: len }, area, session::parameter))
    })?;
    define(&mut ModuleLinkage::new(engine, linker))
}

/// Defines everything that a guest may import, except for `topics.wait` and `session.parameter`. The former
/// suspends the guest and the latter may call it back, so they differ between the kinds of guests.
fn define(link: &mut impl Linkage<Data = GuestState>) -> wasmtime::Result<()> {
    memory_block::define(link)?;
    subscription::define(link)?;
    publisher::define(link)?;
    session::define(link)
}

/// The error for a number that names nothing. Handles are checked before the host sees them, so a guest
/// cannot cause it.
pub(crate) fn forged() -> wasmtime::Error {
    wasmtime::Error::msg("a handle that the host did not give out")
}
