//! The table of system calls by number (x86-64). One line a call: number, name, function, how many arguments it takes; `keeps`, if it
//! makes something that stays when it is done: a process, a file, bytes in a pipe.

use super::{
    aio, attribute, barrier, directory, file, futex, handle, identity, inotify, inspect, io, lock, memory, message,
    mqueue, namespace, pidfd, pipe, poll, process, refused, schedule, seccomp, semaphore, shared_memory, signal,
    socket, splice, stat, system, time, trace,
};
use crate::errno::Result;
use crate::task::Context;

/// One call.
pub struct Entry {
    pub name: &'static str,
    pub function: fn(&mut Context, [u64; 6]) -> Result<u64>,
    /// Whether it takes memory of the personality's that it does not give back when it is done: refused when there is none left.
    pub keeps: bool,
}

/// How many numbers the table covers.
pub const COUNT: usize = 464;

/// What a register holds, as the type that a call takes.
trait Argument {
    fn from_register(value: u64) -> Self;
}

macro_rules! arguments {
    ($($type:ident)*) => { $(impl Argument for $type {
        #[inline(always)]
        fn from_register(value: u64) -> $type {
            value as $type
        }
    })* };
}
arguments!(i32 u32 i64 u64);

macro_rules! call {
    ($function:expr, 0) => {
        |context, _| $function(context)
    };
    ($function:expr, 1) => {
        |context, [a, ..]| $function(context, Argument::from_register(a))
    };
    ($function:expr, 2) => {
        |context, [a, b, ..]| $function(context, Argument::from_register(a), Argument::from_register(b))
    };
    ($function:expr, 3) => {
        |context, [a, b, c, ..]| {
            $function(context, Argument::from_register(a), Argument::from_register(b), Argument::from_register(c))
        }
    };
    ($function:expr, 4) => {
        |context, [a, b, c, d, ..]| {
            $function(
                context,
                Argument::from_register(a),
                Argument::from_register(b),
                Argument::from_register(c),
                Argument::from_register(d),
            )
        }
    };
    ($function:expr, 5) => {
        |context, [a, b, c, d, e, _]| {
            $function(
                context,
                Argument::from_register(a),
                Argument::from_register(b),
                Argument::from_register(c),
                Argument::from_register(d),
                Argument::from_register(e),
            )
        }
    };
    ($function:expr, 6) => {
        |context, [a, b, c, d, e, f]| {
            $function(
                context,
                Argument::from_register(a),
                Argument::from_register(b),
                Argument::from_register(c),
                Argument::from_register(d),
                Argument::from_register(e),
                Argument::from_register(f),
            )
        }
    };
}

macro_rules! keeps {
    (keeps) => {
        true
    };
    () => {
        false
    };
}

macro_rules! table {
    ($($number:literal $name:literal = $function:expr, $count:tt $(, $keeps:ident)?;)*) => {
        /// All calls that are there.
        pub static TABLE: [Option<Entry>; COUNT] = {
            let mut table = [const { None }; COUNT];
            $(table[$number] = Some(Entry { name: $name, function: call!($function, $count), keeps: keeps!($($keeps)?) });)*
            table
        };
    };
}

