//! The files of `/proc/PID`.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering;

use super::system::TICKS;
use crate::errno::{Errno, Result};
use crate::fs::Place;
use crate::memory::{Mm, PAGE, Protection};
use crate::task::process::{Life, UNLIMITED};
use crate::task::{Process, System, Task};

/// What a file shows of a process, or of one of its threads.
pub type Content = fn(&System, &Arc<Process>, Option<i32>) -> Result<Vec<u8>>;
/// What writing to it changes.
pub type Change = fn(&System, &Arc<Process>, Option<i32>, &[u8]) -> Result<()>;

/// A file of a process.
pub struct File {
    pub name: &'static str,
    pub permissions: u32,
    pub content: Content,
    pub write: Option<Change>,
}

/// A link to a place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Program,
    Directory,
    Root,
}

/// The links of a process to places.
pub const PLACES: [(&str, Which); 3] = [("exe", Which::Program), ("cwd", Which::Directory), ("root", Which::Root)];

macro_rules! files {
    ($($name:literal $permissions:literal $content:expr $(, $write:expr)?;)*) => {
        /// The files of a process.
        pub const FILES: &[File] = &[$(File {
            name: $name,
            permissions: $permissions,
            content: $content,
            write: files!(@write $($write)?),
        },)*];
    };
    (@write $write:expr) => { Some($write) };
    (@write) => { None };
}

