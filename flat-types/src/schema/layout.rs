//! Size, alignment and offsets of headers, computed by the compiler.
//!
//! At u8 and u16 headers are packed: every alignment is 1. At u32 a scalar is aligned to its size, an index
//! to 4, a compound to its most aligned part, and the size of a header is a multiple of its alignment, so
//! that the elements of a list are aligned when the first one is. These are the rules of C.

use super::{Case, Type};
use crate::index::Width;

/// Size and alignment of a type's header, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Bytes that the header takes; a multiple of `align`.
    pub size: usize,
    /// The header's offset from the message's start is a multiple of this. A power of two, at most 8.
    pub align: usize,
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// `offset` rounded up to a multiple of `align`.
#[inline]
pub(crate) const fn align_up(offset: usize, align: usize) -> usize {
    offset.next_multiple_of(align)
}

/// Bytes of a discriminant that tells `cases` cases apart.
#[inline]
pub(crate) const fn discriminant_bytes(cases: usize) -> usize {
    if cases <= 1 << 8 {
        1
    } else if cases <= 1 << 16 {
        2
    } else {
        4
    }
}

/// Bytes of a set of `labels` flags.
pub(crate) const fn flags_bytes(labels: usize) -> usize {
    assert!(labels <= 64, "flags: at most 64 labels");
    match labels {
        0..=8 => 1,
        9..=16 => 2,
        17..=32 => 4,
        _ => 8,
    }
}

const fn scalar(size: usize, width: Width) -> Layout {
    Layout { size, align: if width.aligned() { size } else { 1 } }
}

impl Type {
    /// Size and alignment of this type's header at an index width.
    pub const fn layout(&self, width: Width) -> Layout {
        match self {
            Type::Bool | Type::U8 | Type::S8 => scalar(1, width),
            Type::U16 | Type::S16 => scalar(2, width),
            Type::U32 | Type::S32 | Type::F32 | Type::Char => scalar(4, width),
            Type::U64 | Type::S64 | Type::F64 => scalar(8, width),
            Type::String => region(width),
            Type::List(element) => {
                assert!(element.layout(width).size > 0, "a list needs elements that take bytes");
                region(width)
            }
            Type::Map(key, value) => {
                assert!(key.layout(width).size > 0, "a map needs keys that take bytes");
                // Evaluated for its assertions.
                value.layout(width);
                region(width)
            }
            Type::Tuple(_) | Type::Record(..) => {
                let (mut end, mut align, mut n) = (0, 1, 0);
                while n < self.parts() {
                    let part = self.part(n).layout(width);
                    end = align_up(end, part.align) + part.size;
                    align = max(align, part.align);
                    n += 1;
                }
                Layout { size: align_up(end, align), align }
            }
            Type::Option(_) | Type::Result(..) | Type::Variant(..) => {
                let discriminant = scalar(discriminant_bytes(self.parts()), width);
                let (mut size, mut align, mut n) = (0, 1, 0);
                while n < self.parts() {
                    let part = self.part(n).layout(width);
                    size = max(size, part.size);
                    align = max(align, part.align);
                    n += 1;
                }
                let align_all = max(align, discriminant.align);
                let end = align_up(discriminant.size, align) + size;
                Layout { size: align_up(end, align_all), align: align_all }
            }
            Type::Enum(_, cases) => scalar(discriminant_bytes(cases.len()), width),
            Type::Flags(_, labels) => scalar(flags_bytes(labels.len()), width),
        }
    }

    /// How many fields, elements or cases a compound has.
    pub const fn parts(&self) -> usize {
        match self {
            Type::Tuple(elements) => elements.len(),
            Type::Record(_, fields) => fields.len(),
            Type::Option(_) | Type::Result(..) | Type::Map(..) => 2,
            Type::Variant(_, cases) => cases.len(),
            Type::List(_) => 1,
            _ => 0,
        }
    }

