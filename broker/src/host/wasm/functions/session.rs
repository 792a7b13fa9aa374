//! The interface `session`.

use blockcast_blocks::Timestamp;
use blockcast_blocks::abi::Level;

use crate::host::wasm::abi::interfaces::SESSION;
use crate::host::wasm::abi::link::Linkage;
use crate::host::wasm::abi::text::Text;
use crate::host::wasm::state::GuestState;

/// Defines the interface, except for `parameter`.
pub(super) fn define(link: &mut impl Linkage<Data = GuestState>) -> wasmtime::Result<()> {
    link.function(SESSION, "log", |state, (level, line): (Level, Option<Text>)| {
        if let Some(line) = line {
            state.log(level, line.start());
            state.settle(())?;
        }
        Ok(())
    })?;
    link.function(SESSION, "fail", |state, (reason,): (Option<Text>,)| {
        if let Some(reason) = reason {
            state.fail(reason.start());
        }
        Ok(())
    })?;
    link.function(SESSION, "now", |_state, ()| Ok(Timestamp::now().as_nanos()))?;
    link.function(SESSION, "shutdown-requested", |state, ()| Ok(state.setup.control.is_shutdown_requested()))
}

/// `session.parameter`: the value for `name` with which the guest was started.
pub(super) fn parameter(state: &GuestState, name: Option<&Text>) -> Option<String> {
    state.setup.parameters.get(name?.whole()?).cloned()
}
