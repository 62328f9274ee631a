//! Reads a trait as an interface; what cannot be one is refused, and the error points at it.

use proc_macro2::Span;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, ItemTrait, LitInt, Pat, PathArguments, Result, ReturnType,
    TraitItem, TraitItemFn, Type, TypePath,
};

/// A method of an interface.
pub struct Method {
    pub name: Ident,
    /// The label of its calls.
    pub number: u32,
    pub arguments: Vec<Argument>,
    pub answer: Answer,
    /// What stands in `Result<_, E>`.
    pub error: Type,
    /// Whether the answer says how much of the last writable slice was filled.
    pub fills: bool,
    /// The signature as it was written.
    pub signature: syn::Signature,
}

pub struct Argument {
    pub name: Ident,
    pub kind: Kind,
}

/// How an argument travels.
pub enum Kind {
    /// By its words and handles.
    Value(Type),
    /// A lease that the server reads: `&[u8]`.
    Bytes,
    /// The same, checked to be text: `&str`.
    Text,
    /// A lease that the server fills: `&mut [u8]`.
    Fill,
    /// A copy of a slice of plain data, lent: `&[T]`.
    Elements(Type),
    /// The same, copied back: `&mut [T]`.
    FillElements(Type),
}

impl Kind {
    pub fn is_slice(&self) -> bool {
        !matches!(self, Kind::Value(_))
    }

    pub fn is_written(&self) -> bool {
        matches!(self, Kind::Fill | Kind::FillElements(_))
    }
}

/// What a method answers.
pub enum Answer {
    Value(Box<Type>),
    /// `Vec<u8>` of at most so many bytes.
    Bytes(usize),
    /// `String` of at most so many bytes.
    Text(usize),
}

impl Method {
    /// How many leases its calls have.
    pub fn leases(&self) -> usize {
        let bound = usize::from(!matches!(self.answer, Answer::Value(_)));
        self.arguments.iter().filter(|argument| argument.kind.is_slice()).count() + bound
    }
}

/// Most leases of a call.
const MAX_LEASES: usize = 3;
/// The longest answer with a bound.
const MAX_BOUND: usize = 1 << 20;
/// The attributes that are this macro's.
const OWN: [&str; 3] = ["method", "bound", "fills"];

/// Reads the trait, and takes this macro's attributes off its methods.
pub fn interface(item: &mut ItemTrait) -> Result<Vec<Method>> {
    if let Some(parameter) = item.generics.params.first() {
        return Err(Error::new(parameter.span(), "an interface has no parameters: both sides must know its shape"));
    }
    let mut methods: Vec<Method> = Vec::new();
    let mut next = 0;
    for item in &mut item.items {
        let TraitItem::Fn(function) = item else {
            return Err(Error::new(item.span(), "an interface consists of methods"));
        };
        let method = method(function, next)?;
        if let Some(other) = methods.iter().find(|other| other.number == method.number) {
            let text = format!("number {} is that of `{}`", method.number, other.name);
            return Err(Error::new(method.name.span(), text));
        }
        next = method.number + 1;
        methods.push(method);
        function.attrs.retain(|attribute| !OWN.iter().any(|name| attribute.path().is_ident(name)));
    }
    Ok(methods)
}

fn attribute<'a>(function: &'a TraitItemFn, name: &str) -> Option<&'a Attribute> {
    function.attrs.iter().find(|attribute| attribute.path().is_ident(name))
}

fn number<N: std::str::FromStr<Err: std::fmt::Display>>(attribute: &Attribute) -> Result<N> {
    attribute.parse_args::<LitInt>()?.base10_parse()
}

fn method(function: &TraitItemFn, next: u32) -> Result<Method> {
    let signature = &function.sig;
    if let Some(parameter) = signature.generics.params.first() {
        return Err(Error::new(parameter.span(), "a method of an interface has no parameters of its own"));
    }
    let words = [
        signature.asyncness.map(|word| word.to_token_stream()),
        signature.unsafety.map(|word| word.to_token_stream()),
        signature.constness.map(|word| word.to_token_stream()),
    ];
    if let Some(word) = words.into_iter().flatten().next() {
        return Err(Error::new(word.span(), format!("a method of an interface is not `{word}`")));
    }
    let mut inputs = signature.inputs.iter();
    match inputs.next() {
        Some(FnArg::Receiver(receiver))
            if receiver.reference.is_some() && receiver.mutability.is_none() && receiver.colon_token.is_none() => {}
        Some(other) => {
            return Err(Error::new(
                other.span(),
                "a method of an interface takes `&self`: many callers use one object at a time",
            ));
        }
        None => return Err(Error::new(signature.ident.span(), "a method of an interface takes `&self`")),
    }
    let arguments = inputs.map(argument).collect::<Result<Vec<_>>>()?;
    let bound = attribute(function, "bound").map(number::<usize>).transpose()?;
    let (answer, error) = answer(&signature.output, signature.ident.span(), bound)?;
    let label = attribute(function, "method").map(number::<u32>).transpose()?.unwrap_or(next);
    let method = Method {
        name: signature.ident.clone(),
        number: label,
        arguments,
        answer,
        error,
        fills: attribute(function, "fills").is_some(),
        signature: with_hygienic_names(signature),
    };
    if let (Some(attribute), Answer::Value(_)) = (attribute(function, "bound"), &method.answer) {
        return Err(Error::new(attribute.span(), "only an answer of `Vec<u8>` or `String` has a bound"));
    }
    if let Some(attribute) = attribute(function, "fills") {
        let fills = method.arguments.iter().any(|argument| matches!(argument.kind, Kind::Fill));
        if !fills || !matches!(method.answer, Answer::Value(_)) {
            let text = "the method takes no `&mut [u8]` of which its answer could say how much is filled";
            return Err(Error::new(attribute.span(), text));
        }
    }
    if method.leases() > MAX_LEASES {
        let slices = signature.inputs.iter().skip(1).zip(&method.arguments).filter(|(_, read)| read.kind.is_slice());
        let span = slices.map(|(written, _)| written.span()).last().unwrap_or(method.name.span());
        return Err(Error::new(
            span,
            "at most three slices travel in a call, and an answer with a bound is one of them",
        ));
    }
    Ok(method)
}

