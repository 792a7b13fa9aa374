//! What every kind of type needs: names, generics, attributes, and errors that point at the source.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Field, GenericParam, Generics, Path, Result, Type, Visibility,
    parse_quote,
};

use crate::library;

/// A type that the macro is used on.
pub(crate) struct Input<'s> {
    /// The type's name.
    pub name: &'s Ident,
    /// Its visibility, which view and builder share.
    pub vis: &'s Visibility,
    /// Its type parameters, each with the bound `FlatType`.
    pub generics: Generics,
    /// The path of `blockcast-flat-types`.
    pub flat: Path,
    /// Whether it is marked `#[flat(flags)]`.
    pub flags: bool,
    /// The name of its view.
    pub view: Ident,
    /// The name of its builder.
    pub builder: Ident,
}

impl<'s> Input<'s> {
    /// Reads attributes and generics.
    pub(crate) fn new(source: &'s DeriveInput) -> Result<Self> {
        check_names(source)?;
        let (flat, flags) = attributes(&source.attrs)?;
        let mut generics = source.generics.clone();
        for parameter in &mut generics.params {
            match parameter {
                GenericParam::Type(parameter) => {
                    parameter.bounds.push(parse_quote!(#flat::FlatType));
                    parameter.default = None;
                }
                GenericParam::Lifetime(parameter) => {
                    return Err(Error::new_spanned(
                        parameter,
                        "a flat type owns what is in it: use `String` for `&str`, `Vec<T>` for `&[T]`; the view borrows the message, and `ToFlat` writes borrowed values",
                    ));
                }
                GenericParam::Const(parameter) => {
                    return Err(Error::new_spanned(parameter, "a flat type cannot have constant parameters"));
                }
            }
        }
        Ok(Input {
            name: &source.ident,
            vis: &source.vis,
            generics,
            flat,
            flags,
            view: format_ident!("{}View", source.ident),
            builder: format_ident!("{}Builder", source.ident),
        })
    }

    /// The type with its parameters: `Pair<A, B>`.
    pub(crate) fn this(&self) -> TokenStream {
        let (name, (_, parameters, _)) = (self.name, self.generics.split_for_impl());
        quote!(#name #parameters)
    }

    /// The names of the type parameters, each followed by a comma.
    pub(crate) fn parameters(&self) -> TokenStream {
        let names = self.generics.type_params().map(|parameter| &parameter.ident);
        quote!(#(#names,)*)
    }

    /// The type parameters with their bounds, each followed by a comma.
    pub(crate) fn declared(&self) -> TokenStream {
        let parameters = self.generics.type_params();
        quote!(#(#parameters,)*)
    }

    /// `<T as FlatType>` with the place of `kind` in the source, so that errors point there.
    pub(crate) fn cast(&self, kind: &Type) -> TokenStream {
        let flat = respanned(&self.flat, kind.span());
        quote_spanned!(kind.span()=> <#kind as #flat::FlatType>)
    }

    /// The view of `kind`, with its place in the source.
    pub(crate) fn view_of(&self, kind: &Type) -> TokenStream {
        let cast = self.cast(kind);
        quote_spanned!(kind.span()=> #cast::View<'flat_message, FlatIndex>)
    }

    /// The conditions under which a view with fields of these types can be written: those of the type itself, and that
    /// every field's view can.
    pub(crate) fn rewritable<'t>(&self, types: impl Iterator<Item = &'t Type>) -> TokenStream {
        let Input { flat, .. } = self;
        let own = self.generics.where_clause.iter().flat_map(|clause| clause.predicates.iter());
        quote!(where #(#own,)* #(#types: #flat::derived::Rewritable<'flat_message, FlatOther>,)*)
    }

    /// Code that fails to compile if the path of the library does not lead to the library.
    ///
    /// What is generated is `unsafe` code, and its path is chosen by safe code: `#[flat(crate = ..)]`, or a crate that is
    /// called as the library is. `FlatType` itself cannot be wrong: if it is another trait then nothing is implemented that
    /// anybody trusts. So the trait says what the types are by which the code goes on.
    pub(crate) fn pinned(&self) -> TokenStream {
        let (Input { flat, .. }, this, declared) = (self, self.this(), self.declared());
        let wheres = &self.generics.where_clause;
        quote! {
            #[allow(dead_code)]
            fn the_library_is_the_library<
                'flat_message,
                #declared
                FlatIndex: #flat::Index,
                const FLAT_WRITTEN: ::core::primitive::usize,
            >() #wheres {
                <#this as #flat::FlatType>::derived::<FlatIndex, FLAT_WRITTEN>(|
                    _: #flat::derived::Validator<'flat_message, FlatIndex>,
                    _: #flat::derived::Target<'flat_message, FlatIndex>,
                    _: #flat::Place<'flat_message, #this, FlatIndex>,
                    _: #flat::derived::RecordView<'flat_message, #this, FlatIndex>,
                    _: #flat::derived::RecordBuilder<'flat_message, #this, FlatIndex, FLAT_WRITTEN>,
                    _: #flat::derived::RecordValidator<'flat_message, 'flat_message, #this, FlatIndex>,
                    _: #flat::derived::Choice<#this, FlatIndex>,
                    _: #flat::derived::ChoiceBuilder<'flat_message, #this, FlatIndex>,
                    _: #flat::derived::Bits<#this, FlatIndex>,
                    _: #flat::ScalarBuilder<'flat_message, #this, FlatIndex>,
                | {})
            }
        }
    }

    /// The trait's `validate_all` as the trait has it. It is written out so that nothing else can be: `__if_serde!` stands in
    /// the same implementation, and is found by a path too.
    pub(crate) fn validate_all(&self) -> TokenStream {
        let Input { flat, .. } = self;
        quote! {
            #[inline]
            fn validate_all<FlatIndex: #flat::Index>(
                __validator: &mut #flat::derived::Validator<'_, FlatIndex>,
                __at: ::core::primitive::usize,
                __count: ::core::primitive::usize,
            ) -> ::core::result::Result<(), #flat::FlatError> {
                #flat::derived::Validator::<'_, FlatIndex>::each::<Self>(__validator, __at, __count)
            }
        }
    }

    /// Code that fails to compile where a field's type has no flat layout, and nowhere else.
    pub(crate) fn assertions<'t>(&self, types: impl Iterator<Item = &'t Type>) -> TokenStream {
        let Input { flat, .. } = self;
        let declared = self.declared();
        let wheres = &self.generics.where_clause;
        let checks = types.map(|kind| quote!(assert_flat::<#kind>();));
        quote! {
            #[allow(dead_code)]
            fn assert_fields<#declared>() #wheres {
                fn assert_flat<T: #flat::FlatType>() {}
                #(#checks)*
            }
        }
    }
}

/// The tokens of `what` with the place `span`.
fn respanned(what: &impl ToTokens, span: Span) -> TokenStream {
    let tokens = what.to_token_stream().into_iter();
    tokens
        .map(|mut token| {
            token.set_span(span);
            token
        })
        .collect()
}

/// The path of the library and whether the type is a set of flags.
fn attributes(attributes: &[Attribute]) -> Result<(Path, bool)> {
    let library = library::path();
    let (mut flat, mut flags) = (parse_quote!(#library), false);
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("flat")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("crate") {
                flat = meta.value()?.call(Path::parse_mod_style)?;
            } else if meta.path.is_ident("flags") {
                flags = true;
            } else {
                return Err(meta.error(
                    "unknown: `#[flat(flags)]` and `#[flat(crate = path::to::flat_types)]` are there",
                ));
            }
            Ok(())
        })?;
    }
    Ok((flat, flags))
}

/// Names that the generated code declares around the types of the source. A type of the same name would mean something else
/// there.
const OWN: [&str; 8] = [
    "FlatIndex",
    "FlatOther",
    "FlatSerializer",
    "FlatFailure",
    "FLAT_WRITTEN",
    "flat_message",
    "flat_block",
    "flat_value",
];

/// Refuses types whose meaning depends on where they stand, as they stand in several places in the generated code.
fn check_names(source: &DeriveInput) -> Result<()> {
    let types: Vec<&Type> = match &source.data {
        Data::Struct(data) => data.fields.iter().map(|field| &field.ty).collect(),
        Data::Enum(data) => {
            data.variants.iter().flat_map(|case| &case.fields).map(|field| &field.ty).collect()
        }
        Data::Union(_) => Vec::new(),
    };
    let (generics, wheres) = (&source.generics, &source.generics.where_clause);
    let mut tokens = quote!(#generics #wheres);
    tokens.extend(types.iter().map(ToTokens::to_token_stream));
    check_tokens(tokens)
}

fn check_tokens(tokens: TokenStream) -> Result<()> {
    let mut before_bang = None;
    for token in tokens {
        match &token {
            TokenTree::Ident(name) if OWN.contains(&text(name).as_str()) => {
                let message = format!(
                    "`{name}` is a name of the generated code: use another one, or an alias of the type"
                );
                return Err(Error::new(name.span(), message));
            }
            TokenTree::Ident(name) if name == "Self" => {
                return Err(Error::new(name.span(), "write the type's name in place of `Self`"));
            }
            TokenTree::Group(group) => {
                if let Some(bang) = before_bang {
                    return Err(Error::new(
                        bang,
                        "write the type out in place of the macro, or use an alias of it",
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

/// Refuses types that are known to have no flat layout, with what to use instead.
pub(crate) fn check_field(field: &Field) -> Result<()> {
    if let Some(attribute) = field.attrs.iter().find(|attribute| attribute.path().is_ident("flat")) {
        return Err(Error::new_spanned(
            attribute,
            "fields have no `flat` attributes: everything in a type is laid out",
        ));
    }
    let advice = match &field.ty {
        Type::Reference(_) => "a flat type owns what is in it: use `String` for `&str`, `Vec<T>` for `&[T]`",
        Type::Ptr(_) | Type::BareFn(_) => "a pointer means nothing to who reads the message",
        Type::Array(_) => "arrays have no flat layout: use `Vec<T>`, or a tuple",
        Type::Path(path) => {
            let (first, last) = (path.path.segments.first(), path.path.segments.last());
            // A type of the program's own may have any name.
            if first.is_some_and(|first| ["self", "super", "crate"].iter().any(|own| first.ident == own)) {
                return Ok(());
            }
            let has_parameters = last.is_some_and(|last| !last.arguments.is_empty());
            match last.map(|segment| segment.ident.to_string()).as_deref() {
                Some("usize" | "isize") => {
                    "its size differs from machine to machine: use `u32` or `u64`, `i32` or `i64`"
                }
                Some("u128" | "i128") => "WIT has no integers of 128 bits: use two of 64",
                _ if !has_parameters => return Ok(()),
                Some("HashMap" | "IndexMap") => "maps are sorted by key: use `BTreeMap<K, V>`",
                Some("HashSet" | "BTreeSet" | "VecDeque" | "LinkedList") => "use `Vec<T>`",
                Some("Box" | "Rc" | "Arc" | "Cow") => {
                    "data lies beside its header anyway: use the type itself, without the pointer"
                }
                _ => return Ok(()),
            }
        }
        _ => return Ok(()),
    };
    let own = match &field.ty {
        Type::Path(_) => " (if it is a type of your own, write its path: `self::..`)",
        _ => "",
    };
    Err(Error::new_spanned(&field.ty, format!("no flat layout: {advice}{own}")))
}

/// Every error of several fields, as one.
pub(crate) fn check_fields<'f>(fields: impl Iterator<Item = &'f Field>) -> Result<()> {
    let errors = fields.filter_map(|field| check_field(field).err());
    errors
        .reduce(|mut all, error| {
            all.combine(error);
            all
        })
        .map_or(Ok(()), Err)
}

/// The documentation of a field or case, or a sentence that names it.
pub(crate) fn documentation(attributes: &[Attribute], otherwise: &str) -> TokenStream {
    let docs: Vec<_> = attributes.iter().filter(|attribute| attribute.path().is_ident("doc")).collect();
    if docs.is_empty() { quote!(#[doc = #otherwise]) } else { quote!(#(#docs)*) }
}

/// A name as text, without `r#`.
pub(crate) fn text(name: &Ident) -> String {
    let text = name.to_string();
    text.strip_prefix("r#").unwrap_or(&text).to_owned()
}

/// `text` as a name, raw if it is a keyword.
pub(crate) fn ident(text: &str, span: Span) -> Ident {
    match text {
        "self" | "super" | "crate" | "Self" | "_" => Ident::new(&format!("{text}_"), span),
        _ if syn::parse_str::<Ident>(text).is_ok() => Ident::new(text, span),
        _ => Ident::new_raw(text, span),
    }
}
