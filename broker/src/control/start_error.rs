//! [`StartError`]: why a component could not be started.

use blockcast_blocks::NoMappings;

use crate::host::library::LibraryError;
use crate::host::process::error::ProcessError;
#[cfg(feature = "wasm")]
use crate::host::wasm::LoadError;

/// A component could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The guest's code was refused.
    #[cfg(feature = "wasm")]
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The native library was refused.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The component cannot run in a process of its own.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The wasm engine could not be created.
    #[error("the wasm engine cannot be created: {0}")]
    Engine(String),
    /// The threads that run components could not be created.
    #[error("the runtime for components cannot be created: {0}")]
    Runtime(#[from] std::io::Error),
    /// The process has too few memory mappings left for another component.
    #[error(transparent)]
    Mappings(#[from] NoMappings),
    /// The engine's signal handler is no longer installed, so a guest's first fault would end the process.
    #[error("guests cannot run: {0}")]
    Signals(String),
    /// The runtime that the broker was given has been shut down.
    #[error(
        "the runtime for components has been shut down; give the broker one that outlives its components"
    )]
    RuntimeShutDown,
    /// The broker is shutting down.
    #[error("the broker is shutting down")]
    Closed,
    /// The process was forked after the broker was created. The broker's threads belong to the parent: create
    /// another broker in the child.
    #[error("the broker belongs to the parent process; create another one after the fork")]
    Forked,
}
