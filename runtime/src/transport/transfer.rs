//! What can travel in a message, and how: every value is some words and some handles, as many as its type says.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::cap::{Cap, Served};
use crate::handle::{Object, Owned};
use crate::object::{
    Budget, Clock, Dma, Endpoint, Event, Interrupt, IoPort, Log, Mmio, Pool, Process, Seal, Sealed, Session, Space,
    Thread, Unseal, Vmo,
};
use crate::server::{Dispatch, Owner};
use tessera_abi::Rights;

use super::schema::Description;
use super::{Interface, Remote, TransportError};

/// A value without identity: numbers, truth values, enums without fields, and arrays, options and structs of them.
/// `#[derive(Plain)]` implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not plain data",
    note = "numbers (not usize), bool, arrays, Option, and what derives Plain are; bytes and text are passed as slices"
)]
pub trait Plain: Copy + 'static {
    /// Words that a value takes.
    const WORDS: usize;
    /// How many of them share a word in an array.
    const PACKED: usize = 1;
    /// What is recorded of the type.
    const DESCRIPTION: Description;

    /// Puts the value's words into a message.
    fn put(self, to: &mut impl FnMut(u64));

    /// Takes a value out of a message; `None` if the words are no value of this type.
    fn get(from: &mut impl FnMut() -> Option<u64>) -> Option<Self>;
}

macro_rules! numbers {
    ($($type:ident as $unsigned:ident, $packed:literal;)*) => {
        $(impl Plain for $type {
            const WORDS: usize = 1;
            const PACKED: usize = $packed;
            const DESCRIPTION: Description = Description::Scalar(stringify!($type));

            #[inline(always)]
            fn put(self, to: &mut impl FnMut(u64)) {
                to(u64::from(self as $unsigned));
            }

            #[inline(always)]
            fn get(from: &mut impl FnMut() -> Option<u64>) -> Option<$type> {
                $unsigned::try_from(from()?).ok().map(|value| value as $type)
            }
        })*
    };
}

numbers! {
    u8 as u8, 8;
    u16 as u16, 4;
    u32 as u32, 2;
    u64 as u64, 1;
    i8 as u8, 8;
    i16 as u16, 4;
    i32 as u32, 2;
    i64 as u64, 1;
}

impl Plain for bool {
    const WORDS: usize = 1;
    const DESCRIPTION: Description = Description::Scalar("bool");

    #[inline(always)]
    fn put(self, to: &mut impl FnMut(u64)) {
        to(self.into());
    }

