//! Enums with payloads: variants.

use heck::ToSnakeCase;
use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};
use syn::{DataEnum, Fields, Result, Type, Variant};

use crate::input::{Input, check_fields, documentation, ident, text};

/// A case of the enum.
struct Case<'s> {
    source: &'s Variant,
    name: &'s Ident,
    number: Literal,
    types: Vec<&'s Type>,
    /// What the parts of the payload are called in patterns and parameters.
    parts: Vec<Ident>,
}

impl<'s> Case<'s> {
    fn new(number: usize, source: &'s Variant) -> Self {
        let parts = source.fields.iter().enumerate();
        Case {
            source,
            name: &source.ident,
            number: Literal::usize_unsuffixed(number),
            types: source.fields.iter().map(|field| &field.ty).collect(),
            parts: parts
                .map(|(n, field)| field.ident.clone().unwrap_or_else(|| format_ident!("part{n}")))
                .collect(),
        }
    }

    /// The type that the payload is laid out as, if there is one.
    fn payload(&self) -> Option<TokenStream> {
        let types = &self.types;
        match types.as_slice() {
            [] => None,
            [only] if matches!(self.source.fields, Fields::Unnamed(_)) => Some(quote!(#only)),
            _ => Some(quote!((#(#types,)*))),
        }
    }

    /// The case with `values` for its parts, as a pattern or an expression of the enum `of`.
    fn with(&self, of: &TokenStream, values: &[TokenStream]) -> TokenStream {
        let (name, parts) = (self.name, &self.parts);
        match self.source.fields {
            Fields::Unit => quote!(#of::#name),
            Fields::Unnamed(_) => quote!(#of::#name(#(#values),*)),
            Fields::Named(_) => quote!(#of::#name { #(#parts: #values),* }),
        }
    }

    /// The case as a pattern that binds each part to `prefix` and its name.
    fn pattern(&self, of: &TokenStream, prefix: &str) -> TokenStream {
        self.with(of, &self.bound(prefix))
    }

    fn bound(&self, prefix: &str) -> Vec<TokenStream> {
        self.parts
            .iter()
            .map(|part| {
                let name = format_ident!("{prefix}{}", text(part));
                quote!(#name)
            })
            .collect()
    }
}

/// Everything for an enum with payloads.
pub(crate) fn variant(input: &Input<'_>, data: &DataEnum) -> Result<TokenStream> {
    check_fields(data.variants.iter().flat_map(|case| case.fields.iter()))?;
    for case in &data.variants {
        if !matches!(case.fields, Fields::Unit) && case.fields.is_empty() {
            return Err(syn::Error::new_spanned(
                case,
                "a case without payload is written without parentheses",
            ));
        }
        if case.fields.len() > 8 {
            return Err(syn::Error::new_spanned(
                case,
                "a case has at most 8 fields: use a struct of its own",
            ));
        }
    }
    check_methods(data)?;
    let Input { flat, name, vis, view, builder, .. } = input;
    let (validate_all, pinned) = (input.validate_all(), input.pinned());
    let (this, parameters, declared) = (input.this(), input.parameters(), input.declared());
    let wheres = &input.generics.where_clause;
    let (implementation, _, _) = input.generics.split_for_impl();
    let cases: Vec<_> = data.variants.iter().enumerate().map(|(n, case)| Case::new(n, case)).collect();
    let name_text = text(name);
    let (of_this, of_view) = (quote!(#name), quote!(#view));

    let assertions = input.assertions(cases.iter().flat_map(|case| case.types.iter().copied()));
    let view_doc = format!("A [`{name}`] that is read in place.");
    let builder_doc = format!("Writes one case of a [`{name}`].");
    let view_cases = cases.iter().map(|case| view_case(input, case));
    let builder_methods = cases.iter().map(|case| builder_methods(input, case));
    let schema_cases = cases.iter().map(|case| schema_case(input, case));

    let validations = cases.iter().map(|case| {
        let number = &case.number;
        match case.payload() {
            None => quote!(#number => #flat::derived::Choice::<Self, FlatIndex>::validate_unit(__validator, __at)),
            Some(payload) => {
                quote!(#number => #flat::derived::Choice::<Self, FlatIndex>::validate_payload::<#payload>(__validator, __at))
            }
        }
    });

    let last = cases.len() - 1;
    let views = cases.iter().enumerate().map(|(n, case)| {
        // Validation has found the case, so that the last one is what is left.
        let number = &case.number;
        let number = if n == last { quote!(_) } else { quote!(#number) };
        match case.payload() {
            None => {
                let made = case.with(&of_view, &[]);
                quote!(#number => #made)
            }
            Some(payload) => {
                let parts = case.bound("__view_");
                let bind = match parts.as_slice() {
                    [only] if matches!(case.source.fields, Fields::Unnamed(_)) => quote!(#only),
                    _ => quote!((#(#parts,)*)),
                };
                let made = case.pattern(&of_view, "__view_");
                quote! {
                    #number => {
                        let #bind = unsafe { #flat::derived::Choice::<Self, FlatIndex>::payload::<#payload>(__bytes) };
                        #made
                    }
                }
            }
        }
    });

    let natives = cases.iter().map(|case| {
        let pattern = case.pattern(&of_view, "__view_");
        let values: Vec<_> = case
            .bound("__view_")
            .iter()
            .zip(&case.types)
            .map(|(part, kind)| {
                let cast = input.cast(kind);
                quote!(#cast::from_view::<FlatIndex>(#part))
            })
            .collect();
        let made = case.with(&of_this, &values);
        quote!(#pattern => #made)
    });

    let writes = cases.iter().map(|case| {
        let pattern = case.pattern(&of_this, "__own_");
        let number = &case.number;
        match case.payload() {
            None => quote!(#pattern => #flat::derived::ChoiceBuilder::unit::<#number>(__choice)),
            Some(payload) => {
                let parts = case.bound("__own_");
                let value = match parts.as_slice() {
                    [only] if matches!(case.source.fields, Fields::Unnamed(_)) => quote!(#only),
                    _ => quote!((#(#parts,)*)),
                };
                quote!(#pattern => #flat::derived::ChoiceBuilder::write::<#payload, #number>(__choice, #value))
            }
        }
    });

    let ends = cases.iter().map(|case| {
        let pattern = case.pattern(&of_this, "__own_");
        let (parts, types) = (case.bound("__own_"), &case.types);
        quote! {
            #pattern => {
                #(let __cursor = #flat::ToFlat::<#types>::end_after::<FlatIndex>(#parts, __cursor);)*
                __cursor
            }
        }
    });

    let matches = cases.iter().map(|case| {
        let (own, other) = (case.pattern(&of_this, "__own_"), case.pattern(&of_view, "__view_"));
        let (own_parts, other_parts, types) = (case.bound("__own_"), case.bound("__view_"), &case.types);
        quote! {
            (#own, #other) => true #(&& #flat::ToFlat::<#types>::matches::<FlatIndex>(#own_parts, #other_parts))*
        }
    });

    let rewritable = input.rewritable(cases.iter().flat_map(|case| case.types.iter().copied()));
    let rewrites = cases.iter().map(|case| {
        let pattern = case.pattern(&of_view, "__view_");
        let number = &case.number;
        match case.payload() {
            None => quote!(#pattern => #flat::derived::ChoiceBuilder::unit::<#number>(__choice)),
            Some(payload) => {
                let (parts, types) = (case.bound("__view_"), &case.types);
                let parts = parts.iter().zip(types);
                let parts: Vec<_> = parts
                    .map(|(part, kind)| quote!(#flat::derived::Rewritten::<#kind, FlatOther>(#part)))
                    .collect();
                let value = match parts.as_slice() {
                    [only] if matches!(case.source.fields, Fields::Unnamed(_)) => quote!(#only),
                    _ => quote!((#(#parts,)*)),
                };
                quote!(#pattern => #flat::derived::ChoiceBuilder::write::<#payload, #number>(__choice, #value))
            }
        }
    });
    let rewritten_ends = cases.iter().map(|case| {
        let pattern = case.pattern(&of_view, "__view_");
        let (parts, types) = (case.bound("__view_"), &case.types);
        quote! {
            #pattern => {
                #(let __cursor =
                    <#types as #flat::derived::Rewritable<'flat_message, FlatOther>>::rewritten_end::<FlatIndex>(#parts, __cursor);)*
                __cursor
            }
        }
    });
    let rewritten_matches = cases.iter().map(|case| {
        let (own, other) = (case.pattern(&of_view, "__own_"), case.pattern(&of_view, "__view_"));
        let (own_parts, other_parts, types) = (case.bound("__own_"), case.bound("__view_"), &case.types);
        quote! {
            (#own, #other) => true #(&& <#types as #flat::derived::Rewritable<'flat_message, FlatOther>>::rewritten_matches::<FlatIndex>(
                #own_parts,
                #other_parts,
            ))*
        }
    });

    let debugs = cases.iter().map(|case| {
        let pattern = case.pattern(&of_view, "__view_");
        let (parts, label) = (case.bound("__view_"), text(case.name));
        match &case.source.fields {
            Fields::Unit => quote!(#pattern => ::core::fmt::Formatter::write_str(__f, #label)),
            Fields::Unnamed(_) => quote! {
                #pattern => {
                    let mut __debug = ::core::fmt::Formatter::debug_tuple(__f, #label);
                    #(::core::fmt::DebugTuple::field(&mut __debug, #parts);)*
                    ::core::fmt::DebugTuple::finish(&mut __debug)
                }
            },
            Fields::Named(_) => {
                let names = case.parts.iter().map(text);
                quote! {
                    #pattern => {
                        let mut __debug = ::core::fmt::Formatter::debug_struct(__f, #label);
                        #(::core::fmt::DebugStruct::field(&mut __debug, #names, #parts);)*
                        ::core::fmt::DebugStruct::finish(&mut __debug)
                    }
                }
            }
        }
    });

    let serializations = cases.iter().map(|case| {
        let pattern = case.pattern(&of_view, "__view_");
        let (parts, types, label, number) = (case.bound("__view_"), &case.types, text(case.name), &case.number);
        let count = parts.len();
        match &case.source.fields {
            Fields::Unit => quote!(#pattern => #flat::serde::Serializer::serialize_unit_variant(__serializer, #name_text, #number, #label)),
            Fields::Unnamed(_) if count == 1 => quote! {
                #pattern => #flat::serde::Serializer::serialize_newtype_variant(
                    __serializer, #name_text, #number, #label, #(&#flat::Serialized::<#types, FlatIndex>(#parts))*
                )
            },
            Fields::Unnamed(_) => quote! {
                #pattern => {
                    let mut __case = #flat::serde::Serializer::serialize_tuple_variant(
                        __serializer, #name_text, #number, #label, #count
                    )?;
                    #(#flat::serde::ser::SerializeTupleVariant::serialize_field(
                        &mut __case, &#flat::Serialized::<#types, FlatIndex>(#parts)
                    )?;)*
                    #flat::serde::ser::SerializeTupleVariant::end(__case)
                }
            },
            Fields::Named(_) => {
                let names = case.parts.iter().map(text);
                quote! {
                    #pattern => {
                        let mut __case = #flat::serde::Serializer::serialize_struct_variant(
                            __serializer, #name_text, #number, #label, #count
                        )?;
                        #(#flat::serde::ser::SerializeStructVariant::serialize_field(
                            &mut __case, #names, &#flat::Serialized::<#types, FlatIndex>(#parts)
                        )?;)*
                        #flat::serde::ser::SerializeStructVariant::end(__case)
                    }
                }
            }
        }
    });

    Ok(quote! {
        #[doc = #view_doc]
        #vis enum #view<'flat_message, #declared FlatIndex: #flat::Index = ::core::primitive::u32> #wheres {
            #(#view_cases),*
        }

        #[automatically_derived]
        impl<'flat_message, #declared FlatIndex: #flat::Index> ::core::clone::Clone for #view<'flat_message, #parameters FlatIndex> #wheres {
            #[inline]
            fn clone(&self) -> Self {
                *self
            }
        }

        #[automatically_derived]
        impl<'flat_message, #declared FlatIndex: #flat::Index> ::core::marker::Copy for #view<'flat_message, #parameters FlatIndex> #wheres {}

        #[automatically_derived]
        impl<'flat_message, #declared FlatIndex: #flat::Index> ::core::fmt::Debug for #view<'flat_message, #parameters FlatIndex> #wheres {
            fn fmt(&self, __f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                match self { #(#debugs),* }
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
        #vis struct #builder<'flat_block, #declared FlatIndex: #flat::Index = ::core::primitive::u32>(#flat::derived::ChoiceBuilder<'flat_block, #this, FlatIndex>) #wheres;

        #[automatically_derived]
        impl<'flat_block, #declared FlatIndex: #flat::Index> ::core::fmt::Debug for #builder<'flat_block, #parameters FlatIndex> #wheres {
            fn fmt(&self, __f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(&self.0, __f)
            }
        }

        #[allow(dead_code)]
        impl<'flat_block, #declared FlatIndex: #flat::Index> #builder<'flat_block, #parameters FlatIndex> #wheres {
            #(#builder_methods)*
        }

        #[allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
        const _: () = {
            #pinned

            #assertions

            #[automatically_derived]
            unsafe impl #implementation #flat::FlatType for #this #wheres {
                type View<'flat_message, FlatIndex: #flat::Index> = #view<'flat_message, #parameters FlatIndex>;
                type Builder<'flat_block, FlatIndex: #flat::Index> = #builder<'flat_block, #parameters FlatIndex>;
                const TYPE: &'static #flat::schema::Type =
                    &#flat::schema::Type::Variant(#name_text, &[#(#schema_cases),*]);

                fn validate<FlatIndex: #flat::Index>(
                    __validator: &mut #flat::derived::Validator<'_, FlatIndex>,
                    __at: ::core::primitive::usize,
                ) -> ::core::result::Result<(), #flat::FlatError> {
                    match #flat::derived::Choice::<Self, FlatIndex>::validate_case(__validator, __at)? {
                        #(#validations,)*
                        _ => ::core::unreachable!("the case is one of the type's"),
                    }
                }

                #validate_all

                #[inline]
                unsafe fn view<FlatIndex: #flat::Index>(__bytes: &[::core::primitive::u8]) -> <Self as #flat::FlatType>::View<'_, FlatIndex> {
                    match #flat::derived::Choice::<Self, FlatIndex>::case(__bytes) { #(#views),* }
                }

                #[inline]
                fn builder<FlatIndex: #flat::Index>(__target: #flat::derived::Target<'_, FlatIndex>) -> <Self as #flat::FlatType>::Builder<'_, FlatIndex> {
                    #builder(#flat::derived::ChoiceBuilder::new(__target))
                }

                fn from_view<FlatIndex: #flat::Index>(__view: <Self as #flat::FlatType>::View<'_, FlatIndex>) -> Self {
                    match __view { #(#natives),* }
                }

                #flat::__if_serde! {
                    fn serialize<FlatIndex: #flat::Index, FlatSerializer: #flat::serde::Serializer>(
                        __view: <Self as #flat::FlatType>::View<'_, FlatIndex>,
                        __serializer: FlatSerializer,
                    ) -> ::core::result::Result<FlatSerializer::Ok, FlatSerializer::Error> {
                        match __view { #(#serializations),* }
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
                    let __choice = #flat::derived::ChoiceBuilder::at(__place);
                    match self { #(#writes),* }
                }

                fn end_after<FlatIndex: #flat::Index>(&self, __cursor: ::core::primitive::usize) -> ::core::primitive::usize {
                    match self { #(#ends),* }
                }

                #[allow(unreachable_patterns)]
                fn matches<FlatIndex: #flat::Index>(&self, __view: #view<'_, #parameters FlatIndex>) -> ::core::primitive::bool {
                    match (self, __view) {
                        #(#matches,)*
                        _ => false,
                    }
                }
            }

            #[automatically_derived]
            impl<'flat_message, #declared FlatOther: #flat::Index> #flat::ToFlat<#this> for #view<'flat_message, #parameters FlatOther> #rewritable {
                #[inline]
                fn write_to<'flat_block, FlatIndex: #flat::Index>(
                    &self,
                    __place: #flat::Place<'flat_block, #this, FlatIndex>,
                ) -> ::core::result::Result<#flat::Finished<'flat_block>, #flat::BuildError> {
                    let __choice = #flat::derived::ChoiceBuilder::at(__place);
                    match *self { #(#rewrites),* }
                }

                fn end_after<FlatIndex: #flat::Index>(&self, __cursor: ::core::primitive::usize) -> ::core::primitive::usize {
                    match *self { #(#rewritten_ends),* }
                }

                #[allow(unreachable_patterns)]
                fn matches<FlatIndex: #flat::Index>(&self, __view: #view<'_, #parameters FlatIndex>) -> ::core::primitive::bool {
                    match (*self, __view) {
                        #(#rewritten_matches,)*
                        _ => false,
                    }
                }
            }
        };
    })
}

/// Refuses cases for which the builder's methods would have the same names.
fn check_methods(data: &DataEnum) -> Result<()> {
    let mut methods = std::collections::BTreeMap::new();
    for case in &data.variants {
        let snake = text(&case.ident).to_snake_case();
        let with = (!matches!(case.fields, Fields::Unit)).then(|| format!("{snake}_with"));
        for method in [Some(snake), with].into_iter().flatten() {
            if let Some(other) = methods.insert(method.clone(), &case.ident) {
                return Err(syn::Error::new_spanned(
                    &case.ident,
                    format!("`{}` and `{other}` would both have the builder's method `{method}`", case.ident),
                ));
            }
        }
    }
    Ok(())
}

/// A case of the view.
fn view_case(input: &Input<'_>, case: &Case<'_>) -> TokenStream {
    let (name, parts) = (case.name, &case.parts);
    let views = case.types.iter().map(|kind| input.view_of(kind));
    let docs = documentation(&case.source.attrs, &format!("The case `{}`.", text(name)));
    let part_docs = case.source.fields.iter().zip(parts).map(|(field, part)| {
        documentation(&field.attrs, &format!("The field `{}`, read in place.", text(part)))
    });
    match case.source.fields {
        Fields::Unit => quote!(#docs #name),
        Fields::Unnamed(_) => quote!(#docs #name(#(#views),*)),
        Fields::Named(_) => {
            quote!(#docs #name { #(#part_docs #parts: #views),* })
        }
    }
}

/// What the schema says about a case.
fn schema_case(input: &Input<'_>, case: &Case<'_>) -> TokenStream {
    let (flat, label) = (&input.flat, text(case.name));
    let casts = case.types.iter().map(|kind| input.cast(kind));
    let payload = match (&case.source.fields, case.payload()) {
        (Fields::Named(_), _) => {
            let record = format!("{}{label}", text(input.name));
            let names = case.parts.iter().map(text);
            quote!(&#flat::schema::Type::Record(
                #record,
                &[#(#flat::schema::Field { name: #names, kind: #casts::TYPE }),*],
            ))
        }
        (_, Some(payload)) => quote!(<#payload as #flat::FlatType>::TYPE),
        (_, None) => quote!(<() as #flat::FlatType>::TYPE),
    };
    quote!(#flat::schema::Case { name: #label, payload: #payload })
}

/// The builder's methods for a case.
fn builder_methods(input: &Input<'_>, case: &Case<'_>) -> TokenStream {
    let Input { flat, vis, .. } = input;
    let (number, label) = (&case.number, text(case.name));
    let snake = label.to_snake_case();
    let method = ident(&snake, case.name.span());
    let write_doc = format!("Writes the case `{label}`.");
    let Some(payload) = case.payload() else {
        return quote! {
            #[doc = #write_doc]
            ///
            /// # Errors
            ///
            /// `NoRoom`.
            #[inline]
            #vis fn #method(self) -> ::core::result::Result<#flat::Finished<'flat_block>, #flat::BuildError> {
                #flat::derived::ChoiceBuilder::unit::<#number>(self.0)
            }
        };
    };
    let build = format_ident!("{snake}_with", span = case.name.span());
    let build_doc = format!("Writes the case `{label}`, with a payload that is built in place.");
    let (parts, types) = (&case.parts, &case.types);
    let value = match parts.as_slice() {
        [only] if matches!(case.source.fields, Fields::Unnamed(_)) => quote!(#only),
        _ => quote!((#(#parts,)*)),
    };
    quote! {
        #[doc = #write_doc]
        ///
        /// # Errors
        ///
        /// Those of the values.
        #[inline]
        #vis fn #method(
            self,
            #(#parts: impl #flat::ToFlat<#types>),*
        ) -> ::core::result::Result<#flat::Finished<'flat_block>, #flat::BuildError> {
            #flat::derived::ChoiceBuilder::write::<#payload, #number>(self.0, #value)
        }

        #[doc = #build_doc]
        ///
        /// # Errors
        ///
        /// Those of the closure.
        #[inline]
        #vis fn #build<FlatFailure: ::core::convert::From<#flat::BuildError>>(
            self,
            __build: impl for<'flat_value> #flat::BuildFn<'flat_value, #payload, FlatIndex, FlatFailure>,
        ) -> ::core::result::Result<#flat::Finished<'flat_block>, FlatFailure> {
            #flat::derived::ChoiceBuilder::build::<#payload, FlatFailure, #number>(self.0, __build)
        }
    }
}
