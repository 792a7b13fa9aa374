//! Enums with payloads: variants.

use std::collections::BTreeMap;

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::{DataEnum, Error, Result};

use crate::case::Case;
use crate::check;
use crate::input::Input;
use crate::names::text;
use crate::traits::{FlatTypeImpl, Source, ToFlatImpl, implementations, validate_each, view_traits};

/// The code for an enum with payloads.
pub(crate) fn variant(input: &Input<'_>, data: &DataEnum) -> Result<TokenStream> {
    check::fields(data.variants.iter().flat_map(|case| case.fields.iter()))?;
    let cases = data.variants.iter().enumerate().map(|(n, case)| Case::new(n, case));
    let cases = cases.collect::<Result<Vec<_>>>()?;
    check_methods(&cases)?;

    let (view, builder) = (view(input, &cases), builder(input, &cases));
    let to_flat = [Source::Value, Source::View].map(|source| (source, to_flat(input, &cases, source)));
    let implementations = implementations(input, &input.assert_fields(), flat_type(input, &cases), to_flat);
    Ok(quote!(#view #builder #implementations))
}

/// Rejects cases for which the builder's methods would have the same names.
fn check_methods(cases: &[Case<'_>]) -> Result<()> {
    let mut methods = BTreeMap::new();
    for case in cases {
        let (method, build) = case.methods();
        for method in [Some(method), build].into_iter().flatten() {
            if let Some(other) = methods.insert(method.clone(), case.name) {
                return Err(Error::new_spanned(
                    case.name,
                    format!("`{}` and `{other}` would both have the builder's method `{method}`", case.name),
                ));
            }
        }
    }
    Ok(())
}

/// The arms of a `match` on the enum `of`. `code` gets each case and the variables that its parts are bound
/// to.
fn arms(cases: &[Case<'_>], of: &Ident, code: impl Fn(&Case<'_>, &[Ident]) -> TokenStream) -> TokenStream {
    cases
        .iter()
        .map(|case| {
            let parts = case.variables("__own_");
            let (pattern, code) = (case.with(of, &parts), code(case, &parts));
            quote!(#pattern => { #code })
        })
        .collect()
}

/// The view: an enum with the same cases.
fn view(input: &Input<'_>, cases: &[Case<'_>]) -> TokenStream {
    let Input { flat, name, vis, view, .. } = input;
    let (declared, wheres) = (input.declared(), &input.generics.where_clause);
    let doc = format!("A [`{name}`], read in place.");
    let view_cases = cases.iter().map(|case| case.view(input));
    let debugs = arms(cases, view, |case, parts| case.debug(parts));
    let traits = view_traits(input, &quote!(match self { #debugs }));
    quote! {
        #[doc = #doc]
        #vis enum #view<'flat_message, #declared FlatIndex: #flat::Index = ::core::primitive::u32> #wheres {
            #(#view_cases),*
        }

        #traits
    }
}

/// The builder: a struct with one or two methods per case.
fn builder(input: &Input<'_>, cases: &[Case<'_>]) -> TokenStream {
    let Input { flat, name, vis, builder, .. } = input;
    let (this, parameters, declared) = (input.this(), input.parameters(), input.declared());
    let wheres = &input.generics.where_clause;
    let doc = format!("Writes one case of a [`{name}`].");
    let methods = cases.iter().map(|case| case.builder_methods(input));
    quote! {
        #[doc = #doc]
        #vis struct #builder<'flat_block, #declared FlatIndex: #flat::Index = ::core::primitive::u32>(
            #flat::derived::VariantBuilder<'flat_block, #this, FlatIndex>
        ) #wheres;

        #[automatically_derived]
        impl<'flat_block, #declared FlatIndex: #flat::Index> ::core::fmt::Debug
            for #builder<'flat_block, #parameters FlatIndex> #wheres
        {
            fn fmt(&self, __f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(&self.0, __f)
            }
        }

        #[allow(dead_code)]
        impl<'flat_block, #declared FlatIndex: #flat::Index> #builder<'flat_block, #parameters FlatIndex> #wheres {
            #(#methods)*
        }
    }
}

/// The variant's `FlatType` implementation.
fn flat_type(input: &Input<'_>, cases: &[Case<'_>]) -> FlatTypeImpl {
    let Input { flat, name, view, builder, .. } = input;
    let (name_text, parameters) = (text(name), input.parameters());
    let variant = quote!(#flat::derived::Variant::<Self, FlatIndex>);

    let schemas = cases.iter().map(|case| case.schema(input));
    let validations = cases.iter().map(|case| {
        let number = &case.number;
        match case.payload() {
            None => quote!(#number => #variant::validate_unit(__validator, __at)),
            Some(payload) => quote!(#number => #variant::validate_payload::<#payload>(__validator, __at)),
        }
    });
    let views = cases.iter().enumerate().map(|(n, case)| {
        // Validation has checked the case, so the last one needs no comparison.
        let number = &case.number;
        let number = if n + 1 == cases.len() { quote!(_) } else { quote!(#number) };
        let parts = case.variables("__view_");
        let view_case = case.with(view, &parts);
        let payload = case.payload().map(|payload| {
            let parts = case.packed(&parts);
            quote!(let #parts = unsafe { #variant::payload::<#payload>(__bytes) };)
        });
        quote!(#number => { #payload #view_case })
    });
    let values = arms(cases, view, |case, parts| {
        let values = parts.iter().zip(&case.types).map(|(part, ty)| {
            let as_flat = input.as_flat(ty);
            quote!(#as_flat::from_view::<FlatIndex>(#part))
        });
        case.with(name, &values.collect::<Vec<_>>())
    });
    let serializations = arms(cases, view, |case, parts| case.serialize(input, parts));

    FlatTypeImpl {
        view_type: quote!(#view<'flat_message, #parameters FlatIndex>),
        builder_type: quote!(#builder<'flat_block, #parameters FlatIndex>),
        schema: quote!(&#flat::schema::Type::Variant(#name_text, &[#(#schemas),*])),
        validate: quote! {
            match #variant::validate_case(__validator, __at)? {
                #(#validations,)*
                _ => ::core::unreachable!("the case is one of the type's"),
            }
        },
        validate_all: validate_each(input),
        view: quote!(match #variant::case(__bytes) { #(#views)* }),
        builder: quote!(#builder(#flat::derived::VariantBuilder::new(__target))),
        from_view: quote!(match __view { #values }),
        serialize: quote!(match __view { #serializations }),
    }
}

/// The `ToFlat` implementation of the variant or of its view.
fn to_flat(input: &Input<'_>, cases: &[Case<'_>], source: Source) -> ToFlatImpl {
    let Input { flat, name, view, .. } = input;
    let (of, this) = match source {
        Source::Value => (*name, quote!(self)),
        Source::View => (view, quote!(*self)),
    };
    let parts_of = |case: &Case<'_>, parts: &[Ident]| -> Vec<_> {
        parts.iter().zip(&case.types).map(|(part, ty)| source.part(input, ty, quote!(#part))).collect()
    };

    let writes = arms(cases, of, |case, parts| {
        let (number, value) = (&case.number, case.packed(&parts_of(case, parts)));
        match case.payload() {
            None => quote!(#flat::derived::VariantBuilder::unit::<#number>(__variant)),
            Some(payload) => quote! {
                #flat::derived::VariantBuilder::write::<#payload, #number>(__variant, #value)
            },
        }
    });
    let ends = arms(cases, of, |case, parts| {
        let (parts, types) = (parts_of(case, parts), &case.types);
        quote! {
            #(let __cursor = #flat::ToFlat::<#types>::end_after::<FlatIndex>(#parts, __cursor);)*
            __cursor
        }
    });
    let matches = cases.iter().map(|case| {
        let (parts, views) = (case.variables("__own_"), case.variables("__view_"));
        let (own, other) = (case.with(of, &parts), case.with(view, &views));
        let (parts, types) = (parts_of(case, &parts), &case.types);
        quote! {
            (#own, #other) => true #(&& #flat::ToFlat::<#types>::matches::<FlatIndex>(#parts, #views))*
        }
    });
    let differs = (cases.len() > 1).then(|| quote!(_ => false));

    ToFlatImpl {
        write: quote! {
            let __variant = #flat::derived::VariantBuilder::at(__place);
            match #this { #writes }
        },
        end: quote!(match #this { #ends }),
        matches: quote! {
            match (#this, __view) {
                #(#matches,)*
                #differs
            }
        },
    }
}
