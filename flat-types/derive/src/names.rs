//! Conversions between names and text.

use proc_macro2::{Ident, Span};

/// Converts a name to text, without `r#`.
pub(crate) fn text(name: &Ident) -> String {
    let text = name.to_string();
    text.strip_prefix("r#").unwrap_or(&text).to_owned()
}

/// Converts text to a name, which is raw if it is a keyword.
pub(crate) fn ident(text: &str, span: Span) -> Ident {
    match text {
        "self" | "super" | "crate" | "Self" | "_" => Ident::new(&format!("{text}_"), span),
        _ if syn::parse_str::<Ident>(text).is_ok() => Ident::new(text, span),
        _ => Ident::new_raw(text, span),
    }
}
