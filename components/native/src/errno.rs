//! Why something was refused, as `std` reads it: the numbers are Linux's.

use tessera_interfaces::{FileError, NetworkError};

/// A refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

/// What a function answers.
pub type Result<T> = core::result::Result<T, Errno>;

macro_rules! numbers {
    ($($name:ident = $number:literal;)*) => {
        #[allow(missing_docs)]
        impl Errno { $(pub const $name: Errno = Errno($number);)* }
    };
}

numbers! {
    EPERM = 1;
    ENOENT = 2;
    ESRCH = 3;
    EIO = 5;
    EBADF = 9;
    EAGAIN = 11;
    ENOMEM = 12;
    EFAULT = 14;
    EBUSY = 16;
    EEXIST = 17;
    ENODEV = 19;
    ENOTDIR = 20;
    EISDIR = 21;
    EINVAL = 22;
    EMFILE = 24;
    ESPIPE = 29;
    EDEADLK = 35;
    ENOSYS = 38;
    ELOOP = 40;
    ENOTSOCK = 88;
    ENOPROTOOPT = 92;
    EPROTONOSUPPORT = 93;
    EAFNOSUPPORT = 97;
    ENETDOWN = 100;
    ETIMEDOUT = 110;
}

impl From<FileError> for Errno {
    fn from(error: FileError) -> Errno {
        Errno(error.errno().into())
    }
}

impl From<NetworkError> for Errno {
    fn from(error: NetworkError) -> Errno {
        Errno(error.errno().into())
    }
}
