//! Structs with named fields: records.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};
use syn::{FieldsNamed, Result};

use crate::check;
use crate::input::{Input, documentation};
use crate::names::text;
use crate::traits::{FlatTypeImpl, Source, ToFlatImpl, implementations, validate_each, view_traits};

/// The fields of a record, in order.
struct Fields<'s> {
    source: &'s FieldsNamed,
    names: Vec<&'s Ident>,
    /// The names as text.
    labels: Vec<String>,
    /// The numbers of the fields, from 0.
    numbers: Vec<Literal>,
    /// The number after each field's.
    next: Vec<Literal>,
    count: Literal,
}

/// The code for a struct with named fields.
pub(crate) fn record(input: &Input<'_>, source: &FieldsNamed) -> Result<TokenStream> {
    check::fields(source.named.iter())?;
    let names: Vec<_> =
        source.named.iter().map(|field| field.ident.as_ref().expect("the fields are named")).collect();
    let count = names.len();
    let fields = Fields {
        source,
        labels: names.iter().map(|name| text(name)).collect(),
        names,
        numbers: (0..count).map(Literal::usize_unsuffixed).collect(),
        next: (1..=count).map(Literal::usize_unsuffixed).collect(),
        count: Literal::usize_unsuffixed(count),
    };

    let (view, builder) = (view(input, &fields), builder(input, &fields));
    let to_flat = [Source::Value, Source::View].map(|source| (source, to_flat(input, &fields, source)));
    let implementations = implementations(input, &input.assert_fields(), flat_type(input, &fields), to_flat);
    Ok(quote!(#view #builder #implementations))
}

/// The view: a struct with a method per field.
fn view(input: &Input<'_>, fields: &Fields<'_>) -> TokenStream {
    let Input { flat, name, vis, types, view, .. } = input;
    let Fields { source, names, labels, numbers, .. } = fields;
    let (this, parameters, declared) = (input.this(), input.parameters(), input.declared());
    let wheres = &input.generics.where_clause;
    let (name_text, doc) = (text(name), format!("A [`{name}`], read in place."));
    let field_vis = source.named.iter().map(|field| &field.vis);
    let views = types.iter().map(|ty| input.view_of(ty));
    let docs = source.named.iter().zip(labels).map(|(field, label)| {
        documentation(&field.attrs, &format!("Returns the field `{label}`, read in place."))
    });
    let traits = view_traits(
        input,
        &quote! {
            let mut __debug = ::core::fmt::Formatter::debug_struct(__f, #name_text);
            #(::core::fmt::DebugStruct::field(&mut __debug, #labels, &#view::#names(*self));)*
            ::core::fmt::DebugStruct::finish(&mut __debug)
        },
    );
    quote! {
        #[doc = #doc]
        #vis struct #view<'flat_message, #declared FlatIndex: #flat::Index = ::core::primitive::u32>(
            #flat::derived::RecordView<'flat_message, #this, FlatIndex>
        ) #wheres;

        #[allow(dead_code)]
        impl<'flat_message, #declared FlatIndex: #flat::Index> #view<'flat_message, #parameters FlatIndex> #wheres {
            #(
                #docs
                #[inline]
                #field_vis fn #names(self) -> #views {
                    #flat::derived::RecordView::field::<#types, #numbers>(self.0)
                }
            )*
        }

        #traits
    }
}

