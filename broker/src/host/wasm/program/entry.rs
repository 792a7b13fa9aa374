//! Compiled code that is linked to the host functions, and its entry point.

use wasmtime::{InstancePre, Store, TypedFunc, component};

use crate::host::wasm::state::GuestState;

/// Compiled code, linked to the host functions.
#[derive(Clone)]
pub(crate) enum Linked {
    Component(component::InstancePre<GuestState>, EntryName),
    Module(InstancePre<GuestState>),
}

/// The entry point of a component.
#[derive(Clone, Debug)]
pub(crate) enum EntryName {
    /// Its own `run`.
    Run,
    /// The `run` of the interface with this name, `wasi:cli/run@...`.
    Command(String),
}

/// The `run` of an instance.
pub(crate) enum Entry {
    Component(component::TypedFunc<(), (u32,)>),
    Command(component::TypedFunc<(), (Result<(), ()>,)>),
    Module(TypedFunc<(), u32>),
}

impl Linked {
    /// Creates an instance, which runs its start functions.
    pub(crate) async fn instantiate(&self, store: &mut Store<GuestState>) -> wasmtime::Result<Entry> {
        Ok(match self {
            Self::Component(code, entry) => {
                let instance = code.instantiate_async(&mut *store).await?;
                match entry {
                    EntryName::Run => Entry::Component(instance.get_typed_func(store, "run")?),
                    EntryName::Command(interface) => {
                        let interface = instance.get_export_index(&mut *store, None, interface);
                        let run = instance.get_export_index(&mut *store, interface.as_ref(), "run");
                        let run = run.ok_or_else(|| wasmtime::Error::msg("it has no run"))?;
                        Entry::Command(instance.get_typed_func(store, run)?)
                    }
                }
            }
            Self::Module(code) => {
                let instance = code.instantiate_async(&mut *store).await?;
                Entry::Module(instance.get_typed_func(store, "run")?)
            }
        })
    }
}

impl Entry {
    /// Runs the guest to its end. Returns 0 if it succeeded.
    pub(crate) async fn call(&self, store: &mut Store<GuestState>) -> wasmtime::Result<u32> {
        match self {
            Self::Component(run) => run.call_async(store, ()).await.map(|(code,)| code),
            Self::Command(run) => run.call_async(store, ()).await.map(|(outcome,)| outcome.is_err().into()),
            Self::Module(run) => run.call_async(store, ()).await,
        }
    }
}
