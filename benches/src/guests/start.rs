//! Measures the cost of having a guest: compiling it once, and starting it any number of times.

use std::path::PathBuf;
use std::{env, fs, process};

use anyhow::ensure;
use blockcast_broker::{Broker, ExitReason, Grants, GuestCache, GuestProgram, GuestSource};
use tokio::runtime::Runtime;

use super::blocks::one_thread;

/// A guest that does nothing.
const COMPONENT: &str = r#"(component
  (core module $main (memory (export "memory") 1) (func (export "run") (result i32) i32.const 0))
  (core instance $main (instantiate $main))
  (func (export "run") (result u32) (canon lift (core func $main "run"))))"#;

/// The same guest as a plain core module.
const MODULE: &str =
    r#"(module (memory (export "memory") 1) (func (export "run") (result i32) i32.const 0))"#;

/// The form of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A component.
    Component,
    /// A plain core module.
    Module,
}

/// A broker with the compiled guest that does nothing.
#[derive(Debug)]
pub struct Starts {
    broker: Broker,
    source: GuestSource,
    program: GuestProgram,
    runtime: Runtime,
    _kept_in: Option<Folder>,
}

/// A folder that is removed when this is dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = env::temp_dir().join(format!("blockcast-bench-{}", process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Leftovers in the folder for temporary files are harmless.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Starts {
    /// Creates a broker on this thread.
    ///
    /// # Errors
    /// The guest was not accepted.
    pub fn new(form: Form) -> anyhow::Result<Self> {
        let (runtime, broker) = one_thread()?;
        Self::on(runtime, broker, form, None)
    }

    fn on(runtime: Runtime, broker: Broker, form: Form, kept_in: Option<Folder>) -> anyhow::Result<Self> {
        let code = match form {
            Form::Component => COMPONENT,
            Form::Module => MODULE,
        };
        let source = GuestSource::bytes("guest", code.as_bytes());
        let program = broker.load(&source)?;
        Ok(Self { broker, source, program, runtime, _kept_in: kept_in })
    }

    /// Like [`new`](Self::new), but the broker keeps compiled guests in its own folder, which already has
    /// this one.
    ///
    /// # Errors
    /// The guest was not accepted, or the folder is not usable.
    pub fn kept(form: Form) -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        let (runtime, broker) = one_thread()?;
        broker.keep_compiled(GuestCache::open(&folder.0)?)?;
        Self::on(runtime, broker, form, Some(folder))
    }

    /// Compiles the guest, or loads it from the folder.
    ///
    /// # Errors
    /// The guest was not accepted.
    pub fn load(&self) -> anyhow::Result<GuestProgram> {
        Ok(self.broker.load(&self.source)?)
    }

    /// Starts the guest, runs it, and waits for its end.
    ///
    /// # Errors
    /// It did not start, or did not end on its own.
    pub fn start(&self) -> anyhow::Result<()> {
        let guest = self.broker.spawn_guest(&self.program, Grants::new(), [])?;
        let report = self.runtime.block_on(guest.ended());
        ensure!(report.reason == ExitReason::Finished, "it ended with {:?}", report.reason);
        Ok(())
    }
}
