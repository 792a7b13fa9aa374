//! The state of WASI for one running guest, and how its functions reach it.

use std::fmt;

use blockcast_blocks::abi::Level;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::{I32Exit, WasiCtx};
pub(crate) use wasmtime_wasi::{WasiCtxView, WasiView};

use super::output::Output;
use crate::component::limit_policy::LimitPolicy;
use crate::host::wasm::setup::GuestSetup;
use crate::hosting::meter::LineRate;

/// The most resources of WASI (streams, pollables) that a guest has at a time.
const MAX_RESOURCES: usize = 4096;

/// The most random bytes per call.
const MAX_RANDOM: u64 = 1 << 20;

/// The state of WASI in a guest's store.
pub(crate) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
    /// The view for a guest that has to end.
    empty: Option<Box<(WasiCtx, ResourceTable)>>,
}

impl Wasi {
    /// The state for a guest with this setup, whichever parts it is granted. Its output goes through `rate`.
    pub(crate) fn new(setup: &GuestSetup, rate: &LineRate, policy: &LimitPolicy) -> Self {
        let output = |level| Output::new(level, &setup.log, rate.clone(), policy.clone());
        let mut context = WasiCtx::builder();
        context
            .arg(&setup.name)
            .stdout(output(Level::Info))
            .stderr(output(Level::Warn))
            .max_random_size(MAX_RANDOM)
            // Sockets are not linked. This is a precaution, should that ever change.
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        for (name, value) in &setup.parameters {
            context.env(name, value);
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Self { context: context.build(), table, empty: None }
    }

    /// The view that a function of WASI works with. It is empty if the guest may not continue.
    pub(crate) fn view(&mut self, may_go_on: bool) -> WasiCtxView<'_> {
        if !may_go_on {
            return self.empty();
        }
        WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }

    /// An empty view for a guest that has to end: no resource, no random byte, no argument. With it, a
    /// function of WASI that takes a resource traps, and no other one takes long.
    fn empty(&mut self) -> WasiCtxView<'_> {
        let (ctx, table) = &mut **self.empty.get_or_insert_with(|| {
            let mut table = ResourceTable::new();
            table.set_max_capacity(0);
            Box::new((WasiCtx::builder().max_random_size(0).build(), table))
        });
        WasiCtxView { ctx, table }
    }
}

impl fmt::Debug for Wasi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wasi").finish_non_exhaustive()
    }
}

/// Defines WASI. Loading a guest decides which parts it may import, and starting it which parts it may use.
pub(crate) fn add_to_linker<S: WasiView>(linker: &mut Linker<S>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

/// The exit status of a program that was unwound because it called `exit`.
pub(crate) fn exit_status(error: &wasmtime::Error) -> Option<i32> {
    error.downcast_ref::<I32Exit>().map(|exit| exit.0)
}