    #[inline(always)]
    fn get(from: &mut impl FnMut() -> Option<u64>) -> Option<bool> {
        match from()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Plain for () {
    const WORDS: usize = 0;
    const DESCRIPTION: Description = Description::Unit;

    #[inline(always)]
    fn put(self, _: &mut impl FnMut(u64)) {}

    #[inline(always)]
    fn get(_: &mut impl FnMut() -> Option<u64>) -> Option<()> {
        Some(())
    }
}

impl<T: Plain> Plain for Option<T> {
    const WORDS: usize = 1 + T::WORDS;
    const DESCRIPTION: Description = Description::Option(&T::DESCRIPTION);

    #[inline]
    fn put(self, to: &mut impl FnMut(u64)) {
        to(self.is_some().into());
        match self {
            Some(value) => value.put(to),
            None => (0..T::WORDS).for_each(|_| to(0)),
        }
    }

    #[inline]
    fn get(from: &mut impl FnMut() -> Option<u64>) -> Option<Option<T>> {
        if <bool as Plain>::get(from)? {
            return <T as Plain>::get(from).map(Some);
        }
        for _ in 0..T::WORDS {
            from()?;
        }
        Some(None)
    }
}

impl<T: Plain, const N: usize> Plain for [T; N] {
    const WORDS: usize = if T::PACKED > 1 { N.div_ceil(T::PACKED) } else { N * T::WORDS };
    const DESCRIPTION: Description = Description::Array(&T::DESCRIPTION, N);

    #[inline]
    fn put(self, to: &mut impl FnMut(u64)) {
        if T::PACKED == 1 {
            return self.into_iter().for_each(|item| item.put(to));
        }
        for group in self.chunks(T::PACKED) {
            let mut all = 0;
            for (place, item) in group.iter().enumerate() {
                item.put(&mut |word| all |= word << (place * (64 / T::PACKED)));
            }
            to(all);
        }
    }

    #[inline]
    fn get(from: &mut impl FnMut() -> Option<u64>) -> Option<[T; N]> {
        const { assert!(N > 0, "an array of no items says nothing") };
        let mut all = 0;
        let mut next = |index| {
            if T::PACKED == 1 {
                return T::get(from);
            }
            if index % T::PACKED == 0 {
                all = from()?;
            }
            let width = 64 / T::PACKED;
            let item = all & (u64::MAX >> (64 - width));
            all >>= width;
            T::get(&mut || Some(item))
        };
        let mut items = [next(0)?; N];
        for (index, item) in items.iter_mut().enumerate().skip(1) {
            *item = next(index)?;
        }
        // The rest of the last word is zero, as it was sent.
        (all == 0 || T::PACKED == 1).then_some(items)
    }
}

/// The words of a slice's elements, as the bytes that are lent in its place.
pub fn encoded<T: Plain>(items: &[T]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(items.len().saturating_mul(T::WORDS * 8));
    for item in items {
        item.put(&mut |word| bytes.extend_from_slice(&word.to_le_bytes()));
    }
    bytes
}

/// Puts the elements whose words `bytes` are into a slice of as many.
pub fn decode_into<T: Plain>(bytes: &[u8], to: &mut [T]) -> Result<(), TransportError> {
    match decode(bytes) {
        Some(items) if items.len() == to.len() => {
            to.copy_from_slice(&items);
            Ok(())
        }
        _ => Err(TransportError::Malformed),
    }
}

/// The elements whose words `bytes` are; `None` if they are not.
pub fn decode<T: Plain>(bytes: &[u8]) -> Option<Vec<T>> {
    let mut words = bytes.chunks_exact(8).map(|chunk| chunk.try_into().map(u64::from_le_bytes).unwrap_or(0));
    if T::WORDS == 0 || !bytes.len().is_multiple_of(T::WORDS * 8) {
        return None;
    }
    (0..bytes.len() / (T::WORDS * 8)).map(|_| T::get(&mut || words.next())).collect()
}

/// Where values are put: a call's arguments, or its answer.
pub trait Sink {
    /// Adds a word.
    fn word(&mut self, word: u64);
    /// Adds a handle, which goes to the other side.
    fn handle(&mut self, handle: Owned);
    /// Makes a session by which the other side reaches an object of this domain.
    fn export(&mut self, object: Arc<dyn Dispatch>) -> Result<Session, TransportError>;
}

/// Where values are taken from.
pub trait Source {
    /// The next word; `None` if there are no more.
    fn word(&mut self) -> Option<u64>;
    /// The next handle.
    fn handle(&mut self) -> Option<Owned>;
    /// Whose object a session that came along reaches.
    fn owner(&mut self, session: &Session) -> Result<Owner, TransportError>;
}

/// A value that can be an argument or an answer. Plain data is; so are kernel objects, capabilities, tuples, and what derives
/// `Transfer`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel between domains",
    note = "plain data (numbers but usize, bool, arrays, Option, what derives Plain), kernel objects, `Cap<dyn Interface>`, tuples and what derives Transfer can",
    note = "bytes are passed as `&[u8]` or `&mut [u8]`, text as `&str`; `Vec<u8>` and `String` can be answered where `#[bound(BYTES)]` says how long they may be"
)]
pub trait Transfer: Sized {
    /// Words that a value takes.
    const WORDS: usize;
    /// Handles that a value takes.
    const HANDLES: usize;
    /// What is recorded of the type.
    const DESCRIPTION: Description;

