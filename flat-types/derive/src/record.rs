//! Structs with named fields: records.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use syn::{FieldsNamed, Result};

use crate::input::{Input, check_fields, documentation, text};

/// Everything for a struct with named fields.
pub(crate) fn record(input: &Input<'_>, fields: &FieldsNamed) -> Result<TokenStream> {
    check_fields(fields.named.iter())?;
    if fields.named.is_empty() {
        return Err(syn::Error::new_spanned(input.name, "a struct without fields has nothing to lay out"));
    }
    let Input { flat, name, vis, view, builder, .. } = input;
    let (validate_all, pinned) = (input.validate_all(), input.pinned());
    let (this, parameters, declared) = (input.this(), input.parameters(), input.declared());
    let wheres = &input.generics.where_clause;
    let (implementation, _, _) = input.generics.split_for_impl();

    let names: Vec<_> =
        fields.named.iter().map(|field| field.ident.as_ref().expect("the fields are named")).collect();
    let field_vis: Vec<_> = fields.named.iter().map(|field| &field.vis).collect();
    let types: Vec<_> = fields.named.iter().map(|field| &field.ty).collect();
    let casts: Vec<_> = types.iter().map(|kind| input.cast(kind)).collect();
    let views: Vec<_> = types.iter().map(|kind| input.view_of(kind)).collect();
    let labels: Vec<_> = names.iter().map(|name| text(name)).collect();
    let places: Vec<_> = (0..names.len()).map(Literal::usize_unsuffixed).collect();
    let next: Vec<_> = (1..=names.len()).map(Literal::usize_unsuffixed).collect();
    let count = Literal::usize_unsuffixed(names.len());
    let builds: Vec<_> =
        names.iter().map(|name| format_ident!("{}_with", text(name), span = name.span())).collect();
    let field_docs: Vec<_> = fields
        .named
        .iter()
        .zip(&labels)
        .map(|(field, label)| documentation(&field.attrs, &format!("The field `{label}`, read in place.")))
        .collect();
    let write_docs: Vec<_> = labels.iter().map(|label| format!("Writes the field `{label}`.")).collect();
    let build_docs: Vec<_> =
        labels.iter().map(|label| format!("Builds the field `{label}` in place.")).collect();
    let view_doc = format!("A [`{name}`] that is read in place.");
    let builder_doc =
        format!("Writes a [`{name}`], field by field in their order; `N` counts those that are written.");
    let assertions = input.assertions(types.iter().copied());
    let rewritable = input.rewritable(types.iter().copied());
    let name_text = text(name);

    Ok(quote! {
        #[doc = #view_doc]
        #vis struct #view<'flat_message, #declared FlatIndex: #flat::Index = ::core::primitive::u32>(#flat::derived::RecordView<'flat_message, #this, FlatIndex>) #wheres;

        #[automatically_derived]
        impl<'flat_message, #declared FlatIndex: #flat::Index> ::core::clone::Clone for #view<'flat_message, #parameters FlatIndex> #wheres {
            #[inline]
            fn clone(&self) -> Self {
                *self
            }
        }

        #[automatically_derived]
        impl<'flat_message, #declared FlatIndex: #flat::Index> ::core::marker::Copy for #view<'flat_message, #parameters FlatIndex> #wheres {}

        #[allow(dead_code)]
        impl<'flat_message, #declared FlatIndex: #flat::Index> #view<'flat_message, #parameters FlatIndex> #wheres {
            #(
                #field_docs
                #[inline]
                #field_vis fn #names(self) -> #views {
                    #flat::derived::RecordView::field::<#types, #places>(self.0)
                }
            )*
        }

        #[automatically_derived]
        impl<'flat_message, #declared FlatIndex: #flat::Index> ::core::fmt::Debug for #view<'flat_message, #parameters FlatIndex> #wheres {
            fn fmt(&self, __f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                let mut __debug = ::core::fmt::Formatter::debug_struct(__f, #name_text);
                #(::core::fmt::DebugStruct::field(&mut __debug, #labels, &#view::#names(*self));)*
                ::core::fmt::DebugStruct::finish(&mut __debug)
            }
        }

        #[automatically_derived]
        impl<'flat_message, #declared FlatIndex: #flat::Index> ::core::cmp::PartialEq<#this> for #view<'flat_message, #parameters FlatIndex> #wheres {
            fn eq(&self, __other: &#this) -> ::core::primitive::bool {
                #flat::ToFlat::<#this>::matches::<FlatIndex>(__other, *self)
            }
        }

        #[automatically_derived]
        impl<'flat_message, #declared FlatIndex: #flat::Index> ::core::convert::From<#view<'flat_message, #parameters FlatIndex>> for #this #wheres {
            fn from(__view: #view<'flat_message, #parameters FlatIndex>) -> Self {
                <Self as #flat::FlatType>::from_view::<FlatIndex>(__view)
            }
        }

        #flat::__if_serde! {
            #[automatically_derived]
            impl<'flat_message, #declared FlatIndex: #flat::Index> #flat::serde::Serialize for #view<'flat_message, #parameters FlatIndex> #wheres {
                fn serialize<FlatSerializer: #flat::serde::Serializer>(&self, __serializer: FlatSerializer) -> ::core::result::Result<FlatSerializer::Ok, FlatSerializer::Error> {
                    <#this as #flat::FlatType>::serialize::<FlatIndex, FlatSerializer>(*self, __serializer)
                }
            }
        }

        #[doc = #builder_doc]
        #vis struct #builder<'flat_block, #declared FlatIndex: #flat::Index = ::core::primitive::u32, const FLAT_WRITTEN: ::core::primitive::usize = 0>(
            #flat::derived::RecordBuilder<'flat_block, #this, FlatIndex, FLAT_WRITTEN>
        ) #wheres;

        #[automatically_derived]
        impl<'flat_block, #declared FlatIndex: #flat::Index, const FLAT_WRITTEN: ::core::primitive::usize> ::core::fmt::Debug for #builder<'flat_block, #parameters FlatIndex, FLAT_WRITTEN> #wheres {
            fn fmt(&self, __f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(&self.0, __f)
            }
        }

        #(
            #[allow(dead_code)]
            impl<'flat_block, #declared FlatIndex: #flat::Index> #builder<'flat_block, #parameters FlatIndex, #places> #wheres {
                #[doc = #write_docs]
                ///
                /// # Errors
                ///
                /// Those of the value.
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
                /// Those of the closure.
                #[inline]
                #field_vis fn #builds<FlatFailure: ::core::convert::From<#flat::BuildError>>(
                    self,
                    __build: impl for<'flat_value> #flat::BuildFn<'flat_value, #types, FlatIndex, FlatFailure>,
                ) -> ::core::result::Result<#builder<'flat_block, #parameters FlatIndex, #next>, FlatFailure> {
                    #flat::derived::RecordBuilder::build::<#types, FlatFailure, #next>(self.0, __build).map(#builder)
                }
            }
        )*

        #[allow(dead_code)]
        impl<'flat_block, #declared FlatIndex: #flat::Index> #builder<'flat_block, #parameters FlatIndex, #count> #wheres {
            /// Completes the record.
            ///
            /// # Errors
            ///
            /// `NoRoom` if the header has padding at its end that does not fit.
            #[inline]
            #vis fn finish(self) -> ::core::result::Result<#flat::Finished<'flat_block>, #flat::BuildError> {
                #flat::derived::RecordBuilder::finish(self.0)
            }
        }

        #[allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
        const _: () = {
            #pinned

            #assertions

            #[automatically_derived]
            unsafe impl #implementation #flat::FlatType for #this #wheres {
                type View<'flat_message, FlatIndex: #flat::Index> = #view<'flat_message, #parameters FlatIndex>;
                type Builder<'flat_block, FlatIndex: #flat::Index> = #builder<'flat_block, #parameters FlatIndex>;
                const TYPE: &'static #flat::schema::Type = &#flat::schema::Type::Record(
                    #name_text,
                    &[#(#flat::schema::Field { name: #labels, kind: #casts::TYPE }),*],
                );

                fn validate<FlatIndex: #flat::Index>(
                    __validator: &mut #flat::derived::Validator<'_, FlatIndex>,
                    __at: ::core::primitive::usize,
                ) -> ::core::result::Result<(), #flat::FlatError> {
                    let mut __record = #flat::derived::RecordValidator::<Self, FlatIndex>::new(__validator, __at);
                    #(#flat::derived::RecordValidator::field::<#types, #places>(&mut __record)?;)*
                    #flat::derived::RecordValidator::finish(__record)
                }

                #validate_all

                #[inline]
                unsafe fn view<FlatIndex: #flat::Index>(__bytes: &[::core::primitive::u8]) -> <Self as #flat::FlatType>::View<'_, FlatIndex> {
                    #view(unsafe { #flat::derived::RecordView::new(__bytes) })
                }

                #[inline]
                fn builder<FlatIndex: #flat::Index>(__target: #flat::derived::Target<'_, FlatIndex>) -> <Self as #flat::FlatType>::Builder<'_, FlatIndex> {
                    #builder(#flat::derived::RecordBuilder::new(__target))
                }

                fn from_view<FlatIndex: #flat::Index>(__view: <Self as #flat::FlatType>::View<'_, FlatIndex>) -> Self {
                    #name { #(#names: #casts::from_view::<FlatIndex>(#view::#names(__view))),* }
                }

                #flat::__if_serde! {
                    fn serialize<FlatIndex: #flat::Index, FlatSerializer: #flat::serde::Serializer>(
                        __view: <Self as #flat::FlatType>::View<'_, FlatIndex>,
                        __serializer: FlatSerializer,
                    ) -> ::core::result::Result<FlatSerializer::Ok, FlatSerializer::Error> {
                        let mut __record =
                            #flat::serde::Serializer::serialize_struct(__serializer, #name_text, #count)?;
                        #(#flat::serde::ser::SerializeStruct::serialize_field(
                            &mut __record,
                            #labels,
                            &#flat::Serialized::<#types, FlatIndex>(#view::#names(__view)),
                        )?;)*
                        #flat::serde::ser::SerializeStruct::end(__record)
                    }
                }
            }

            #[automatically_derived]
            impl #implementation #flat::ToFlat<#this> for #this #wheres {
                #[inline]
                fn write_to<'flat_block, FlatIndex: #flat::Index>(
                    &self,
                    __place: #flat::Place<'flat_block, #this, FlatIndex>,
                ) -> ::core::result::Result<#flat::Finished<'flat_block>, #flat::BuildError> {
                    let (mut __record, __written) = #flat::derived::RecordBuilder::at(__place)?;
                    #(let __written = #flat::derived::RecordBuilder::put::<#types, #places, #next>(
                        &mut __record, &self.#names, __written
                    )?;)*
                    #flat::derived::RecordBuilder::finish_put(__record, __written)
                }

                fn end_after<FlatIndex: #flat::Index>(&self, __cursor: ::core::primitive::usize) -> ::core::primitive::usize {
                    #(let __cursor = #flat::ToFlat::<#types>::end_after::<FlatIndex>(&self.#names, __cursor);)*
                    __cursor
                }

                fn matches<FlatIndex: #flat::Index>(&self, __view: #view<'_, #parameters FlatIndex>) -> ::core::primitive::bool {
                    #(#flat::ToFlat::<#types>::matches::<FlatIndex>(&self.#names, #view::#names(__view)))&&*
                }
            }

            #[automatically_derived]
            impl<'flat_message, #declared FlatOther: #flat::Index> #flat::ToFlat<#this> for #view<'flat_message, #parameters FlatOther> #rewritable {
                #[inline]
                fn write_to<'flat_block, FlatIndex: #flat::Index>(
                    &self,
                    __place: #flat::Place<'flat_block, #this, FlatIndex>,
                ) -> ::core::result::Result<#flat::Finished<'flat_block>, #flat::BuildError> {
                    let (mut __record, __written) = #flat::derived::RecordBuilder::at(__place)?;
                    #(let __written = #flat::derived::RecordBuilder::put::<#types, #places, #next>(
                        &mut __record,
                        #flat::derived::Rewritten::<#types, FlatOther>(#view::#names(*self)),
                        __written,
                    )?;)*
                    #flat::derived::RecordBuilder::finish_put(__record, __written)
                }

                fn end_after<FlatIndex: #flat::Index>(&self, __cursor: ::core::primitive::usize) -> ::core::primitive::usize {
                    #(let __cursor =
                        <#types as #flat::derived::Rewritable<'flat_message, FlatOther>>::rewritten_end::<FlatIndex>(#view::#names(*self), __cursor);)*
                    __cursor
                }

                fn matches<FlatIndex: #flat::Index>(&self, __view: #view<'_, #parameters FlatIndex>) -> ::core::primitive::bool {
                    #(<#types as #flat::derived::Rewritable<'flat_message, FlatOther>>::rewritten_matches::<FlatIndex>(
                        #view::#names(*self),
                        #view::#names(__view),
                    ))&&*
                }
            }
        };
    })
}
