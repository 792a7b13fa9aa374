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
        #vis struct #view<'a, #declared I: #flat::Index = u32>(#flat::derived::RecordView<'a, #this, I>) #wheres;

        #[automatically_derived]
        impl<'a, #declared I: #flat::Index> ::core::clone::Clone for #view<'a, #parameters I> #wheres {
            #[inline]
            fn clone(&self) -> Self {
                *self
            }
        }

        #[automatically_derived]
        impl<'a, #declared I: #flat::Index> ::core::marker::Copy for #view<'a, #parameters I> #wheres {}

        #[allow(dead_code, clippy::undocumented_unsafe_blocks)]
        impl<'a, #declared I: #flat::Index> #view<'a, #parameters I> #wheres {
            #(
                #field_docs
                #[inline]
                #field_vis fn #names(self) -> #views {
                    unsafe { self.0.field::<#types, #places>() }
                }
            )*
        }

        #[automatically_derived]
        impl<'a, #declared I: #flat::Index> ::core::fmt::Debug for #view<'a, #parameters I> #wheres {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(#name_text)#(.field(#labels, &self.#names()))*.finish()
            }
        }

        #[automatically_derived]
        impl<'a, #declared I: #flat::Index> ::core::cmp::PartialEq<#this> for #view<'a, #parameters I> #wheres {
            fn eq(&self, other: &#this) -> bool {
                #flat::ToFlat::<#this>::matches::<I>(other, *self)
            }
        }

        #[automatically_derived]
        impl<'a, #declared I: #flat::Index> ::core::convert::From<#view<'a, #parameters I>> for #this #wheres {
            fn from(view: #view<'a, #parameters I>) -> Self {
                <Self as #flat::FlatType>::from_view::<I>(view)
            }
        }

        #flat::__if_serde! {
            #[automatically_derived]
            impl<'a, #declared I: #flat::Index> #flat::serde::Serialize for #view<'a, #parameters I> #wheres {
                fn serialize<S: #flat::serde::Serializer>(&self, serializer: S) -> ::core::result::Result<S::Ok, S::Error> {
                    <#this as #flat::FlatType>::serialize::<I, S>(*self, serializer)
                }
            }
        }

        #[doc = #builder_doc]
        #vis struct #builder<'b, #declared I: #flat::Index = u32, const N: usize = 0>(
            #flat::derived::RecordBuilder<'b, #this, I, N>
        ) #wheres;

        #[automatically_derived]
        impl<'b, #declared I: #flat::Index, const N: usize> ::core::fmt::Debug for #builder<'b, #parameters I, N> #wheres {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(&self.0, f)
            }
        }

        #(
            #[allow(dead_code, clippy::undocumented_unsafe_blocks)]
            impl<'b, #declared I: #flat::Index> #builder<'b, #parameters I, #places> #wheres {
                #[doc = #write_docs]
                ///
                /// # Errors
                ///
                /// Those of the value.
                #[inline]
                #field_vis fn #names(
                    self,
                    value: impl #flat::ToFlat<#types>,
                ) -> ::core::result::Result<#builder<'b, #parameters I, #next>, #flat::BuildError> {
                    unsafe { self.0.write::<#types, #next>(value) }.map(#builder)
                }

                #[doc = #build_docs]
                ///
                /// # Errors
                ///
                /// Those of the closure.
                #[inline]
                #field_vis fn #builds<E: ::core::convert::From<#flat::BuildError>>(
                    self,
                    build: impl for<'c> #flat::BuildFn<'c, #types, I, E>,
                ) -> ::core::result::Result<#builder<'b, #parameters I, #next>, E> {
                    unsafe { self.0.build::<#types, E, #next>(build) }.map(#builder)
                }
            }
        )*

        #[allow(dead_code, clippy::undocumented_unsafe_blocks)]
        impl<'b, #declared I: #flat::Index> #builder<'b, #parameters I, #count> #wheres {
            /// Completes the record.
            ///
            /// # Errors
            ///
            /// `NoRoom` if the header has padding at its end that does not fit.
            #[inline]
            #vis fn finish(self) -> ::core::result::Result<#flat::Finished<'b>, #flat::BuildError> {
                unsafe { self.0.finish() }
            }
        }

        #[allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
        const _: () = {
            #assertions

            #[automatically_derived]
            unsafe impl #implementation #flat::FlatType for #this #wheres {
                type View<'a, I: #flat::Index> = #view<'a, #parameters I>;
                type Builder<'b, I: #flat::Index> = #builder<'b, #parameters I>;
                const TYPE: &'static #flat::schema::Type = &#flat::schema::Type::Record(
                    #name_text,
                    &[#(#flat::schema::Field { name: #labels, kind: #casts::TYPE }),*],
                );

                fn validate<I: #flat::Index>(
                    validator: &mut #flat::derived::Validator<'_, I>,
                    at: usize,
                ) -> ::core::result::Result<(), #flat::FlatError> {
                    let mut record = #flat::derived::RecordValidator::<Self, I>::new(validator, at);
                    #(record.field::<#types, #places>()?;)*
                    record.finish()
                }

                #[inline]
                unsafe fn view<I: #flat::Index>(bytes: &[u8]) -> Self::View<'_, I> {
                    #view(unsafe { #flat::derived::RecordView::new(bytes) })
                }

                #[inline]
                fn builder<I: #flat::Index>(target: #flat::derived::Target<'_, I>) -> Self::Builder<'_, I> {
                    #builder(#flat::derived::RecordBuilder::new(target))
                }

                fn from_view<I: #flat::Index>(view: Self::View<'_, I>) -> Self {
                    #name { #(#names: #casts::from_view::<I>(view.#names())),* }
                }

                #flat::__if_serde! {
                    fn serialize<I: #flat::Index, S: #flat::serde::Serializer>(
                        view: Self::View<'_, I>,
                        serializer: S,
                    ) -> ::core::result::Result<S::Ok, S::Error> {
                        use #flat::serde::ser::SerializeStruct as _;
                        let mut record = serializer.serialize_struct(#name_text, #count)?;
                        #(record.serialize_field(#labels, &#flat::Serialized::<#types, I>(view.#names()))?;)*
                        record.end()
                    }
                }
            }

            #[automatically_derived]
            impl #implementation #flat::ToFlat<#this> for #this #wheres {
                #[inline]
                fn write_to<'b, I: #flat::Index>(
                    &self,
                    place: #flat::Place<'b, #this, I>,
                ) -> ::core::result::Result<#flat::Finished<'b>, #flat::BuildError> {
                    let mut record = #flat::derived::RecordBuilder::at(place)?;
                    #(unsafe { record.put::<#types, #places>(&self.#names) }?;)*
                    unsafe { record.finish() }
                }

                fn end_after<I: #flat::Index>(&self, cursor: usize) -> usize {
                    #(let cursor = #flat::ToFlat::<#types>::end_after::<I>(&self.#names, cursor);)*
                    cursor
                }

                fn matches<I: #flat::Index>(&self, view: #view<'_, #parameters I>) -> bool {
                    #(#flat::ToFlat::<#types>::matches::<I>(&self.#names, view.#names()))&&*
                }
            }

            #[automatically_derived]
            impl<'a, #declared J: #flat::Index> #flat::ToFlat<#this> for #view<'a, #parameters J> #rewritable {
                #[inline]
                fn write_to<'b, I: #flat::Index>(
                    &self,
                    place: #flat::Place<'b, #this, I>,
                ) -> ::core::result::Result<#flat::Finished<'b>, #flat::BuildError> {
                    let mut record = #flat::derived::RecordBuilder::at(place)?;
                    #(unsafe {
                        record.put::<#types, #places>(#flat::derived::Rewritten::<#types, J>(self.#names()))
                    }?;)*
                    unsafe { record.finish() }
                }

                fn end_after<I: #flat::Index>(&self, cursor: usize) -> usize {
                    #(let cursor =
                        <#types as #flat::derived::Rewritable<'a, J>>::rewritten_end::<I>(self.#names(), cursor);)*
                    cursor
                }

                fn matches<I: #flat::Index>(&self, view: #view<'_, #parameters I>) -> bool {
                    #(<#types as #flat::derived::Rewritable<'a, J>>::rewritten_matches::<I>(
                        self.#names(),
                        view.#names(),
                    ))&&*
                }
            }
        };
    })
}
