//! The macros behind Tessera's interfaces. The book's page "Interfaces" says what they take and what they make.
//!
//! They run in the compiler. What they cannot make sense of is a compile error that points at it; what they generate is written in terms of
//! `tessera_runtime::transport`, contains no `unsafe`, and decides nothing that is not in the signature.
#![forbid(unsafe_code)]

mod error;
mod expand;
mod parse;
mod plain;

use proc_macro::TokenStream;
use syn::{DeriveInput, Error, ItemTrait, parse_macro_input, parse_quote};

/// Makes a trait an interface: `Cap<dyn Trait>` can name objects of other domains, and objects that implement it can be served to them.
///
/// Methods take `&self` and answer `Result<T, E>`, with `E` an enum that derives `InterfaceError`. They are numbered in order from 0, or as
/// `#[method(N)]` says, from which the next ones count on. Numbers, like all else of the signature, are recorded and must not change.
///
/// | argument | travels as |
/// | --- | --- |
/// | plain data, kernel objects, `Cap<dyn Trait>`, tuples and structs of them | words and handles |
/// | `&[u8]`, `&str` | a lease that the server copies from |
/// | `&mut [u8]` | a lease that the server copies to: it arrives as zeros, and is copied back when the method succeeds, with `#[fills]` only as much as the answer says |
/// | `&[T]`, `&mut [T]` of plain data | the elements' words, lent |
///
/// `Vec<u8>` and `String` are answered within a bound: `#[bound(BYTES)]`.
#[proc_macro_attribute]
pub fn interface(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut item = parse_macro_input!(item as ItemTrait);
    if !arguments.is_empty() {
        return Error::new(item.ident.span(), "`#[interface]` takes no arguments").into_compile_error().into();
    }
    let methods = match parse::interface(&mut item) {
        Ok(methods) => methods,
        Err(error) => return error.into_compile_error().into(),
    };
    item.supertraits.push(parse_quote!(::core::marker::Send));
    item.supertraits.push(parse_quote!(::core::marker::Sync));
    item.supertraits.push(parse_quote!(::core::any::Any));
    expand::expand(&item, &methods).into()
}

/// Makes a struct of plain fields, or an enum without fields, something that travels in a message: each field as its words, an enum as its number.
/// What arrives is checked: a number that is no variant's is refused.
#[proc_macro_derive(Plain)]
pub fn plain(item: TokenStream) -> TokenStream {
    let input = parse_macro_input!(item as DeriveInput);
    plain::derive_plain(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Makes a struct whose fields travel, kernel objects and capabilities among them, something that travels in a message.
#[proc_macro_derive(Transfer)]
pub fn transfer(item: TokenStream) -> TokenStream {
    let input = parse_macro_input!(item as DeriveInput);
    plain::derive_transfer(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Makes an enum an interface's error: variants numbered in order from 1, or as `#[code(N)]` says, and `Transport(TransportError)` for
/// what happens on the way.
#[proc_macro_derive(InterfaceError, attributes(code))]
pub fn interface_error(item: TokenStream) -> TokenStream {
    let input = parse_macro_input!(item as DeriveInput);
    error::derive(&input).unwrap_or_else(Error::into_compile_error).into()
}
