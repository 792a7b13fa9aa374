//! The setup of a guest's run: [`GuestSetup`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::component::cancellation::ComponentControl;
use crate::component::limits::ComponentLimits;
use crate::control::wasi_part::WasiPart;
use crate::hosting::log::LogSink;
use crate::hosting::topic_access::TopicAccess;

/// The setup of a guest's run.
#[derive(Clone)]
pub struct GuestSetup {
    /// Name in logs and statistics.
    pub name: String,
    /// Joins topics on its behalf, according to its grants.
    pub topics: Arc<dyn TopicAccess>,
    /// The values that `session.parameter` returns.
    pub parameters: BTreeMap<String, String>,
    /// The limits of the guest.
    pub limits: ComponentLimits,
    /// The parts of WASI that the guest is granted.
    pub wasi: Vec<WasiPart>,
    /// Receives the guest's log.
    pub log: LogSink,
    /// Stops the guest.
    pub control: Arc<ComponentControl>,
}

impl fmt::Debug for GuestSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestSetup")
            .field("name", &self.name)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
