//! The settings of the engine.

use std::sync::Arc;

use blockcast_blocks::Process;
use wasmtime::Config;

use super::memory::linear::GuestMemoryCreator;

/// The settings of every engine, including those in compiling child processes.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config
        // Windows are mapped into memories of our own, which must start as plain zeroed pages and never move.
        .with_host_memory(Arc::new(GuestMemoryCreator))
        .memory_init_cow(false)
        .memory_may_move(false)
        // Host functions receive 32-bit addresses, in memories of whole 64 KiB pages.
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        // A call into the host costs three times as much with it.
        .concurrency_support(false)
        // In a forked child, the compiler's threads belong to the parent, and the child would wait for them
        // forever.
        .parallel_compilation(!Process::current().is_forked())
        .epoch_interruption(true);
    config
}
