//! Structs without field names: with one field they have its layout, with several they are tuples.

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use syn::{FieldsUnnamed, Result};

use crate::check;
use crate::input::Input;
use crate::traits::{FlatTypeImpl, Source, ToFlatImpl, implementations};

/// The code for a struct without field names.
pub(crate) fn newtype(input: &Input<'_>, fields: &FieldsUnnamed) -> Result<TokenStream> {
    check::fields(fields.unnamed.iter())?;
    let Input { flat, name, types, .. } = input;
    let numbers: Vec<_> = (0..types.len()).map(Literal::usize_unsuffixed).collect();
    // The layout is that of the inner type.
    let (inner, from_view, reference) = match types.as_slice() {
        [only] => (
            quote!(#only),
            quote!(#name(<#only as #flat::FlatType>::from_view::<FlatIndex>(__view))),
            quote!(&self.0),
        ),
        _ => (
            quote!((#(#types,)*)),
            quote!(#name(#(<#types as #flat::FlatType>::from_view::<FlatIndex>(__view.#numbers)),*)),
            quote!((#(&self.#numbers,)*)),
        ),
    };
    let as_flat = quote!(<#inner as #flat::FlatType>);
    let to_flat = quote!(#flat::ToFlat::<#inner>);

    let flat_type = FlatTypeImpl {
        view_type: quote!(#as_flat::View<'flat_message, FlatIndex>),
        builder_type: quote!(#as_flat::Builder<'flat_block, FlatIndex>),
        schema: quote!(#as_flat::TYPE),
        validate: quote!(#as_flat::validate(__validator, __at)),
        validate_all: quote!(#as_flat::validate_all(__validator, __at, __count)),
        view: quote!(unsafe { #as_flat::view::<FlatIndex>(__bytes) }),
        builder: quote!(#as_flat::builder(__target)),
        from_view,
        serialize: quote!(#as_flat::serialize::<FlatIndex, FlatSerializer>(__view, __serializer)),
    };
    let value = ToFlatImpl {
        write: quote! {
            #to_flat::write_to::<FlatIndex>(&#reference, #flat::Place::retyped::<#inner>(__place))
        },
        end: quote!(#to_flat::end_after::<FlatIndex>(&#reference, __cursor)),
        matches: quote!(#to_flat::matches::<FlatIndex>(&#reference, __view)),
    };
    Ok(implementations(input, &input.assert_fields(), flat_type, [(Source::Value, value)]))
}
