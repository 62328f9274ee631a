//! Why a call was refused, and whose fault that is.
//!
//! The order of checks is fixed: handle, kind, right, arguments, quota, state. A wrong kind is told before a missing right.

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why a call was refused. Zero in `rax` means that it was not.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum Error { $($(#[$doc])* $name = $code,)* }

        impl Error {
            /// Every error, in the order of its code.
            pub const ALL: &'static [Error] = &[$(Error::$name,)*];

            /// The error behind a result code; `None` for zero and for codes that no kernel answers.
            pub const fn from_code(code: u64) -> Option<Error> {
                match code { $($code => Some(Error::$name),)* _ => None }
            }

            /// One sentence for people.
            pub const fn text(self) -> &'static str {
                match self { $(Error::$name => $text,)* }
            }
        }
    };
}

errors! {
    /// The caller's fault: no system call has this number.
    BadSyscall = 1, "there is no system call with this number";
    /// The caller's fault: the number names no live handle of this process.
    BadHandle = 2, "not a handle of this process";
    /// The caller's fault: the handle names an object of another kind.
    WrongKind = 3, "the handle names another kind of object";
    /// The caller's fault: the handle lacks a right that the call needs.
    NoRight = 4, "the handle lacks a right that this call needs";
    /// The caller's fault: an argument is outside what the call takes.
    BadArgument = 5, "an argument is out of range";
    /// The caller's fault: an address is not the caller's, not mapped, or not accessible that way.
    BadAddress = 6, "an address is not accessible to the caller";
    /// The pool's quota for this kind of thing is used up.
    NoQuota = 7, "the pool is used up";
    /// The deadline passed first.
    TimedOut = 8, "the deadline passed";
    /// The other side ended, or dropped the call without an answer.
    PeerGone = 9, "the other side is gone";
    /// The object is not in a state in which this can be done.
    BadState = 10, "the object is not in a state for this";
    /// It cannot be done without waiting, and the call does not wait.
    WouldBlock = 11, "it would have to wait";
    /// Something is there already (a mapping, a binding).
    Occupied = 12, "something is already there";
    /// Nothing is there (no mapping, no lease with that index).
    NotFound = 13, "nothing is there";
    /// The receiver could not take the handles of a message (its pool is used up).
    PeerNoQuota = 14, "the other side has no room for the handles";
    /// A guest was asked to stop, or a wait was ended by `unpark`.
    Interrupted = 15, "interrupted";
    /// The object was ended while the call waited for it.
    Gone = 16, "the object was destroyed meanwhile";
}

impl core::fmt::Display for Error {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(self.text())
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dense_and_round_trip() {
        for (index, error) in Error::ALL.iter().enumerate() {
            assert_eq!(*error as usize, index + 1);
            assert_eq!(Error::from_code(*error as u64), Some(*error));
        }
        assert_eq!(Error::from_code(0), None);
        assert_eq!(Error::from_code(Error::ALL.len() as u64 + 1), None);
    }
}
