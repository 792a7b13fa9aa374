//! `#[archive]`: brings a type into the form that the library's macro takes.
//!
//! Everything unsafe is in that macro, `__archive!`, which explains why. This file is about errors that point at the
//! source; whatever it let through by mistake would fail to match there.

use proc_macro2::TokenStream;
use quote::quote;
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Fields, Item, Meta, Result, Token, parse_quote};

use crate::library;

/// The call of the library's macro for `item`.
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
                        "cases are numbered from 0 in their order: a number of one's own would not be what is archived",
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
        "`#[archive]` takes no parameters: write the type out, or implement `ArchiveType`, which is unsafe",
    ))
}

/// Documentation, then derives, then what rkyv is asked to derive: the order in which the macro takes them.
fn ordered(attributes: Vec<Attribute>) -> Result<Vec<Attribute>> {
    let (mut own, mut derives, mut compares) = (Vec::new(), Vec::new(), Vec::new());
    let mut documentation = Vec::new();
    for attribute in attributes {
        let path = attribute.path();
        if path.is_ident("doc") {
            documentation.push(attribute);
        } else if path.is_ident("derive") {
            own.push(attribute);
        } else if path.is_ident("rkyv") {
            let refused = || {
                Error::new_spanned(
                    &attribute,
                    "of rkyv's options there are `derive(..)` and `compare(..)`: others change what is written, which somebody must vouch for by implementing `ArchiveType`",
                )
            };
            let options = Punctuated::<Meta, Token![,]>::parse_terminated;
            for option in attribute.parse_args_with(options).map_err(|_| refused())? {
                match &option {
                    Meta::List(list) if list.path.is_ident("derive") => {
                        derives.push(parse_quote!(#[rkyv(#option)]));
                    }
                    Meta::List(list) if list.path.is_ident("compare") => {
                        compares.push(parse_quote!(#[rkyv(#option)]));
                    }
                    _ => return Err(refused()),
                }
            }
        } else {
            return Err(Error::new_spanned(
                attribute,
                "a type with `#[archive]` takes documentation, `#[derive(..)]` and `#[rkyv(..)]` only: other attributes could change what is archived. Put those of other macros above `#[archive]`",
            ));
        }
    }
    documentation.extend(own);
    documentation.extend(derives);
    documentation.extend(compares);
    Ok(documentation)
}

fn check_fields(fields: &Fields) -> Result<()> {
    fields.iter().try_for_each(|field| check_attributes(&field.attrs))
}

fn check_attributes(attributes: &[Attribute]) -> Result<()> {
    match attributes.iter().find(|attribute| !attribute.path().is_ident("doc")) {
        Some(attribute) => Err(Error::new_spanned(
            attribute,
            "fields and cases of a type with `#[archive]` take documentation only: other attributes could change what is archived",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(source: &str, message: &str) {
        let item = syn::parse_str(source).expect("the source is an item");
        let error = archive(&TokenStream::new(), item).expect_err("it is refused");
        assert!(error.to_string().contains(message), "{error}");
    }

    #[test]
    fn what_could_change_an_archive_is_refused_with_the_reason() {
        refused("#[rkyv(as = Other)] struct S { a: u8 }", "vouch");
        refused("#[rkyv(crate = other)] struct S { a: u8 }", "vouch");
        refused("#[cfg_attr(all(), rkyv(as = Other))] struct S { a: u8 }", "could change");
        refused("struct S { #[rkyv(with = Other)] a: u8 }", "could change");
        refused("enum E { #[other] A, B }", "could change");
        refused("enum E { A = 3, B }", "numbered from 0");
        refused("struct S<T> { a: T }", "no parameters");
        refused("struct S;", "nothing to archive");
        refused("union U { a: u8 }", "structs and enums");
        let item = syn::parse_str("struct S { a: u8 }").expect("a struct");
        assert!(archive(&quote!(crate = other), item).is_err(), "no path is taken");
    }
}
