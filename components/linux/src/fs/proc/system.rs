//! The files of `/proc` that tell of the container as a whole.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use tessera_runtime::object::processors;
use tessera_runtime::own;

use super::Fixed::{self, Directory, File, Link, Setting};
use crate::file::lock;
use crate::ipc::{Permissions, Shared};
use crate::task::System;

/// Ticks a second of the times in /proc (`sysconf(_SC_CLK_TCK)`).
pub const TICKS: u64 = 100;
const NANOSECONDS: u64 = 1_000_000_000;
/// The version of Linux whose calls are provided, as uname(2) tells it.
pub const RELEASE: &str = crate::RELEASE;
pub const VERSION: &str = crate::VERSION;

/// The names in /proc beside the processes.
pub const ROOT: &[Fixed] = &[
    Link("mounts", "self/mounts"),
    File("cpuinfo", processor_information),
    File("meminfo", memory),
    File("stat", statistics),
    File("uptime", up_time),
    File("loadavg", load),
    File("version", version),
    File("filesystems", file_systems),
    File("cmdline", |_| b"\n".to_vec()),
    File("devices", |_| b"Character devices:\n  1 mem\n  5 /dev/tty\n136 pts\n\nBlock devices:\n".to_vec()),
    File("locks", locks),
    Directory("sysvipc", &[File("shm", shared_memory), File("sem", semaphores), File("msg", messages)]),
    File("swaps", |_| b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec()),
    File("partitions", |_| b"major minor  #blocks  name\n\n".to_vec()),
    File("diskstats", |_| Vec::new()),
    File("modules", |_| Vec::new()),
    File("interrupts", |_| b"           CPU0\n".to_vec()),
    File("vmstat", |_| b"nr_free_pages 0\npgfault 0\n".to_vec()),
    Link("net", "self/net"),
    Directory(
        "sys",
        &[
            Directory(
                "kernel",
                &[
                    File("ostype", |_| b"Linux\n".to_vec()),
                    File("osrelease", |_| format!("{RELEASE}\n").into_bytes()),
                    File("version", |_| format!("{VERSION}\n").into_bytes()),
                    File("hostname", |system| line(&system.host_name.lock())),
                    File("domainname", |system| line(&system.domain_name.lock())),
                    Setting("pid_max", "4194304"),
                    Setting("tainted", "0"),
                    Setting("threads-max", "63386"),
                    Setting("ngroups_max", "65536"),
                    Setting("cap_last_cap", "40"),
                    Setting("core_pattern", "core"),
                    Setting("overflowuid", "65534"),
                    Setting("overflowgid", "65534"),
                    Setting("randomize_va_space", "2"),
                    Setting("shmmax", "274877906944"),
                    Setting("shmall", "67108864"),
                    Setting("shmmni", "4096"),
                    Setting("sem", "32000\t1024000000\t500\t32000"),
                    Setting("msgmax", "8192"),
                    Setting("msgmnb", "16384"),
                    Setting("msgmni", "32000"),
                    Setting("perf_event_paranoid", "3"),
                    Setting("yama", ""),
                    Directory(
                        "random",
                        &[
                            File("uuid", uuid),
                            File("boot_id", boot),
                            Setting("entropy_avail", "256"),
                            Setting("poolsize", "256"),
                        ],
                    ),
                ],
            ),
            Directory(
                "vm",
                &[
                    Setting("overcommit_memory", "1"),
                    Setting("overcommit_ratio", "50"),
                    Setting("max_map_count", "65530"),
                    Setting("mmap_min_addr", "65536"),
                    Setting("swappiness", "60"),
                    Setting("nr_hugepages", "0"),
                ],
            ),
            Directory(
                "fs",
                &[
                    Setting("file-max", "9223372036854775807"),
                    Setting("nr_open", "1048576"),
                    Setting("file-nr", "0\t0\t9223372036854775807"),
                    Setting("pipe-max-size", "1048576"),
                    Setting("pipe-user-pages-soft", "16384"),
                    Setting("pipe-user-pages-hard", "0"),
                    Setting("lease-break-time", "45"),
                    Setting("aio-max-nr", "65536"),
                    Setting("protected_hardlinks", "0"),
                    Setting("protected_symlinks", "0"),
                    Directory(
                        "inotify",
                        &[
                            Setting("max_queued_events", "16384"),
                            Setting("max_user_instances", "128"),
                            Setting("max_user_watches", "65536"),
                        ],
                    ),
                    Directory(
                        "mqueue",
                        &[
                            Setting("msg_default", "10"),
                            Setting("msg_max", "10"),
                            Setting("msgsize_default", "8192"),
                            Setting("msgsize_max", "8192"),
                            Setting("queues_max", "256"),
                        ],
                    ),
                ],
            ),
            Directory(
                "net",
                &[
                    Directory(
                        "core",
                        &[
                            Setting("somaxconn", "4096"),
                            Setting("rmem_default", "212992"),
                            Setting("rmem_max", "212992"),
                            Setting("wmem_default", "212992"),
                            Setting("wmem_max", "212992"),
                        ],
                    ),
                    Directory(
                        "ipv4",
                        &[
                            Setting("ip_local_port_range", "49152\t65535"),
                            Setting("ip_unprivileged_port_start", "0"),
                            Setting("ip_forward", "0"),
                            Setting("tcp_fin_timeout", "60"),
                            Setting("tcp_max_syn_backlog", "128"),
                            Setting("tcp_keepalive_time", "7200"),
                            Setting("tcp_keepalive_intvl", "75"),
                            Setting("tcp_keepalive_probes", "9"),
                            Setting("tcp_fastopen", "0"),
                            Setting("tcp_rmem", "4096\t131072\t6291456"),
                            Setting("tcp_wmem", "4096\t16384\t4194304"),
                        ],
                    ),
                ],
            ),
        ],
    ),
];

