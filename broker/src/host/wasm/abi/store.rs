//! The part of a store's data that passing values needs: [`StoreData`].

use std::sync::Arc;

use wasmtime::StoreContextMut;

use super::handles::Handles;
use crate::host::wasm::memory::linear::GuestMemory;

/// The data of a guest's store, as far as passing values between the guest and the host needs it.
pub(crate) trait StoreData: Send + 'static {
    /// Every host call begins with this.
    ///
    /// # Errors
    /// If the guest has to end instead.
    fn enter(&mut self) -> wasmtime::Result<()>;

    /// The guest's linear memory, if it has one.
    fn memory(&self) -> Option<&Arc<GuestMemory>>;

    /// Whether `len` bytes of the guest's memory at `start` in this process are outside all donated address
    /// space.
    fn is_ordinary(&self, start: *const u8, len: usize) -> bool;

    /// The data of a guest that is a core module.
    fn core(&self) -> &CoreModule;

    /// The same, mutable.
    fn core_mut(&mut self) -> &mut CoreModule;
}

/// Data of a guest that is a core module. For components, the engine keeps it.
#[derive(Debug, Default)]
pub(crate) struct CoreModule {
    pub(crate) handles: Handles,
    /// Whether the host is calling the guest's allocator.
    pub(crate) called_back: bool,
}

/// A host function's view of a guest that is a component.
pub(crate) type Host<'a, S> = StoreContextMut<'a, S>;

/// The error that ends a guest which breaks the calling rules.
#[cold]
pub(crate) fn trap(what: String) -> wasmtime::Error {
    wasmtime::Error::msg(what)
}
