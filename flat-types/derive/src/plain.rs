//! Types whose value is a number: enums without payloads, and sets of flags. Their view is the type itself.

use proc_macro2::{Literal, TokenStream};
use quote::{quote, quote_spanned};
use syn::{DataEnum, Error, FieldsNamed, Result, Type};

use crate::input::{Input, text};

/// Everything for an enum without payloads.
pub(crate) fn plain_enum(input: &Input<'_>, data: &DataEnum) -> Result<TokenStream> {
    let Input { flat, name, .. } = input;
    if let Some((_, discriminant)) = data.variants.iter().find_map(|case| case.discriminant.as_ref()) {
        return Err(Error::new_spanned(
            discriminant,
            "cases are numbered from 0 in their order, as in WIT; a value of one's own would not be what is sent",
        ));
    }
    let cases: Vec<_> = data.variants.iter().map(|case| &case.ident).collect();
    let labels: Vec<_> = cases.iter().map(|case| text(case)).collect();
    let numbers: Vec<_> = (0..cases.len()).map(Literal::usize_unsuffixed).collect();
    // Validation has found the case, so that the last one is what is left.
    let (last, others) = cases.split_last().expect("there is a case");
    let other_numbers = &numbers[..others.len()];
    let name_text = text(name);

    let layout = Layout {
        kind: quote!(#flat::schema::Type::Enum(#name_text, &[#(#labels),*])),
        validate: quote! {
            let __case = #flat::derived::Choice::<Self, FlatIndex>::validate_case(__validator, __at);
            __case.map(|_| ())
        },
        view: quote! {
            match #flat::derived::Choice::<Self, FlatIndex>::case(__bytes) {
                #(#other_numbers => #name::#others,)*
                _ => #name::#last,
            }
        },
        write: quote! {
            let __case = match self { #(#name::#cases => #numbers,)* };
            #flat::derived::ChoiceBuilder::plain(#flat::derived::ChoiceBuilder::at(__place), __case)
        },
        matches: quote! {
            ::core::mem::discriminant(self) == ::core::mem::discriminant(&__view)
        },
        serialize: quote! {
            match __view {
                #(#name::#cases => #flat::serde::Serializer::serialize_unit_variant(__serializer, #name_text, #numbers, #labels),)*
            }
        },
    };
    Ok(plain(input, layout))
}

/// Everything for a struct of bools that is marked `#[flat(flags)]`.
pub(crate) fn flags(input: &Input<'_>, fields: &FieldsNamed) -> Result<TokenStream> {
    let Input { flat, name, .. } = input;
    for field in &fields.named {
        let is_bool = matches!(&field.ty, Type::Path(path) if path.path.is_ident("bool"));
        if !is_bool {
            return Err(Error::new_spanned(&field.ty, "a flag is a `bool`"));
        }
    }
    let count = fields.named.len();
    if count == 0 || count > 64 {
        return Err(Error::new_spanned(name, "flags: 1 to 64 of them"));
    }
    let names: Vec<_> =
        fields.named.iter().map(|field| field.ident.as_ref().expect("the fields are named")).collect();
    let labels: Vec<_> = names.iter().map(|name| text(name)).collect();
    let numbers: Vec<_> = (0..count).map(Literal::usize_unsuffixed).collect();
    let name_text = text(name);

    let layout = Layout {
        kind: quote!(#flat::schema::Type::Flags(#name_text, &[#(#labels),*])),
        validate: quote!(#flat::derived::Bits::<Self, FlatIndex>::validate(__validator, __at)),
        view: quote! {
            let __bits = #flat::derived::Bits::<Self, FlatIndex>::read(__bytes);
            #name { #(#names: (__bits >> #numbers) & 1 == 1),* }
        },
        write: quote! {
            let __bits = 0 #(| ((self.#names as ::core::primitive::u64) << #numbers))*;
            #flat::derived::Bits::<#name, FlatIndex>::write(__place, __bits)
        },
        matches: quote!(true #(&& self.#names == __view.#names)*),
        serialize: quote! {
            let mut __flags = #flat::serde::Serializer::serialize_struct(__serializer, #name_text, #count)?;
            #(#flat::serde::ser::SerializeStruct::serialize_field(&mut __flags, #labels, &__view.#names)?;)*
            #flat::serde::ser::SerializeStruct::end(__flags)
        },
    };
    Ok(plain(input, layout))
}

/// The parts in which enums and flags differ.
struct Layout {
    kind: TokenStream,
    validate: TokenStream,
    view: TokenStream,
    write: TokenStream,
    matches: TokenStream,
    serialize: TokenStream,
}

fn plain(input: &Input<'_>, layout: Layout) -> TokenStream {
    let Input { flat, name, generics, .. } = input;
    let (validate_all, pinned) = (input.validate_all(), input.pinned());
    let Layout { kind, validate, view, write, matches, serialize } = layout;
    let (implementation, parameters, wheres) = generics.split_for_impl();
    let this = quote!(#name #parameters);
    // A missing bound is to be found at the type's name.
    let bounds = quote_spanned! {name.span()=>
        const _: fn() = || {
            fn the_view_of_this_type_is_the_type_itself<T: ::core::marker::Copy + ::core::fmt::Debug>() {}
            the_view_of_this_type_is_the_type_itself::<#name>();
        };
    };

    quote! {
        #[allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
        const _: () = {
            #pinned

            #bounds

            #[automatically_derived]
            unsafe impl #implementation #flat::FlatType for #this #wheres {
                type View<'flat_message, FlatIndex: #flat::Index> = #this;
                type Builder<'flat_block, FlatIndex: #flat::Index> = #flat::ScalarBuilder<'flat_block, #this, FlatIndex>;
                const TYPE: &'static #flat::schema::Type = &#kind;

                fn validate<FlatIndex: #flat::Index>(
                    __validator: &mut #flat::derived::Validator<'_, FlatIndex>,
                    __at: ::core::primitive::usize,
                ) -> ::core::result::Result<(), #flat::FlatError> {
                    #validate
                }

                #validate_all

                #[inline]
                unsafe fn view<FlatIndex: #flat::Index>(__bytes: &[::core::primitive::u8]) -> #this {
                    #view
                }

                #[inline]
                fn builder<FlatIndex: #flat::Index>(__target: #flat::derived::Target<'_, FlatIndex>) -> <Self as #flat::FlatType>::Builder<'_, FlatIndex> {
                    #flat::ScalarBuilder::new(__target)
                }

                #[inline]
                fn from_view<FlatIndex: #flat::Index>(__view: #this) -> Self {
                    __view
                }

                #flat::__if_serde! {
                    fn serialize<FlatIndex: #flat::Index, FlatSerializer: #flat::serde::Serializer>(
                        __view: #this,
                        __serializer: FlatSerializer,
                    ) -> ::core::result::Result<FlatSerializer::Ok, FlatSerializer::Error> {
                        #serialize
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
                    #write
                }

                #[inline]
                fn end_after<FlatIndex: #flat::Index>(&self, __cursor: ::core::primitive::usize) -> ::core::primitive::usize {
                    __cursor
                }

                #[inline]
                fn matches<FlatIndex: #flat::Index>(&self, __view: #this) -> ::core::primitive::bool {
                    #matches
                }
            }
        };
    }
}
