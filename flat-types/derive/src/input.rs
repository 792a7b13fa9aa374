//! The type that the macro is applied to: its names, generics and attributes, and the paths in generated
//! code.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Field, GenericParam, Generics, Path, Result, Type, Visibility,
    parse_quote,
};

use crate::{check, library};

/// The type that the macro is applied to.
pub(crate) struct Input<'s> {
    /// The type's name.
    pub name: &'s Ident,
    /// Its visibility. The view and the builder have the same one.
    pub vis: &'s Visibility,
    /// Its type parameters, each with the bound `FlatType`.
    pub generics: Generics,
    /// The types of all its fields, in order.
    pub types: Vec<&'s Type>,
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
    /// Reads the attributes and generics.
    pub(crate) fn new(source: &'s DeriveInput) -> Result<Self> {
        let types: Vec<_> = fields(&source.data).into_iter().map(|field| &field.ty).collect();
        check::names(&source.generics, &types)?;
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
                        "a flat type owns its contents: use `String` for `&str`, `Vec<T>` for `&[T]`; the view borrows from the message, and `ToFlat` writes borrowed values",
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
            types,
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

    /// `<ty as FlatType>`, with the position of `ty` in the source so that errors point there.
    pub(crate) fn as_flat(&self, ty: &Type) -> TokenStream {
        let flat = respanned(&self.flat, ty.span());
        quote_spanned!(ty.span()=> <#ty as #flat::FlatType>)
    }

    /// The view of `ty`, with the position of `ty` in the source.
    pub(crate) fn view_of(&self, ty: &Type) -> TokenStream {
        let as_flat = self.as_flat(ty);
        quote_spanned!(ty.span()=> #as_flat::View<'flat_message, FlatIndex>)
    }

    /// Code that fails to compile exactly if a field's type has no flat layout.
    pub(crate) fn assert_fields(&self) -> TokenStream {
        let (Input { flat, types, .. }, declared) = (self, self.declared());
        let wheres = &self.generics.where_clause;
        quote! {
            #[allow(dead_code)]
            fn assert_fields<#declared>() #wheres {
                fn assert_flat<T: #flat::FlatType>() {}
                #(assert_flat::<#types>();)*
            }
        }
    }

    /// Code that fails to compile if the path of the library does not lead to the library.
    ///
    /// The generated code is `unsafe`, but safe code chooses its path: with `#[flat(crate = ..)]`, or by
    /// giving another crate the library's name. `FlatType` itself cannot be forged: implementing another
    /// trait of that name gives nobody a reason to trust the type. So the real trait checks the types that
    /// the other generated code uses.
    pub(crate) fn assert_library(&self) -> TokenStream {
        let (Input { flat, .. }, this, declared) = (self, self.this(), self.declared());
        let wheres = &self.generics.where_clause;
        quote! {
            #[allow(dead_code)]
            fn the_path_leads_to_the_library<
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
                    _: #flat::derived::Variant<#this, FlatIndex>,
                    _: #flat::derived::VariantBuilder<'flat_message, #this, FlatIndex>,
                    _: #flat::derived::Bits<#this, FlatIndex>,
                    _: #flat::ScalarBuilder<'flat_message, #this, FlatIndex>,
                | {})
            }
        }
    }
}

/// The fields of a type, in order; those of all cases for an enum.
fn fields(data: &Data) -> Vec<&Field> {
    match data {
        Data::Struct(data) => data.fields.iter().collect(),
        Data::Enum(data) => data.variants.iter().flat_map(|case| &case.fields).collect(),
        Data::Union(_) => Vec::new(),
    }
}

/// The tokens of `source` with the position `span`.
fn respanned(source: &impl ToTokens, span: Span) -> TokenStream {
    let tokens = source.to_token_stream().into_iter();
    tokens
        .map(|mut token| {
            token.set_span(span);
            token
        })
        .collect()
}

/// The path of the library, and whether the type is a set of flags.
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
                    "unknown option: use `#[flat(flags)]` or `#[flat(crate = path::to::flat_types)]`",
                ));
            }
            Ok(())
        })?;
    }
    Ok((flat, flags))
}

/// The documentation of a field or case, or `otherwise` if it has none.
pub(crate) fn documentation(attributes: &[Attribute], otherwise: &str) -> TokenStream {
    let docs: Vec<_> = attributes.iter().filter(|attribute| attribute.path().is_ident("doc")).collect();
    if docs.is_empty() { quote!(#[doc = #otherwise]) } else { quote!(#(#docs)*) }
}