table! {
    0 "read" = io::read, 3;
    1 "write" = io::write, 3;
    2 "open" = file::open, 3, keeps;
    3 "close" = io::close, 1;
    4 "stat" = stat::stat, 2;
    5 "fstat" = stat::fstat, 2;
    6 "lstat" = stat::lstat, 2;
    7 "poll" = poll::poll, 3;
    8 "lseek" = io::lseek, 3;
    9 "mmap" = memory::mmap, 6, keeps;
    10 "mprotect" = memory::mprotect, 3, keeps;
    11 "munmap" = memory::munmap, 2;
    12 "brk" = memory::brk, 1;
    13 "rt_sigaction" = signal::rt_sigaction, 4;
    14 "rt_sigprocmask" = signal::rt_sigprocmask, 4;
    15 "rt_sigreturn" = signal::rt_sigreturn, 0;
    16 "ioctl" = file::ioctl, 3;
    17 "pread64" = io::pread, 4;
    18 "pwrite64" = io::pwrite, 4;
    19 "readv" = io::readv, 3;
    20 "writev" = io::writev, 3;
    21 "access" = stat::access_path, 2;
    22 "pipe" = pipe::pipe, 1, keeps;
    23 "select" = poll::select, 5;
    24 "sched_yield" = system::sched_yield, 0;
    25 "mremap" = memory::mremap, 5, keeps;
    26 "msync" = memory::msync, 3;
    27 "mincore" = memory::mincore, 3;
    28 "madvise" = memory::madvise, 3;
    29 "shmget" = shared_memory::shmget, 3, keeps;
    30 "shmat" = shared_memory::shmat, 3, keeps;
    31 "shmctl" = shared_memory::shmctl, 3;
    32 "dup" = file::dup, 1;
    33 "dup2" = file::dup2, 2, keeps;
    34 "pause" = signal::pause, 0;
    35 "nanosleep" = time::nanosleep, 2;
    36 "getitimer" = time::getitimer, 2;
    37 "alarm" = time::alarm, 1;
    38 "setitimer" = time::setitimer, 3;
    39 "getpid" = process::getpid, 0;
    40 "sendfile" = pipe::sendfile, 4;
    41 "socket" = socket::socket, 3, keeps;
    42 "connect" = socket::connect, 3, keeps;
    43 "accept" = socket::accept, 3, keeps;
    44 "sendto" = socket::sendto, 6;
    45 "recvfrom" = socket::recvfrom, 6;
    46 "sendmsg" = socket::sendmsg, 3;
    47 "recvmsg" = socket::recvmsg, 3;
    48 "shutdown" = socket::shutdown, 2;
    49 "bind" = socket::bind, 3, keeps;
    50 "listen" = socket::listen, 2, keeps;
    51 "getsockname" = socket::getsockname, 3;
    52 "getpeername" = socket::getpeername, 3;
    53 "socketpair" = socket::socketpair, 4, keeps;
    54 "setsockopt" = socket::setsockopt, 5;
    55 "getsockopt" = socket::getsockopt, 5;
    56 "clone" = process::clone, 5, keeps;
    57 "fork" = process::fork, 0, keeps;
    58 "vfork" = process::vfork, 0, keeps;
    59 "execve" = process::execve, 3, keeps;
    60 "exit" = process::exit, 1;
    61 "wait4" = process::wait4, 4;
    62 "kill" = signal::kill, 2;
    63 "uname" = system::uname, 1;
    64 "semget" = semaphore::semget, 3, keeps;
    65 "semop" = semaphore::semop, 3, keeps;
    66 "semctl" = semaphore::semctl, 4;
    67 "shmdt" = shared_memory::shmdt, 1;
    68 "msgget" = message::msgget, 2, keeps;
    69 "msgsnd" = message::msgsnd, 4, keeps;
    70 "msgrcv" = message::msgrcv, 5;
    71 "msgctl" = message::msgctl, 3;
    72 "fcntl" = file::fcntl, 3, keeps;
    73 "flock" = lock::flock, 2, keeps;
    74 "fsync" = file::fsync, 1;
    75 "fdatasync" = file::fsync, 1;
    76 "truncate" = file::truncate, 2;
    77 "ftruncate" = file::ftruncate, 2, keeps;
    78 "getdents" = directory::getdents, 3;
    79 "getcwd" = directory::getcwd, 2;
    80 "chdir" = directory::chdir, 1;
    81 "fchdir" = directory::fchdir, 1;
    82 "rename" = directory::rename, 2, keeps;
    83 "mkdir" = directory::mkdir, 2, keeps;
    84 "rmdir" = directory::rmdir, 1;
    85 "creat" = file::creat, 2, keeps;
    86 "link" = directory::link, 2, keeps;
    87 "unlink" = directory::unlink, 1;
    88 "symlink" = directory::symlink, 2, keeps;
    89 "readlink" = stat::readlink, 3;
    90 "chmod" = directory::chmod, 2;
    91 "fchmod" = directory::fchmod, 2;
    92 "chown" = directory::chown, 3;
    93 "fchown" = directory::fchown, 3;
    94 "lchown" = directory::lchown, 3;
    95 "umask" = directory::umask, 1;
    96 "gettimeofday" = time::gettimeofday, 2;
    97 "getrlimit" = system::getrlimit, 2;
    98 "getrusage" = time::getrusage, 2;
    99 "sysinfo" = system::sysinfo, 1;
    100 "times" = time::times, 1;
    101 "ptrace" = trace::ptrace, 4;
    102 "getuid" = identity::getuid, 0;
    103 "syslog" = refused::privileged, 0;
    104 "getgid" = identity::getgid, 0;
    105 "setuid" = identity::setuid, 1;
    106 "setgid" = identity::setgid, 1;
    107 "geteuid" = identity::geteuid, 0;
    108 "getegid" = identity::getegid, 0;
    109 "setpgid" = process::setpgid, 2;
    110 "getppid" = process::getppid, 0;
    111 "getpgrp" = process::getpgrp, 0;
    112 "setsid" = process::setsid, 0;
    113 "setreuid" = identity::setreuid, 2;
    114 "setregid" = identity::setregid, 2;
    115 "getgroups" = identity::getgroups, 2;
    116 "setgroups" = identity::setgroups, 2, keeps;
    117 "setresuid" = identity::setresuid, 3;
    118 "getresuid" = identity::getresuid, 3;
    119 "setresgid" = identity::setresgid, 3;
    120 "getresgid" = identity::getresgid, 3;
    121 "getpgid" = process::getpgid, 1;
    122 "setfsuid" = identity::setfsuid, 1;
    123 "setfsgid" = identity::setfsgid, 1;
    124 "getsid" = process::getsid, 1;
    125 "capget" = identity::capget, 2;
    126 "capset" = identity::capset, 2;
    127 "rt_sigpending" = signal::rt_sigpending, 2;
    128 "rt_sigtimedwait" = signal::rt_sigtimedwait, 4;
    129 "rt_sigqueueinfo" = signal::rt_sigqueueinfo, 3, keeps;
    130 "rt_sigsuspend" = signal::rt_sigsuspend, 2;
    131 "sigaltstack" = signal::sigaltstack, 2;
    132 "utime" = directory::utime, 2;
    133 "mknod" = directory::mknod, 3, keeps;
    135 "personality" = system::personality, 1;
    137 "statfs" = stat::statfs, 2;
    138 "fstatfs" = stat::fstatfs, 2;
    140 "getpriority" = system::getpriority, 2;
    141 "setpriority" = system::setpriority, 3;
    142 "sched_setparam" = system::sched_setparam, 2;
    143 "sched_getparam" = system::sched_getparam, 2;
    144 "sched_setscheduler" = system::sched_setscheduler, 3;
    145 "sched_getscheduler" = system::sched_getscheduler, 1;
    146 "sched_get_priority_max" = system::sched_get_priority_max, 1;
    147 "sched_get_priority_min" = system::sched_get_priority_min, 1;
    148 "sched_rr_get_interval" = system::sched_rr_get_interval, 2;
    149 "mlock" = memory::mlock, 2;
    150 "munlock" = memory::munlock, 2;
    151 "mlockall" = memory::mlockall, 1;
    152 "munlockall" = memory::munlockall, 0;
    153 "vhangup" = refused::privileged, 0;
    155 "pivot_root" = refused::privileged, 0;
    157 "prctl" = system::prctl, 5;
    158 "arch_prctl" = system::arch_prctl, 2;
    159 "adjtimex" = time::adjtimex, 1;
    160 "setrlimit" = system::setrlimit, 2;
    161 "chroot" = directory::chroot, 1;
    162 "sync" = file::sync, 0;
    163 "acct" = refused::privileged, 0;
    164 "settimeofday" = time::settimeofday, 2;
    165 "mount" = refused::privileged, 0;
    166 "umount2" = refused::privileged, 0;
    167 "swapon" = refused::privileged, 0;
    168 "swapoff" = refused::privileged, 0;
    169 "reboot" = refused::privileged, 0;
    170 "sethostname" = system::sethostname, 2;
    171 "setdomainname" = system::setdomainname, 2;
    172 "iopl" = refused::privileged, 0;
    173 "ioperm" = refused::privileged, 0;
    175 "init_module" = refused::privileged, 0;
    176 "delete_module" = refused::privileged, 0;
    179 "quotactl" = refused::privileged, 0;
    186 "gettid" = process::gettid, 0;
    187 "readahead" = file::readahead, 3;
    188 "setxattr" = attribute::setxattr, 5, keeps;
    189 "lsetxattr" = attribute::lsetxattr, 5, keeps;
    190 "fsetxattr" = attribute::fsetxattr, 5, keeps;
    191 "getxattr" = attribute::getxattr, 4;
    192 "lgetxattr" = attribute::lgetxattr, 4;
    193 "fgetxattr" = attribute::fgetxattr, 4;
    194 "listxattr" = attribute::listxattr, 3;
    195 "llistxattr" = attribute::llistxattr, 3;
    196 "flistxattr" = attribute::flistxattr, 3;
    197 "removexattr" = attribute::removexattr, 2;
    198 "lremovexattr" = attribute::lremovexattr, 2;
    199 "fremovexattr" = attribute::fremovexattr, 2;
    200 "tkill" = signal::tkill, 2;
    201 "time" = time::time, 1;
    202 "futex" = futex::futex, 6;
    203 "sched_setaffinity" = system::sched_setaffinity, 3;
    204 "sched_getaffinity" = system::sched_getaffinity, 3;
    206 "io_setup" = aio::io_setup, 2, keeps;
    207 "io_destroy" = aio::io_destroy, 1;
    208 "io_getevents" = aio::io_getevents, 5;
    209 "io_submit" = aio::io_submit, 3, keeps;
    210 "io_cancel" = aio::io_cancel, 3;
    213 "epoll_create" = poll::epoll_create, 1, keeps;
    216 "remap_file_pages" = memory::remap_file_pages, 4;
    217 "getdents64" = directory::getdents64, 3;
    218 "set_tid_address" = process::set_tid_address, 1;
    220 "semtimedop" = semaphore::semtimedop, 4, keeps;
    221 "fadvise64" = file::fadvise, 4;
    222 "timer_create" = time::timer_create, 3, keeps;
    223 "timer_settime" = time::timer_settime, 4;
    224 "timer_gettime" = time::timer_gettime, 2;
    225 "timer_getoverrun" = time::timer_getoverrun, 1;
    226 "timer_delete" = time::timer_delete, 1;
    227 "clock_settime" = time::clock_settime, 2;
    228 "clock_gettime" = time::clock_gettime, 2;
    229 "clock_getres" = time::clock_getres, 2;
    230 "clock_nanosleep" = time::clock_nanosleep, 4;
    231 "exit_group" = process::exit_group, 1;
    232 "epoll_wait" = poll::epoll_wait, 4;
    233 "epoll_ctl" = poll::epoll_ctl, 4, keeps;
    234 "tgkill" = signal::tgkill, 3;
    235 "utimes" = directory::utimes, 2;
    240 "mq_open" = mqueue::mq_open, 4, keeps;
    241 "mq_unlink" = mqueue::mq_unlink, 1;
    242 "mq_timedsend" = mqueue::mq_timedsend, 5, keeps;
    243 "mq_timedreceive" = mqueue::mq_timedreceive, 5;
    244 "mq_notify" = mqueue::mq_notify, 2;
    245 "mq_getsetattr" = mqueue::mq_getsetattr, 3;
    246 "kexec_load" = refused::privileged, 0;
    247 "waitid" = process::waitid, 5;
    251 "ioprio_set" = schedule::ioprio_set, 3;
    252 "ioprio_get" = schedule::ioprio_get, 2;
    253 "inotify_init" = inotify::inotify_init, 0, keeps;
    254 "inotify_add_watch" = inotify::inotify_add_watch, 3, keeps;
    255 "inotify_rm_watch" = inotify::inotify_rm_watch, 2;
    257 "openat" = file::openat, 4, keeps;
    258 "mkdirat" = directory::mkdirat, 3, keeps;
    259 "mknodat" = directory::mknodat, 4, keeps;
    260 "fchownat" = directory::fchownat, 5;
    261 "futimesat" = directory::futimesat, 3;
    262 "newfstatat" = stat::newfstatat, 4;
    263 "unlinkat" = directory::unlinkat, 3;
    264 "renameat" = directory::renameat, 4, keeps;
    265 "linkat" = directory::linkat, 5, keeps;
    266 "symlinkat" = directory::symlinkat, 3, keeps;
    267 "readlinkat" = stat::readlinkat, 4;
    268 "fchmodat" = directory::fchmodat, 3;
    269 "faccessat" = stat::faccessat, 3;
    270 "pselect6" = poll::pselect6, 6;
    271 "ppoll" = poll::ppoll, 5;
    272 "unshare" = namespace::unshare, 1;
    273 "set_robust_list" = futex::set_robust_list, 2;
    274 "get_robust_list" = futex::get_robust_list, 3;
    275 "splice" = pipe::splice, 6;
    276 "tee" = splice::tee, 4;
    277 "sync_file_range" = file::sync_file_range, 4;
    278 "vmsplice" = splice::vmsplice, 4;
    280 "utimensat" = directory::utimensat, 4;
    281 "epoll_pwait" = poll::epoll_pwait, 6;
    282 "signalfd" = pipe::signalfd, 3, keeps;
    283 "timerfd_create" = pipe::timerfd_create, 2, keeps;
    284 "eventfd" = pipe::eventfd, 1, keeps;
    285 "fallocate" = file::fallocate, 4, keeps;
    286 "timerfd_settime" = pipe::timerfd_settime, 4;
    287 "timerfd_gettime" = pipe::timerfd_gettime, 2;
    288 "accept4" = socket::accept4, 4, keeps;
    289 "signalfd4" = pipe::signalfd4, 4, keeps;
    290 "eventfd2" = pipe::eventfd2, 2, keeps;
    291 "epoll_create1" = poll::epoll_create1, 1, keeps;
    292 "dup3" = file::dup3, 3, keeps;
    293 "pipe2" = pipe::pipe2, 2, keeps;
    294 "inotify_init1" = inotify::inotify_init1, 1, keeps;
    295 "preadv" = io::preadv, 4;
    296 "pwritev" = io::pwritev, 4;
    297 "rt_tgsigqueueinfo" = signal::rt_tgsigqueueinfo, 4, keeps;
    298 "perf_event_open" = refused::privileged, 0;
    299 "recvmmsg" = socket::recvmmsg, 5;
    300 "fanotify_init" = refused::privileged, 0;
    302 "prlimit64" = system::prlimit64, 4;
    303 "name_to_handle_at" = handle::name_to_handle_at, 5;
    304 "open_by_handle_at" = refused::privileged, 0;
    305 "clock_adjtime" = time::clock_adjtime, 2;
    306 "syncfs" = file::syncfs, 1;
    307 "sendmmsg" = socket::sendmmsg, 4;
    308 "setns" = namespace::setns, 2;
    309 "getcpu" = system::getcpu, 2;
    310 "process_vm_readv" = inspect::process_vm_readv, 6;
    311 "process_vm_writev" = inspect::process_vm_writev, 6;
    312 "kcmp" = inspect::kcmp, 5;
    313 "finit_module" = refused::privileged, 0;
    314 "sched_setattr" = schedule::sched_setattr, 3;
    315 "sched_getattr" = schedule::sched_getattr, 4;
    316 "renameat2" = directory::renameat2, 5, keeps;
    317 "seccomp" = seccomp::seccomp, 3, keeps;
    318 "getrandom" = system::getrandom, 3;
    319 "memfd_create" = pipe::memfd_create, 2, keeps;
    320 "kexec_file_load" = refused::privileged, 0;
    321 "bpf" = refused::privileged, 0;
    322 "execveat" = process::execveat, 5, keeps;
    323 "userfaultfd" = refused::privileged, 0;
    324 "membarrier" = barrier::membarrier, 3;
    325 "mlock2" = memory::mlock2, 3;
    326 "copy_file_range" = pipe::copy_file_range, 6;
    327 "preadv2" = io::preadv2, 6;
    328 "pwritev2" = io::pwritev2, 6;
    329 "pkey_mprotect" = memory::pkey_mprotect, 4;
    330 "pkey_alloc" = memory::pkey_alloc, 2;
    331 "pkey_free" = memory::pkey_free, 1;
    332 "statx" = stat::statx, 5;
    333 "io_pgetevents" = aio::io_pgetevents, 6;
    424 "pidfd_send_signal" = pidfd::pidfd_send_signal, 4;
    428 "open_tree" = refused::privileged, 0;
    429 "move_mount" = refused::privileged, 0;
    430 "fsopen" = refused::privileged, 0, keeps;
    431 "fsconfig" = refused::privileged, 0;
    432 "fsmount" = refused::privileged, 0;
    433 "fspick" = refused::privileged, 0;
    434 "pidfd_open" = pidfd::pidfd_open, 2, keeps;
    435 "clone3" = process::clone3, 2, keeps;
    436 "close_range" = io::close_range, 3;
    437 "openat2" = file::openat2, 4, keeps;
    438 "pidfd_getfd" = pidfd::pidfd_getfd, 3;
    439 "faccessat2" = stat::faccessat2, 4;
    441 "epoll_pwait2" = poll::epoll_pwait2, 6;
    442 "mount_setattr" = refused::privileged, 0;
    443 "quotactl_fd" = refused::privileged, 0;
    449 "futex_waitv" = futex::futex_waitv, 5;
    452 "fchmodat2" = directory::fchmodat2, 4;
}
