//! Size, alignment and offsets of headers, as constant functions.
//!
//! At index widths u8 and u16, headers are packed: every alignment is 1. At u32, a scalar is aligned to its
//! size, an index to 4 bytes, and a compound like its most aligned part. The size of a header is a multiple
//! of its alignment, so that all elements of a list are aligned if the first one is. These are the rules of
//! C.

use super::{Case, Type};
use crate::index::Width;

/// The size and alignment of a type's header, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// The size in bytes, a multiple of `align`.
    pub size: usize,
    /// The alignment in bytes: the header's offset in the message is a multiple of it. A power of two, at
    /// most 8.
    pub align: usize,
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// Rounds `offset` up to a multiple of `align`.
#[inline]
pub(crate) const fn align_up(offset: usize, align: usize) -> usize {
    offset.next_multiple_of(align)
}

/// The size in bytes of a discriminant for `cases` cases.
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

/// The size in bytes of a set of `labels` flags.
pub(crate) const fn flags_bytes(labels: usize) -> usize {
    assert!(labels <= 64, "a set of flags has at most 64 flags");
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
    /// The size and alignment of this type's header at an index width.
    pub const fn layout(&self, width: Width) -> Layout {
        match self {
            Type::Bool | Type::U8 | Type::S8 => scalar(1, width),
            Type::U16 | Type::S16 => scalar(2, width),
            Type::U32 | Type::S32 | Type::F32 | Type::Char => scalar(4, width),
            Type::U64 | Type::S64 | Type::F64 => scalar(8, width),
            Type::String => region(width),
            Type::List(element) => {
                assert!(element.layout(width).size > 0, "the elements of a list must not be empty types");
                region(width)
            }
            Type::Map(key, value) => {
                assert!(key.layout(width).size > 0, "the keys of a map must not be empty types");
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

    /// The number of parts of a compound: its fields, elements or cases.
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

    /// The number of cases of a variant, option, result or enum.
    pub(crate) const fn cases(&self) -> usize {
        match self {
            Type::Enum(_, cases) => cases.len(),
            _ => self.parts(),
        }
    }

    /// The number of flags in a set of flags.
    pub(crate) const fn labels(&self) -> usize {
        match self {
            Type::Flags(_, labels) => labels.len(),
            _ => 0,
        }
    }

    /// The type of part `n` of a compound: of a field, an element or a case's payload.
    ///
    /// # Panics
    ///
    /// Panics if there is no such part. In a constant, this is a compile error.
    pub const fn part(&self, n: usize) -> &'static Type {
        match self {
            Type::Tuple(elements) => elements[n],
            Type::Record(_, fields) => fields[n].ty,
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

    /// A number for the kind of type. Tuples and records have the same number, because they have the same
    /// layout.
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

    /// Whether this is a variant, option or result: a type of several cases with payloads.
    pub(crate) const fn has_payloads(&self) -> bool {
        matches!(self, Type::Option(_) | Type::Result(..) | Type::Variant(..))
    }

    /// Whether this is a record or tuple: a type of adjacent parts.
    pub(crate) const fn is_record(&self) -> bool {
        matches!(self, Type::Tuple(_) | Type::Record(..))
    }

    /// Whether this is an enum without payloads.
    pub(crate) const fn is_enum(&self) -> bool {
        matches!(self, Type::Enum(..))
    }

    /// Whether both types have the same layout: they differ at most in names.
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

    /// The offset in bytes of part `n` of a tuple or record in its header.
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

    /// The offset in bytes of the payload of a variant, option or result in its header.
    pub const fn payload_offset(&self, width: Width) -> usize {
        let (mut align, mut n) = (1, 0);
        while n < self.parts() {
            align = max(align, self.part(n).layout(width).align);
            n += 1;
        }
        align_up(discriminant_bytes(self.parts()), align)
    }

    /// Whether a value consists only of its header, because the type contains no string, list or map.
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

    /// Whether the header of a tuple or record has padding between or after its fields.
    pub(crate) const fn is_padded(&self, width: Width) -> bool {
        let (mut sum, mut n) = (0, 0);
        while n < self.parts() {
            sum += self.part(n).layout(width).size;
            n += 1;
        }
        sum != self.layout(width).size
    }

    /// The alignment in bytes that a message needs for everything in it to be aligned. At most 8.
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
    fn types_that_differ_only_in_names_have_the_same_layout() {
        const NAMED: Type = Type::Record("r", &[super::super::Field { name: "a", ty: &Type::U8 }]);
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
    fn width_u32_follows_the_rules_of_c() {
        assert_eq!(MIXED.layout(Width::U32), Layout { size: 32, align: 8 });
        assert_eq!(
            [0, 1, 2, 3].map(|n| MIXED.offset(Width::U32, n)),
            [0, 8, 16, 24],
            "u8 at 0, f64 at 8, string at 16, u16 at 24"
        );
        assert!(MIXED.is_padded(Width::U32));
    }

    #[test]
    fn a_payload_is_aligned_after_its_discriminant() {
        let option = Type::Option(&Type::F64);
        assert_eq!(option.layout(Width::U8), Layout { size: 9, align: 1 });
        assert_eq!(option.layout(Width::U32), Layout { size: 16, align: 8 });
        assert_eq!(option.payload_offset(Width::U32), 8);
        let result = Type::Result(&Type::U8, &Type::String);
        assert_eq!(result.layout(Width::U32), Layout { size: 12, align: 4 });
    }

    #[test]
    fn the_alignment_includes_the_elements_of_lists() {
        assert_eq!(Type::List(&Type::F64).layout(Width::U32).align, 4);
        assert_eq!(Type::List(&Type::F64).alignment(Width::U32), 8);
        assert_eq!(Type::List(&Type::F64).alignment(Width::U16), 1);
    }
}
