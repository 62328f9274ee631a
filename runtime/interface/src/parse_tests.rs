//! What cannot be an interface is refused with a sentence, and the error points at the words that are to blame.

use proc_macro2::Span;
use syn::ItemTrait;

use super::interface;

/// The text between two places of a source of one line.
fn text(source: &str, span: Span) -> &str {
    &source[span.start().column..span.end().column]
}

/// What an interface with this method is refused for: the words that the error points at, and what it says.
fn refused(method: &str) -> (String, String) {
    let source = format!("trait Sample {{ {method} }}");
    let mut item: ItemTrait = syn::parse_str(&source).unwrap();
    match interface(&mut item) {
        Ok(_) => panic!("{method} is taken"),
        Err(error) => (text(&source, error.span()).into(), error.to_string()),
    }
}

fn assert_refused(method: &str, words: &str, sentence: &str) {
    let (at, said) = refused(method);
    assert_eq!(at, words, "{method}: {said}");
    assert!(said.contains(sentence), "{method}: {said}");
}

#[test]
fn arguments_that_do_not_travel_are_pointed_at() {
    assert_refused("fn a(&self, b: &u64) -> Result<(), E>;", "&u64", "a reference does not travel");
    assert_refused("fn a(&self, x: u8, b: Vec<u8>) -> Result<(), E>;", "Vec<u8>", "pass a slice");
    assert_refused("fn a(&self, b: String) -> Result<(), E>;", "String", "pass `&str`");
    assert_refused("fn a(&self, b: &mut str) -> Result<(), E>;", "&mut str", "for reading only");
    assert_refused("fn a(&self, b: usize) -> Result<(), E>;", "usize", "pass `u64` or `u32`");
    assert_refused("fn a(&self, b: Arc<dyn T>) -> Result<(), E>;", "Arc<dyn T>", "`Cap<dyn Interface>`");
    assert_refused("fn a(&self, b: &dyn T) -> Result<(), E>;", "&dyn T", "a reference does not travel");
    assert_refused("fn a(&self, b: impl T) -> Result<(), E>;", "impl T", "`Cap<dyn Interface>`");
    assert_refused("fn a(&self, b: *const u8) -> Result<(), E>;", "*const u8", "a pointer does not travel");
    assert_refused("fn a(&self, b: fn()) -> Result<(), E>;", "fn()", "cannot travel");
    assert_refused("fn a(&self, (b, c): (u8, u8)) -> Result<(), E>;", "(b, c)", "a plain name");
}

#[test]
fn a_slice_too_many_is_pointed_at() {
    let three = "a: &[u8], b: &mut [u8], c: &str";
    assert_refused(&format!("fn f(&self, {three}, x: u64, d: &[u8]) -> Result<(), E>;"), "d: &[u8]", "three slices");
    assert_refused(&format!("#[bound(9)] fn f(&self, {three}) -> Result<Vec<u8>, E>;"), "c: &str", "three slices");
}

#[test]
fn answers_that_do_not_travel_are_pointed_at() {
    assert_refused("fn a(&self);", "a", "answers `Result<T, E>`");
    assert_refused("fn a(&self) -> u64;", "u64", "answers `Result<T, E>`");
    assert_refused("fn a(&self) -> Result<u64>;", "Result<u64>", "answers `Result<T, E>`");
    assert_refused("fn a(&self) -> Result<&[u8], E>;", "&[u8]", "fill a `&mut [u8]`");
    assert_refused("fn a(&self) -> Result<Vec<u8>, E>;", "Vec<u8>", "`#[bound(BYTES)]`");
    assert_refused("fn a(&self) -> Result<String, E>;", "String", "`#[bound(BYTES)]`");
    assert_refused("#[bound(4)] fn a(&self) -> Result<Vec<u64>, E>;", "Vec<u64>", "only `Vec<u8>`");
    assert_refused("#[bound(0)] fn a(&self) -> Result<String, E>;", "String", "from 1 to 1048576");
    assert_refused("#[bound(4)] fn a(&self) -> Result<u64, E>;", "#[bound(4)]", "only an answer of `Vec<u8>`");
    assert_refused("#[fills] fn a(&self) -> Result<u64, E>;", "#[fills]", "no `&mut [u8]`");
}

#[test]
fn methods_that_cannot_be_called_from_afar_are_pointed_at() {
    assert_refused("fn a() -> Result<(), E>;", "a", "takes `&self`");
    assert_refused("fn a(&mut self) -> Result<(), E>;", "&mut self", "takes `&self`");
    assert_refused("fn a(self) -> Result<(), E>;", "self", "takes `&self`");
    assert_refused("fn a<T>(&self, b: T) -> Result<(), E>;", "T", "no parameters");
    assert_refused("async fn a(&self) -> Result<(), E>;", "async", "is not `async`");
    assert_refused("const X: u8;", "const X: u8;", "consists of methods");
    assert_refused("type X;", "type X;", "consists of methods");
    let twice = "#[method(3)] fn a(&self) -> Result<(), E>; #[method(3)] fn b(&self) -> Result<(), E>;";
    assert_refused(twice, "b", "number 3 is that of `a`");
}

#[test]
fn methods_are_numbered_in_order_and_attributes_are_taken_off() {
    let source = "trait Sample {
        fn a(&self) -> Result<(), E>;
        #[method(7)] #[must_use] fn b(&self) -> Result<(), E>;
        #[fills] fn c(&self, into: &mut [u8]) -> Result<u64, E>;
    }";
    let mut item: ItemTrait = syn::parse_str(source).unwrap();
    let methods = interface(&mut item).unwrap();
    let numbers: Vec<_> = methods.iter().map(|method| (method.name.to_string(), method.number, method.fills)).collect();
    assert_eq!(numbers, [("a".into(), 0, false), ("b".into(), 7, false), ("c".into(), 8, true)]);
    let attributes =
        item.items.iter().map(|item| if let syn::TraitItem::Fn(item) = item { item.attrs.len() } else { 9 });
    assert_eq!(attributes.collect::<Vec<_>>(), [0, 1, 0]);
}
