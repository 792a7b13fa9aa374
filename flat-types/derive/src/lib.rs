//! `#[derive(Flat)]`, which is documented where it is used: in `blockcast-flat-types`. And [`macro@archive`].
//!
//! One file per kind of type: `input` checks what can be checked in the source and points at what cannot be laid
//! out, `record` makes structs, `newtype` tuple structs, `variant` enums with payloads, `plain` enums
//! without payloads and flags; `library` finds out what to call the library. What a field's type must be able to do is left to the compiler, with the field's
//! own place in the source.

mod archive;
mod input;
mod library;
mod newtype;
mod plain;
mod record;
mod variant;

use proc_macro::TokenStream;
use syn::{Data, DeriveInput, Fields, parse_macro_input};

use input::Input;

/// Implements `FlatType` and `ToFlat` for a struct or enum, and makes its view and its builder.
#[proc_macro_derive(Flat, attributes(flat))]
pub fn derive_flat(tokens: TokenStream) -> TokenStream {
    let input = parse_macro_input!(tokens as DeriveInput);
    expand(input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Archives a struct or enum with rkyv and makes it a message's type: `Rkyv<Reading>`. Safe, and read without a check.
///
/// It derives `rkyv::Archive` and `rkyv::Serialize`, so the type does not, and implements `ArchiveType` with a schema that
/// names each field and its type, and those of their fields. Two programs understand each other if these are equal. Every
/// field is an `ArchiveType`: one of the standard library, or with `#[archive]` of its own.
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
/// The macro takes documentation, derives, `#[rkyv(derive(..))]` and `#[rkyv(compare(..))]`, and no other attributes, as
/// these could change what is archived; put attribute macros of others above it. A type has no parameters, and does not
/// contain itself. For everything else implement `ArchiveType` by hand, which is unsafe.
#[proc_macro_attribute]
pub fn archive(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::Item);
    archive::archive(&arguments.into(), item).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn expand(source: DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    let input = Input::new(&source)?;
    match &source.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) if input.flags => plain::flags(&input, fields),
            fields if input.flags => {
                Err(syn::Error::new_spanned(fields, "flags are a struct of named bools"))
            }
            Fields::Named(fields) => record::record(&input, fields),
            Fields::Unnamed(fields) => newtype::newtype(&input, fields),
            Fields::Unit => {
                Err(syn::Error::new_spanned(&source.ident, "a struct without fields has nothing to lay out"))
            }
        },
        Data::Enum(data) if input.flags => {
            Err(syn::Error::new_spanned(data.enum_token, "flags are a struct of named bools"))
        }
        Data::Enum(data) if data.variants.is_empty() => {
            Err(syn::Error::new_spanned(&source.ident, "an enum without cases has no values"))
        }
        Data::Enum(data) if data.variants.iter().all(|case| matches!(case.fields, Fields::Unit)) => {
            plain::plain_enum(&input, data)
        }
        Data::Enum(data) => variant::variant(&input, data),
        Data::Union(data) => {
            Err(syn::Error::new_spanned(data.union_token, "a union has no flat layout: use an enum"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The source text that the error of deriving for `source` points at, and what it says.
    fn refused(source: &str) -> Vec<(String, String)> {
        let input = syn::parse_str(source).expect("the source is a type");
        let errors = expand(input).expect_err("the type is refused");
        let lines: Vec<_> = source.lines().collect();
        errors
            .into_iter()
            .map(|error| {
                let (start, end) = (error.span().start(), error.span().end());
                assert_eq!(start.line, end.line, "errors point within a line");
                (lines[start.line - 1][start.column..end.column].to_owned(), error.to_string())
            })
            .collect()
    }

    fn refused_once(source: &str, at: &str, message: &str) {
        let errors = refused(source);
        let [(found, text)] = errors.as_slice() else { panic!("one error: {errors:?}") };
        assert_eq!(found, at);
        assert!(text.contains(message), "{text}");
    }

    #[test]
    fn a_field_without_layout_is_pointed_at() {
        refused_once("struct S { a: u8, b: usize }", "usize", "use `u32` or `u64`");
        refused_once(
            "struct S { a: u8,\n b: std::collections::HashMap<u8, u8> }",
            "std::collections::HashMap<u8, u8>",
            "use `BTreeMap",
        );
        refused_once("struct S(u8, Box<u8>);", "Box<u8>", "without the pointer");
        refused_once("struct S { a: [u8; 4] }", "[u8; 4]", "use `Vec<T>`");
        refused_once("struct S { a: *const u8 }", "*const u8", "pointer");
        refused_once("enum E { A, B { text: &'static str } }", "&'static str", "use `String`");
        refused_once("enum E { A(u128) }", "u128", "128 bits");
    }

    #[test]
    fn every_field_without_layout_is_pointed_at() {
        let places: Vec<_> =
            refused("struct S { a: usize, b: u8, c: isize }").into_iter().map(|(at, _)| at).collect();
        assert_eq!(places, ["usize", "isize"]);
    }

    #[test]
    fn types_without_layout_are_pointed_at() {
        refused_once("struct S;", "S", "nothing to lay out");
        refused_once("struct S {}", "S", "nothing to lay out");
        refused_once("struct S();", "S", "nothing to lay out");
        refused_once("enum E {}", "E", "no values");
        refused_once("union U { a: u8 }", "union", "use an enum");
        refused_once("struct S<'a> { a: Vec<u8> }", "'a", "owns what is in it");
        refused_once("struct S<const N: usize> { a: Vec<u8> }", "const N: usize", "constant parameters");
        refused_once("enum E { A() , B }", "A()", "without parentheses");
        refused_once("enum E { A = 3, B }", "3", "numbered from 0");
    }

    #[test]
    fn names_that_would_clash_in_the_generated_code_are_pointed_at() {
        refused_once("enum E { Http(u8), HTTP }", "HTTP", "`HTTP` and `Http`");
        refused_once("enum E { A(u8), AWith }", "AWith", "method `a_with`");
        refused_once("struct S { a: Vec<FlatIndex> }", "FlatIndex", "a name of the generated code");
        refused_once(
            "struct S<FlatFailure> { a: FlatFailure }",
            "FlatFailure",
            "a name of the generated code",
        );
        refused_once("struct S { a: Option<<Self as T>::A> }", "Self", "the type's name");
        refused_once("struct S { a: Vec<mine!()> }", "!", "in place of the macro");
        refused_once("enum E { A(mine![u8]), B }", "!", "in place of the macro");
    }

    #[test]
    fn attributes_that_are_not_there_are_pointed_at() {
        refused_once("#[flat(packed)] struct S { a: u8 }", "packed", "unknown");
        refused_once("struct S { #[flat(skip)] a: u8 }", "#[flat(skip)]", "everything in a type is laid out");
        refused_once("#[flat(flags)] struct S { a: bool, b: u8 }", "u8", "a flag is a `bool`");
        refused_once("#[flat(flags)] enum E { A }", "enum", "struct of named bools");
    }

    #[test]
    fn what_can_be_laid_out_is() {
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
