//! `#[derive(InterfaceError)]`: the errors of an interface.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Expr, ExprLit, Fields, Ident, Lit, LitInt, Meta, Result};

/// The first sentence of a doc comment, without its full stop.
pub fn first_sentence(attributes: &[Attribute]) -> String {
    let mut text = String::new();
    for attribute in attributes {
        if let Meta::NameValue(value) = &attribute.meta
            && value.path.is_ident("doc")
            && let Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) = &value.value
        {
            text.push_str(&line.value());
        }
    }
    let sentence = text.split(". ").next().unwrap_or_default().trim();
    sentence.strip_suffix('.').unwrap_or(sentence).to_owned()
}

/// The numbers of the variants: in order from 1 on, unless `#[code(N)]` says another, from which the next ones count on.
fn numbered(data: &syn::DataEnum) -> Result<Vec<(&Ident, u32, String)>> {
    let mut variants: Vec<(&Ident, u32, String)> = Vec::new();
    let mut next = 1;
    for variant in data.variants.iter().filter(|variant| variant.ident != "Transport") {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new(variant.span(), "only `Transport` carries something: the others travel as numbers"));
        }
        if let Some((_, value)) = &variant.discriminant {
            return Err(Error::new(value.span(), "say the number as `#[code(N)]` above the variant"));
        }
        if let Some(attribute) = variant.attrs.iter().find(|attribute| attribute.path().is_ident("code")) {
            next = attribute.parse_args::<LitInt>()?.base10_parse()?;
        }
        if next == 0 || next >= 1 << 31 || variants.iter().any(|(_, code, _)| *code == next) {
            return Err(Error::new(
                variant.span(),
                format!(
                    "{next} cannot be this variant's number: 0 and what is from 2^31 up are taken, and no number is used twice"
                ),
            ));
        }
        variants.push((&variant.ident, next, first_sentence(&variant.attrs)));
        next += 1;
    }
    Ok(variants)
}

pub fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "an interface's error is an enum"));
    };
    if !data.variants.iter().any(|variant| variant.ident == "Transport" && variant.fields.len() == 1) {
        return Err(Error::new(
            input.ident.span(),
            "an interface's error has a variant `Transport(TransportError)`, for what happens on the way",
        ));
    }
    let name = &input.ident;
    let variants = numbered(data)?;
    let names: Vec<_> = variants.iter().map(|variant| variant.0).collect();
    let codes: Vec<_> = variants.iter().map(|variant| variant.1).collect();
    let texts: Vec<_> = variants.iter().map(|variant| &variant.2).collect();
    Ok(quote! {
        impl ::tessera_runtime::transport::InterfaceError for #name {
            const VARIANTS: &'static [(&'static str, u32)] = &[#((stringify!(#names), #codes)),*];

            #[inline]
            fn code(self) -> u32 {
                match self {
                    #(#name::#names => #codes,)*
                    #name::Transport(error) => error.code(),
                }
            }

            #[inline]
            fn from_code(code: u32) -> #name {
                match code {
                    #(#codes => #name::#names,)*
                    code => #name::Transport(::tessera_runtime::transport::TransportError::from_code(code)),
                }
            }
        }

        impl ::core::convert::From<::tessera_runtime::transport::TransportError> for #name {
            #[inline]
            fn from(error: ::tessera_runtime::transport::TransportError) -> #name {
                #name::Transport(error)
            }
        }

        impl ::core::fmt::Display for #name {
            fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                match self {
                    #(#name::#names => formatter.write_str(#texts),)*
                    #name::Transport(error) => ::core::fmt::Display::fmt(error, formatter),
                }
            }
        }

        impl ::core::error::Error for #name {}
    })
}

#[cfg(test)]
mod tests {
    use super::derive;

    fn refused(source: &str) -> String {
        derive(&syn::parse_str(source).unwrap()).map(|tokens| tokens.to_string()).unwrap_err().to_string()
    }

    #[test]
    fn errors_that_cannot_travel_are_refused() {
        assert!(refused("struct E;").contains("is an enum"));
        assert!(refused("enum E { A }").contains("Transport(TransportError)"));
        assert!(refused("enum E { A(u8), Transport(TransportError) }").contains("only `Transport` carries"));
        assert!(refused("enum E { A = 4, Transport(TransportError) }").contains("#[code(N)]"));
        assert!(refused("enum E { A, #[code(1)] B, Transport(TransportError) }").contains("1 cannot be"));
        assert!(refused("enum E { #[code(0)] A, Transport(TransportError) }").contains("0 cannot be"));
        assert!(
            refused("enum E { #[code(2147483648)] A, Transport(TransportError) }").contains("2147483648 cannot be")
        );
    }

    #[test]
    fn variants_are_numbered_in_order_and_told_by_their_first_sentence() {
        let source = "enum E {
            /// The first. And more.
            A,
            #[code(7)] B, C, Transport(TransportError) }";
        let tokens = derive(&syn::parse_str(source).unwrap()).unwrap().to_string();
        for part in
            ["(stringify ! (A) , 1u32)", "(stringify ! (B) , 7u32)", "(stringify ! (C) , 8u32)", "\"The first\""]
        {
            assert!(tokens.contains(part), "{part} is not in {tokens}");
        }
    }
}
