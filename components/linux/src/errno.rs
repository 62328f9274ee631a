//! Linux's error numbers (`errno(3)`), and what a call answers.

/// Why a call was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(u16);

/// What a call answers.
pub type Result<T> = core::result::Result<T, Errno>;

macro_rules! errors {
    ($($name:ident = $number:literal;)*) => {
        impl Errno {
            $(pub const $name: Errno = Errno($number);)*
            /// The name, for reports.
            pub fn name(self) -> &'static str {
                match self.0 { $($number => stringify!($name),)* _ => "E?" }
            }
        }
    };
}

errors! {
    EPERM = 1; ENOENT = 2; ESRCH = 3; EINTR = 4; EIO = 5; ENXIO = 6; E2BIG = 7; ENOEXEC = 8; EBADF = 9; ECHILD = 10;
    EAGAIN = 11; ENOMEM = 12; EACCES = 13; EFAULT = 14; ENOTBLK = 15; EBUSY = 16; EEXIST = 17; EXDEV = 18; ENODEV = 19;
    ENOTDIR = 20; EISDIR = 21; EINVAL = 22; ENFILE = 23; EMFILE = 24; ENOTTY = 25; ETXTBSY = 26; EFBIG = 27; ENOSPC = 28;
    ESPIPE = 29; EROFS = 30; EMLINK = 31; EPIPE = 32; EDOM = 33; ERANGE = 34; EDEADLK = 35; ENAMETOOLONG = 36;
    ENOLCK = 37; ENOSYS = 38; ENOTEMPTY = 39; ELOOP = 40; ENOMSG = 42; EIDRM = 43; ENODATA = 61; ETIME = 62; EPROTO = 71;
    EBADMSG = 74; EOVERFLOW = 75; EILSEQ = 84; EUSERS = 87; ENOTSOCK = 88; EDESTADDRREQ = 89; EMSGSIZE = 90;
    EPROTOTYPE = 91; ENOPROTOOPT = 92; EPROTONOSUPPORT = 93; ESOCKTNOSUPPORT = 94; EOPNOTSUPP = 95; EPFNOSUPPORT = 96;
    EAFNOSUPPORT = 97; EADDRINUSE = 98; EADDRNOTAVAIL = 99; ENETDOWN = 100; ENETUNREACH = 101; ENETRESET = 102;
    ECONNABORTED = 103; ECONNRESET = 104; ENOBUFS = 105; EISCONN = 106; ENOTCONN = 107; ESHUTDOWN = 108;
    ETOOMANYREFS = 109; ETIMEDOUT = 110; ECONNREFUSED = 111; EHOSTDOWN = 112; EHOSTUNREACH = 113; EALREADY = 114; EINPROGRESS = 115;
    ESTALE = 116; EDQUOT = 122; ECANCELED = 125; EOWNERDEAD = 130; ENOTRECOVERABLE = 131;
    // Never seen by a program: how a call that a signal interrupted goes on (include/linux/errno.h).
    // Again if the handler has SA_RESTART or there is no handler, else EINTR.
    ERESTARTSYS = 512;
    // Again if no handler runs, else EINTR.
    ERESTARTNOHAND = 514;
}

impl Errno {
    /// What stands in `rax`.
    pub fn as_result(self) -> u64 {
        (-i64::from(self.0)) as u64
    }

    /// Its number.
    pub fn number(self) -> i32 {
        self.0.into()
    }

    /// The error with this number, as other parties give it.
    pub const fn from_number(number: u16) -> Errno {
        Errno(number)
    }
}

impl From<tessera_runtime::Error> for Errno {
    /// What a refusal of the kernel means to a Linux program.
    fn from(error: tessera_runtime::Error) -> Errno {
        use tessera_runtime::Error;
        match error {
            Error::NoQuota | Error::PeerNoQuota => Errno::ENOMEM,
            Error::BadAddress => Errno::EFAULT,
            Error::TimedOut => Errno::ETIMEDOUT,
            Error::WouldBlock => Errno::EAGAIN,
            Error::Interrupted => Errno::EINTR,
            Error::PeerGone | Error::Gone => Errno::EIO,
            Error::NoRight => Errno::EACCES,
            _ => Errno::EINVAL,
        }
    }
}
