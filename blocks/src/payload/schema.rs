//! Schemas: the layout of messages, as a name for people and a fingerprint for comparing.

use std::borrow::Cow;
use std::fmt;

/// Identifies the layout of a message. Two participants understand each other if and only if their schemas
/// are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schema {
    name: Cow<'static, str>,
    fingerprint: u64,
}

impl Schema {
    /// A schema with a readable `name` (for messages and tools) and a `fingerprint` that changes when
    /// the layout does.
    #[must_use]
    pub const fn new(name: Cow<'static, str>, fingerprint: u64) -> Self {
        Self { name, fingerprint }
    }

    /// A schema whose fingerprint is [`fingerprint_of`] its name, for layouts that the name fully describes.
    #[must_use]
    pub fn named(name: impl Into<Cow<'static, str>>) -> Self {
        let name = name.into();
        let fingerprint = fingerprint_of(name.as_bytes());
        Self { name, fingerprint }
    }

    /// The readable name, such as `flat32:list<string>`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number that is compared when a participant joins.
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A guest or a library chooses the name.
        write!(f, "{} ({:016x})", crate::text::line(&self.name), self.fingerprint)
    }
}

/// 64-bit FNV-1a of `text` (Fowler, Noll, Vo; offset basis `cbf29ce484222325`, prime `100000001b3`).
///
/// Stable across versions and platforms. Accidental collisions are very unlikely. It does not defend against
/// a schema forged on purpose, which validation catches.
#[must_use]
pub const fn fingerprint_of(text: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < text.len() {
        hash = (hash ^ text[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_matches_the_published_fnv_vectors() {
        assert_eq!(fingerprint_of(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fingerprint_of(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fingerprint_of(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
