//! The WIT text of a type, for people and for binding generators.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use super::Type;

/// The keywords of WIT. A name that is a keyword gets the prefix `%`.
const KEYWORDS: &[&str] = &[
    "as",
    "async",
    "bool",
    "borrow",
    "char",
    "constructor",
    "enum",
    "error-context",
    "export",
    "f32",
    "f64",
    "flags",
    "from",
    "func",
    "future",
    "import",
    "include",
    "interface",
    "list",
    "map",
    "option",
    "own",
    "package",
    "record",
    "resource",
    "result",
    "s16",
    "s32",
    "s64",
    "s8",
    "static",
    "stream",
    "string",
    "tuple",
    "type",
    "u16",
    "u32",
    "u64",
    "u8",
    "use",
    "variant",
    "with",
    "world",
];

/// Converts a Rust name to WIT's spelling: `LineCount` and `line_count` become `line-count`.
fn kebab(name: &str) -> String {
    let name = name.strip_prefix("r#").unwrap_or(name);
    let mut text = String::with_capacity(name.len() + 4);
    let mut previous = '_';
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        let next_is_lower = chars.peek().is_some_and(|next| next.is_lowercase());
        if c == '_' {
            if previous != '_' && chars.peek().is_some() {
                text.push('-');
            }
        } else {
            let starts_word = c.is_uppercase() && (!previous.is_uppercase() || next_is_lower);
            if starts_word && previous != '_' {
                text.push('-');
            }
            text.extend(c.to_lowercase());
        }
        previous = c;
    }
    if KEYWORDS.contains(&text.as_str()) { format!("%{text}") } else { text }
}

impl fmt::Display for Type {
    /// Writes the type as WIT does where it is used: `list<tuple<string, u32>>`, or the kebab-case name of a
    /// record, variant, enum or flags. A map is written as its list of pairs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::List(element) => write!(f, "list<{element}>"),
            Type::Map(key, value) => write!(f, "list<tuple<{key}, {value}>>"),
            Type::Option(some) => write!(f, "option<{some}>"),
            Type::Result(ok, err) => match (ok.is_unit(), err.is_unit()) {
                (true, true) => f.write_str("result"),
                (false, true) => write!(f, "result<{ok}>"),
                (true, false) => write!(f, "result<_, {err}>"),
                (false, false) => write!(f, "result<{ok}, {err}>"),
            },
            Type::Tuple(elements) => {
                f.write_str("tuple<")?;
                for (n, element) in elements.iter().enumerate() {
                    let comma = if n > 0 { ", " } else { "" };
                    write!(f, "{comma}{element}")?;
                }
                f.write_str(">")
            }
            Type::Record(name, _) | Type::Variant(name, _) | Type::Enum(name, _) | Type::Flags(name, _) => {
                f.write_str(&kebab(name))
            }
            scalar => f.write_str(scalar.keyword()),
        }
    }
}

impl Type {
    /// The WIT definitions of all named types in this type, each before its first use. Empty if there are
    /// none. Allocates.
    pub fn wit(&self) -> String {
        let mut text = String::new();
        self.define(&mut text, &mut BTreeSet::new()).expect("writing to a String does not fail");
        text
    }

    /// Appends the definitions of this type's parts and its own to `out`, except those in `done`.
    fn define(&self, out: &mut String, done: &mut BTreeSet<&'static str>) -> fmt::Result {
        for n in 0..self.parts() {
            self.part(n).define(out, done)?;
        }
        let name = match self {
            Type::Record(name, _) | Type::Variant(name, _) | Type::Enum(name, _) | Type::Flags(name, _) => {
                name
            }
            _ => return Ok(()),
        };
        if !done.insert(name) {
            return Ok(());
        }
        if !out.is_empty() {
            out.push('\n');
        }
        match self {
            Type::Record(_, fields) => {
                writeln!(out, "record {} {{", kebab(name))?;
                for field in *fields {
                    let note = if matches!(field.ty, Type::Map(..)) { " // sorted by key" } else { "" };
                    writeln!(out, "    {}: {},{note}", kebab(field.name), field.ty)?;
                }
            }
            Type::Variant(_, cases) => {
                writeln!(out, "variant {} {{", kebab(name))?;
                for case in *cases {
                    if case.payload.is_unit() {
                        writeln!(out, "    {},", kebab(case.name))?;
                    } else {
                        writeln!(out, "    {}({}),", kebab(case.name), case.payload)?;
                    }
                }
            }
            Type::Enum(_, labels) | Type::Flags(_, labels) => {
                let word = if matches!(self, Type::Enum(..)) { "enum" } else { "flags" };
                writeln!(out, "{word} {} {{", kebab(name))?;
                for label in *labels {
                    writeln!(out, "    {},", kebab(label))?;
                }
            }
            _ => {}
        }
        out.push_str("}\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Case, Field, UNIT};
    use super::*;

    #[test]
    fn names_become_kebab_case() {
        for (rust, wit) in [
            ("LineCount", "line-count"),
            ("line_count", "line-count"),
            ("HTTPServer", "http-server"),
            ("r#type", "%type"),
            ("List", "%list"),
            ("x", "x"),
            ("V2", "v2"),
        ] {
            assert_eq!(kebab(rust), wit);
        }
    }

    #[test]
    fn definitions_come_before_their_use() {
        const SHAPE: Type = Type::Variant(
            "Shape",
            &[Case { name: "Empty", payload: UNIT }, Case { name: "Circle", payload: &Type::F32 }],
        );
        const DRAWING: Type = Type::Record(
            "Drawing",
            &[
                Field { name: "shapes", ty: &Type::List(&SHAPE) },
                Field { name: "sizes_by_name", ty: &Type::Map(&Type::String, &Type::U32) },
            ],
        );
        assert_eq!(
            DRAWING.wit(),
            "variant shape {\n    empty,\n    circle(f32),\n}\n\nrecord drawing {\n    shapes: list<shape>,\n    \
             sizes-by-name: list<tuple<string, u32>>, // sorted by key\n}\n"
        );
        assert_eq!(Type::List(&DRAWING).to_string(), "list<drawing>");
    }
}
