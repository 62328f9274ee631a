//! `#[derive(Plain)]` and `#[derive(Transfer)]`: values made of fields that travel one after the other.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DataEnum, DeriveInput, Error, Fields, Index, Member, Result, Type};

/// The fields of a struct: how they are called, and their types.
fn fields(input: &DeriveInput) -> Result<Vec<(Member, &Type)>> {
    if let Some(parameter) = input.generics.params.first() {
        return Err(Error::new(parameter.span(), "what travels has no parameters: both sides must know its shape"));
    }
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "only structs, and enums without fields, travel"));
    };
    let member = |(index, field): (usize, &syn::Field)| match &field.ident {
        Some(name) => Member::Named(name.clone()),
        None => Member::Unnamed(Index::from(index)),
    };
    Ok(data.fields.iter().enumerate().map(|(index, field)| (member((index, field)), &field.ty)).collect())
}

/// Names of members as text, for the record.
fn texts(fields: &[(Member, &Type)]) -> Vec<String> {
    let text = |member: &Member| match member {
        Member::Named(name) => name.to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    };
    fields.iter().map(|(member, _)| text(member)).collect()
}

pub fn derive_plain(input: &DeriveInput) -> Result<TokenStream> {
    if let Data::Enum(data) = &input.data {
        return plain_enum(input, data);
    }
    let (name, fields) = (&input.ident, fields(input)?);
    let members: Vec<_> = fields.iter().map(|(member, _)| member).collect();
    let plain: Vec<_> = fields
        .iter()
        .map(|(_, kind)| quote_spanned!(kind.span()=> <#kind as ::tessera_runtime::transport::Plain>))
        .collect();
    let texts = texts(&fields);
    Ok(quote! {
        #[allow(unused_variables)]
        impl ::tessera_runtime::transport::Plain for #name {
            const WORDS: usize = 0 #(+ #plain::WORDS)*;
            const DESCRIPTION: ::tessera_runtime::transport::schema::Description =
                ::tessera_runtime::transport::schema::Description::Struct(
                    stringify!(#name),
                    &[#((#texts, &#plain::DESCRIPTION)),*],
                );

            #[inline]
            fn put(self, to: &mut impl ::core::ops::FnMut(u64)) {
                #(#plain::put(self.#members, to);)*
            }

            #[inline]
            fn get(
                from: &mut impl ::core::ops::FnMut() -> ::core::option::Option<u64>,
            ) -> ::core::option::Option<#name> {
                ::core::option::Option::Some(#name { #(#members: #plain::get(from)?),* })
            }
        }
    })
}

fn plain_enum(input: &DeriveInput, data: &DataEnum) -> Result<TokenStream> {
    if let Some(variant) = data.variants.iter().find(|variant| !matches!(variant.fields, Fields::Unit)) {
        return Err(Error::new(
            variant.fields.span(),
            "a variant with fields does not travel: only the variant's number does",
        ));
    }
    let name = &input.ident;
    let variants: Vec<_> = data.variants.iter().map(|variant| &variant.ident).collect();
    Ok(quote! {
        impl ::tessera_runtime::transport::Plain for #name {
            const WORDS: usize = 1;
            const DESCRIPTION: ::tessera_runtime::transport::schema::Description =
                ::tessera_runtime::transport::schema::Description::Enum(
                    stringify!(#name),
                    &[#((stringify!(#variants), #name::#variants as i128)),*],
                );

            #[inline(always)]
            fn put(self, to: &mut impl ::core::ops::FnMut(u64)) {
                to(self as u64);
            }

            #[inline]
            fn get(
                from: &mut impl ::core::ops::FnMut() -> ::core::option::Option<u64>,
            ) -> ::core::option::Option<#name> {
                match from()? {
                    #(number if number == #name::#variants as u64 => ::core::option::Option::Some(#name::#variants),)*
                    _ => ::core::option::Option::None,
                }
            }
        }
    })
}

pub fn derive_transfer(input: &DeriveInput) -> Result<TokenStream> {
    let (name, fields) = (&input.ident, fields(input)?);
    let members: Vec<_> = fields.iter().map(|(member, _)| member).collect();
    let transfer: Vec<_> = fields
        .iter()
        .map(|(_, kind)| quote_spanned!(kind.span()=> <#kind as ::tessera_runtime::transport::Transfer>))
        .collect();
    let texts = texts(&fields);
    Ok(quote! {
        #[allow(unused_variables)]
        impl ::tessera_runtime::transport::Transfer for #name {
            const WORDS: usize = 0 #(+ #transfer::WORDS)*;
            const HANDLES: usize = 0 #(+ #transfer::HANDLES)*;
            const DESCRIPTION: ::tessera_runtime::transport::schema::Description =
                ::tessera_runtime::transport::schema::Description::Struct(
                    stringify!(#name),
                    &[#((#texts, &#transfer::DESCRIPTION)),*],
                );

            fn put(
                self,
                to: &mut impl ::tessera_runtime::transport::Sink,
            ) -> ::core::result::Result<(), ::tessera_runtime::transport::TransportError> {
                #(#transfer::put(self.#members, to)?;)*
                ::core::result::Result::Ok(())
            }

            fn get(
                from: &mut impl ::tessera_runtime::transport::Source,
            ) -> ::core::result::Result<#name, ::tessera_runtime::transport::TransportError> {
                ::core::result::Result::Ok(#name { #(#members: #transfer::get(from)?),* })
            }
        }
    })
}
