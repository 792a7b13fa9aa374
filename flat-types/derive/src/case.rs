//! A case of an enum with payloads, and the code for it.

use heck::ToSnakeCase;
use proc_macro2::{Ident, Literal, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::{Error, Fields, Result, Type, Variant};

use crate::input::{Input, documentation};
use crate::names::{ident, text};

/// A case of an enum.
pub(crate) struct Case<'s> {
    pub source: &'s Variant,
    pub name: &'s Ident,
    /// The discriminant.
    pub number: Literal,
    pub types: Vec<&'s Type>,
    /// The names of the payload's parts in patterns and parameters.
    parts: Vec<Ident>,
}

impl<'s> Case<'s> {
    pub(crate) fn new(number: usize, source: &'s Variant) -> Result<Self> {
        if !matches!(source.fields, Fields::Unit) && source.fields.is_empty() {
            return Err(Error::new_spanned(source, "a case without a payload takes no parentheses"));
        }
        if source.fields.len() > 8 {
            return Err(Error::new_spanned(source, "a case has at most 8 fields: move them into a struct"));
        }
        let parts = source.fields.iter().enumerate();
        Ok(Case {
            source,
            name: &source.ident,
            number: Literal::usize_unsuffixed(number),
            types: source.fields.iter().map(|field| &field.ty).collect(),
            parts: parts
                .map(|(n, field)| field.ident.clone().unwrap_or_else(|| format_ident!("part{n}")))
                .collect(),
        })
    }

    /// The type that the payload is laid out as, if there is one.
    pub(crate) fn payload(&self) -> Option<TokenStream> {
        (!self.types.is_empty()).then(|| self.packed(&self.types))
    }

