//! `#[archive]`: turns a type into a call of the library's macro `__archive!`.
//!
//! All unsafe code is in that macro, with its proof. This file produces errors that point at the source. The
//! macro does not match a type that this file accepts by mistake.

use proc_macro2::TokenStream;
use quote::quote;
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Fields, Item, Meta, Result, Token, parse_quote};

use crate::library;

/// Returns the call of the library's macro for `item`.
pub(crate) fn archive(arguments: &TokenStream, item: Item) -> Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(arguments, "`#[archive]` takes no arguments"));
    }
    let path = library::blocks();
    match item {
        Item::Struct(mut item) => {
            no_parameters(&item.generics)?;
            item.attrs = ordered(item.attrs)?;
            check_fields(&item.fields)?;
            if matches!(item.fields, Fields::Unit) {
                return Err(Error::new_spanned(
                    &item.ident,
                    "a struct without fields has nothing to archive",
                ));
            }
            Ok(quote!(#path::__archive! { #item }))
        }
        Item::Enum(mut item) => {
            no_parameters(&item.generics)?;
            item.attrs = ordered(item.attrs)?;
            for case in &item.variants {
                check_attributes(&case.attrs)?;
                check_fields(&case.fields)?;
                if let Some((_, number)) = &case.discriminant {
                    return Err(Error::new_spanned(
                        number,
                        "cases are numbered from 0 in order: the archive would not contain this number",
                    ));
                }
            }
            Ok(quote!(#path::__archive! { #item }))
        }
        other => Err(Error::new_spanned(other, "`#[archive]` is for structs and enums")),
    }
}

fn no_parameters(generics: &syn::Generics) -> Result<()> {
    if generics.params.is_empty() && generics.where_clause.is_none() {
        return Ok(());
    }
    Err(Error::new_spanned(
        generics,
        "a type with `#[archive]` has no parameters: use concrete types, or implement `ArchiveType`, which is unsafe",
    ))
}

/// Sorts attributes into the order in which the macro takes them: documentation, derives, rkyv's derives,
/// rkyv's comparisons.
fn ordered(attributes: Vec<Attribute>) -> Result<Vec<Attribute>> {
    let (mut documentation, mut derives) = (Vec::new(), Vec::new());
    let (mut rkyv_derives, mut rkyv_compares) = (Vec::new(), Vec::new());
    for attribute in attributes {
        let path = attribute.path();
        if path.is_ident("doc") {
            documentation.push(attribute);
        } else if path.is_ident("derive") {
            derives.push(attribute);
        } else if path.is_ident("rkyv") {
            let unsupported = || {
                Error::new_spanned(
                    &attribute,
                    "of rkyv's options, `#[archive]` supports `derive(..)` and `compare(..)`: others change the archive. To use them, implement `ArchiveType`, which is unsafe",
                )
            };
            let options = Punctuated::<Meta, Token![,]>::parse_terminated;
            for option in attribute.parse_args_with(options).map_err(|_| unsupported())? {
                match &option {
                    Meta::List(list) if list.path.is_ident("derive") => {
                        rkyv_derives.push(parse_quote!(#[rkyv(#option)]));
                    }
                    Meta::List(list) if list.path.is_ident("compare") => {
                        rkyv_compares.push(parse_quote!(#[rkyv(#option)]));
                    }
                    _ => return Err(unsupported()),
                }
            }
        } else {
            return Err(Error::new_spanned(
                attribute,
                "`#[archive]` allows only documentation, `#[derive(..)]` and `#[rkyv(..)]` below it: other attributes could change the archive. Put other attribute macros above `#[archive]`",
            ));
        }
    }
    documentation.extend(derives);
    documentation.extend(rkyv_derives);
    documentation.extend(rkyv_compares);
    Ok(documentation)
}

fn check_fields(fields: &Fields) -> Result<()> {
    fields.iter().try_for_each(|field| check_attributes(&field.attrs))
}

fn check_attributes(attributes: &[Attribute]) -> Result<()> {
    match attributes.iter().find(|attribute| !attribute.path().is_ident("doc")) {
        Some(attribute) => Err(Error::new_spanned(
            attribute,
            "fields and cases of a type with `#[archive]` can only have documentation: other attributes could change the archive",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(source: &str, message: &str) {
        let item = syn::parse_str(source).expect("the source is an item");
        let error = archive(&TokenStream::new(), item).expect_err("it is rejected");
        assert!(error.to_string().contains(message), "{error}");
    }

    #[test]
    fn anything_that_could_change_an_archive_is_rejected_with_the_reason() {
        rejected("#[rkyv(as = Other)] struct S { a: u8 }", "others change the archive");
        rejected("#[rkyv(crate = other)] struct S { a: u8 }", "others change the archive");
        rejected("#[cfg_attr(all(), rkyv(as = Other))] struct S { a: u8 }", "could change");
        rejected("struct S { #[rkyv(with = Other)] a: u8 }", "could change");
        rejected("enum E { #[other] A, B }", "could change");
        rejected("enum E { A = 3, B }", "numbered from 0");
        rejected("struct S<T> { a: T }", "no parameters");
        rejected("struct S;", "nothing to archive");
        rejected("union U { a: u8 }", "structs and enums");
        let item = syn::parse_str("struct S { a: u8 }").expect("a struct");
        assert!(archive(&quote!(crate = other), item).is_err(), "a path is rejected");
    }
}
