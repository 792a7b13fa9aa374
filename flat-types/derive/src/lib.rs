//! `#[derive(Flat)]`, which is documented where it is used: in `blockcast-flat-types`.
//!
//! One file per kind of type: [`input`] checks what can be checked in the source and points at what cannot be laid
//! out, [`record`] makes structs, [`newtype`] tuple structs, [`variant`] enums with payloads, [`plain`] enums
//! without payloads and flags. What a field's type must be able to do is left to the compiler, with the field's
//! own place in the source.

mod input;
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