/// The builder: a struct with two methods per field, which can be called once the fields before it are
/// written.
fn builder(input: &Input<'_>, fields: &Fields<'_>) -> TokenStream {
    let Input { flat, name, vis, types, builder, .. } = input;
    let Fields { source, names, labels, numbers, next, count } = fields;
    let (this, parameters, declared) = (input.this(), input.parameters(), input.declared());
    let wheres = &input.generics.where_clause;
    let doc = format!(
        "Writes a [`{name}`] field by field, in order. `FLAT_WRITTEN` is the number of fields written so far."
    );
    let field_vis = source.named.iter().map(|field| &field.vis).collect::<Vec<_>>();
    let write_docs = labels.iter().map(|label| format!("Writes the field `{label}`."));
    let build_docs = labels.iter().map(|label| format!("Builds the field `{label}` in place."));
    let build_methods = names.iter().map(|name| format_ident!("{}_with", text(name), span = name.span()));
    quote! {
        #[doc = #doc]
        #vis struct #builder<
            'flat_block,
            #declared
            FlatIndex: #flat::Index = ::core::primitive::u32,
            const FLAT_WRITTEN: ::core::primitive::usize = 0,
        >(
            #flat::derived::RecordBuilder<'flat_block, #this, FlatIndex, FLAT_WRITTEN>
        ) #wheres;

        #[automatically_derived]
        impl<'flat_block, #declared FlatIndex: #flat::Index, const FLAT_WRITTEN: ::core::primitive::usize>
            ::core::fmt::Debug for #builder<'flat_block, #parameters FlatIndex, FLAT_WRITTEN> #wheres
        {
            fn fmt(&self, __f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(&self.0, __f)
            }
        }

        #(
            #[allow(dead_code)]
            impl<'flat_block, #declared FlatIndex: #flat::Index>
                #builder<'flat_block, #parameters FlatIndex, #numbers> #wheres
            {
                #[doc = #write_docs]
                ///
                /// # Errors
                ///
                /// Fails if the value cannot be written.
                #[inline]
                #field_vis fn #names(
                    self,
                    __value: impl #flat::ToFlat<#types>,
                ) -> ::core::result::Result<#builder<'flat_block, #parameters FlatIndex, #next>, #flat::BuildError> {
                    #flat::derived::RecordBuilder::write::<#types, #next>(self.0, __value).map(#builder)
                }

                #[doc = #build_docs]
                ///
                /// # Errors
                ///
                /// Returns the error of the closure.
                #[inline]
                #field_vis fn #build_methods<FlatFailure: ::core::convert::From<#flat::BuildError>>(
                    self,
                    __build: impl for<'flat_value> #flat::BuildFn<'flat_value, #types, FlatIndex, FlatFailure>,
                ) -> ::core::result::Result<#builder<'flat_block, #parameters FlatIndex, #next>, FlatFailure> {
                    #flat::derived::RecordBuilder::build::<#types, FlatFailure, #next>(self.0, __build).map(#builder)
                }
            }
        )*

        #[allow(dead_code)]
        impl<'flat_block, #declared FlatIndex: #flat::Index>
            #builder<'flat_block, #parameters FlatIndex, #count> #wheres
        {
            /// Completes the record.
            ///
            /// # Errors
            ///
            /// `NoRoom` if the header ends with padding that does not fit.
            #[inline]
            #vis fn finish(self) -> ::core::result::Result<#flat::Finished<'flat_block>, #flat::BuildError> {
                #flat::derived::RecordBuilder::finish(self.0)
            }
        }
    }
}

/// The record's `FlatType` implementation.
fn flat_type(input: &Input<'_>, fields: &Fields<'_>) -> FlatTypeImpl {
    let Input { flat, name, types, view, builder, .. } = input;
    let Fields { names, labels, numbers, count, .. } = fields;
    let (name_text, parameters) = (text(name), input.parameters());
    let as_flat: Vec<_> = types.iter().map(|ty| input.as_flat(ty)).collect();
    FlatTypeImpl {
        view_type: quote!(#view<'flat_message, #parameters FlatIndex>),
        builder_type: quote!(#builder<'flat_block, #parameters FlatIndex>),
        schema: quote! {
            &#flat::schema::Type::Record(
                #name_text,
                &[#(#flat::schema::Field { name: #labels, ty: #as_flat::TYPE }),*],
            )
        },
        validate: quote! {
            let mut __record = #flat::derived::RecordValidator::<Self, FlatIndex>::new(__validator, __at);
            #(#flat::derived::RecordValidator::field::<#types, #numbers>(&mut __record)?;)*
            #flat::derived::RecordValidator::finish(__record)
        },
        validate_all: validate_each(input),
        view: quote!(#view(unsafe { #flat::derived::RecordView::new(__bytes) })),
        builder: quote!(#builder(#flat::derived::RecordBuilder::new(__target))),
        from_view: quote!(#name { #(#names: #as_flat::from_view::<FlatIndex>(#view::#names(__view))),* }),
        serialize: quote! {
            let mut __record = #flat::serde::Serializer::serialize_struct(__serializer, #name_text, #count)?;
            #(#flat::serde::ser::SerializeStruct::serialize_field(
                &mut __record,
                #labels,
                &#flat::Serialized::<#types, FlatIndex>(#view::#names(__view)),
            )?;)*
            #flat::serde::ser::SerializeStruct::end(__record)
        },
    }
}

/// The `ToFlat` implementation of the record or of its view.
fn to_flat(input: &Input<'_>, fields: &Fields<'_>, source: Source) -> ToFlatImpl {
    let Input { flat, types, view, .. } = input;
    let Fields { names, numbers, next, .. } = fields;
    let parts: Vec<_> = names
        .iter()
        .zip(types)
        .map(|(name, ty)| match source {
            Source::Value => source.part(input, ty, quote!(&self.#name)),
            Source::View => source.part(input, ty, quote!(#view::#name(*self))),
        })
        .collect();
    ToFlatImpl {
        write: quote! {
            let (mut __record, __written) = #flat::derived::RecordBuilder::at(__place)?;
            #(let __written = #flat::derived::RecordBuilder::put::<#types, #numbers, #next>(
                &mut __record, #parts, __written
            )?;)*
            #flat::derived::RecordBuilder::finish_put(__record, __written)
        },
        end: quote! {
            #(let __cursor = #flat::ToFlat::<#types>::end_after::<FlatIndex>(#parts, __cursor);)*
            __cursor
        },
        matches: quote! {
            #(#flat::ToFlat::<#types>::matches::<FlatIndex>(#parts, #view::#names(__view)))&&*
        },
    }
}