    /// `parts` of a payload as one type, expression or pattern: as it is if it is the only one without a
    /// name, else a tuple.
    pub(crate) fn packed(&self, parts: &[impl ToTokens]) -> TokenStream {
        match parts {
            [only] if matches!(self.source.fields, Fields::Unnamed(_)) => quote!(#only),
            _ => quote!((#(#parts,)*)),
        }
    }

    /// The case with `values` for its parts, as a pattern or an expression of the enum `of`.
    pub(crate) fn with(&self, of: &Ident, values: &[impl ToTokens]) -> TokenStream {
        let (name, parts) = (self.name, &self.parts);
        match self.source.fields {
            Fields::Unit => quote!(#of::#name),
            Fields::Unnamed(_) => quote!(#of::#name(#(#values),*)),
            Fields::Named(_) => quote!(#of::#name { #(#parts: #values),* }),
        }
    }

    /// Variables for the parts, each with a name that starts with `prefix`.
    pub(crate) fn variables(&self, prefix: &str) -> Vec<Ident> {
        self.parts.iter().map(|part| format_ident!("{prefix}{}", text(part))).collect()
    }

    /// The names of the builder's methods: one that takes the payload and, if there is one, one that builds
    /// it.
    pub(crate) fn methods(&self) -> (String, Option<String>) {
        let method = text(self.name).to_snake_case();
        let build = (!self.types.is_empty()).then(|| format!("{method}_with"));
        (method, build)
    }

    /// The case of the view.
    pub(crate) fn view(&self, input: &Input<'_>) -> TokenStream {
        let (name, parts) = (self.name, &self.parts);
        let views = self.types.iter().map(|ty| input.view_of(ty));
        let docs = documentation(&self.source.attrs, &format!("The case `{}`.", text(name)));
        let part_docs = self.source.fields.iter().zip(parts).map(|(field, part)| {
            documentation(&field.attrs, &format!("The field `{}`, read in place.", text(part)))
        });
        match self.source.fields {
            Fields::Unit => quote!(#docs #name),
            Fields::Unnamed(_) => quote!(#docs #name(#(#views),*)),
            Fields::Named(_) => quote!(#docs #name { #(#part_docs #parts: #views),* }),
        }
    }

    /// The case in the schema.
    pub(crate) fn schema(&self, input: &Input<'_>) -> TokenStream {
        let (flat, label) = (&input.flat, text(self.name));
        let as_flat = self.types.iter().map(|ty| input.as_flat(ty));
        let payload = match (&self.source.fields, self.payload()) {
            (Fields::Named(_), _) => {
                let record = format!("{}{label}", text(input.name));
                let names = self.parts.iter().map(text);
                quote!(&#flat::schema::Type::Record(
                    #record,
                    &[#(#flat::schema::Field { name: #names, ty: #as_flat::TYPE }),*],
                ))
            }
            (_, Some(payload)) => quote!(<#payload as #flat::FlatType>::TYPE),
            (_, None) => quote!(<() as #flat::FlatType>::TYPE),
        };
        quote!(#flat::schema::Case { name: #label, payload: #payload })
    }

    /// The builder's methods for the case.
    pub(crate) fn builder_methods(&self, input: &Input<'_>) -> TokenStream {
        let Input { flat, vis, .. } = input;
        let (number, label) = (&self.number, text(self.name));
        let (method, build) = self.methods();
        let method = ident(&method, self.name.span());
        let write_doc = format!("Writes the case `{label}`.");
        let (Some(payload), Some(build)) = (self.payload(), build) else {
            return quote! {
                #[doc = #write_doc]
                ///
                /// # Errors
                ///
                /// `NoRoom` if the block is too small.
                #[inline]
                #vis fn #method(self) -> ::core::result::Result<#flat::Finished<'flat_block>, #flat::BuildError> {
                    #flat::derived::VariantBuilder::unit::<#number>(self.0)
                }
            };
        };
        let build = Ident::new(&build, self.name.span());
        let build_doc = format!("Writes the case `{label}` and builds its payload in place.");
        let (parts, types, value) = (&self.parts, &self.types, self.packed(&self.parts));
        quote! {
            #[doc = #write_doc]
            ///
            /// # Errors
            ///
            /// Fails if a value cannot be written.
            #[inline]
            #vis fn #method(
                self,
                #(#parts: impl #flat::ToFlat<#types>),*
            ) -> ::core::result::Result<#flat::Finished<'flat_block>, #flat::BuildError> {
                #flat::derived::VariantBuilder::write::<#payload, #number>(self.0, #value)
            }

            #[doc = #build_doc]
            ///
            /// # Errors
            ///
            /// Returns the error of the closure.
            #[inline]
            #vis fn #build<FlatFailure: ::core::convert::From<#flat::BuildError>>(
                self,
                __build: impl for<'flat_value> #flat::BuildFn<'flat_value, #payload, FlatIndex, FlatFailure>,
            ) -> ::core::result::Result<#flat::Finished<'flat_block>, FlatFailure> {
                #flat::derived::VariantBuilder::build::<#payload, FlatFailure, #number>(self.0, __build)
            }
        }
    }

    /// Prints the case, whose parts are in `parts`, to `__f`.
    pub(crate) fn debug(&self, parts: &[Ident]) -> TokenStream {
        let label = text(self.name);
        match &self.source.fields {
            Fields::Unit => quote!(::core::fmt::Formatter::write_str(__f, #label)),
            Fields::Unnamed(_) => quote! {
                let mut __debug = ::core::fmt::Formatter::debug_tuple(__f, #label);
                #(::core::fmt::DebugTuple::field(&mut __debug, #parts);)*
                ::core::fmt::DebugTuple::finish(&mut __debug)
            },
            Fields::Named(_) => {
                let names = self.parts.iter().map(text);
                quote! {
                    let mut __debug = ::core::fmt::Formatter::debug_struct(__f, #label);
                    #(::core::fmt::DebugStruct::field(&mut __debug, #names, #parts);)*
                    ::core::fmt::DebugStruct::finish(&mut __debug)
                }
            }
        }
    }

    /// Serializes the case, whose parts are in `parts`, with `__serializer`.
    pub(crate) fn serialize(&self, Input { flat, name, .. }: &Input<'_>, parts: &[Ident]) -> TokenStream {
        let (types, count) = (&self.types, parts.len());
        let (number, label, name_text) = (&self.number, text(self.name), text(name));
        let case = quote!(__serializer, #name_text, #number, #label);
        match &self.source.fields {
            Fields::Unit => quote!(#flat::serde::Serializer::serialize_unit_variant(#case)),
            Fields::Unnamed(_) if count == 1 => quote! {
                #flat::serde::Serializer::serialize_newtype_variant(
                    #case, #(&#flat::Serialized::<#types, FlatIndex>(#parts))*
                )
            },
            Fields::Unnamed(_) => quote! {
                let mut __case = #flat::serde::Serializer::serialize_tuple_variant(#case, #count)?;
                #(#flat::serde::ser::SerializeTupleVariant::serialize_field(
                    &mut __case, &#flat::Serialized::<#types, FlatIndex>(#parts)
                )?;)*
                #flat::serde::ser::SerializeTupleVariant::end(__case)
            },
            Fields::Named(_) => {
                let names = self.parts.iter().map(text);
                quote! {
                    let mut __case = #flat::serde::Serializer::serialize_struct_variant(#case, #count)?;
                    #(#flat::serde::ser::SerializeStructVariant::serialize_field(
                        &mut __case, #names, &#flat::Serialized::<#types, FlatIndex>(#parts)
                    )?;)*
                    #flat::serde::ser::SerializeStructVariant::end(__case)
                }
            }
        }
    }
}
