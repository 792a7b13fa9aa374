//! The library's table: how its app is run.

use super::VERSION;
use super::host::Host;
use super::values::Text;

/// Describes a library to the host that loads it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct App {
    /// [`VERSION`] of the library.
    pub version: u32,
    /// Bytes of this table.
    pub size: u32,
    /// Runs the app from beginning to end, and returns a value such as [`RUN_FINISHED`]. Called on a thread
    /// of its own, once at a time. Static variables keep their values when it is called again.
    ///
    /// Does not unwind. `host` stays valid until the library is closed.
    pub run: unsafe extern "C" fn(host: *const Host) -> u32,
    /// The app's name and version, for messages. Valid until the library is closed.
    pub name: Text,
}

impl App {
    /// The table of the app `name`.
    #[must_use]
    pub const fn new(run: unsafe extern "C" fn(host: *const Host) -> u32, name: &'static str) -> Self {
        Self { version: VERSION, size: size_of::<Self>() as u32, run, name: Text::of(name) }
    }
}

/// The app has finished.
pub const RUN_FINISHED: u32 = 0;
/// The app failed, with the text given to `fail`.
pub const RUN_FAILED: u32 = 1;
/// The app panicked. The text given to `fail` says where.
pub const RUN_PANICKED: u32 = 2;
/// The host's table does not fit the app. Nothing was called except, if possible, `fail`.
pub const RUN_REFUSED: u32 = 3;
/// The app was cancelled.
pub const RUN_CANCELLED: u32 = 4;
