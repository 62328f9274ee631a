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
    EIO = 5;
    EBADF = 9;
    EAGAIN = 11;
    ENOMEM = 12;
    EACCES = 13;
    EFAULT = 14;
    EBUSY = 16;
    EEXIST = 17;
    EXDEV = 18;
    ENOTDIR = 20;
    EISDIR = 21;
    EINVAL = 22;
    EMFILE = 24;
    EFBIG = 27;
    ENOSPC = 28;
    ESPIPE = 29;
    EROFS = 30;
    EMLINK = 31;
    EPIPE = 32;
    ERANGE = 34;
    ENAMETOOLONG = 36;
    ENOSYS = 38;
    ENOTEMPTY = 39;
    ELOOP = 40;
    ENODATA = 61;
    ENOTSOCK = 88;
    EMSGSIZE = 90;
    ENOPROTOOPT = 92;
    EPROTONOSUPPORT = 93;
    EOPNOTSUPP = 95;
    EAFNOSUPPORT = 97;
    EADDRINUSE = 98;
    EADDRNOTAVAIL = 99;
    ENETDOWN = 100;
    ENETUNREACH = 101;
    ECONNRESET = 104;
    ENOBUFS = 105;
    EISCONN = 106;
    ENOTCONN = 107;
    ETIMEDOUT = 110;
    ECONNREFUSED = 111;
    EHOSTUNREACH = 113;
    EINPROGRESS = 115;
    ESTALE = 116;
    EDQUOT = 122;
}

impl From<FileError> for Errno {
    fn from(error: FileError) -> Errno {
        match error {
            FileError::NotFound => Errno::ENOENT,
            FileError::AlreadyExists => Errno::EEXIST,
            FileError::NotDirectory => Errno::ENOTDIR,
            FileError::IsDirectory => Errno::EISDIR,
            FileError::NotEmpty => Errno::ENOTEMPTY,
            FileError::NameTooLong => Errno::ENAMETOOLONG,
            FileError::InvalidArgument => Errno::EINVAL,
            FileError::ReadOnly => Errno::EROFS,
            FileError::NoSpace => Errno::ENOSPC,
            FileError::LimitReached => Errno::EDQUOT,
            FileError::CrossDevice => Errno::EXDEV,
            FileError::TooLarge => Errno::EFBIG,
            FileError::TooManyLinks => Errno::EMLINK,
            FileError::NotPermitted => Errno::EPERM,
            FileError::NotSupported => Errno::EOPNOTSUPP,
            FileError::NoAttribute => Errno::ENODATA,
            FileError::BufferTooSmall => Errno::ERANGE,
            FileError::Device | FileError::Transport(_) => Errno::EIO,
            FileError::Busy => Errno::EBUSY,
            FileError::Stale => Errno::ESTALE,
        }
    }
}

impl From<NetworkError> for Errno {
    fn from(error: NetworkError) -> Errno {
        match error {
            NetworkError::WouldBlock => Errno::EAGAIN,
            NetworkError::InProgress => Errno::EINPROGRESS,
            NetworkError::AddressInUse => Errno::EADDRINUSE,
            NetworkError::AddressNotAvailable => Errno::EADDRNOTAVAIL,
            NetworkError::ConnectionRefused => Errno::ECONNREFUSED,
            NetworkError::ConnectionReset => Errno::ECONNRESET,
            NetworkError::NotConnected => Errno::ENOTCONN,
            NetworkError::AlreadyConnected => Errno::EISCONN,
            NetworkError::TimedOut => Errno::ETIMEDOUT,
            NetworkError::HostUnreachable => Errno::EHOSTUNREACH,
            NetworkError::NetworkUnreachable => Errno::ENETUNREACH,
            NetworkError::MessageTooLong => Errno::EMSGSIZE,
            NetworkError::InvalidArgument => Errno::EINVAL,
            NetworkError::NotSupported => Errno::EOPNOTSUPP,
            NetworkError::LimitReached => Errno::ENOBUFS,
            NetworkError::PermissionDenied => Errno::EACCES,
            NetworkError::BrokenPipe => Errno::EPIPE,
            NetworkError::NotFound => Errno::ENOENT,
            NetworkError::Transport(_) => Errno::ENETDOWN,
        }
    }
}