    /// Puts the value into a message.
    fn put(self, to: &mut impl Sink) -> Result<(), TransportError>;

    /// Takes a value out of a message.
    fn get(from: &mut impl Source) -> Result<Self, TransportError>;
}

impl<T: Plain> Transfer for T {
    const WORDS: usize = T::WORDS;
    const HANDLES: usize = 0;
    const DESCRIPTION: Description = T::DESCRIPTION;

    #[inline(always)]
    fn put(self, to: &mut impl Sink) -> Result<(), TransportError> {
        Plain::put(self, &mut |word| to.word(word));
        Ok(())
    }

    #[inline(always)]
    fn get(from: &mut impl Source) -> Result<T, TransportError> {
        <T as Plain>::get(&mut || from.word()).ok_or(TransportError::Malformed)
    }
}

macro_rules! objects {
    ($($kind:ident)*) => {
        $(impl Transfer for $kind {
            const WORDS: usize = 0;
            const HANDLES: usize = 1;
            const DESCRIPTION: Description = Description::Object(stringify!($kind));

            #[inline(always)]
            fn put(self, to: &mut impl Sink) -> Result<(), TransportError> {
                to.handle(self.into_owned());
                Ok(())
            }

            /// Whether it is an object of this kind shows here; what it allows, when it is used.
            #[inline]
            fn get(from: &mut impl Source) -> Result<$kind, TransportError> {
                let object = $kind::from_owned(from.handle().ok_or(TransportError::Malformed)?);
                match object.inspect() {
                    Ok(inspected) if inspected.kind == $kind::KIND => Ok(object),
                    _ => Err(TransportError::Malformed),
                }
            }
        })*
    };
}

objects! { Budget Clock Dma Endpoint Event Interrupt IoPort Log Mmio Pool Process Seal Sealed Session Space Thread Unseal Vmo }

impl<T: Interface + ?Sized> Transfer for Cap<T> {
    const WORDS: usize = 0;
    const HANDLES: usize = 1;
    const DESCRIPTION: Description = Description::Cap(T::NAME);

    /// Of an object of another domain a session is sent that is derived from the own one; of one's own a new session.
    fn put(self, to: &mut impl Sink) -> Result<(), TransportError> {
        let session = match self.as_remote() {
            Some(remote) => remote
                .session()
                .duplicate(Rights::CALL | Rights::DUPLICATE | Rights::TRANSFER)
                .map_err(TransportError::from_refusal)?,
            None => to.export(Arc::new(Served(self.into_arc())))?,
        };
        to.handle(session.into_owned());
        Ok(())
    }

    /// A session of this domain's own server becomes the object itself.
    fn get(from: &mut impl Source) -> Result<Cap<T>, TransportError> {
        let session = Session::from_owned(from.handle().ok_or(TransportError::Malformed)?);
        match from.owner(&session)? {
            Owner::Other => Ok(Cap::local(T::remote(Remote::new(session)))),
            Owner::This(object) => Served::of(&*object).ok_or(TransportError::Malformed),
        }
    }
}

macro_rules! tuples {
    ($($($name:ident $place:tt),*;)*) => {
        $(impl<$($name: Transfer),*> Transfer for ($($name,)*) {
            const WORDS: usize = 0 $(+ $name::WORDS)*;
            const HANDLES: usize = 0 $(+ $name::HANDLES)*;
            const DESCRIPTION: Description = Description::Tuple(&[$(&$name::DESCRIPTION),*]);

            #[inline]
            fn put(self, to: &mut impl Sink) -> Result<(), TransportError> {
                $(self.$place.put(to)?;)*
                Ok(())
            }

            #[inline]
            fn get(from: &mut impl Source) -> Result<Self, TransportError> {
                Ok(($($name::get(from)?,)*))
            }
        })*
    };
}

tuples! {
    A 0, B 1;
    A 0, B 1, C 2;
    A 0, B 1, C 2, D 3;
}
