//! The schema fingerprint: the 64-bit FNV-1a hash of the structure of a type.
//!
//! The hash is of ASCII text: `flat1/`, the index width (`u8`, `u16` or `u32`), `:`, and the type in this
//! form:
//!
//! ```text
//! bool u8 u16 u32 u64 s8 s16 s32 s64 f32 f64 char string
//! list<T>            map<K,V>
//! tuple<A,B,..>      tuples and records
//! variant<A,_,..>    variants, enums, options (`variant<_,T>`) and results (`variant<T,E>`); `_`: no payload
//! flags<N>           a set of N flags
//! ```
//!
//! The text contains no names, so two types have the same fingerprint exactly if they have the same layout.
//! [`Type::structure`] returns the text.

use std::fmt::{self, Write};

use super::Type;
use crate::index::Width;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Feeds `text` to the hash.
const fn feed(mut hash: u64, text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut n = 0;
    while n < bytes.len() {
        hash = (hash ^ bytes[n] as u64).wrapping_mul(FNV_PRIME);
        n += 1;
    }
    hash
}

/// Feeds `number` to the hash, in decimal.
const fn feed_number(mut hash: u64, number: usize) -> u64 {
    if number >= 10 {
        hash = feed_number(hash, number / 10);
    }
    (hash ^ (b'0' + (number % 10) as u8) as u64).wrapping_mul(FNV_PRIME)
}

/// The fingerprint of the schema with this text.
pub(crate) const fn fingerprint_of(text: &str) -> u64 {
    feed(FNV_OFFSET, text)
}

impl Type {
    /// The fingerprint of messages of this type at an index width. A constant function.
    pub const fn fingerprint(&self, width: Width) -> u64 {
        let hash = feed(feed(FNV_OFFSET, "flat1/"), width.name());
        self.feed(feed(hash, ":"))
    }

    const fn feed(&self, mut hash: u64) -> u64 {
        match self {
            Type::Flags(_, labels) => feed(feed_number(feed(hash, "flags<"), labels.len()), ">"),
            Type::Enum(_, cases) => {
                hash = feed(hash, "variant<");
                let mut n = 0;
                while n < cases.len() {
                    hash = feed(hash, if n > 0 { ",_" } else { "_" });
                    n += 1;
                }
                feed(hash, ">")
            }
            _ => {
                hash = feed(hash, self.keyword());
                if !self.is_compound() {
                    return hash;
                }
                hash = feed(hash, "<");
                let mut n = 0;
                while n < self.parts() {
                    if n > 0 {
                        hash = feed(hash, ",");
                    }
                    let part = self.part(n);
                    hash =
                        if self.has_payloads() && part.is_unit() { feed(hash, "_") } else { part.feed(hash) };
                    n += 1;
                }
                feed(hash, ">")
            }
        }
    }

    /// The text of which [`Type::fingerprint`] is the hash. Allocates.
    pub fn structure(&self, width: Width) -> String {
        let mut text = format!("flat1/{}:", width.name());
        self.write_structure(&mut text).expect("writing to a String does not fail");
        text
    }

    fn write_structure(&self, out: &mut String) -> fmt::Result {
        match self {
            Type::Flags(_, labels) => write!(out, "flags<{}>", labels.len()),
            Type::Enum(_, cases) => write!(out, "variant<{}>", vec!["_"; cases.len()].join(",")),
            _ => {
                out.push_str(self.keyword());
                if self.is_compound() {
                    out.push('<');
                    for n in 0..self.parts() {
                        if n > 0 {
                            out.push(',');
                        }
                        let part = self.part(n);
                        if self.has_payloads() && part.is_unit() {
                            out.push('_');
                        } else {
                            part.write_structure(out)?;
                        }
                    }
                    out.push('>');
                }
                Ok(())
            }
        }
    }

    /// The word for this type in the structure text. For scalars and strings, it is that of WIT.
    pub(super) const fn keyword(&self) -> &'static str {
        match self {
            Type::Bool => "bool",
            Type::U8 => "u8",
            Type::U16 => "u16",
            Type::U32 => "u32",
            Type::U64 => "u64",
            Type::S8 => "s8",
            Type::S16 => "s16",
            Type::S32 => "s32",
            Type::S64 => "s64",
            Type::F32 => "f32",
            Type::F64 => "f64",
            Type::Char => "char",
            Type::String => "string",
            Type::List(_) => "list",
            Type::Map(..) => "map",
            Type::Tuple(_) | Type::Record(..) => "tuple",
            Type::Option(_) | Type::Result(..) | Type::Variant(..) | Type::Enum(..) => "variant",
            Type::Flags(..) => "flags",
        }
    }

    /// Whether the structure text has a list of parts.
    const fn is_compound(&self) -> bool {
        self.parts() > 0 || matches!(self, Type::Tuple(_) | Type::Record(..) | Type::Variant(..))
    }

    /// Whether this is the empty tuple, the payload of a case that has none.
    pub(crate) const fn is_unit(&self) -> bool {
        matches!(self, Type::Tuple(elements) if elements.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Case, Field, UNIT};
    use super::*;

    const REPORT: Type = Type::Record(
        "Report",
        &[
            Field { name: "words", ty: &Type::U64 },
            Field { name: "longest", ty: &Type::Option(&Type::String) },
            Field { name: "by", ty: &Type::Map(&Type::String, &Type::Flags("F", &["a", "b", "c"])) },
            Field { name: "state", ty: &Type::Enum("State", &["on", "off"]) },
            Field { name: "end", ty: &Type::Result(&Type::Tuple(&[]), &Type::Tuple(&[&Type::Char])) },
        ],
    );

    #[test]
    fn the_fingerprint_is_the_hash_of_the_structure_text() {
        for width in [Width::U8, Width::U16, Width::U32] {
            for kind in [
                Type::Bool,
                Type::List(&Type::String),
                Type::Variant("V", &[Case { name: "x", payload: UNIT }]),
                REPORT,
            ] {
                assert_eq!(kind.fingerprint(width), feed(FNV_OFFSET, &kind.structure(width)));
            }
        }
        assert_eq!(
            REPORT.structure(Width::U32),
            "flat1/u32:tuple<u64,variant<_,string>,map<string,flags<3>>,variant<_,_>,variant<_,tuple<char>>>"
        );
    }

    #[test]
    fn the_fingerprint_of_a_list_of_strings_does_not_change() {
        // The 64-bit FNV-1a hash of "flat1/u32:list<string>". Another value would break all existing
        // programs.
        assert_eq!(Type::List(&Type::String).structure(Width::U32), "flat1/u32:list<string>");
        assert_eq!(Type::List(&Type::String).fingerprint(Width::U32), 0xe430_3bf8_ffbc_a337);
    }
}
