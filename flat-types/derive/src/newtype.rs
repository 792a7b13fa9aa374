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
    let pinned = input.pinned();
    let this = input.this();
    let wheres = &input.generics.where_clause;
    let (implementation, _, _) = input.generics.split_for_impl();
    let types: Vec<_> = fields.unnamed.iter().map(|field| &field.ty).collect();
    let places: Vec<_> = (0..types.len()).map(Literal::usize_unsuffixed).collect();
    let assertions = input.assertions(types.iter().copied());
    let (inner, native, reference) = match types.as_slice() {
        [only] => (
            quote!(#only),
            quote!(#name(<#only as #flat::FlatType>::from_view::<FlatIndex>(__view))),
            quote!(&self.0),
        ),
        _ => (
            quote!((#(#types,)*)),
            quote!(#name(#(<#types as #flat::FlatType>::from_view::<FlatIndex>(__view.#places)),*)),
            quote!((#(&self.#places,)*)),
        ),
    };

    Ok(quote! {
        #[allow(clippy::undocumented_unsafe_blocks)]
        const _: () = {
            #pinned

            #assertions

            #[automatically_derived]
            unsafe impl #implementation #flat::FlatType for #this #wheres {
                type View<'flat_message, FlatIndex: #flat::Index> = <#inner as #flat::FlatType>::View<'flat_message, FlatIndex>;
                type Builder<'flat_block, FlatIndex: #flat::Index> = <#inner as #flat::FlatType>::Builder<'flat_block, FlatIndex>;
                const TYPE: &'static #flat::schema::Type = <#inner as #flat::FlatType>::TYPE;

                fn validate<FlatIndex: #flat::Index>(
                    __validator: &mut #flat::derived::Validator<'_, FlatIndex>,
                    __at: ::core::primitive::usize,
                ) -> ::core::result::Result<(), #flat::FlatError> {
                    <#inner as #flat::FlatType>::validate(__validator, __at)
                }

                fn validate_all<FlatIndex: #flat::Index>(
                    __validator: &mut #flat::derived::Validator<'_, FlatIndex>,
                    __at: ::core::primitive::usize,
                    __count: ::core::primitive::usize,
                ) -> ::core::result::Result<(), #flat::FlatError> {
                    <#inner as #flat::FlatType>::validate_all(__validator, __at, __count)
                }

                #[inline]
                unsafe fn view<FlatIndex: #flat::Index>(__bytes: &[::core::primitive::u8]) -> <Self as #flat::FlatType>::View<'_, FlatIndex> {
                    unsafe { <#inner as #flat::FlatType>::view::<FlatIndex>(__bytes) }
                }

                #[inline]
                fn builder<FlatIndex: #flat::Index>(__target: #flat::derived::Target<'_, FlatIndex>) -> <Self as #flat::FlatType>::Builder<'_, FlatIndex> {
                    <#inner as #flat::FlatType>::builder(__target)
                }

                fn from_view<FlatIndex: #flat::Index>(__view: <Self as #flat::FlatType>::View<'_, FlatIndex>) -> Self {
                    #native
                }

                #flat::__if_serde! {
                    fn serialize<FlatIndex: #flat::Index, FlatSerializer: #flat::serde::Serializer>(
                        __view: <Self as #flat::FlatType>::View<'_, FlatIndex>,
                        __serializer: FlatSerializer,
                    ) -> ::core::result::Result<FlatSerializer::Ok, FlatSerializer::Error> {
                        <#inner as #flat::FlatType>::serialize::<FlatIndex, FlatSerializer>(__view, __serializer)
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
                    #flat::ToFlat::<#inner>::write_to::<FlatIndex>(&#reference, #flat::Place::retyped::<#inner>(__place))
                }

                fn end_after<FlatIndex: #flat::Index>(&self, __cursor: ::core::primitive::usize) -> ::core::primitive::usize {
                    #flat::ToFlat::<#inner>::end_after::<FlatIndex>(&#reference, __cursor)
                }

                fn matches<FlatIndex: #flat::Index>(&self, __view: <#inner as #flat::FlatType>::View<'_, FlatIndex>) -> ::core::primitive::bool {
                    #flat::ToFlat::<#inner>::matches::<FlatIndex>(&#reference, __view)
                }
            }
        };
    })
}