files! {
    "status" 0o444 status;
    "stat" 0o444 stat;
    "statm" 0o444 statm;
    "cmdline" 0o444 |_, process, _| Ok(remembered(process, |notes| notes.arguments));
    "environ" 0o400 |_, process, _| Ok(remembered(process, |notes| notes.environment));
    "auxv" 0o400 |_, process, _| Ok(mm(process).map(|mm| mm.notes.lock().auxiliary.clone()).unwrap_or_default());
    "comm" 0o644 |_, process, thread| Ok(line(&name(process, thread)?)), set_name;
    "maps" 0o444 |_, process, _| maps(process, false);
    "smaps" 0o444 |_, process, _| maps(process, true);
    "limits" 0o444 limits;
    "mounts" 0o444 mounts;
    "mountinfo" 0o444 mount_information;
    "cgroup" 0o444 |_, _, _| Ok(b"0::/\n".to_vec());
    "oom_score" 0o444 |_, _, _| Ok(b"0\n".to_vec());
    "oom_score_adj" 0o644 |_, process, _| Ok(format!("{}\n", process.oom.load(Ordering::Relaxed)).into_bytes()), set_oom;
    "oom_adj" 0o644 |_, process, _| Ok(format!("{}\n", process.oom.load(Ordering::Relaxed) * 17 / 1000).into_bytes()), set_old_oom;
    "loginuid" 0o644 |_, _, _| Ok(b"4294967295".to_vec()), |_, _, _, _| Ok(());
    "uid_map" 0o644 |_, _, _| Ok(b"         0          0 4294967295\n".to_vec());
    "gid_map" 0o644 |_, _, _| Ok(b"         0          0 4294967295\n".to_vec());
    "setgroups" 0o644 |_, _, _| Ok(b"allow\n".to_vec());
    "wchan" 0o444 |_, _, _| Ok(b"0".to_vec());
    "io" 0o400 |_, _, _| Ok(b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n".to_vec());
    "personality" 0o400 |_, _, _| Ok(b"00000000\n".to_vec());
}

fn line(text: &[u8]) -> Vec<u8> {
    text.iter().copied().chain([b'\n']).collect()
}

fn mm(process: &Process) -> Option<Arc<Mm>> {
    process.resources.lock().mm.clone()
}

/// The thread that a directory is of: the process's first if it is the process's.
fn task(process: &Process, thread: Option<i32>) -> Option<Arc<Task>> {
    let threads = process.threads.lock();
    match thread {
        Some(number) => threads.iter().find(|task| task.number() == number).cloned(),
        None => threads.first().cloned(),
    }
}

fn name(process: &Process, thread: Option<i32>) -> Result<Vec<u8>> {
    let name = task(process, thread).map(|task| *task.name.lock()).unwrap_or_default();
    Ok(name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
}

fn set_name(_: &System, process: &Arc<Process>, thread: Option<i32>, text: &[u8]) -> Result<()> {
    let task = task(process, thread).ok_or(Errno::ESRCH)?;
    let mut name = [0; 16];
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    for (to, from) in name.iter_mut().take(15).zip(text) {
        *to = *from;
    }
    *task.name.lock() = name;
    Ok(())
}

fn number(text: &[u8]) -> Result<i32> {
    let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    text.trim().parse().map_err(|_| Errno::EINVAL)
}

/// How readily a process is ended for want of memory. Less readily than it was takes a capability that containers do not have.
fn set_oom(_: &System, process: &Arc<Process>, _: Option<i32>, text: &[u8]) -> Result<()> {
    match number(text)? {
        score @ 0..=1000 => process.oom.store(score, Ordering::Relaxed),
        -1000..0 => return Err(Errno::EACCES),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// The same in the measure that Linux had before.
fn set_old_oom(_: &System, process: &Arc<Process>, _: Option<i32>, text: &[u8]) -> Result<()> {
    match number(text)? {
        15 => process.oom.store(1000, Ordering::Relaxed),
        score @ 0..15 => process.oom.store(score * 1000 / 17, Ordering::Relaxed),
        -17..0 => return Err(Errno::EACCES),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// Ticks that a process used: in the guest, in the personality.
pub fn used(process: &Process) -> (u64, u64) {
    let ticks = |nanoseconds: u64| nanoseconds / (1_000_000_000 / TICKS);
    let [mut guest, mut own] = process.used.each_ref().map(|used| used.load(Ordering::Relaxed));
    for task in process.threads.lock().iter() {
        let [task_guest, task_own] = task.used.each_ref().map(|used| used.load(Ordering::Relaxed));
        (guest, own) = (guest + task_guest, own + task_own);
    }
    (ticks(guest), ticks(own))
}

/// The letter of a state, and its word.
fn state(process: &Process, thread: Option<i32>) -> (char, &'static str) {
    match *process.life.lock() {
        Life::Zombie { .. } => ('Z', "zombie"),
        Life::Gone => ('X', "dead"),
        Life::Stopped { .. } => ('T', "stopped"),
        Life::Running | Life::Continued { .. } => {
            match task(process, thread).map(|task| task.waiter.doing.load(Ordering::Relaxed)) {
                Some(0) => ('R', "running"),
                Some(doing) if doing == u32::from(b'D') => ('D', "disk sleep"),
                _ => ('S', "sleeping"),
            }
        }
    }
}

fn mapped(process: &Process) -> u64 {
    mm(process).map_or(0, |mm| mm.lock().bytes())
}

fn status(system: &System, process: &Arc<Process>, thread: Option<i32>) -> Result<Vec<u8>> {
    let who = process.credentials();
    let (letter, word) = state(process, thread);
    let mut text = String::new();
    let number = thread.unwrap_or(process.number);
    let name = name(process, thread)?;
    let threads = process.threads.lock().len();
    let (pending, shared) = (
        task(process, thread).map(|task| task.pending.lock().set().bits()).unwrap_or(0),
        process.pending.lock().set().bits(),
    );
    let mask = task(process, thread).map(|task| task.mask().bits()).unwrap_or(0);
    let (ignored, caught) = {
        let actions = process.actions.lock();
        (1..=64).fold((0_u64, 0_u64), |(ignored, caught), signal| {
            let bit = 1 << (signal - 1);
            match actions.get(signal).handler {
                crate::signal::DEFAULT => (ignored, caught),
                crate::signal::IGNORE => (ignored | bit, caught),
                _ => (ignored, caught | bit),
            }
        })
    };
    let slots =
        process.resources.lock().files.clone().map_or(0, |files| files.numbers().len().next_power_of_two().max(64));
    let kilobytes = mapped(process) / 1024;
    let locked = mm(process).map_or(0, |mm| mm.lock().locked()) / 1024;
    let _ = write!(text, "Name:\t{}\nUmask:\t", String::from_utf8_lossy(&name));
    let umask = process.resources.lock().fs.clone().map_or(0o22, |fs| fs.mask());
    let _ =
        writeln!(text, "{umask:04o}\nState:\t{letter} ({word})\nTgid:\t{}\nNgid:\t0\nPid:\t{number}", process.number);
    let _ = writeln!(text, "PPid:\t{}\nTracerPid:\t0", process.parent_number());
    let _ = writeln!(text, "Uid:\t{}\t{}\t{}\t{}", who.user, who.effective_user, who.saved_user, who.file_user);
    let _ = writeln!(text, "Gid:\t{}\t{}\t{}\t{}", who.group, who.effective_group, who.saved_group, who.file_group);
    let _ = write!(text, "FDSize:\t{slots}\nGroups:\t");
    for group in &who.groups {
        let _ = write!(text, "{group} ");
    }
    let _ = write!(
        text,
        "\nNStgid:\t{0}\nNSpid:\t{number}\nNSpgid:\t{1}\nNSsid:\t{2}\n",
        process.number,
        process.group(),
        process.session()
    );
    if mm(process).is_some() {
        let _ = write!(
            text,
            "VmPeak:\t{kilobytes:>8} kB\nVmSize:\t{kilobytes:>8} kB\nVmLck:\t{locked:>8} kB\nVmPin:\t       0 kB\n"
        );
        let _ = write!(
            text,
            "VmHWM:\t{kilobytes:>8} kB\nVmRSS:\t{kilobytes:>8} kB\nVmData:\t{kilobytes:>8} kB\nVmSwap:\t       0 kB\n"
        );
    }
    let _ = write!(
        text,
        "Threads:\t{threads}\nSigQ:\t0/{}\n",
        process.limit(crate::task::process::limit::PENDING_SIGNALS).0
    );
    let _ = writeln!(text, "SigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{mask:016x}");
    let _ = writeln!(text, "SigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}");
    let _ = write!(
        text,
        "CapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\n",
        who.inheritable, who.permitted, who.effective
    );
    let _ = writeln!(text, "CapBnd:\t{:016x}\nCapAmb:\t{:016x}", who.bounding, who.ambient);
    let _ = writeln!(text, "NoNewPrivs:\t{}\nSeccomp:\t0", u32::from(who.no_new_privileges));
    let all = (1_u64 << tessera_runtime::object::processors().min(63)) - 1;
    let last = tessera_runtime::object::processors().saturating_sub(1);
    let _ = write!(
        text,
        "Cpus_allowed:\t{all:x}\nCpus_allowed_list:\t{}\n",
        if last == 0 { String::from("0") } else { format!("0-{last}") }
    );
    let _ = write!(
        text,
        "Mems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n"
    );
    let _ = system;
    Ok(text.into_bytes())
}

fn stat(_: &System, process: &Arc<Process>, thread: Option<i32>) -> Result<Vec<u8>> {
    let (guest, own) = used(process);
    let (letter, _) = state(process, thread);
    let name = name(process, thread)?;
    let (threads, started) = (process.threads.lock().len(), process.started / (1_000_000_000 / TICKS));
    let nice = task(process, thread).map_or(0, |task| task.nice.load(Ordering::Relaxed));
    let bytes = mapped(process);
    let mut text = format!("{} (", thread.unwrap_or(process.number)).into_bytes();
    text.extend(name);
    let terminal = 0;
    let rest = format!(
        ") {letter} {} {} {} {terminal} -1 0 0 0 0 0 {guest} {own} 0 0 {} {nice} {threads} 0 {started} {bytes} {} {UNLIMITED} \
         0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
        process.parent_number(),
        process.group(),
        process.session(),
        20 + nice,
        bytes / PAGE,
    );
    text.extend(rest.into_bytes());
    Ok(text)
}

fn statm(_: &System, process: &Arc<Process>, _: Option<i32>) -> Result<Vec<u8>> {
    let pages = mapped(process) / PAGE;
    Ok(format!("{pages} {pages} 0 0 0 {pages} 0\n").into_bytes())
}

/// What the process's memory holds at a range that was noted when it started.
fn remembered(process: &Process, range: impl Fn(&crate::memory::Notes) -> (u64, u64)) -> Vec<u8> {
    const MOST: u64 = 2 << 20;
    let Some(mm) = mm(process) else { return Vec::new() };
    let (start, end) = range(&mm.notes.lock());
    let mut bytes = alloc::vec![0; end.saturating_sub(start).min(MOST) as usize];
    let count = mm.read_from_outside(start, &mut bytes);
    bytes.truncate(count);
    bytes
}

fn maps(process: &Process, is_long: bool) -> Result<Vec<u8>> {
    let Some(mm) = mm(process) else { return Ok(Vec::new()) };
    let root = process.resources.lock().fs.clone().map(|fs| fs.root());
    let mut text = Vec::new();
    for (start, area) in mm.lock().iter() {
        let flag =
            |protection: Protection, letter: char| if area.protection.contains(protection) { letter } else { '-' };
        let (mut offset, mut device, mut number, mut name) = (0, 0, 0, area.name.as_bytes().to_vec());
        if let Some(file) = &area.file {
            offset = file.offset;
            if let Ok(attributes) = file.place.inode.attributes() {
                (device, number) = (attributes.device, attributes.number);
            }
            name = root.as_ref().map(|root| file.place.path(root)).unwrap_or_default();
        }
        let line = format!(
            "{start:08x}-{:08x} {}{}{}{} {offset:08x} {:02x}:{:02x} {number} ",
            area.end,
            if area.protection.was_to_be_read() { 'r' } else { '-' },
            flag(Protection::WRITE, 'w'),
            flag(Protection::EXECUTE, 'x'),
            if area.shared { 's' } else { 'p' },
            device >> 8 & 0xfff,
            device & 0xff,
        );
        text.extend_from_slice(line.as_bytes());
        if !name.is_empty() {
            text.resize(text.len() + 73_usize.saturating_sub(line.len()), b' ');
            text.extend(name);
        }
        text.push(b'\n');
        if is_long {
            let kilobytes = (area.end - start) / 1024;
            let rows = format!(
                "Size:           {kilobytes:>8} kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n\
                 Rss:            {kilobytes:>8} kB\nPss:            {kilobytes:>8} kB\nPrivate_Dirty:  {kilobytes:>8} kB\n\
                 Locked:         {:>8} kB\n",
                if area.locked { kilobytes } else { 0 }
            );
            text.extend(rows.into_bytes());
        }
    }
    Ok(text)
}

fn limits(_: &System, process: &Arc<Process>, _: Option<i32>) -> Result<Vec<u8>> {
    const ROWS: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    let mut text = String::from("Limit                     Soft Limit           Hard Limit           Units     \n");
    for (index, (name, unit)) in ROWS.iter().enumerate() {
        let show = |value: u64| if value == UNLIMITED { String::from("unlimited") } else { format!("{value}") };
        let (soft, hard) = process.limit(index);
        let _ = writeln!(text, "{name:<25} {:<20} {:<20} {unit:<10}", show(soft), show(hard));
    }
    Ok(text.into_bytes())
}

/// The mounts that every container has; those that were made since are not told here.
const MOUNTS: [(&str, &str, &str, &str); 6] = [
    ("overlay", "/", "overlay", "rw,relatime"),
    ("proc", "/proc", "proc", "rw,nosuid,nodev,noexec,relatime"),
    ("sysfs", "/sys", "sysfs", "ro,nosuid,nodev,noexec,relatime"),
    ("tmpfs", "/dev", "tmpfs", "rw,nosuid,size=65536k,mode=755"),
    ("devpts", "/dev/pts", "devpts", "rw,nosuid,noexec,relatime"),
    ("tmpfs", "/dev/shm", "tmpfs", "rw,nosuid,nodev"),
];

fn mounts(_: &System, _: &Arc<Process>, _: Option<i32>) -> Result<Vec<u8>> {
    let mut text = String::new();
    for (device, place, kind, options) in MOUNTS {
        let _ = writeln!(text, "{device} {place} {kind} {options} 0 0");
    }
    Ok(text.into_bytes())
}

fn mount_information(_: &System, _: &Arc<Process>, _: Option<i32>) -> Result<Vec<u8>> {
    let mut text = String::new();
    for (index, (device, place, kind, options)) in MOUNTS.iter().enumerate() {
        let parent = if index == 0 { 1 } else { 20 };
        let _ = writeln!(text, "{} {parent} 0:{} / {place} {options} - {kind} {device} rw", 20 + index, 20 + index);
    }
    Ok(text.into_bytes())
}

/// `/proc/PID/fdinfo/N`.
pub fn descriptor_information(process: &Process, descriptor: i32) -> Result<Vec<u8>> {
    let files = process.resources.lock().files.clone().ok_or(Errno::ENOENT)?;
    let description = files.get(descriptor).map_err(|_| Errno::ENOENT)?;
    let close = if files.close_on_exec(descriptor).unwrap_or(false) { 0o2000000 } else { 0 };
    let number = description.file.attributes().map_or(0, |attributes| attributes.number);
    let position = *description.position.lock();
    let flags = description.flags() | close;
    let more = description.file.information();
    Ok(format!("pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t20\nino:\t{number}\n{more}").into_bytes())
}

/// The place that a link leads to.
pub fn place(process: &Process, which: Which) -> Result<Arc<Place>> {
    match which {
        Which::Program => process.executed.lock().place.clone().ok_or(Errno::ENOENT),
        Which::Directory => Ok(process.resources.lock().fs.clone().ok_or(Errno::ENOENT)?.directory()),
        Which::Root => Ok(process.resources.lock().fs.clone().ok_or(Errno::ENOENT)?.root()),
    }
}