/// The signature with the names that `argument` gives.
fn with_hygienic_names(signature: &syn::Signature) -> syn::Signature {
    let mut signature = signature.clone();
    for input in &mut signature.inputs {
        if let FnArg::Typed(typed) = input
            && let Pat::Ident(name) = &mut *typed.pat
        {
            name.ident = hygienic(&name.ident);
        }
    }
    signature
}

/// A name that clashes with none of those that the generated code uses.
fn hygienic(name: &Ident) -> Ident {
    Ident::new(&name.to_string(), Span::mixed_site())
}

fn argument(input: &FnArg) -> Result<Argument> {
    let FnArg::Typed(typed) = input else {
        return Err(Error::new(input.span(), "`self` comes first"));
    };
    let Pat::Ident(name) = &*typed.pat else {
        return Err(Error::new(typed.pat.span(), "an argument of an interface's method has a plain name"));
    };
    Ok(Argument { name: hygienic(&name.ident), kind: kind(&typed.ty)? })
}

fn is_named(kind: &Type, name: &str) -> bool {
    matches!(kind, Type::Path(TypePath { path, .. }) if path.is_ident(name))
}

fn kind(written: &Type) -> Result<Kind> {
    let refuse = |text: &str| Err(Error::new(written.span(), text));
    match written {
        Type::Reference(reference) => {
            let is_mutable = reference.mutability.is_some();
            match &*reference.elem {
                Type::Slice(slice) if is_named(&slice.elem, "u8") => {
                    Ok(if is_mutable { Kind::Fill } else { Kind::Bytes })
                }
                Type::Slice(slice) => {
                    let element = (*slice.elem).clone();
                    Ok(if is_mutable { Kind::FillElements(element) } else { Kind::Elements(element) })
                }
                text if is_named(text, "str") && !is_mutable => Ok(Kind::Text),
                text if is_named(text, "str") => refuse("text is lent for reading only: fill a `&mut [u8]`"),
                _ => refuse("a reference does not travel: pass the value itself, or a slice"),
            }
        }
        Type::Path(path) => {
            let last = path.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
            match last.as_str() {
                "Vec" => refuse("an argument is not owned by the other side: pass a slice"),
                "String" => refuse("an argument is not owned by the other side: pass `&str`"),
                "usize" | "isize" => refuse("`usize` is not the same everywhere: pass `u64` or `u32`"),
                "Box" | "Rc" | "Arc" => {
                    refuse("a pointer does not travel: pass the value, or an object as `Cap<dyn Interface>`")
                }
                _ => Ok(Kind::Value(written.clone())),
            }
        }
        Type::Tuple(_) | Type::Array(_) => Ok(Kind::Value(written.clone())),
        Type::ImplTrait(_) | Type::TraitObject(_) => refuse("an object travels as `Cap<dyn Interface>`"),
        Type::Ptr(_) => refuse("a pointer does not travel: pass a slice"),
        _ => refuse("this cannot travel between domains"),
    }
}

/// The two types of `Result<T, E>`.
fn answer(output: &ReturnType, method: Span, bound: Option<usize>) -> Result<(Answer, Type)> {
    let refuse =
        |span| Err(Error::new(span, "a method of an interface answers `Result<T, E>`: a call can fail on its way"));
    let ReturnType::Type(_, written) = output else { return refuse(method) };
    let Type::Path(path) = &**written else { return refuse(written.span()) };
    let Some(last) = path.path.segments.last().filter(|segment| segment.ident == "Result") else {
        return refuse(written.span());
    };
    let PathArguments::AngleBracketed(parameters) = &last.arguments else { return refuse(written.span()) };
    let types: Vec<&Type> = parameters
        .args
        .iter()
        .filter_map(|argument| if let GenericArgument::Type(kind) = argument { Some(kind) } else { None })
        .collect();
    let [value, error] = types[..] else { return refuse(written.span()) };
    let answer = match value {
        Type::Path(TypePath { path, .. }) => match path.segments.last() {
            Some(last) if last.ident == "Vec" || last.ident == "String" => {
                let bytes = matches!(&last.arguments, PathArguments::AngleBracketed(inner)
                    if matches!(inner.args.first(), Some(GenericArgument::Type(kind)) if is_named(kind, "u8")));
                match bound {
                    _ if last.ident == "Vec" && !bytes => {
                        return Err(Error::new(value.span(), "only `Vec<u8>` is answered: others fill a `&mut [T]`"));
                    }
                    Some(bound) if (1..=MAX_BOUND).contains(&bound) => {
                        if last.ident == "Vec" {
                            Answer::Bytes(bound)
                        } else {
                            Answer::Text(bound)
                        }
                    }
                    Some(_) => return Err(Error::new(value.span(), "a bound is from 1 to 1048576 bytes")),
                    None => {
                        let text = "say how long the answer may be: `#[bound(BYTES)]` above the method";
                        return Err(Error::new(value.span(), text));
                    }
                }
            }
            _ => Answer::Value(Box::new(value.clone())),
        },
        Type::Reference(_) => {
            return Err(Error::new(
                value.span(),
                "a reference is not answered: fill a `&mut [u8]`, or answer a `Vec<u8>`",
            ));
        }
        _ => Answer::Value(Box::new(value.clone())),
    };
    Ok((answer, error.clone()))
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
