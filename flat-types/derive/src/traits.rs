//! The implementations that all kinds of types share, around the code in which they differ.

use proc_macro2::TokenStream;
use quote::quote;
use syn::Type;

use crate::input::Input;

/// The code of a type's `FlatType` implementation.
pub(crate) struct FlatTypeImpl {
    /// `View<'flat_message, FlatIndex>`.
    pub view_type: TokenStream,
    /// `Builder<'flat_block, FlatIndex>`.
    pub builder_type: TokenStream,
    /// The `Type` that `TYPE` refers to.
    pub schema: TokenStream,
    /// The body of `validate`, with `__validator` and `__at` in scope.
    pub validate: TokenStream,
    /// The body of `validate_all`, with `__count` in scope too.
    pub validate_all: TokenStream,
    /// The body of `view`, with `__bytes` in scope.
    pub view: TokenStream,
    /// The body of `builder`, with `__target` in scope.
    pub builder: TokenStream,
    /// The body of `from_view`, with `__view` in scope.
    pub from_view: TokenStream,
    /// The body of `serialize`, with `__view` and `__serializer` in scope.
    pub serialize: TokenStream,
}

/// Values that can be written as the type.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    /// The type's own values.
    Value,
    /// Its views in other messages, at the index width `FlatOther`.
    View,
}

/// The code of a `ToFlat` implementation.
pub(crate) struct ToFlatImpl {
    /// The body of `write_to`, with `self` and `__place` in scope.
    pub write: TokenStream,
    /// The body of `end_after`, with `self` and `__cursor` in scope.
    pub end: TokenStream,
    /// The body of `matches`, with `self` and `__view` in scope.
    pub matches: TokenStream,
}

/// The body of `validate_all` that validates value by value, as the trait's default does.
///
/// It is written out so that nothing else can take its place: `__if_serde!` expands in the same
/// implementation, and its path depends on the program too.
pub(crate) fn validate_each(Input { flat, .. }: &Input<'_>) -> TokenStream {
    quote!(#flat::derived::Validator::<'_, FlatIndex>::each::<Self>(__validator, __at, __count))
}

/// The implementations of a type, and the `assertions` that make them sound.
pub(crate) fn implementations(
    input: &Input<'_>,
    assertions: &TokenStream,
    flat_type: FlatTypeImpl,
    to_flat: impl IntoIterator<Item = (Source, ToFlatImpl)>,
) -> TokenStream {
    let assert_library = input.assert_library();
    let flat_type = flat_type.expand(input);
    let to_flat = to_flat.into_iter().map(|(source, code)| code.expand(input, source));
    quote! {
        #[allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
        const _: () = {
            #assert_library
            #assertions
            #flat_type
            #(#to_flat)*
        };
    }
}

impl FlatTypeImpl {
    fn expand(self, input: &Input<'_>) -> TokenStream {
        let (Input { flat, .. }, this) = (input, input.this());
        let (implementation, _, wheres) = input.generics.split_for_impl();
        let FlatTypeImpl { view_type, builder_type, schema, .. } = self;
        let FlatTypeImpl { validate, validate_all, view, builder, from_view, serialize, .. } = self;
        quote! {
            #[automatically_derived]
            unsafe impl #implementation #flat::FlatType for #this #wheres {
                type View<'flat_message, FlatIndex: #flat::Index> = #view_type;
                type Builder<'flat_block, FlatIndex: #flat::Index> = #builder_type;
                const TYPE: &'static #flat::schema::Type = #schema;

                fn validate<FlatIndex: #flat::Index>(
                    __validator: &mut #flat::derived::Validator<'_, FlatIndex>,
                    __at: ::core::primitive::usize,
                ) -> ::core::result::Result<(), #flat::FlatError> {
                    #validate
                }

                #[inline]
                fn validate_all<FlatIndex: #flat::Index>(
                    __validator: &mut #flat::derived::Validator<'_, FlatIndex>,
                    __at: ::core::primitive::usize,
                    __count: ::core::primitive::usize,
                ) -> ::core::result::Result<(), #flat::FlatError> {
                    #validate_all
                }

                #[inline]
                unsafe fn view<FlatIndex: #flat::Index>(
                    __bytes: &[::core::primitive::u8],
                ) -> <Self as #flat::FlatType>::View<'_, FlatIndex> {
                    #view
                }

                #[inline]
                fn builder<FlatIndex: #flat::Index>(
                    __target: #flat::derived::Target<'_, FlatIndex>,
                ) -> <Self as #flat::FlatType>::Builder<'_, FlatIndex> {
                    #builder
                }

                fn from_view<FlatIndex: #flat::Index>(
                    __view: <Self as #flat::FlatType>::View<'_, FlatIndex>,
                ) -> Self {
                    #from_view
                }

                #flat::__if_serde! {
                    fn serialize<FlatIndex: #flat::Index, FlatSerializer: #flat::serde::Serializer>(
                        __view: <Self as #flat::FlatType>::View<'_, FlatIndex>,
                        __serializer: FlatSerializer,
                    ) -> ::core::result::Result<FlatSerializer::Ok, FlatSerializer::Error> {
                        #serialize
                    }
                }
            }
        }
    }
}

