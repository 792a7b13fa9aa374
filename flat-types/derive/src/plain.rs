//! Types whose value is a number: enums without payloads, and sets of flags. Their view is the type itself.

use proc_macro2::{Literal, TokenStream};
use quote::{quote, quote_spanned};
use syn::{DataEnum, Error, FieldsNamed, Result, Type};

use crate::input::Input;
use crate::names::text;
use crate::traits::{FlatTypeImpl, Source, ToFlatImpl, implementations, validate_each};

/// The code for an enum without payloads.
pub(crate) fn plain_enum(input: &Input<'_>, data: &DataEnum) -> Result<TokenStream> {
    let Input { flat, name, .. } = input;
    if let Some((_, discriminant)) = data.variants.iter().find_map(|case| case.discriminant.as_ref()) {
        return Err(Error::new_spanned(
            discriminant,
            "cases are numbered from 0 in order, as in WIT: a message would not contain this number",
        ));
    }
    let cases: Vec<_> = data.variants.iter().map(|case| &case.ident).collect();
    let labels: Vec<_> = cases.iter().map(|case| text(case)).collect();
    let numbers: Vec<_> = (0..cases.len()).map(Literal::usize_unsuffixed).collect();
    // Validation has checked the case, so the last one needs no comparison.
    let (last, others) = cases.split_last().expect("there is a case");
    let other_numbers = &numbers[..others.len()];
    let name_text = text(name);

    let code = Plain {
        schema: quote!(#flat::schema::Type::Enum(#name_text, &[#(#labels),*])),
        validate: quote! {
            let __case = #flat::derived::Variant::<Self, FlatIndex>::validate_case(__validator, __at);
            __case.map(|_| ())
        },
        view: quote! {
            match #flat::derived::Variant::<Self, FlatIndex>::case(__bytes) {
                #(#other_numbers => #name::#others,)*
                _ => #name::#last,
            }
        },
        write: quote! {
            let __case = match self { #(#name::#cases => #numbers,)* };
            #flat::derived::VariantBuilder::plain(#flat::derived::VariantBuilder::at(__place), __case)
        },
        matches: quote! {
            ::core::mem::discriminant(self) == ::core::mem::discriminant(&__view)
        },
        serialize: quote! {
            match __view {
                #(#name::#cases => #flat::serde::Serializer::serialize_unit_variant(
                    __serializer, #name_text, #numbers, #labels
                ),)*
            }
        },
    };
    Ok(code.expand(input))
}

/// The code for a struct of bools that is marked `#[flat(flags)]`.
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
        return Err(Error::new_spanned(name, "a set of flags has 1 to 64 flags"));
    }
    let names: Vec<_> =
        fields.named.iter().map(|field| field.ident.as_ref().expect("the fields are named")).collect();
    let labels: Vec<_> = names.iter().map(|name| text(name)).collect();
    let numbers: Vec<_> = (0..count).map(Literal::usize_unsuffixed).collect();
    let name_text = text(name);

    let code = Plain {
        schema: quote!(#flat::schema::Type::Flags(#name_text, &[#(#labels),*])),
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
    Ok(code.expand(input))
}

/// The code in which enums and flags differ, in the order of [`FlatTypeImpl`] and [`ToFlatImpl`].
struct Plain {
    schema: TokenStream,
    validate: TokenStream,
    view: TokenStream,
    write: TokenStream,
    matches: TokenStream,
    serialize: TokenStream,
}

impl Plain {
    fn expand(self, input: &Input<'_>) -> TokenStream {
        let (Input { flat, name, .. }, this) = (input, input.this());
        let Plain { schema, validate, view, write, matches, serialize } = self;
        // The error of a missing bound points at the type's name.
        let bounds = quote_spanned! {name.span()=>
            const _: fn() = || {
                fn the_view_of_this_type_is_the_type_itself<T: ::core::marker::Copy + ::core::fmt::Debug>() {}
                the_view_of_this_type_is_the_type_itself::<#name>();
            };
        };
        let flat_type = FlatTypeImpl {
            view_type: this.clone(),
            builder_type: quote!(#flat::ScalarBuilder<'flat_block, #this, FlatIndex>),
            schema: quote!(&#schema),
            validate,
            validate_all: validate_each(input),
            view,
            builder: quote!(#flat::ScalarBuilder::new(__target)),
            from_view: quote!(__view),
            serialize,
        };
        let value = ToFlatImpl { write, end: quote!(__cursor), matches };
        implementations(input, &bounds, flat_type, [(Source::Value, value)])
    }
}
