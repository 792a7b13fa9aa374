//! What a participant may do: [`Grants`].

use blockcast_blocks::OpenError;

use crate::component::isolation::Isolation;
use crate::component::limits::ComponentLimits;
use crate::host::wasm::wasi::WasiPart;

/// Which topics a component may publish and subscribe to, and what a guest may use. Nothing is granted by
/// default.
///
/// For a guest the grants are a wall. For native code, linked or loaded, they are a contract: its calls are refused. Of the limits
/// those of memory, windows, isolation and building in place have no meaning for native libraries; all others hold for them.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    publish: Vec<String>,
    subscribe: Vec<String>,
    limits: ComponentLimits,
    wasi: Vec<WasiPart>,
}

impl Grants {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every topic, for code that one trusts.
    #[must_use]
    pub fn all() -> Self {
        Self::new().publish("*").subscribe("*")
    }

    /// May publish to topics of this pattern: a name, or a prefix followed by `*`.
    #[must_use]
    pub fn publish(mut self, pattern: impl Into<String>) -> Self {
        self.publish.push(pattern.into());
        self
    }

    /// May subscribe to topics of this pattern: a name, or a prefix followed by `*`.
    #[must_use]
    pub fn subscribe(mut self, pattern: impl Into<String>) -> Self {
        self.subscribe.push(pattern.into());
        self
    }

    /// What a guest may use.
    #[must_use]
    pub fn limits(mut self, limits: ComponentLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How much a guest sees of the arenas of the topics that it may subscribe to. A part of the
    /// [limits](Self::limits), which replace it when they are set later.
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.limits.isolation = isolation;
        self
    }

    /// May use these parts of WASI; see [`WasiPart`]. A guest that imports others is not started.
    #[must_use]
    pub fn wasi(mut self, parts: impl IntoIterator<Item = WasiPart>) -> Self {
        self.wasi.extend(parts);
        self
    }

    pub(crate) fn guest_wasi(&self) -> &[WasiPart] {
        &self.wasi
    }

    pub(crate) fn guest_limits(&self) -> &ComponentLimits {
        &self.limits
    }

    pub(crate) fn may_publish(&self, topic: &str) -> Result<(), OpenError> {
        granted(&self.publish, "publish", topic)
    }

    pub(crate) fn may_subscribe(&self, topic: &str) -> Result<(), OpenError> {
        granted(&self.subscribe, "subscribe", topic)
    }
}

fn granted(patterns: &[String], access: &'static str, topic: &str) -> Result<(), OpenError> {
    OpenError::check_name(topic)?;
    let matches = |pattern: &String| match pattern.strip_suffix('*') {
        Some(prefix) => topic.starts_with(prefix),
        None => topic == pattern,
    };
    if patterns.iter().any(matches) {
        return Ok(());
    }
    Err(OpenError::Denied { access, topic: topic.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_granted_by_default_and_a_pattern_grants_its_prefix_only() {
        assert!(Grants::new().may_publish("a").is_err());
        let grants = Grants::new().publish("sensors/*").subscribe("log");
        assert!(grants.may_publish("sensors/1").is_ok());
        assert!(grants.may_publish("sensor").is_err());
        assert!(grants.may_subscribe("sensors/1").is_err());
        assert!(grants.may_subscribe("log").is_ok());
        assert!(grants.may_subscribe("logs").is_err());
    }
}
