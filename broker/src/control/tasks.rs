//! [`Tasks`]: the tokio runtime on which components run.

use std::io;
use std::sync::OnceLock;

use blockcast_blocks::Process;
use tokio::runtime::{Builder, Handle, Runtime};

/// The runtime on which components run. The broker and each of its components hold a reference.
pub(crate) enum Tasks {
    /// On the caller's runtime.
    Given(Handle),
    /// On the broker's own runtime, created when the first component is started.
    Own(OnceLock<Runtime>, Process),
}

impl Tasks {
    /// The runtime's handle. Creates the runtime if it does not exist yet.
    pub(crate) fn handle(&self) -> Result<Handle, io::Error> {
        match self {
            Self::Given(handle) => Ok(handle.clone()),
            Self::Own(runtime, _) => {
                if runtime.get().is_none() {
                    let mut new = Builder::new_multi_thread();
                    // If this fails, it is tried again when a guest runs.
                    #[cfg(feature = "wasm")]
                    new.on_thread_start(|| {
                        crate::host::wasm::prepare_thread();
                    });
                    let new = new.thread_name("blockcast").enable_time().build()?;
                    // Another thread may have been faster.
                    if let Err(surplus) = runtime.set(new) {
                        surplus.shutdown_background();
                    }
                }
                runtime
                    .get()
                    .map(|runtime| runtime.handle().clone())
                    .ok_or_else(|| io::Error::other("the runtime was created and is gone again"))
            }
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        if let Self::Own(runtime, process) = self
            && let Some(runtime) = runtime.take()
        {
            if !process.is_current() {
                // Its threads are the parent's and may have held its locks during the fork.
                std::mem::forget(runtime);
                return;
            }
            // A task of this very runtime may drop the last reference. It must not wait for itself.
            runtime.shutdown_background();
        }
    }
}
