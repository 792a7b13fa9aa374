//! Rejects source that cannot be laid out, with errors that point at it and say what to use instead.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Error, Field, Generics, Result, Type};

use crate::names::text;

/// Names that the generated code declares around the types of the source. There, a type of the same name
/// would mean something else.
const RESERVED: [&str; 8] = [
    "FlatIndex",
    "FlatOther",
    "FlatSerializer",
    "FlatFailure",
    "FLAT_WRITTEN",
    "flat_message",
    "flat_block",
    "flat_value",
];

/// Rejects types whose meaning depends on their position: the generated code repeats them in other positions.
pub(crate) fn names(generics: &Generics, types: &[&Type]) -> Result<()> {
    let wheres = &generics.where_clause;
    let mut tokens = quote!(#generics #wheres);
    tokens.extend(types.iter().map(ToTokens::to_token_stream));
    check_tokens(tokens)
}

fn check_tokens(tokens: TokenStream) -> Result<()> {
    let mut before_bang = None;
    for token in tokens {
        match &token {
            TokenTree::Ident(name) if RESERVED.contains(&text(name).as_str()) => {
                let message =
                    format!("`{name}` is reserved for the generated code: rename it, or use a type alias");
                return Err(Error::new(name.span(), message));
            }
            TokenTree::Ident(name) if name == "Self" => {
                return Err(Error::new(name.span(), "write the type's name instead of `Self`"));
            }
            TokenTree::Group(group) => {
                if let Some(bang) = before_bang {
                    return Err(Error::new(
                        bang,
                        "write the type instead of a macro call, or use a type alias",
                    ));
                }
                check_tokens(group.stream())?;
            }
            _ => {}
        }
        before_bang = match &token {
            TokenTree::Punct(mark) if mark.as_char() == '!' => Some(mark.span()),
            _ => None,
        };
    }
    Ok(())
}

/// Rejects fields that are known to have no flat layout. Reports all of them in one error.
pub(crate) fn fields<'f>(fields: impl Iterator<Item = &'f Field>) -> Result<()> {
    let errors = fields.filter_map(|field| check_field(field).err());
    errors
        .reduce(|mut all, error| {
            all.combine(error);
            all
        })
        .map_or(Ok(()), Err)
}

fn check_field(field: &Field) -> Result<()> {
    if let Some(attribute) = field.attrs.iter().find(|attribute| attribute.path().is_ident("flat")) {
        return Err(Error::new_spanned(
            attribute,
            "fields take no `flat` attributes: every field is part of the layout",
        ));
    }
    let advice = match &field.ty {
        Type::Reference(_) => "a flat type owns its contents: use `String` for `&str`, `Vec<T>` for `&[T]`",
        Type::Ptr(_) | Type::BareFn(_) => "a pointer has no meaning in another process",
        Type::Array(_) => "use `Vec<T>` or a tuple instead of an array",
        Type::Path(path) => {
            let (first, last) = (path.path.segments.first(), path.path.segments.last());
            // The program's own types may have any name.
            if first.is_some_and(|first| ["self", "super", "crate"].iter().any(|own| first.ident == own)) {
                return Ok(());
            }
            let has_parameters = last.is_some_and(|last| !last.arguments.is_empty());
            match last.map(|segment| segment.ident.to_string()).as_deref() {
                Some("usize" | "isize") => {
                    "its size depends on the machine: use `u32` or `u64`, `i32` or `i64`"
                }
                Some("u128" | "i128") => "WIT has no integers of 128 bits: use two of 64 bits",
                _ if !has_parameters => return Ok(()),
                Some("HashMap" | "IndexMap") => "maps are sorted by key: use `BTreeMap<K, V>`",
                Some("HashSet" | "BTreeSet" | "VecDeque" | "LinkedList") => "use `Vec<T>`",
                Some("Box" | "Rc" | "Arc" | "Cow") => {
                    "a message stores values in place: use the type itself, without the pointer"
                }
                _ => return Ok(()),
            }
        }
        _ => return Ok(()),
    };
    let own = match &field.ty {
        Type::Path(_) => " (if this is your own type, write its path: `self::..`)",
        _ => "",
    };
    Err(Error::new_spanned(&field.ty, format!("no flat layout: {advice}{own}")))
}
