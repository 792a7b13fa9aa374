//! The derive macro [`Flat`](macro@Flat), documented in `blockcast-flat-types`, and the attribute
//! [`macro@archive`].
//!
//! [`Flat`](macro@Flat) reads its source in `input` and rejects in `check` the types that are known to have
//! no layout. Each kind of type has a file: `record` for structs, `newtype` for tuple structs, `variant` and
//! `case` for enums with payloads, `plain` for enums without payloads and for flags. They fill in the
//! implementations in `traits`. `library` finds the path of the library. The compiler checks that the types
//! of the fields have a layout: the generated code gives it the position of each type in the source.

mod archive;
mod case;
mod check;
mod input;
mod library;
mod names;
mod newtype;
mod plain;
mod record;
mod traits;
mod variant;

use proc_macro::TokenStream;
use syn::{Data, DeriveInput, Error, Fields, parse_macro_input};

use input::Input;

/// Implements `FlatType` and `ToFlat` for a struct or enum, and generates its view and its builder.
#[proc_macro_derive(Flat, attributes(flat))]
pub fn derive_flat(tokens: TokenStream) -> TokenStream {
    let input = parse_macro_input!(tokens as DeriveInput);
    expand(input).unwrap_or_else(Error::into_compile_error).into()
}

/// Makes a struct or enum the payload `Rkyv<Reading>`: an rkyv archive that subscribers read without
/// validation.
///
/// The macro derives `rkyv::Archive` and `rkyv::Serialize`; do not derive them yourself. It implements
/// `ArchiveType` with a schema that lists the name and type of each field, recursively. Two programs can
/// exchange messages if their schemas are equal. The type of every field must implement `ArchiveType`: many
/// types of the standard library do, and so do types with `#[archive]`.
///
/// ```ignore
/// #[archive]
/// #[derive(Debug)]
/// #[rkyv(derive(Debug))]
/// struct Reading {
///     sensor: String,
///     values: Vec<f64>,
/// }
/// ```
///
/// Below `#[archive]`, only documentation, `#[derive(..)]`, `#[rkyv(derive(..))]` and `#[rkyv(compare(..))]`
/// are allowed: other attributes could change the archive. Put other attribute macros above it. The type must
/// not be generic and must not contain itself. For all other types, implement `ArchiveType` by hand, which is
/// unsafe.
#[proc_macro_attribute]
pub fn archive(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::Item);
    archive::archive(&arguments.into(), item).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(source: DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    let input = Input::new(&source)?;
    const NO_FLAGS: &str = "`#[flat(flags)]` needs a struct of named bools";
    match &source.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) if input.flags => plain::flags(&input, fields),
            fields if input.flags => Err(Error::new_spanned(fields, NO_FLAGS)),
            Fields::Named(fields) if !fields.named.is_empty() => record::record(&input, fields),
            Fields::Unnamed(fields) if !fields.unnamed.is_empty() => newtype::newtype(&input, fields),
            _ => Err(Error::new_spanned(&source.ident, "a struct without fields has nothing to lay out")),
        },
        Data::Enum(data) if input.flags => Err(Error::new_spanned(data.enum_token, NO_FLAGS)),
        Data::Enum(data) if data.variants.is_empty() => {
            Err(Error::new_spanned(&source.ident, "an enum without cases has no values"))
        }
        Data::Enum(data) if data.variants.iter().all(|case| matches!(case.fields, Fields::Unit)) => {
            plain::plain_enum(&input, data)
        }
        Data::Enum(data) => variant::variant(&input, data),
        Data::Union(data) => {
            Err(Error::new_spanned(data.union_token, "a union has no flat layout: use an enum"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The errors of deriving for `source`: for each, the source text that it points at, and the message.
    fn errors(source: &str) -> Vec<(String, String)> {
        let input = syn::parse_str(source).expect("the source is a type");
        let errors = expand(input).expect_err("the type is rejected");
        let lines: Vec<_> = source.lines().collect();
        errors
            .into_iter()
            .map(|error| {
                let (start, end) = (error.span().start(), error.span().end());
                assert_eq!(start.line, end.line, "an error points within a line");
                (lines[start.line - 1][start.column..end.column].to_owned(), error.to_string())
            })
            .collect()
    }

    /// Deriving for `source` has one error, which points at `at` and contains `message`.
    fn rejected(source: &str, at: &str, message: &str) {
        let errors = errors(source);
        let [(found, text)] = errors.as_slice() else { panic!("one error: {errors:?}") };
        assert_eq!(found, at);
        assert!(text.contains(message), "{text}");
    }

    #[test]
    fn an_error_points_at_a_field_without_layout() {
        rejected("struct S { a: u8, b: usize }", "usize", "use `u32` or `u64`");
        rejected(
            "struct S { a: u8,\n b: std::collections::HashMap<u8, u8> }",
            "std::collections::HashMap<u8, u8>",
            "use `BTreeMap",
        );
        rejected("struct S(u8, Box<u8>);", "Box<u8>", "without the pointer");
        rejected("struct S { a: [u8; 4] }", "[u8; 4]", "use `Vec<T>`");
        rejected("struct S { a: *const u8 }", "*const u8", "pointer");
        rejected("enum E { A, B { text: &'static str } }", "&'static str", "use `String`");
        rejected("enum E { A(u128) }", "u128", "128 bits");
    }

    #[test]
    fn errors_point_at_every_field_without_layout() {
        let positions: Vec<_> =
            errors("struct S { a: usize, b: u8, c: isize }").into_iter().map(|(at, _)| at).collect();
        assert_eq!(positions, ["usize", "isize"]);
    }

    #[test]
    fn an_error_points_at_a_type_without_layout() {
        rejected("struct S;", "S", "nothing to lay out");
        rejected("struct S {}", "S", "nothing to lay out");
        rejected("struct S();", "S", "nothing to lay out");
        rejected("enum E {}", "E", "no values");
        rejected("union U { a: u8 }", "union", "use an enum");
        rejected("struct S<'a> { a: Vec<u8> }", "'a", "owns its contents");
        rejected("struct S<const N: usize> { a: Vec<u8> }", "const N: usize", "constant parameters");
        rejected("enum E { A() , B }", "A()", "takes no parentheses");
        rejected("enum E { A = 3, B }", "3", "numbered from 0");
    }

    #[test]
    fn an_error_points_at_a_name_that_would_clash_in_the_generated_code() {
        rejected("enum E { Http(u8), HTTP }", "HTTP", "`HTTP` and `Http`");
        rejected("enum E { A(u8), AWith }", "AWith", "method `a_with`");
        rejected("struct S { a: Vec<FlatIndex> }", "FlatIndex", "reserved for the generated code");
        rejected(
            "struct S<FlatFailure> { a: FlatFailure }",
            "FlatFailure",
            "reserved for the generated code",
        );
        rejected("struct S { a: Option<<Self as T>::A> }", "Self", "the type's name");
        rejected("struct S { a: Vec<mine!()> }", "!", "instead of a macro call");
        rejected("enum E { A(mine![u8]), B }", "!", "instead of a macro call");
    }

    #[test]
    fn an_error_points_at_an_unknown_or_misplaced_attribute() {
        rejected("#[flat(packed)] struct S { a: u8 }", "packed", "unknown");
        rejected("struct S { #[flat(skip)] a: u8 }", "#[flat(skip)]", "part of the layout");
        rejected("#[flat(flags)] struct S { a: bool, b: u8 }", "u8", "a flag is a `bool`");
        rejected("#[flat(flags)] enum E { A }", "enum", "struct of named bools");
    }

    #[test]
    fn types_with_a_layout_are_accepted() {
        for source in [
            "struct S { a: u8, r#type: Vec<String> }",
            "struct S { a: Box, b: Arc, c: self::Cow<u8>, d: crate::usize }",
            "struct S<A, B: Clone = u8> where A: Ord { a: A, b: Vec<B> }",
            "enum E<T> { A, Self_(T), B { x: T, y: u8 } }",
            "#[flat(crate = blockcast::flat)] struct S(u8);",
            "pub(crate) enum E { A, B }",
        ] {
            let code =
                expand(syn::parse_str(source).expect("the source is a type")).expect("it has a layout");
            assert!(code.to_string().contains("FlatType"), "{source}");
        }
    }
}
