//! What a run of a guest is given: [`GuestSetup`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::component::cancellation::ComponentControl;
use crate::component::limits::ComponentLimits;
use crate::control::wasi_part::WasiPart;
use crate::hosting::log::LogSink;
use crate::hosting::topic_access::TopicAccess;

/// What a run of a guest is given.
#[derive(Clone)]
pub struct GuestSetup {
    /// Name in logs and statistics.
    pub name: String,
    /// Joins topics on its behalf, according to its grants.
    pub topics: Arc<dyn TopicAccess>,
    /// What `session.parameter` answers.
    pub parameters: BTreeMap<String, String>,
    /// What it may use.
    pub limits: ComponentLimits,
    /// Which parts of WASI it is granted.
    pub wasi: Vec<WasiPart>,
    /// Where its log goes.
    pub log: LogSink,
    /// How it is stopped.
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