    /// How many cases a choice has, with an enum's.
    pub(crate) const fn cases(&self) -> usize {
        match self {
            Type::Enum(_, cases) => cases.len(),
            _ => self.parts(),
        }
    }

    /// How many labels a set of flags has.
    pub(crate) const fn labels(&self) -> usize {
        match self {
            Type::Flags(_, labels) => labels.len(),
            _ => 0,
        }
    }

    /// The type of field, element or case `n` of a compound.
    ///
    /// # Panics
    ///
    /// If there is no such part; in a constant this is an error at compile time.
    pub const fn part(&self, n: usize) -> &'static Type {
        match self {
            Type::Tuple(elements) => elements[n],
            Type::Record(_, fields) => fields[n].kind,
            Type::Option(some) => match n {
                0 => super::UNIT,
                _ => some,
            },
            Type::Result(first, second) | Type::Map(first, second) => match n {
                0 => first,
                _ => second,
            },
            Type::Variant(_, cases) => {
                let Case { payload, .. } = cases[n];
                payload
            }
            Type::List(element) => element,
            _ => panic!("this type has no parts"),
        }
    }

    /// The kind, as a number that is the same for types of the same layout if their parts are: tuples are records.
    const fn kind(&self) -> usize {
        match self {
            Type::Bool => 0,
            Type::U8 => 1,
            Type::U16 => 2,
            Type::U32 => 3,
            Type::U64 => 4,
            Type::S8 => 5,
            Type::S16 => 6,
            Type::S32 => 7,
            Type::S64 => 8,
            Type::F32 => 9,
            Type::F64 => 10,
            Type::Char => 11,
            Type::String => 12,
            Type::List(_) => 13,
            Type::Map(..) => 14,
            Type::Tuple(_) | Type::Record(..) => 15,
            Type::Option(_) => 16,
            Type::Result(..) => 17,
            Type::Variant(..) => 18,
            Type::Enum(..) => 19,
            Type::Flags(..) => 20,
        }
    }

    /// Whether it is one of several cases with payloads of their own.
    pub(crate) const fn has_payloads(&self) -> bool {
        matches!(self, Type::Option(_) | Type::Result(..) | Type::Variant(..))
    }

    /// Whether it is fields or elements side by side.
    pub(crate) const fn is_record(&self) -> bool {
        matches!(self, Type::Tuple(_) | Type::Record(..))
    }

    /// Whether it is one of several names.
    pub(crate) const fn is_enum(&self) -> bool {
        matches!(self, Type::Enum(..))
    }

    /// Whether every value of the one is a value of the other: they differ in names at most.
    pub(crate) const fn is_laid_out_as(&self, other: &Type) -> bool {
        if self.kind() != other.kind() || self.cases() != other.cases() || self.labels() != other.labels() {
            return false;
        }
        let mut n = 0;
        while n < self.parts() {
            if !self.part(n).is_laid_out_as(other.part(n)) {
                return false;
            }
            n += 1;
        }
        true
    }

    /// The offset of field `n` of a tuple or record, in bytes from its header's start.
    pub const fn offset(&self, width: Width, n: usize) -> usize {
        let (mut end, mut i) = (0, 0);
        loop {
            let part = self.part(i).layout(width);
            let start = align_up(end, part.align);
            if i == n {
                return start;
            }
            end = start + part.size;
            i += 1;
        }
    }

    /// The offset of the payload of an option, result or variant, in bytes from its header's start.
    pub const fn payload_offset(&self, width: Width) -> usize {
        let (mut align, mut n) = (1, 0);
        while n < self.parts() {
            align = max(align, self.part(n).layout(width).align);
            n += 1;
        }
        align_up(discriminant_bytes(self.parts()), align)
    }

    /// Whether a value is its header alone: no string, list or map in it.
    pub const fn is_plain(&self) -> bool {
        match self {
            Type::String | Type::List(_) | Type::Map(..) => false,
            _ => {
                let mut n = 0;
                while n < self.parts() {
                    if !self.part(n).is_plain() {
                        return false;
                    }
                    n += 1;
                }
                true
            }
        }
    }

    /// Whether the header of a tuple or record has bytes between or after its fields.
    pub(crate) const fn is_padded(&self, width: Width) -> bool {
        let (mut sum, mut n) = (0, 0);
        while n < self.parts() {
            sum += self.part(n).layout(width).size;
            n += 1;
        }
        sum != self.layout(width).size
    }

    /// The alignment that a message's first byte needs for everything in it to be aligned. At most 8.
    pub const fn alignment(&self, width: Width) -> usize {
        let mut align = self.layout(width).align;
        let mut n = 0;
        while n < self.parts() {
            align = max(align, self.part(n).alignment(width));
            n += 1;
        }
        align
    }
}

