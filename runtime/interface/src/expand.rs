//! Writes what an interface expands to: the proxy that calls, the dispatcher that is called, and what is recorded.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{ItemTrait, Type};

use crate::parse::{Answer, Kind, Method};

pub fn expand(item: &ItemTrait, methods: &[Method]) -> TokenStream {
    let name = &item.ident;
    let proxies = methods.iter().map(proxy);
    let arms = methods.iter().map(|method| arm(name, method));
    let records = methods.iter().map(record);
    quote! {
        #item

        #[allow(unused_mut, unused_variables, clippy::needless_question_mark, clippy::let_unit_value)]
        const _: () = {
            use ::tessera_runtime::transport::{self, Call, Remote, Request, Transfer, TransportError, schema};

            struct Proxy(Remote);

            impl #name for Proxy {
                #(#proxies)*
            }

            impl transport::Interface for dyn #name {
                const NAME: &'static str = stringify!(#name);
                const SCHEMA: &'static schema::Schema =
                    &schema::Schema { name: stringify!(#name), methods: &[#(#records),*] };

                fn remote(remote: Remote) -> transport::Arc<dyn #name> {
                    transport::Arc::new(Proxy(remote))
                }

                fn as_remote(&self) -> ::core::option::Option<&Remote> {
                    let object: &dyn ::core::any::Any = self;
                    object.downcast_ref::<Proxy>().map(|proxy| &proxy.0)
                }

                fn any(
                    object: transport::Arc<dyn #name>,
                ) -> transport::Arc<dyn ::core::any::Any + ::core::marker::Send + ::core::marker::Sync> {
                    object
                }

                fn dispatch(&self, call: &mut Call<'_>) -> ::core::result::Result<(), TransportError> {
                    match call.method() {
                        #(#arms)*
                        _ => ::core::result::Result::Err(TransportError::UnknownMethod),
                    }
                }
            }
        };
    }
}

