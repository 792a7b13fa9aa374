//! Structs without field names: with one field they have its layout, with more they are tuples.

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use syn::{FieldsUnnamed, Result};

use crate::input::{Input, check_fields};

/// Everything for a struct without field names.
pub(crate) fn newtype(input: &Input<'_>, fields: &FieldsUnnamed) -> Result<TokenStream> {
    check_fields(fields.unnamed.iter())?;
    if fields.unnamed.is_empty() {
        return Err(syn::Error::new_spanned(input.name, "a struct without fields has nothing to lay out"));
    }
    let Input { flat, name, .. } = input;
    let this = input.this();
    let wheres = &input.generics.where_clause;
    let (implementation, _, _) = input.generics.split_for_impl();
    let types: Vec<_> = fields.unnamed.iter().map(|field| &field.ty).collect();
    let places: Vec<_> = (0..types.len()).map(Literal::usize_unsuffixed).collect();
    let assertions = input.assertions(types.iter().copied());
    let (inner, native, reference) = match types.as_slice() {
        [only] => {
            (quote!(#only), quote!(#name(<#only as #flat::FlatType>::from_view::<I>(view))), quote!(&self.0))
        }
        _ => (
            quote!((#(#types,)*)),
            quote!(#name(#(<#types as #flat::FlatType>::from_view::<I>(view.#places)),*)),
            quote!((#(&self.#places,)*)),
        ),
    };

    Ok(quote! {
        #[allow(clippy::undocumented_unsafe_blocks)]
        const _: () = {
            #assertions

            #[automatically_derived]
            unsafe impl #implementation #flat::FlatType for #this #wheres {
                type View<'a, I: #flat::Index> = <#inner as #flat::FlatType>::View<'a, I>;
                type Builder<'b, I: #flat::Index> = <#inner as #flat::FlatType>::Builder<'b, I>;
                const TYPE: &'static #flat::schema::Type = <#inner as #flat::FlatType>::TYPE;

                fn validate<I: #flat::Index>(
                    validator: &mut #flat::derived::Validator<'_, I>,
                    at: usize,
                ) -> ::core::result::Result<(), #flat::FlatError> {
                    <#inner as #flat::FlatType>::validate(validator, at)
                }

                fn validate_all<I: #flat::Index>(
                    validator: &mut #flat::derived::Validator<'_, I>,
                    at: usize,
                    count: usize,
                ) -> ::core::result::Result<(), #flat::FlatError> {
                    <#inner as #flat::FlatType>::validate_all(validator, at, count)
                }

                #[inline]
                unsafe fn view<I: #flat::Index>(bytes: &[u8]) -> Self::View<'_, I> {
                    unsafe { <#inner as #flat::FlatType>::view::<I>(bytes) }
                }

                #[inline]
                fn builder<I: #flat::Index>(target: #flat::derived::Target<'_, I>) -> Self::Builder<'_, I> {
                    <#inner as #flat::FlatType>::builder(target)
                }

                fn from_view<I: #flat::Index>(view: Self::View<'_, I>) -> Self {
                    #native
                }

                #flat::__if_serde! {
                    fn serialize<I: #flat::Index, S: #flat::serde::Serializer>(
                        view: Self::View<'_, I>,
                        serializer: S,
                    ) -> ::core::result::Result<S::Ok, S::Error> {
                        <#inner as #flat::FlatType>::serialize::<I, S>(view, serializer)
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
                    #flat::ToFlat::<#inner>::write_to::<I>(&#reference, unsafe { place.retyped::<#inner>() })
                }

                fn end_after<I: #flat::Index>(&self, cursor: usize) -> usize {
                    #flat::ToFlat::<#inner>::end_after::<I>(&#reference, cursor)
                }

                fn matches<I: #flat::Index>(&self, view: <#inner as #flat::FlatType>::View<'_, I>) -> bool {
                    #flat::ToFlat::<#inner>::matches::<I>(&#reference, view)
                }
            }
        };
    })
}