fn line(text: &[u8]) -> Vec<u8> {
    text.iter().copied().chain([b'\n']).collect()
}

fn version(_: &System) -> Vec<u8> {
    format!("Linux version {RELEASE} (tessera) {VERSION}\n").into_bytes()
}

fn file_systems(_: &System) -> Vec<u8> {
    b"nodev\ttmpfs\nnodev\tproc\nnodev\tsysfs\nnodev\tdevpts\n\terofs\n".to_vec()
}

fn processor_information(_: &System) -> Vec<u8> {
    let mut text = String::new();
    let count = processors();
    for processor in 0..count {
        let _ = write!(
            text,
            "processor\t: {processor}\nvendor_id\t: Tessera\ncpu family\t: 6\nmodel\t\t: 0\nmodel name\t: x86-64\n\
             stepping\t: 0\nphysical id\t: 0\nsiblings\t: {count}\ncore id\t\t: {processor}\ncpu cores\t: {count}\n\
             fpu\t\t: yes\nflags\t\t: fpu tsc cx8 cmov mmx fxsr sse sse2 syscall nx lm\nbogomips\t: 2000.00\n\
             clflush size\t: 64\ncache_alignment\t: 64\naddress sizes\t: 40 bits physical, 48 bits virtual\n\n"
        );
    }
    text.into_bytes()
}

/// Bytes of memory that the container may use, and uses.
pub fn memory_usage() -> (u64, u64) {
    let pages = own::pool().usage(0);
    pages.map_or((0, 0), |pages| (pages.quota * crate::memory::PAGE, pages.used * crate::memory::PAGE))
}

fn memory(_: &System) -> Vec<u8> {
    let (total, used) = memory_usage();
    let (total, free) = (total / 1024, total.saturating_sub(used) / 1024);
    let mut text = String::new();
    let rows = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", total - free),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", total - free),
        ("Mapped", 0),
        ("Shmem", 0),
        ("Slab", 0),
        ("CommitLimit", total),
        ("Committed_AS", total - free),
        ("VmallocTotal", 34_359_738_367),
        ("Hugepagesize", 2048),
    ];
    for (name, kilobytes) in rows {
        let _ = writeln!(text, "{:<16}{kilobytes:>8} kB", format!("{name}:"));
    }
    text.into_bytes()
}

/// Ticks that the container's programs used: in guests, in the personality.
fn used(system: &System) -> (u64, u64) {
    let mut sum = (0, 0);
    for process in system.processes() {
        let (guest, own) = super::process::used(&process);
        sum = (sum.0 + guest, sum.1 + own);
    }
    sum
}

fn statistics(system: &System) -> Vec<u8> {
    let count = processors();
    let (user, kernel) = used(system);
    let idle = (system.now() / (NANOSECONDS / TICKS)).saturating_mul(count).saturating_sub(user + kernel);
    let mut text = format!("cpu  {user} 0 {kernel} {idle} 0 0 0 0 0 0\n");
    for processor in 0..count {
        let share = |all: u64| all / count.max(1);
        let _ = writeln!(text, "cpu{processor} {} 0 {} {} 0 0 0 0 0 0", share(user), share(kernel), share(idle));
    }
    let boot = system.boot_time() / NANOSECONDS as i64;
    let running = system.task_count();
    let last = system.last_number();
    let _ = write!(
        text,
        "intr 0\nctxt 0\nbtime {boot}\nprocesses {last}\nprocs_running {running}\nprocs_blocked 0\nsoftirq 0\n"
    );
    text.into_bytes()
}

