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
            let case = #flat::derived::Choice::<Self, I>::validate_case(validator, at);
            case.map(|_| ())
        },
        view: quote! {
            match #flat::derived::Choice::<Self, I>::case(bytes) {
                #(#other_numbers => #name::#others,)*
                _ => #name::#last,
            }
        },
        write: quote! {
            let case = match self { #(#name::#cases => #numbers,)* };
            unsafe { #flat::derived::ChoiceBuilder::at(place).unit(case) }
        },
        matches: quote! {
            ::core::mem::discriminant(self) == ::core::mem::discriminant(&view)
        },
        serialize: quote! {
            match view {
                #(#name::#cases => serializer.serialize_unit_variant(#name_text, #numbers, #labels),)*
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
        validate: quote!(#flat::derived::Bits::<Self, I>::validate(validator, at)),
        view: quote! {
            let bits = #flat::derived::Bits::<Self, I>::read(bytes);
            #name { #(#names: (bits >> #numbers) & 1 == 1),* }
        },
        write: quote! {
            let bits = 0 #(| (u64::from(self.#names) << #numbers))*;
            #flat::derived::Bits::<#name, I>::write(place, bits)
        },
        matches: quote!(true #(&& self.#names == view.#names)*),
        serialize: quote! {
            use #flat::serde::ser::SerializeStruct as _;
            let mut flags = serializer.serialize_struct(#name_text, #count)?;
            #(flags.serialize_field(#labels, &view.#names)?;)*
            flags.end()
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
            #bounds

            #[automatically_derived]
            unsafe impl #implementation #flat::FlatType for #this #wheres {
                type View<'a, I: #flat::Index> = #this;
                type Builder<'b, I: #flat::Index> = #flat::ScalarBuilder<'b, #this, I>;
                const TYPE: &'static #flat::schema::Type = &#kind;

                fn validate<I: #flat::Index>(
                    validator: &mut #flat::derived::Validator<'_, I>,
                    at: usize,
                ) -> ::core::result::Result<(), #flat::FlatError> {
                    #validate
                }

                #[inline]
                unsafe fn view<I: #flat::Index>(bytes: &[u8]) -> #this {
                    #view
                }

                #[inline]
                fn builder<I: #flat::Index>(target: #flat::derived::Target<'_, I>) -> Self::Builder<'_, I> {
                    #flat::ScalarBuilder::new(target)
                }

                #[inline]
                fn from_view<I: #flat::Index>(view: #this) -> Self {
                    view
                }

                #flat::__if_serde! {
                    fn serialize<I: #flat::Index, S: #flat::serde::Serializer>(
                        view: #this,
                        serializer: S,
                    ) -> ::core::result::Result<S::Ok, S::Error> {
                        #serialize
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
                    #write
                }

                #[inline]
                fn end_after<I: #flat::Index>(&self, cursor: usize) -> usize {
                    cursor
                }

                #[inline]
                fn matches<I: #flat::Index>(&self, view: #this) -> bool {
                    #matches
                }
            }
        };
    }
}
