//! The numbers by which Linux names what file systems and networks refuse (`errno(3)`, `asm-generic/errno.h`): for everybody who passes a
//! refusal on to a program that was written for Linux, and for who reads one from such a system.

use crate::{FileError, NetworkError};

impl FileError {
    /// Linux's number. A file system that did not answer is a device that failed (EIO).
    pub const fn errno(self) -> u16 {
        match self {
            FileError::NotPermitted => 1,
            FileError::NotFound => 2,
            FileError::Device | FileError::Transport(_) => 5,
            FileError::Busy => 16,
            FileError::AlreadyExists => 17,
            FileError::CrossDevice => 18,
            FileError::NotDirectory => 20,
            FileError::IsDirectory => 21,
            FileError::InvalidArgument => 22,
            FileError::TooLarge => 27,
            FileError::NoSpace => 28,
            FileError::ReadOnly => 30,
            FileError::TooManyLinks => 31,
            FileError::BufferTooSmall => 34,
            FileError::NameTooLong => 36,
            FileError::NotEmpty => 39,
            FileError::NoAttribute => 61,
            FileError::NotSupported => 95,
            FileError::Stale => 116,
            FileError::LimitReached => 122,
        }
    }

    /// What a file system means by Linux's number `errno`; [`FileError::Device`] by one that has no variant.
    pub const fn of_errno(errno: u32) -> FileError {
        match errno {
            // EPERM and EACCES.
            1 | 13 => FileError::NotPermitted,
            2 => FileError::NotFound,
            // EBUSY and ETXTBSY.
            16 | 26 => FileError::Busy,
            17 => FileError::AlreadyExists,
            18 => FileError::CrossDevice,
            20 => FileError::NotDirectory,
            21 => FileError::IsDirectory,
            22 => FileError::InvalidArgument,
            27 => FileError::TooLarge,
            28 => FileError::NoSpace,
            30 => FileError::ReadOnly,
            31 => FileError::TooManyLinks,
            34 => FileError::BufferTooSmall,
            36 => FileError::NameTooLong,
            // ENOSYS and EOPNOTSUPP.
            38 | 95 => FileError::NotSupported,
            39 => FileError::NotEmpty,
            61 => FileError::NoAttribute,
            116 => FileError::Stale,
            122 => FileError::LimitReached,
            _ => FileError::Device,
        }
    }
}

impl NetworkError {
    /// Linux's number. A network that did not answer is down (ENETDOWN).
    pub const fn errno(self) -> u16 {
        match self {
            NetworkError::NotFound => 2,
            NetworkError::WouldBlock => 11,
            NetworkError::PermissionDenied => 13,
            NetworkError::InvalidArgument => 22,
            NetworkError::BrokenPipe => 32,
            NetworkError::MessageTooLong => 90,
            NetworkError::NotSupported => 95,
            NetworkError::AddressInUse => 98,
            NetworkError::AddressNotAvailable => 99,
            NetworkError::Transport(_) => 100,
            NetworkError::NetworkUnreachable => 101,
            NetworkError::ConnectionReset => 104,
            NetworkError::LimitReached => 105,
            NetworkError::AlreadyConnected => 106,
            NetworkError::NotConnected => 107,
            NetworkError::TimedOut => 110,
            NetworkError::ConnectionRefused => 111,
            NetworkError::HostUnreachable => 113,
            NetworkError::InProgress => 115,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_number_means_has_that_number() {
        for errno in 0..=200 {
            let error = FileError::of_errno(errno);
            // Those with two numbers have that of the first.
            let twin = matches!(errno, 13 | 26 | 38);
            assert!(u32::from(error.errno()) == errno || error == FileError::Device || twin, "{errno}: {error:?}");
            assert_eq!(FileError::of_errno(error.errno().into()), error);
        }
    }
}
