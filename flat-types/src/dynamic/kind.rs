//! A type that is known at run time: its parts, with sizes and offsets, from its text.

use super::{DEPTH, SchemaError};
use crate::index::Width;
use crate::schema::{align_up, discriminant_bytes, flags_bytes};

/// A type with the layout of its header.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) size: usize,
    pub(super) align: usize,
}

/// What a type is made of.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Bool,
    Unsigned,
    Signed,
    Float,
    Char,
    String,
    /// The elements.
    List(Box<Part>),
    /// The entries, which are tuples of two.
    Map(Box<Part>),
    /// Offsets and parts.
    Tuple(Vec<(usize, Part)>),
    /// The payloads, of size 0 where there is none.
    Variant {
        payload: usize,
        cases: Vec<Option<Part>>,
    },
    /// How many.
    Flags(u32),
}

/// The type that `text` says. Errors count from `base` before the text.
pub(super) fn parse(text: &str, base: usize, width: Width) -> Result<Part, SchemaError> {
    let mut parser = Parser { text, at: 0, base, width };
    let part = parser.part(0)?;
    if parser.at < text.len() { Err(parser.syntax()) } else { Ok(part) }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    base: usize,
    width: Width,
}

impl Parser<'_> {
    fn place(&self) -> usize {
        self.base + self.at
    }

    fn syntax(&self) -> SchemaError {
        SchemaError::Syntax { at: self.place() }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, expected: &str) -> bool {
        let there = self.rest().starts_with(expected);
        if there {
            self.at += expected.len();
        }
        there
    }

    fn expect(&mut self, expected: &str) -> Result<(), SchemaError> {
        if self.take(expected) { Ok(()) } else { Err(self.syntax()) }
    }

    fn scalar(&self, kind: Kind, size: usize) -> Part {
        Part { kind, size, align: if self.width.aligned() { size } else { 1 } }
    }

    fn region(&self, kind: Kind) -> Part {
        let size = 2 * self.width.bytes();
        Part { kind, size, align: if self.width.aligned() { self.width.bytes() } else { 1 } }
    }

    fn part(&mut self, depth: usize) -> Result<Part, SchemaError> {
        if depth > DEPTH {
            return Err(SchemaError::TooDeep { at: self.place() });
        }
        let word = self.rest().split(['<', '>', ',']).next().unwrap_or_default();
        let (kind, size) = match word {
            "bool" => (Kind::Bool, 1),
            "u8" => (Kind::Unsigned, 1),
            "u16" => (Kind::Unsigned, 2),
            "u32" => (Kind::Unsigned, 4),
            "u64" => (Kind::Unsigned, 8),
            "s8" => (Kind::Signed, 1),
            "s16" => (Kind::Signed, 2),
            "s32" => (Kind::Signed, 4),
            "s64" => (Kind::Signed, 8),
            "f32" => (Kind::Float, 4),
            "f64" => (Kind::Float, 8),
            "char" => (Kind::Char, 4),
            "string" => {
                self.at += word.len();
                return Ok(self.region(Kind::String));
            }
            "list" | "map" | "tuple" | "variant" | "flags" => return self.compound(depth),
            _ => return Err(self.syntax()),
        };
        self.at += word.len();
        Ok(self.scalar(kind, size))
    }

    fn compound(&mut self, depth: usize) -> Result<Part, SchemaError> {
        if self.take("list") {
            self.expect("<")?;
            let element = self.element(depth)?;
            self.expect(">")?;
            Ok(self.region(Kind::List(Box::new(element))))
        } else if self.take("map") {
            self.expect("<")?;
            let at = self.place();
            let key = self.element(depth)?;
            if !is_key(&key) {
                return Err(SchemaError::Key { at });
            }
            self.expect(",")?;
            let value = self.part(depth + 1)?;
            self.expect(">")?;
            Ok(self.region(Kind::Map(Box::new(tuple(vec![key, value])))))
        } else if self.take("tuple") {
            self.expect("<")?;
            let mut parts = Vec::new();
            while !self.take(">") {
                if !parts.is_empty() {
                    self.expect(",")?;
                }
                parts.push(self.part(depth + 1)?);
            }
            Ok(tuple(parts))
        } else if self.take("variant") {
            self.expect("<")?;
            let mut cases = Vec::new();
            loop {
                cases.push(if self.take("_") { None } else { Some(self.part(depth + 1)?) });
                if self.take(">") {
                    break Ok(self.variant(cases));
                }
                self.expect(",")?;
            }
        } else {
            self.expect("flags")?;
            self.expect("<")?;
            let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
            let number = self.rest().get(..digits).unwrap_or_default().parse().ok();
            let Some(labels) = number.filter(|labels| (1..=64).contains(labels)) else {
                return Err(self.syntax());
            };
            self.at += digits;
            self.expect(">")?;
            Ok(self.scalar(Kind::Flags(labels), flags_bytes(labels as usize)))
        }
    }

    /// A part that takes bytes.
    fn element(&mut self, depth: usize) -> Result<Part, SchemaError> {
        let at = self.place();
        let element = self.part(depth + 1)?;
        if element.size == 0 { Err(SchemaError::NoBytes { at }) } else { Ok(element) }
    }

    fn variant(&self, cases: Vec<Option<Part>>) -> Part {
        let discriminant = discriminant_bytes(cases.len());
        let payloads = || cases.iter().flatten();
        let align = payloads().map(|part| part.align).max().unwrap_or(1);
        let largest = payloads().map(|part| part.size).max().unwrap_or(0);
        let align_all = align.max(if self.width.aligned() { discriminant } else { 1 });
        let payload = align_up(discriminant, align);
        let size = align_up(payload + largest, align_all);
        Part { kind: Kind::Variant { payload, cases }, size, align: align_all }
    }
}

fn tuple(parts: Vec<Part>) -> Part {
    let align = parts.iter().map(|part| part.align).max().unwrap_or(1);
    let mut end = 0;
    let placed = parts.into_iter().map(|part| {
        let offset = align_up(end, part.align);
        end = offset + part.size;
        (offset, part)
    });
    let parts = placed.collect();
    Part { kind: Kind::Tuple(parts), size: align_up(end, align), align }
}

fn is_key(part: &Part) -> bool {
    match &part.kind {
        Kind::Bool | Kind::Unsigned | Kind::Signed | Kind::Char | Kind::String => true,
        Kind::Tuple(parts) => parts.iter().all(|(_, part)| is_key(part)),
        _ => false,
    }
}
