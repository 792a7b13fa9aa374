//! The schema of an archive: [`Layout`], a text that names every field and its type.

use std::fmt::Write;

use rkyv::primitive::{ArchivedU16, ArchivedU32, ArchivedUsize};

/// A part's name, empty if it has none, and what appends its type.
type Part<'n> = (&'n str, fn(&mut Layout));

/// The text of a layout while it is written; see [`ArchiveType::layout`](super::ArchiveType::layout).
#[derive(Debug, Default)]
pub struct Layout {
    text: String,
}

impl Layout {
    /// Starts with how rkyv writes numbers and pointers, if its features make that differ from the default.
    pub(super) fn new() -> Self {
        // SAFETY: rkyv's number is the two bytes of a `u16` and nothing else.
        const ONE: [u8; 2] = unsafe { std::mem::transmute(ArchivedU16::from_native(1)) };
        let mut text = String::from("rkyv");
        if ONE[0] == 0 {
            text.push_str("-big-endian");
        }
        if align_of::<ArchivedU32>() == 1 {
            text.push_str("-unaligned");
        }
        if size_of::<ArchivedUsize>() != 4 {
            let _ = write!(text, "-pointer{}", 8 * size_of::<ArchivedUsize>());
        }
        text.push(':');
        Self { text }
    }

    /// Appends `text`.
    pub fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Appends a type that is made of others: `vec<u8>`.
    pub fn compound(&mut self, name: &str, parts: &[fn(&mut Layout)]) {
        self.text(name);
        for (n, part) in parts.iter().enumerate() {
            self.text(if n == 0 { "<" } else { "," });
            part(self);
        }
        self.text(">");
    }

    /// Appends a struct: `struct Reading{sensor:string,values:vec<f64>}`.
    #[doc(hidden)]
    pub fn structure(&mut self, name: &str, fields: &[Part<'_>]) {
        self.text("struct ");
        self.text(name);
        self.fields(fields);
    }

    /// Appends an enum: `enum Event{Started{},Stopped{0:u32}}`.
    #[doc(hidden)]
    pub fn cases(&mut self, name: &str, cases: &[(&str, &[Part<'_>])]) {
        self.text("enum ");
        self.text(name);
        self.text("{");
        for (n, (case, fields)) in cases.iter().enumerate() {
            self.text(if n == 0 { "" } else { "," });
            self.text(case);
            self.fields(fields);
        }
        self.text("}");
    }

    /// Appends named parts, and numbers those without names.
    fn fields(&mut self, fields: &[Part<'_>]) {
        self.text("{");
        for (n, (name, part)) in fields.iter().enumerate() {
            self.text(if n == 0 { "" } else { "," });
            if name.is_empty() {
                self.text(&n.to_string());
            } else {
                self.text(name);
            }
            self.text(":");
            part(self);
        }
        self.text("}");
    }

    /// The text.
    pub(super) fn finish(mut self, size: usize) -> String {
        self.text(":");
        self.text(&size.to_string());
        self.text
    }
}
