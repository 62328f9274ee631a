//! What is recorded of an interface: all that two sides must agree on, as constants that the macros make.

/// An interface.
#[derive(Debug)]
pub struct Schema {
    /// The trait's name.
    pub name: &'static str,
    /// Its methods.
    pub methods: &'static [Method],
}

/// A method.
#[derive(Debug)]
pub struct Method {
    /// Its number, which is a call's label.
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// Its arguments, in order.
    pub arguments: &'static [(&'static str, Argument)],
    /// What it answers.
    pub answer: Answer,
    /// The name of its error, and the numbered variants.
    pub error: (&'static str, &'static [(&'static str, u32)]),
    /// Whether the answer says how much of the last writable slice is copied back.
    pub fills: bool,
}

/// An argument.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    /// A value.
    Value(Description),
    /// A slice that the server reads.
    Read(Description),
    /// A slice that the server fills.
    Write(Description),
    /// UTF-8 text.
    Text,
}

/// What a method answers.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// A value.
    Value(Description),
    /// At most this many bytes.
    Bytes(usize),
    /// UTF-8 text of at most this many bytes.
    Text(usize),
}

/// A type of values.
#[derive(Clone, Copy, Debug)]
pub enum Description {
    /// Nothing.
    Unit,
    /// A number or truth value, by its name in Rust.
    Scalar(&'static str),
    /// A number of elements of one type.
    Array(&'static Description, usize),
    /// A value or none.
    Option(&'static Description),
    /// Values of several types.
    Tuple(&'static [&'static Description]),
    /// A struct: its name and fields.
    Struct(&'static str, &'static [(&'static str, &'static Description)]),
    /// An enum without fields: its name and numbered variants.
    Enum(&'static str, &'static [(&'static str, i128)]),
    /// A kernel object, by its kind.
    Object(&'static str),
    /// A capability, by its interface.
    Cap(&'static str),
}
