//! What all handles have in common: they are owned by one value, and closed when it is dropped.
//!
//! A handle is a number; misusing one is refused by the kernel and harms nobody's memory, so all of this is safe code but
//! for the system call itself.

use core::mem::ManuallyDrop;

use tessera_abi::{Error, Handle, Kind, Rights, Syscall};

use crate::raw::{self, Outcome};

/// A result with the kernel's reason for refusing.
pub type Result<T> = core::result::Result<T, Error>;

/// A handle that is closed when dropped.
#[derive(Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Owned(u32);

impl Drop for Owned {
    #[inline]
    fn drop(&mut self) {
        if self.0 != 0 {
            // A handle that is gone already (revoked) is closed.
            let _ = request(Syscall::Close, [self.number()]);
        }
    }
}

impl Owned {
    /// Takes over a handle of this process.
    pub(crate) const fn new(handle: Handle) -> Owned {
        Owned(handle.0)
    }

    /// Takes over a handle by its number.
    ///
    /// # Safety
    /// Whoever calls this was given the handle, and nobody else closes it. Memory is safe all the same; but components of one domain have one
    /// table of handles, in which the kernel cannot tell theirs apart: that none names another's rests on this (compare RFC 3128, I/O
    /// safety).
    pub const unsafe fn from_handle(handle: Handle) -> Owned {
        Owned(handle.0)
    }

    /// Its number, for a system call.
    #[inline(always)]
    pub fn number(&self) -> u64 {
        self.0.into()
    }

    /// Gives the number away without closing.
    pub fn into_handle(self) -> Handle {
        Handle(ManuallyDrop::new(self).0)
    }
}

/// The outcome of a call, or why it was refused.
#[inline(always)]
pub fn checked(outcome: Outcome) -> Result<[u64; 6]> {
    match outcome.code as u32 {
        0 => Ok(outcome.values),
        code => Err(error(code)),
    }
}

/// Whether a call can make the kernel read or write this process's memory, take mappings away, or run code of it somewhere.
const fn reaches_memory(call: Syscall) -> bool {
    matches!(
        call,
        Syscall::VmoRead
            | Syscall::VmoWrite
            | Syscall::SpaceUnmap
            | Syscall::SpaceProtect
            | Syscall::ThreadStart
            | Syscall::ThreadRead
            | Syscall::ThreadWrite
            | Syscall::ThreadExit
            | Syscall::ThreadPointer
            | Syscall::Call
            | Syscall::Receive
            | Syscall::ReplyAndReceive
            | Syscall::Reply
            | Syscall::LeaseRead
            | Syscall::LeaseWrite
            | Syscall::LogWrite
            | Syscall::GuestEnter
            | Syscall::GuestResume
            | Syscall::GuestSave
            | Syscall::DmaPin
            | Syscall::GuestVectorRead
            | Syscall::GuestVectorWrite
    )
}

/// Makes a call that touches kernel objects only. `call` is a constant at every use, so that the check costs nothing.
#[inline(always)]
pub(crate) fn request<const N: usize>(call: Syscall, arguments: [u64; N]) -> Result<[u64; 6]> {
    assert!(!reaches_memory(call), "this call needs a look at the memory that it touches");
    let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
    let number = call as u64;
    // SAFETY: just checked that the call touches no memory of this process.
    checked(unsafe {
        match N {
            0 => raw::syscall_0(number),
            1 => raw::syscall_1(number, argument(0)),
            2 => raw::syscall_2(number, argument(0), argument(1)),
            3 => raw::syscall_3(number, argument(0), argument(1), argument(2)),
            4 => raw::syscall_4(number, argument(0), argument(1), argument(2), argument(3)),
            5 => raw::syscall_5(number, argument(0), argument(1), argument(2), argument(3), argument(4)),
            _ => raw::syscall_6(number, argument(0), argument(1), argument(2), argument(3), argument(4), argument(5)),
        }
    })
}

/// Makes a call that answers with one handle.
#[inline(always)]
pub(crate) fn create<T: Object, const N: usize>(call: Syscall, arguments: [u64; N]) -> Result<T> {
    Ok(T::from_owned(owned(request(call, arguments)?[0])))
}

/// The error behind a code that is not zero.
#[cold]
pub fn error(code: u32) -> Error {
    // A code from a newer kernel: the nearest that this runtime can say.
    Error::from_code(code.into()).unwrap_or(Error::BadState)
}

/// The handle in a value register.
#[inline(always)]
pub(crate) fn owned(value: u64) -> Owned {
    Owned::new(Handle(value as u32))
}

/// What `inspect` tells of a handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inspected {
    /// The object's kind.
    pub kind: Kind,
    /// The handle's rights.
    pub rights: Rights,
    /// How many handles name the object.
    pub handles: u64,
}

/// A typed handle to a kernel object.
pub trait Object: Sized {
    /// The kind of object that the type is for.
    const KIND: Kind;

    /// Takes over a handle. That it is of the right kind shows at its first use.
    fn from_owned(owned: Owned) -> Self;
    /// The handle.
    fn owned(&self) -> &Owned;
    /// Gives the handle away.
    fn into_owned(self) -> Owned;

    /// Its number.
    fn handle(&self) -> Handle {
        Handle(self.owned().number() as u32)
    }

    /// Another handle to the same object, derived from this one, with these rights (none that this one lacks).
    fn duplicate(&self, rights: Rights) -> Result<Self> {
        create(Syscall::Duplicate, [self.owned().number(), rights.bits().into()])
    }

    /// Another handle with all the rights of this one.
    fn try_clone(&self) -> Result<Self> {
        self.duplicate(self.inspect()?.rights)
    }

    /// Removes everything derived from this handle, in every process.
    fn revoke(&self) -> Result<()> {
        request(Syscall::Revoke, [self.owned().number()]).map(|_| ())
    }

    /// What the handle is.
    fn inspect(&self) -> Result<Inspected> {
        let values = request(Syscall::Inspect, [self.owned().number()])?;
        Ok(Inspected {
            kind: Kind::from_code(values[0]).ok_or(Error::WrongKind)?,
            rights: Rights::from_bits(values[1]).ok_or(Error::BadArgument)?,
            handles: values[2],
        })
    }
}

/// Defines a typed handle.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, PartialEq, Eq)]
        #[repr(transparent)]
        pub struct $name($crate::handle::Owned);

        impl $crate::handle::Object for $name {
            const KIND: tessera_abi::Kind = tessera_abi::Kind::$name;
            #[inline(always)]
            fn from_owned(owned: $crate::handle::Owned) -> Self {
                $name(owned)
            }
            #[inline(always)]
            fn owned(&self) -> &$crate::handle::Owned {
                &self.0
            }
            fn into_owned(self) -> $crate::handle::Owned {
                self.0
            }
        }
    };
}
pub(crate) use object;
