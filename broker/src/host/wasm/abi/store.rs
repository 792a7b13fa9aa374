//! What the glue needs of the data of a guest's store: [`StoreData`]. So it knows no subscription and no publisher.

use std::sync::Arc;

use wasmtime::StoreContextMut;

use super::handles::Handles;
use crate::host::wasm::memory::linear::GuestMemory;

/// The data of a guest's store, as far as passing values between the guest and the host needs it.
pub(crate) trait StoreData: Send + 'static {
    /// Every host call begins with this.
    ///
    /// # Errors
    /// If the guest is to end instead.
    fn enter(&mut self) -> wasmtime::Result<()>;

    /// The guest's linear memory, if it has one.
    fn memory(&self) -> Option<&Arc<GuestMemory>>;

    /// Whether `len` bytes of the guest's memory that lie at `start` in this process are outside of all donated address
    /// space.
    fn is_ordinary(&self, start: *const u8, len: usize) -> bool;

    /// What is kept for a guest that is a core module.
    fn core(&self) -> &CoreModule;

    /// What is kept for a guest that is a core module, to change it.
    fn core_mut(&mut self) -> &mut CoreModule;
}

/// What the host keeps for a guest that is a core module. The engine does that for a component.
#[derive(Debug, Default)]
pub(crate) struct CoreModule {
    pub(crate) handles: Handles,
    /// Whether the guest's allocator is being called by the host.
    pub(crate) called_back: bool,
}

/// A host function's view of a guest that is a component.
pub(crate) type Host<'a, S> = StoreContextMut<'a, S>;

/// Ends a guest that breaks the rules of calling.
#[cold]
pub(crate) fn trap(what: String) -> wasmtime::Error {
    wasmtime::Error::msg(what)
}
