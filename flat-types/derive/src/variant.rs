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
    let Input { flat, name, vis, view, builder, .. } = input;
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
            None => quote!(#number => Choice::<Self, I>::validate_unit(validator, at)),
            Some(payload) => {
                quote!(#number => Choice::<Self, I>::validate_payload::<#payload>(validator, at))
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
                let parts = case.bound("view_");
                let bind = match parts.as_slice() {
                    [only] if matches!(case.source.fields, Fields::Unnamed(_)) => quote!(#only),
                    _ => quote!((#(#parts,)*)),
                };
                let made = case.pattern(&of_view, "view_");
                quote! {
                    #number => {
                        let #bind = unsafe { Choice::<Self, I>::payload::<#payload>(bytes) };
                        #made
                    }
                }
            }
        }
    });

    let natives = cases.iter().map(|case| {
        let pattern = case.pattern(&of_view, "view_");
        let values: Vec<_> = case
            .bound("view_")
            .iter()
            .zip(&case.types)
            .map(|(part, kind)| {
                let cast = input.cast(kind);
                quote!(#cast::from_view::<I>(#part))
            })
            .collect();
        let made = case.with(&of_this, &values);
        quote!(#pattern => #made)
    });

    let writes = cases.iter().map(|case| {
        let pattern = case.pattern(&of_this, "own_");
        let number = &case.number;
        match case.payload() {
            None => quote!(#pattern => unsafe { choice.unit(#number) }),
            Some(payload) => {
                let parts = case.bound("own_");
                let value = match parts.as_slice() {
                    [only] if matches!(case.source.fields, Fields::Unnamed(_)) => quote!(#only),
                    _ => quote!((#(#parts,)*)),
                };
                quote!(#pattern => unsafe { choice.write::<#payload>(#number, #value) })
            }
        }
    });

    let ends = cases.iter().map(|case| {
        let pattern = case.pattern(&of_this, "own_");
        let (parts, types) = (case.bound("own_"), &case.types);
        quote! {
            #pattern => {
                #(let cursor = #flat::ToFlat::<#types>::end_after::<I>(#parts, cursor);)*
                cursor
            }
        }
    });

    let matches = cases.iter().map(|case| {
        let (own, other) = (case.pattern(&of_this, "own_"), case.pattern(&of_view, "view_"));
        let (own_parts, other_parts, types) = (case.bound("own_"), case.bound("view_"), &case.types);
        quote! {
            (#own, #other) => true #(&& #flat::ToFlat::<#types>::matches::<I>(#own_parts, #other_parts))*
        }
    });

    let rewritable = input.rewritable(cases.iter().flat_map(|case| case.types.iter().copied()));
    let rewrites = cases.iter().map(|case| {
        let pattern = case.pattern(&of_view, "view_");
        let number = &case.number;
        match case.payload() {
            None => quote!(#pattern => unsafe { choice.unit(#number) }),
            Some(payload) => {
                let (parts, types) = (case.bound("view_"), &case.types);
                let parts = parts.iter().zip(types);
                let parts: Vec<_> =
                    parts.map(|(part, kind)| quote!(#flat::derived::Rewritten::<#kind, J>(#part))).collect();
                let value = match parts.as_slice() {
                    [only] if matches!(case.source.fields, Fields::Unnamed(_)) => quote!(#only),
                    _ => quote!((#(#parts,)*)),
                };
                quote!(#pattern => unsafe { choice.write::<#payload>(#number, #value) })
            }
        }
    });
    let rewritten_ends = cases.iter().map(|case| {
        let pattern = case.pattern(&of_view, "view_");
        let (parts, types) = (case.bound("view_"), &case.types);
        quote! {
            #pattern => {
                #(let cursor =
                    <#types as #flat::derived::Rewritable<'a, J>>::rewritten_end::<I>(#parts, cursor);)*
                cursor
            }
        }
    });
    let rewritten_matches = cases.iter().map(|case| {
        let (own, other) = (case.pattern(&of_view, "own_"), case.pattern(&of_view, "view_"));
        let (own_parts, other_parts, types) = (case.bound("own_"), case.bound("view_"), &case.types);
        quote! {
            (#own, #other) => true #(&& <#types as #flat::derived::Rewritable<'a, J>>::rewritten_matches::<I>(
                #own_parts,
                #other_parts,
            ))*
        }
    });

    let debugs = cases.iter().map(|case| {
        let pattern = case.pattern(&of_view, "view_");
        let (parts, label) = (case.bound("view_"), text(case.name));
        match &case.source.fields {
            Fields::Unit => quote!(#pattern => f.write_str(#label)),
            Fields::Unnamed(_) => quote!(#pattern => f.debug_tuple(#label)#(.field(#parts))*.finish()),
            Fields::Named(_) => {
                let names = case.parts.iter().map(text);
                quote!(#pattern => f.debug_struct(#label)#(.field(#names, #parts))*.finish())
            }
        }
    });

    let serializations = cases.iter().map(|case| {
        let pattern = case.pattern(&of_view, "view_");
        let (parts, types, label, number) = (case.bound("view_"), &case.types, text(case.name), &case.number);
        let count = parts.len();
        match &case.source.fields {
            Fields::Unit => quote!(#pattern => serializer.serialize_unit_variant(#name_text, #number, #label)),
            Fields::Unnamed(_) if count == 1 => quote! {
                #pattern => serializer.serialize_newtype_variant(
                    #name_text, #number, #label, #(&#flat::Serialized::<#types, I>(#parts))*
                )
            },
            Fields::Unnamed(_) => quote! {
                #pattern => {
                    use #flat::serde::ser::SerializeTupleVariant as _;
                    let mut case = serializer.serialize_tuple_variant(#name_text, #number, #label, #count)?;
                    #(case.serialize_field(&#flat::Serialized::<#types, I>(#parts))?;)*
                    case.end()
                }
            },
            Fields::Named(_) => {
                let names = case.parts.iter().map(text);
                quote! {
                    #pattern => {
                        use #flat::serde::ser::SerializeStructVariant as _;
                        let mut case = serializer.serialize_struct_variant(#name_text, #number, #label, #count)?;
                        #(case.serialize_field(#names, &#flat::Serialized::<#types, I>(#parts))?;)*
                        case.end()
                    }
                }
            }
        }
    });

    Ok(quote! {
        #[doc = #view_doc]
        #vis enum #view<'a, #declared I: #flat::Index = u32> #wheres {
            #(#view_cases),*
        }

        #[automatically_derived]
        impl<'a, #declared I: #flat::Index> ::core::clone::Clone for #view<'a, #parameters I> #wheres {
            #[inline]
            fn clone(&self) -> Self {
                *self
            }
        }

        #[automatically_derived]
        impl<'a, #declared I: #flat::Index> ::core::marker::Copy for #view<'a, #parameters I> #wheres {}

        #[automatically_derived]
        impl<'a, #declared I: #flat::Index> ::core::fmt::Debug for #view<'a, #parameters I> #wheres {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                match self { #(#debugs),* }
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
        #vis struct #builder<'b, #declared I: #flat::Index = u32>(#flat::derived::ChoiceBuilder<'b, #this, I>) #wheres;

        #[automatically_derived]
        impl<'b, #declared I: #flat::Index> ::core::fmt::Debug for #builder<'b, #parameters I> #wheres {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(&self.0, f)
            }
        }

        #[allow(dead_code, clippy::undocumented_unsafe_blocks)]
        impl<'b, #declared I: #flat::Index> #builder<'b, #parameters I> #wheres {
            #(#builder_methods)*
        }

        #[allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
        const _: () = {
            use #flat::derived::Choice;

            #assertions

            #[automatically_derived]
            unsafe impl #implementation #flat::FlatType for #this #wheres {
                type View<'a, I: #flat::Index> = #view<'a, #parameters I>;
                type Builder<'b, I: #flat::Index> = #builder<'b, #parameters I>;
                const TYPE: &'static #flat::schema::Type =
                    &#flat::schema::Type::Variant(#name_text, &[#(#schema_cases),*]);

                fn validate<I: #flat::Index>(
                    validator: &mut #flat::derived::Validator<'_, I>,
                    at: usize,
                ) -> ::core::result::Result<(), #flat::FlatError> {
                    match Choice::<Self, I>::validate_case(validator, at)? {
                        #(#validations,)*
                        _ => ::core::unreachable!("the case is one of the type's"),
                    }
                }

                #[inline]
                unsafe fn view<I: #flat::Index>(bytes: &[u8]) -> Self::View<'_, I> {
                    match Choice::<Self, I>::case(bytes) { #(#views),* }
                }

                #[inline]
                fn builder<I: #flat::Index>(target: #flat::derived::Target<'_, I>) -> Self::Builder<'_, I> {
                    #builder(#flat::derived::ChoiceBuilder::new(target))
                }

                fn from_view<I: #flat::Index>(view: Self::View<'_, I>) -> Self {
                    match view { #(#natives),* }
                }

                #flat::__if_serde! {
                    fn serialize<I: #flat::Index, S: #flat::serde::Serializer>(
                        view: Self::View<'_, I>,
                        serializer: S,
                    ) -> ::core::result::Result<S::Ok, S::Error> {
                        match view { #(#serializations),* }
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
                    let choice = #flat::derived::ChoiceBuilder::at(place);
                    match self { #(#writes),* }
                }

                fn end_after<I: #flat::Index>(&self, cursor: usize) -> usize {
                    match self { #(#ends),* }
                }

                #[allow(unreachable_patterns)]
                fn matches<I: #flat::Index>(&self, view: #view<'_, #parameters I>) -> bool {
                    match (self, view) {
                        #(#matches,)*
                        _ => false,
                    }
                }
            }

            #[automatically_derived]
            impl<'a, #declared J: #flat::Index> #flat::ToFlat<#this> for #view<'a, #parameters J> #rewritable {
                #[inline]
                fn write_to<'b, I: #flat::Index>(
                    &self,
                    place: #flat::Place<'b, #this, I>,
                ) -> ::core::result::Result<#flat::Finished<'b>, #flat::BuildError> {
                    let choice = #flat::derived::ChoiceBuilder::at(place);
                    match *self { #(#rewrites),* }
                }

                fn end_after<I: #flat::Index>(&self, cursor: usize) -> usize {
                    match *self { #(#rewritten_ends),* }
                }

                #[allow(unreachable_patterns)]
                fn matches<I: #flat::Index>(&self, view: #view<'_, #parameters I>) -> bool {
                    match (*self, view) {
                        #(#rewritten_matches,)*
                        _ => false,
                    }
                }
            }
        };
    })
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
            #vis fn #method(self) -> ::core::result::Result<#flat::Finished<'b>, #flat::BuildError> {
                unsafe { self.0.unit(#number) }
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
        ) -> ::core::result::Result<#flat::Finished<'b>, #flat::BuildError> {
            unsafe { self.0.write::<#payload>(#number, #value) }
        }

        #[doc = #build_doc]
        ///
        /// # Errors
        ///
        /// Those of the closure.
        #[inline]
        #vis fn #build<E: ::core::convert::From<#flat::BuildError>>(
            self,
            build: impl for<'c> #flat::BuildFn<'c, #payload, I, E>,
        ) -> ::core::result::Result<#flat::Finished<'b>, E> {
            unsafe { self.0.build::<#payload, E>(#number, build) }
        }
    }
}
