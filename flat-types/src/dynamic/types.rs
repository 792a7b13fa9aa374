//! A type that is known only at run time, parsed from its text, with sizes and offsets.

use super::SchemaError;
use crate::index::Width;
use crate::schema::{align_up, discriminant_bytes, flags_bytes};

/// How deep types may be nested. Checking and reading values recurse as deep.
const DEPTH: usize = 64;

/// A type and the layout of its header. Sizes, alignments and offsets are in bytes.
#[derive(Clone, Debug)]
pub(super) struct Type {
    pub(super) kind: Kind,
    pub(super) size: usize,
    pub(super) align: usize,
}

/// The kind of a type, with its parts.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Bool,
    Unsigned,
    Signed,
    Float,
    Char,
    String,
    /// The type of the elements.
    List(Box<Type>),
    /// The type of the entries, a tuple of key and value.
    Map(Box<Type>),
    /// The offset and type of each element.
    Tuple(Vec<(usize, Type)>),
    Variant {
        /// The offset of the payload.
        payload: usize,
        /// The payload of each case.
        cases: Vec<Option<Type>>,
    },
    /// The number of flags.
    Flags(u32),
}

/// Parses the text of a type, which starts at offset `base` of the schema's text.
pub(super) fn parse(text: &str, base: usize, width: Width) -> Result<Type, SchemaError> {
    let mut parser = Parser { text, at: 0, base, width };
    let ty = parser.ty(0)?;
    if parser.at < text.len() { Err(parser.syntax()) } else { Ok(ty) }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    base: usize,
    width: Width,
}

impl Parser<'_> {
    /// The current position as an offset in the schema's text.
    fn offset(&self) -> usize {
        self.base + self.at
    }

    /// The error for unexpected text at the current position.
    fn syntax(&self) -> SchemaError {
        SchemaError::Syntax { at: self.offset() }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Skips `expected` and returns `true` if the rest starts with it.
    fn take(&mut self, expected: &str) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.at += expected.len();
        }
        found
    }

    fn expect(&mut self, expected: &str) -> Result<(), SchemaError> {
        if self.take(expected) { Ok(()) } else { Err(self.syntax()) }
    }

    fn scalar(&self, kind: Kind, size: usize) -> Type {
        Type { kind, size, align: if self.width.aligned() { size } else { 1 } }
    }

    fn region(&self, kind: Kind) -> Type {
        let size = 2 * self.width.bytes();
        Type { kind, size, align: if self.width.aligned() { self.width.bytes() } else { 1 } }
    }

    /// Parses a type at nesting depth `depth`.
    fn ty(&mut self, depth: usize) -> Result<Type, SchemaError> {
        if depth > DEPTH {
            return Err(SchemaError::TooDeep { at: self.offset() });
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

    /// Parses a type that consists of a word and a list in angle brackets.
    fn compound(&mut self, depth: usize) -> Result<Type, SchemaError> {
        if self.take("list") {
            self.expect("<")?;
            let element = self.element(depth)?;
            self.expect(">")?;
            Ok(self.region(Kind::List(Box::new(element))))
        } else if self.take("map") {
            self.expect("<")?;
            let at = self.offset();
            let key = self.element(depth)?;
            if !is_key(&key) {
                return Err(SchemaError::Key { at });
            }
            self.expect(",")?;
            let value = self.ty(depth + 1)?;
            self.expect(">")?;
            Ok(self.region(Kind::Map(Box::new(tuple(vec![key, value])))))
        } else if self.take("tuple") {
            self.expect("<")?;
            let mut elements = Vec::new();
            while !self.take(">") {
                if !elements.is_empty() {
                    self.expect(",")?;
                }
                elements.push(self.ty(depth + 1)?);
            }
            Ok(tuple(elements))
        } else if self.take("variant") {
            self.expect("<")?;
            let mut cases = Vec::new();
            loop {
                cases.push(if self.take("_") { None } else { Some(self.ty(depth + 1)?) });
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

    /// Parses the type of an element or key, which must not be empty.
    fn element(&mut self, depth: usize) -> Result<Type, SchemaError> {
        let at = self.offset();
        let element = self.ty(depth + 1)?;
        if element.size == 0 { Err(SchemaError::NoBytes { at }) } else { Ok(element) }
    }

    fn variant(&self, cases: Vec<Option<Type>>) -> Type {
        let discriminant = discriminant_bytes(cases.len());
        let payloads = || cases.iter().flatten();
        let align = payloads().map(|payload| payload.align).max().unwrap_or(1);
        let largest = payloads().map(|payload| payload.size).max().unwrap_or(0);
        let align_all = align.max(if self.width.aligned() { discriminant } else { 1 });
        let payload = align_up(discriminant, align);
        let size = align_up(payload + largest, align_all);
        Type { kind: Kind::Variant { payload, cases }, size, align: align_all }
    }
}

fn tuple(elements: Vec<Type>) -> Type {
    let align = elements.iter().map(|element| element.align).max().unwrap_or(1);
    let mut end = 0;
    let placed = elements.into_iter().map(|element| {
        let offset = align_up(end, element.align);
        end = offset + element.size;
        (offset, element)
    });
    let elements = placed.collect();
    Type { kind: Kind::Tuple(elements), size: align_up(end, align), align }
}

fn is_key(ty: &Type) -> bool {
    match &ty.kind {
        Kind::Bool | Kind::Unsigned | Kind::Signed | Kind::Char | Kind::String => true,
        Kind::Tuple(elements) => elements.iter().all(|(_, element)| is_key(element)),
        _ => false,
    }
}