/// `<T as Transfer>`, which the compiler's complaints point at the type with.
fn transfer(kind: &Type) -> TokenStream {
    quote_spanned!(kind.span()=> <#kind as Transfer>)
}

/// The types that travel as words and handles.
fn values(method: &Method) -> Vec<TokenStream> {
    let value = |kind: &Kind| if let Kind::Value(kind) = kind { Some(transfer(kind)) } else { None };
    method.arguments.iter().filter_map(|argument| value(&argument.kind)).collect()
}

/// The handles and words of the answer.
fn answered(answer: &Answer) -> TokenStream {
    match answer {
        Answer::Value(kind) => transfer(kind),
        // How many bytes there are.
        Answer::Bytes(_) | Answer::Text(_) => quote!(<u64 as Transfer>),
    }
}

/// The constants that give a method's shape.
fn shape(method: &Method) -> TokenStream {
    let values = values(method);
    quote! {
        const HANDLES: usize = 0 #(+ #values::HANDLES)*;
        const WORDS: usize = 0 #(+ #values::WORDS)*;
    }
}

/// A method of the proxy.
fn proxy(method: &Method) -> TokenStream {
    let Method { number, error, signature, .. } = method;
    let (leases, shape, answered) = (method.leases(), shape(method), answered(&method.answer));
    let mut before = TokenStream::new();
    let mut lend = TokenStream::new();
    let mut put = TokenStream::new();
    let mut after = TokenStream::new();
    let mut filled = quote!();
    for argument in &method.arguments {
        let name = &argument.name;
        let copy = format_ident!("{name}_words");
        match &argument.kind {
            Kind::Value(kind) => {
                let transfer = transfer(kind);
                put.extend(quote!(#transfer::put(#name, &mut request)?;));
            }
            Kind::Bytes => lend.extend(quote!(request.read(#name)?;)),
            Kind::Text => lend.extend(quote!(request.read(#name.as_bytes())?;)),
            Kind::Fill => {
                if method.fills {
                    before.extend(quote!(let length = #name.len();));
                    filled = quote!(let answer = transport::filled(answer, length)?;);
                }
                lend.extend(quote!(request.write(#name)?;));
            }
            Kind::Elements(kind) => {
                before.extend(quote_spanned!(kind.span()=> let #copy = transport::encoded::<#kind>(#name);));
                lend.extend(quote!(request.read(&#copy)?;));
            }
            Kind::FillElements(kind) => {
                before.extend(quote_spanned!(kind.span()=> let mut #copy = transport::encoded::<#kind>(#name);));
                lend.extend(quote!(request.write(&mut #copy)?;));
                after.extend(quote!(transport::decode_into(&#copy, #name)?;));
            }
        }
    }
    let answer = match &method.answer {
        Answer::Value(_) => quote! {
            let answer = #answered::get(&mut answer)?;
            #filled
            ::core::result::Result::Ok(answer)
        },
        Answer::Bytes(_) => quote! {
            let length = #answered::get(&mut answer)?;
            ::core::result::Result::Ok(transport::bytes(memory, length)?)
        },
        Answer::Text(_) => quote! {
            let length = #answered::get(&mut answer)?;
            ::core::result::Result::Ok(transport::text(memory, length)?)
        },
    };
    if let Answer::Bytes(bound) | Answer::Text(bound) = &method.answer {
        before.extend(quote!(let mut memory = transport::zeros(#bound);));
        lend.extend(quote!(request.write(&mut memory)?;));
    }
    quote! {
        #[inline]
        #signature {
            #shape
            #before
            let mut request = Request::<#leases, HANDLES, WORDS>::new(#number);
            #lend
            #put
            let mut answer = self.0.call::<
                #error, #leases, HANDLES, WORDS, { #answered::HANDLES }, { #answered::WORDS },
            >(request)?;
            #after
            #answer
        }
    }
}

/// The arm of the dispatcher that carries a method out.
fn arm(interface: &syn::Ident, method: &Method) -> TokenStream {
    let Method { number, name: function, .. } = method;
    let (leases, shape) = (method.leases(), shape(method));
    let mut written = 0_u8;
    let mut lease = 0_usize;
    let mut take = TokenStream::new();
    let mut copy = TokenStream::new();
    let mut pass = Vec::new();
    let mut back = TokenStream::new();
    let mut keep = TokenStream::new();
    let last_fill = method.arguments.iter().rposition(|argument| matches!(argument.kind, Kind::Fill));
    for (position, argument) in method.arguments.iter().enumerate() {
        let name = &argument.name;
        written |= u8::from(argument.kind.is_written()) << lease;
        match &argument.kind {
            Kind::Value(kind) => {
                let transfer = transfer(kind);
                take.extend(quote!(let #name = #transfer::get(&mut arguments)?;));
                pass.push(quote!(#name));
            }
            Kind::Bytes | Kind::Text => {
                copy.extend(quote!(let #name = call.read(#lease)?;));
                let text = matches!(argument.kind, Kind::Text);
                pass.push(if text { quote!(#name.text()?) } else { quote!(&#name) });
                keep.extend(quote!(call.keep(#lease, #name);));
            }
            Kind::Fill => {
                let length = if method.fills && last_fill == Some(position) {
                    quote!(transport::filled_of(&result))
                } else {
                    quote!(call.length(#lease))
                };
                copy.extend(quote!(let mut #name = call.zeros(#lease)?;));
                pass.push(quote!(&mut #name));
                back.extend(quote!(call.give_back(#lease, &#name, #length)?;));
                keep.extend(quote!(call.keep(#lease, #name);));
            }
            Kind::Elements(kind) => {
                copy.extend(quote_spanned!(kind.span()=> let #name = call.elements::<#kind>(#lease)?;));
                pass.push(quote!(&#name));
            }
            Kind::FillElements(kind) => {
                copy.extend(quote_spanned!(kind.span()=> let mut #name = call.elements::<#kind>(#lease)?;));
                pass.push(quote!(&mut #name));
                back.extend(quote!(call.give_back_elements(#lease, &#name)?;));
            }
        }
        lease += usize::from(argument.kind.is_slice());
    }
    let back = if back.is_empty() { back } else { quote!(if result.is_ok() { #back }) };
    let answer = match &method.answer {
        Answer::Value(kind) => quote_spanned!(kind.span()=> call.answer(result)),
        Answer::Bytes(bound) => quote!(call.answer_bytes(#lease, #bound, result)),
        Answer::Text(bound) => quote!(call.answer_text(#lease, #bound, result)),
    };
    if !matches!(method.answer, Answer::Value(_)) {
        written |= 1 << lease;
    }
    quote! {
        #number => {
            #shape
            let mut arguments = call.arguments::<#leases, HANDLES, WORDS>(#written)?;
            #take
            #copy
            let result = #interface::#function(self, #(#pass),*);
            #back
            #keep
            #answer
        }
    }
}

/// What is recorded of a method.
fn record(method: &Method) -> TokenStream {
    let Method { number, name, error, fills, .. } = method;
    let arguments = method.arguments.iter().map(|argument| {
        let name = &argument.name;
        let kind = match &argument.kind {
            Kind::Value(kind) => {
                let transfer = transfer(kind);
                quote!(schema::Argument::Value(#transfer::DESCRIPTION))
            }
            Kind::Bytes => quote!(schema::Argument::Read(<u8 as Transfer>::DESCRIPTION)),
            Kind::Text => quote!(schema::Argument::Text),
            Kind::Fill => quote!(schema::Argument::Write(<u8 as Transfer>::DESCRIPTION)),
            Kind::Elements(kind) => quote!(schema::Argument::Read(<#kind as transport::Plain>::DESCRIPTION)),
            Kind::FillElements(kind) => quote!(schema::Argument::Write(<#kind as transport::Plain>::DESCRIPTION)),
        };
        quote!((stringify!(#name), #kind))
    });
    let answer = match &method.answer {
        Answer::Value(kind) => {
            let transfer = transfer(kind);
            quote!(schema::Answer::Value(#transfer::DESCRIPTION))
        }
        Answer::Bytes(bound) => quote!(schema::Answer::Bytes(#bound)),
        Answer::Text(bound) => quote!(schema::Answer::Text(#bound)),
    };
    let error_name =
        if let Type::Path(path) = error { path.path.segments.last().map(|last| &last.ident) } else { None };
    quote! {
        schema::Method {
            number: #number,
            name: stringify!(#name),
            arguments: &[#(#arguments),*],
            answer: #answer,
            error: (stringify!(#error_name), <#error as transport::InterfaceError>::VARIANTS),
            fills: #fills,
        }
    }
}