impl Source {
    /// A reference to something that can be written as `ty`, for the `part` of a source: a reference to a
    /// value, or a view.
    pub(crate) fn part(self, Input { flat, .. }: &Input<'_>, ty: &Type, part: TokenStream) -> TokenStream {
        match self {
            Source::Value => part,
            Source::View => quote!(&#flat::derived::Rewritten::<#ty, FlatOther>(#part)),
        }
    }
}

impl ToFlatImpl {
    fn expand(self, input: &Input<'_>, source: Source) -> TokenStream {
        let ToFlatImpl { write, end, matches } = self;
        let (Input { flat, types, view, .. }, this) = (input, input.this());
        let (implementation, _, wheres) = input.generics.split_for_impl();
        let header = match source {
            Source::Value => quote!(impl #implementation #flat::ToFlat<#this> for #this #wheres),
            Source::View => {
                let (declared, parameters) = (input.declared(), input.parameters());
                let own = input.generics.where_clause.iter().flat_map(|clause| clause.predicates.iter());
                quote! {
                    impl<'flat_message, #declared FlatOther: #flat::Index> #flat::ToFlat<#this>
                        for #view<'flat_message, #parameters FlatOther>
                    where
                        #(#own,)*
                        #(#types: #flat::derived::Rewritable<'flat_message, FlatOther>,)*
                }
            }
        };
        quote! {
            #[automatically_derived]
            #header {
                #[inline]
                fn write_to<'flat_block, FlatIndex: #flat::Index>(
                    &self,
                    __place: #flat::Place<'flat_block, #this, FlatIndex>,
                ) -> ::core::result::Result<#flat::Finished<'flat_block>, #flat::BuildError> {
                    #write
                }

                fn end_after<FlatIndex: #flat::Index>(
                    &self,
                    __cursor: ::core::primitive::usize,
                ) -> ::core::primitive::usize {
                    #end
                }

                fn matches<FlatIndex: #flat::Index>(
                    &self,
                    __view: <#this as #flat::FlatType>::View<'_, FlatIndex>,
                ) -> ::core::primitive::bool {
                    #matches
                }
            }
        }
    }
}

/// The traits of a view type: `Clone`, `Copy`, `Debug` with the body `debug`, comparison with the type
/// itself, conversion into it, and `Serialize`.
pub(crate) fn view_traits(input: &Input<'_>, debug: &TokenStream) -> TokenStream {
    let (Input { flat, view, .. }, this) = (input, input.this());
    let (declared, parameters) = (input.declared(), input.parameters());
    let wheres = &input.generics.where_clause;
    let view = quote!(#view<'flat_message, #parameters FlatIndex>);
    let for_view = quote!(for #view #wheres);
    let implementation = quote!(impl<'flat_message, #declared FlatIndex: #flat::Index>);
    quote! {
        #[automatically_derived]
        #implementation ::core::clone::Clone #for_view {
            #[inline]
            fn clone(&self) -> Self {
                *self
            }
        }

        #[automatically_derived]
        #implementation ::core::marker::Copy #for_view {}

        #[automatically_derived]
        #implementation ::core::fmt::Debug #for_view {
            fn fmt(&self, __f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                #debug
            }
        }

        #[automatically_derived]
        #implementation ::core::cmp::PartialEq<#this> #for_view {
            fn eq(&self, __other: &#this) -> ::core::primitive::bool {
                #flat::ToFlat::<#this>::matches::<FlatIndex>(__other, *self)
            }
        }

        #[automatically_derived]
        #implementation ::core::convert::From<#view> for #this #wheres {
            fn from(__view: #view) -> Self {
                <Self as #flat::FlatType>::from_view::<FlatIndex>(__view)
            }
        }

        #flat::__if_serde! {
            #[automatically_derived]
            #implementation #flat::serde::Serialize #for_view {
                fn serialize<FlatSerializer: #flat::serde::Serializer>(
                    &self,
                    __serializer: FlatSerializer,
                ) -> ::core::result::Result<FlatSerializer::Ok, FlatSerializer::Error> {
                    <#this as #flat::FlatType>::serialize::<FlatIndex, FlatSerializer>(*self, __serializer)
                }
            }
        }
    }
}
