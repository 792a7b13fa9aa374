//! [`Grants`]: the permissions of a component.

use blockcast_blocks::OpenError;

use crate::component::isolation::Isolation;
use crate::component::limits::ComponentLimits;
use crate::control::wasi_part::WasiPart;

/// The topics that a component may publish and subscribe to, and the resources that it may use. Nothing is
/// granted by default.
///
/// For a guest, grants are a sandbox. For native code, linked or loaded, they are a contract: calls beyond
/// the grants are refused, but nothing isolates the code. Native libraries ignore the limits on memory,
/// windows, isolation and building in place; all other limits apply to them.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    publish: Vec<String>,
    subscribe: Vec<String>,
    limits: ComponentLimits,
    wasi: Vec<WasiPart>,
}

impl Grants {
    /// Grants nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Grants every topic, for trusted code.
    #[must_use]
    pub fn all() -> Self {
        Self::new().publish("*").subscribe("*")
    }

    /// Allows publishing to topics that match the pattern: a name, or a prefix followed by `*`.
    #[must_use]
    pub fn publish(mut self, pattern: impl Into<String>) -> Self {
        self.publish.push(pattern.into());
        self
    }

    /// Allows subscribing to topics that match the pattern: a name, or a prefix followed by `*`.
    #[must_use]
    pub fn subscribe(mut self, pattern: impl Into<String>) -> Self {
        self.subscribe.push(pattern.into());
        self
    }

    /// Sets the limits on what the component may use.
    #[must_use]
    pub fn limits(mut self, limits: ComponentLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how much of its topics' arenas a guest sees. This is part of the [limits](Self::limits): setting
    /// them later replaces it.
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.limits.isolation = isolation;
        self
    }

    /// Allows a guest to use these parts of WASI; see [`WasiPart`]. A guest that imports others is not
    /// started.
    #[must_use]
    pub fn wasi(mut self, parts: impl IntoIterator<Item = WasiPart>) -> Self {
        self.wasi.extend(parts);
        self
    }

    pub(crate) fn get_wasi(&self) -> &[WasiPart] {
        &self.wasi
    }

    pub(crate) fn get_limits(&self) -> &ComponentLimits {
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
