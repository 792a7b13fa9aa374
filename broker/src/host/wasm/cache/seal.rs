//! The file format of compiled code: a seal, and the content that it authenticates.
//!
//! ```text
//!  0        16     17       24             56             88            120
//!  │ magic   │ kind │ zeros   │ engine        │ source        │ seal         │ compiled code ...
//! ```
//!
//! `engine` identifies everything about the engine that compiled code depends on (version, settings,
//! processor features). `source` is the BLAKE3 hash of the guest's bytes. `seal` is the keyed BLAKE3 hash of
//! all other bytes of the file.

use std::hash::{Hash, Hasher};

use wasmtime::Engine;

/// Identifies a file and the version of its format.
const MAGIC: &[u8; 16] = b"blockcast-guest\x01";

/// Bytes in front of the compiled code.
const HEADER: usize = 120;

/// Offset of the seal in the header.
const SEAL: usize = 88;

/// The secret key that seals files: 32 bytes.
pub(crate) type Key = [u8; 32];

/// Identifies everything that an engine's compiled code depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EngineId([u8; 32]);

impl EngineId {
    pub(crate) fn of(engine: &Engine) -> Self {
        let mut hasher = Collector(blake3::Hasher::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(*hasher.0.finalize().as_bytes())
    }
}

/// Passes hashed bytes on unchanged, for a longer hash than the standard library's.
struct Collector(blake3::Hasher);

impl Hasher for Collector {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        u64::from_le_bytes(std::array::from_fn(|index| hash.as_bytes()[index]))
    }
}

/// Identifies compiled code and its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    /// Distinguishes components from core modules.
    pub(crate) kind: u8,
    pub(crate) engine: EngineId,
    /// Hash of the guest's bytes.
    pub(crate) source: [u8; 32],
}

impl Label {
    pub(crate) fn new(kind: u8, engine: EngineId, source: &[u8]) -> Self {
        Self { kind, engine, source: *blake3::hash(source).as_bytes() }
    }

    /// The name of the file with this label's code.
    pub(crate) fn file_name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[self.kind]).update(&self.engine.0).update(&self.source);
        format!("{}.guest", hasher.finalize().to_hex())
    }
}

/// Why a file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It is not a file of compiled code.
    Format,
    /// It was changed, or sealed with another key.
    Seal,
}

/// The content of a file for `code`.
pub(crate) fn seal(key: &Key, label: &Label, code: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEADER + code.len());
    file.extend_from_slice(MAGIC);
    file.push(label.kind);
    file.extend_from_slice(&[0; 7]);
    file.extend_from_slice(&label.engine.0);
    file.extend_from_slice(&label.source);
    let seal = tag(key, &file, code);
    file.extend_from_slice(seal.as_bytes());
    file.extend_from_slice(code);
    file
}

/// The label and code of a file that was sealed with `key` and has not changed since.
pub(crate) fn open<'a>(key: &Key, file: &'a [u8]) -> Result<(Label, &'a [u8]), Broken> {
    let (header, code) = file.split_at_checked(HEADER).ok_or(Broken::Format)?;
    if !header.starts_with(MAGIC) {
        return Err(Broken::Format);
    }
    let (sealed, seal) = header.split_at(SEAL);
    let field = |at: usize| std::array::from_fn(|index| header[at + index]);
    // Compares in constant time.
    if tag(key, sealed, code) != blake3::Hash::from_bytes(std::array::from_fn(|index| seal[index])) {
        return Err(Broken::Seal);
    }
    Ok((Label { kind: header[16], engine: EngineId(field(24)), source: field(56) }, code))
}

fn tag(key: &Key, header: &[u8], code: &[u8]) -> blake3::Hash {
    blake3::Hasher::new_keyed(key).update(header).update(code).finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = [7; 32];

    fn label() -> Label {
        Label { kind: 1, engine: EngineId([2; 32]), source: [3; 32] }
    }

    #[test]
    fn sealed_code_can_be_opened() {
        for code in [&b""[..], b"code"] {
            assert_eq!(open(&KEY, &seal(&KEY, &label(), code)), Ok((label(), code)));
        }
    }

    #[test]
    fn hostile_change_of_any_byte_is_refused() {
        let file = seal(&KEY, &label(), b"code");
        for index in 0..file.len() {
            let mut changed = file.clone();
            changed[index] ^= 1;
            let expected = if index < MAGIC.len() { Broken::Format } else { Broken::Seal };
            assert_eq!(open(&KEY, &changed), Err(expected), "byte {index}");
        }
    }

    #[test]
    fn hostile_truncation_extension_and_foreign_key_are_refused() {
        let file = seal(&KEY, &label(), b"code");
        for len in 0..file.len() {
            assert!(open(&KEY, &file[..len]).is_err(), "{len} bytes");
        }
        let longer = [&file[..], b"!"].concat();
        assert_eq!(open(&KEY, &longer), Err(Broken::Seal));
        assert_eq!(open(&[8; 32], &file), Err(Broken::Seal));
    }

    #[test]
    fn every_part_of_a_label_changes_the_name() {
        let names = [
            label(),
            Label { kind: 2, ..label() },
            Label { engine: EngineId([4; 32]), ..label() },
            Label { source: [4; 32], ..label() },
        ]
        .map(|label| label.file_name());
        for (index, name) in names.iter().enumerate() {
            assert!(!names[..index].contains(name));
        }
    }
}
