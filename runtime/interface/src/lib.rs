//! The macros behind Tessera's interfaces. The book's page "Interfaces" says what they take and what they make.
#![forbid(unsafe_code)]

mod error;

use proc_macro::TokenStream;
use syn::parse_macro_input;

/// Makes a trait an interface: what its methods take and answer can travel between domains.
#[proc_macro_attribute]
pub fn interface(_arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut item = parse_macro_input!(item as syn::ItemTrait);
    item.supertraits.push(syn::parse_quote!(Send));
    item.supertraits.push(syn::parse_quote!(Sync));
    item.supertraits.push(syn::parse_quote!(::core::any::Any));
    for method in &mut item.items {
        if let syn::TraitItem::Fn(method) = method {
            let own = |attribute: &syn::Attribute| {
                ["bound", "fills", "method"].iter().any(|name| attribute.path().is_ident(name))
            };
            method.attrs.retain(|attribute| !own(attribute));
        }
    }
    quote::quote!(#item).into()
}

/// Makes a struct of plain fields, or an enum without fields, something that travels in a message.
#[proc_macro_derive(Plain)]
pub fn plain(_item: TokenStream) -> TokenStream {
    TokenStream::new()
}

/// Makes a struct whose fields travel, kernel objects and capabilities among them, something that travels in a message.
#[proc_macro_derive(Transfer)]
pub fn transfer(_item: TokenStream) -> TokenStream {
    TokenStream::new()
}

/// Makes an enum an interface's error: numbered variants, and `Transport(TransportError)` for what happens on the way.
#[proc_macro_derive(InterfaceError, attributes(code))]
pub fn interface_error(item: TokenStream) -> TokenStream {
    error::derive(&parse_macro_input!(item as syn::DeriveInput)).unwrap_or_else(syn::Error::into_compile_error).into()
}