const fn region(width: Width) -> Layout {
    Layout { size: 2 * width.bytes(), align: if width.aligned() { width.bytes() } else { 1 } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: Type = Type::Tuple(&[&Type::U8, &Type::F64, &Type::String, &Type::U16]);

    #[test]
    fn types_are_laid_out_alike_if_they_differ_in_names_only() {
        const NAMED: Type = Type::Record("r", &[super::super::Field { name: "a", kind: &Type::U8 }]);
        assert!(NAMED.is_laid_out_as(&Type::Tuple(&[&Type::U8])));
        assert!(!NAMED.is_laid_out_as(&Type::Tuple(&[&Type::S8])));
        assert!(!NAMED.is_laid_out_as(&Type::Tuple(&[&Type::U8, &Type::U8])));
        assert!(MIXED.is_laid_out_as(&MIXED));
        assert!(!Type::List(&Type::U8).is_laid_out_as(&Type::Option(&Type::U8)));
        assert!(!Type::List(&Type::String).is_laid_out_as(&Type::List(&MIXED)));
        assert!(Type::Enum("a", &["x"]).is_laid_out_as(&Type::Enum("b", &["y"])));
        assert!(!Type::Enum("a", &["x"]).is_laid_out_as(&Type::Enum("a", &["x", "y"])));
        assert!(!Type::Flags("a", &["x"]).is_laid_out_as(&Type::Flags("a", &["x", "y"])));
    }

    #[test]
    fn narrow_widths_are_packed() {
        assert_eq!(MIXED.layout(Width::U8), Layout { size: 1 + 8 + 2 + 2, align: 1 });
        assert_eq!(MIXED.layout(Width::U16), Layout { size: 1 + 8 + 4 + 2, align: 1 });
        assert_eq!(MIXED.offset(Width::U16, 3), 13);
        assert!(!MIXED.is_padded(Width::U16));
    }

    #[test]
    fn the_wide_width_follows_the_rules_of_c() {
        assert_eq!(MIXED.layout(Width::U32), Layout { size: 32, align: 8 });
        assert_eq!(
            [0, 1, 2, 3].map(|n| MIXED.offset(Width::U32, n)),
            [0, 8, 16, 24],
            "u8 at 0, f64 at 8, string at 16, u16 at 24"
        );
        assert!(MIXED.is_padded(Width::U32));
    }

    #[test]
    fn a_payload_follows_its_discriminant_aligned() {
        let option = Type::Option(&Type::F64);
        assert_eq!(option.layout(Width::U8), Layout { size: 9, align: 1 });
        assert_eq!(option.layout(Width::U32), Layout { size: 16, align: 8 });
        assert_eq!(option.payload_offset(Width::U32), 8);
        let result = Type::Result(&Type::U8, &Type::String);
        assert_eq!(result.layout(Width::U32), Layout { size: 12, align: 4 });
    }

    #[test]
    fn alignment_counts_what_a_list_points_to() {
        assert_eq!(Type::List(&Type::F64).layout(Width::U32).align, 4);
        assert_eq!(Type::List(&Type::F64).alignment(Width::U32), 8);
        assert_eq!(Type::List(&Type::F64).alignment(Width::U16), 1);
    }
}