fn up_time(system: &System) -> Vec<u8> {
    let hundredths = |nanoseconds: u64| {
        let all = nanoseconds / (NANOSECONDS / 100);
        format!("{}.{:02}", all / 100, all % 100)
    };
    let (user, kernel) = used(system);
    let idle = system.now().saturating_mul(processors()).saturating_sub((user + kernel) * (NANOSECONDS / TICKS));
    format!("{} {}\n", hundredths(system.now()), hundredths(idle)).into_bytes()
}

fn load(system: &System) -> Vec<u8> {
    format!("0.00 0.00 0.00 1/{} {}\n", system.task_count(), system.last_number()).into_bytes()
}

fn in_form(mut bytes: [u8; 16]) -> Vec<u8> {
    // Version 4, variant 1 (RFC 9562, section 5.4).
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
        let _ = write!(text, "{dash}{byte:02x}");
    }
    text.push('\n');
    text.into_bytes()
}

fn uuid(system: &System) -> Vec<u8> {
    let mut bytes = [0; 16];
    system.random(&mut bytes);
    in_form(bytes)
}

fn boot(system: &System) -> Vec<u8> {
    let seed = system.started.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    in_form(*[seed.to_le_bytes(), seed.rotate_left(29).to_le_bytes()].as_flattened().first_chunk().unwrap_or(&[0; 16]))
}

fn locks(_: &System) -> Vec<u8> {
    let mut text = String::new();
    for (index, ((device, number), lock)) in lock::all().into_iter().enumerate() {
        let (kind, process) = match lock.owner {
            lock::Owner::Process(process) => ("POSIX ", process),
            lock::Owner::Description(_) => ("OFDLCK", -1),
            lock::Owner::Whole(_) => ("FLOCK ", -1),
        };
        let access = if lock.exclusive { "WRITE" } else { "READ" };
        let _ = write!(
            text,
            "{}: {kind} ADVISORY  {access} {process} {:02x}:{:02x}:{number} {} ",
            index + 1,
            device >> 8,
            device & 0xff,
            lock.start
        );
        let _ = match lock.end {
            u64::MAX => writeln!(text, "EOF"),
            end => writeln!(text, "{}", end - 1),
        };
    }
    text.into_bytes()
}

fn owners(about: &Permissions) -> String {
    format!("{:5} {:5} {:5} {:5}", about.uid, about.gid, about.creator_uid, about.creator_gid)
}

fn shared_memory(system: &System) -> Vec<u8> {
    use core::sync::atomic::Ordering::Relaxed;
    let mut text = String::from(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n",
    );
    for (number, segment) in system.ipc.segments.all() {
        let about = segment.permissions();
        let [attached, detached, changed] = segment.times.each_ref().map(|time| time.load(Relaxed));
        let mode = about.mode | segment.marks.load(Relaxed);
        let _ = writeln!(
            text,
            "{:10} {number:10}  {mode:4o} {:21} {:5} {:5}  {:5} {} {attached:10} {detached:10} {changed:10} {:21} {:21}",
            about.key,
            segment.size,
            segment.creator,
            segment.last.load(Relaxed),
            segment.attached(),
            owners(&about),
            segment.size,
            0
        );
    }
    text.into_bytes()
}

fn semaphores(system: &System) -> Vec<u8> {
    let mut text =
        String::from("       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n");
    for (number, set) in system.ipc.semaphores.all() {
        let about = set.permissions();
        let state = set.state.lock();
        let (count, operated, modified) = (state.semaphores.len(), state.operated, state.modified);
        let _ = writeln!(
            text,
            "{:10} {number:10}  {:4o} {count:10} {} {operated:10} {modified:10}",
            about.key,
            about.mode,
            owners(&about)
        );
    }
    text.into_bytes()
}

fn messages(system: &System) -> Vec<u8> {
    let mut text = String::from(
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n",
    );
    for (number, queue) in system.ipc.messages.all() {
        let about = queue.permissions();
        let state = queue.state.lock();
        let (count, bytes) = state.content();
        let [sent, received, changed] = state.times;
        let _ = writeln!(
            text,
            "{:10} {number:10}  {:4o}  {bytes:10} {count:10} {:5} {:5} {} {sent:10} {received:10} {changed:10}",
            about.key,
            about.mode,
            state.sender,
            state.receiver,
            owners(&about)
        );
    }
    text.into_bytes()
}
