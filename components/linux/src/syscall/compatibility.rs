//! What is there of Linux's calls and what is not, for the log and for the book.

/// Calls that are known by name and answer `ENOSYS`, and why.
pub const MISSING: &[(u64, &str, &str)] = &[
    (134, "uselib", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (136, "ustat", "obsolete; `statfs` tells the same"),
    (139, "sysfs", "obsolete; `statfs` tells the same"),
    (154, "modify_ldt", "segments of 16 and 32 bits are not offered"),
    (156, "_sysctl", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (174, "create_module", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (177, "get_kernel_syms", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (178, "query_module", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (180, "nfsservctl", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (181, "getpmsg", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (182, "putpmsg", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (183, "afs_syscall", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (184, "tuxcall", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (185, "security", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (205, "set_thread_area", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (211, "get_thread_area", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (212, "lookup_dcookie", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (214, "epoll_ctl_old", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (215, "epoll_wait_old", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (219, "restart_syscall", "calls that are interrupted are made again as they were"),
    (236, "vserver", "answers ENOSYS in Linux too on this processor, or is obsolete"),
    (237, "mbind", "there is one node of memory"),
    (238, "set_mempolicy", "there is one node of memory"),
    (239, "get_mempolicy", "there is one node of memory"),
    (248, "add_key", "no key rings; container runtimes refuse them by default"),
    (249, "request_key", "no key rings; container runtimes refuse them by default"),
    (250, "keyctl", "no key rings; container runtimes refuse them by default"),
    (256, "migrate_pages", "there is one node of memory"),
    (279, "move_pages", "there is one node of memory"),
    (301, "fanotify_mark", "`fanotify_init` is refused"),
    (334, "rseq", "the kernel does not tell when a thread is interrupted; the C library does without"),
    (425, "io_uring_setup", "not written yet; container runtimes refuse it by default"),
    (426, "io_uring_enter", "not written yet; container runtimes refuse it by default"),
    (427, "io_uring_register", "not written yet; container runtimes refuse it by default"),
    (440, "process_madvise", "advice about other processes is not taken"),
    (444, "landlock_create_ruleset", "not written yet"),
    (445, "landlock_add_rule", "not written yet"),
    (446, "landlock_restrict_self", "not written yet"),
    (447, "memfd_secret", "off in Linux too unless it is asked for at boot"),
    (448, "process_mrelease", "advice about other processes is not taken"),
    (450, "set_mempolicy_home_node", "there is one node of memory"),
    (451, "cachestat", "newer than the version of Linux that `uname` tells"),
];

/// Calls that are there but not whole: what they do not do.
#[cfg(test)]
pub const PARTLY: &[(&str, &str)] = &[
    ("acct", "EPERM: containers are not given the right"),
    ("adjtimex", "tells; the clock is not steered"),
    ("bpf", "EPERM: containers are not given the right"),
    ("clock_adjtime", "as `adjtimex`"),
    ("clone", "no namespaces: EPERM"),
    ("clone3", "no namespaces, numbers of choice or control groups: EPERM"),
    ("delete_module", "EPERM: containers are not given the right"),
    ("fallocate", "no ranges moved: EOPNOTSUPP"),
    ("fanotify_init", "EPERM: containers are not given the right"),
    ("fcntl", "no leases, and no directories that are told of by signals (F_NOTIFY)"),
    ("finit_module", "EPERM: containers are not given the right"),
    ("fsconfig", "EPERM: containers cannot mount"),
    ("fsmount", "EPERM: containers cannot mount"),
    ("fsopen", "EPERM: containers cannot mount"),
    ("fspick", "EPERM: containers cannot mount"),
    ("getcpu", "tells the first processor"),
    ("init_module", "EPERM: containers are not given the right"),
    ("ioperm", "EPERM: containers are not given the right"),
    ("iopl", "EPERM: containers are not given the right"),
    ("io_cancel", "nothing is on its way when a call comes back: EINVAL"),
    ("io_submit", "no IOCB_CMD_POLL: EINVAL"),
    ("ioprio_set", "kept and told, without effect"),
    ("kexec_file_load", "EPERM: containers are not given the right"),
    ("kexec_load", "EPERM: containers are not given the right"),
    ("membarrier", "no barriers for restartable sequences: EINVAL"),
    ("mincore", "tells of all that is mapped that it is there"),
    ("mount", "EPERM: containers cannot mount"),
    ("mount_setattr", "EPERM: containers cannot mount"),
    ("move_mount", "EPERM: containers cannot mount"),
    ("mq_notify", "no threads (SIGEV_THREAD): EINVAL"),
    ("name_to_handle_at", "nobody may open by them: `open_by_handle_at`"),
    ("open_by_handle_at", "EPERM: containers are not given the right"),
    ("open_tree", "EPERM: containers cannot mount"),
    ("perf_event_open", "EPERM: containers are not given the right"),
    ("personality", "kept and told; of what it asks for only STICKY_TIMEOUTS has an effect"),
    ("pivot_root", "EPERM: containers cannot mount"),
    ("pkey_alloc", "ENOSPC: there are no keys of memory"),
    ("ptrace", "no debug registers, no emulation of calls"),
    ("quotactl", "EPERM: containers are not given the right"),
    ("quotactl_fd", "EPERM: containers are not given the right"),
    ("reboot", "EPERM: containers are not given the right"),
    ("sched_setaffinity", "checked, without effect"),
    ("sched_setattr", "kept and told, without effect"),
    ("sched_setscheduler", "kept and told, without effect"),
    ("seccomp", "nobody can be asked in a program's place (SECCOMP_RET_USER_NOTIF)"),
    ("setns", "there are no other namespaces"),
    ("swapoff", "EPERM: containers are not given the right"),
    ("swapon", "EPERM: containers are not given the right"),
    ("syslog", "EPERM: containers are not given the right"),
    ("umount2", "EPERM: containers cannot mount"),
    ("unshare", "no namespaces: EPERM"),
    ("userfaultfd", "EPERM: containers are not given the right"),
    ("vhangup", "EPERM: containers are not given the right"),
];

#[cfg(test)]
mod tests {
    extern crate std;

    use alloc::format;
    use alloc::string::String;
    use std::{env, fs};

    use super::super::table::TABLE;
    use super::*;

    /// One past the highest number that is known, and the numbers that x86-64 never gave away.
    const END: u64 = 453;
    const UNUSED: core::ops::Range<u64> = 335..424;

    #[test]
    fn every_call_is_either_there_or_missing() {
        for number in (0..END).filter(|number| !UNUSED.contains(number)) {
            let entry = TABLE.get(number as usize).and_then(Option::as_ref);
            let missing = MISSING.iter().find(|missing| missing.0 == number);
            assert!(entry.is_some() != missing.is_some(), "{number}: {:?}", missing);
        }
        for (name, _) in PARTLY {
            assert!(TABLE.iter().flatten().any(|entry| entry.name == *name), "{name} is not there");
        }
    }

    fn page() -> String {
        let mut rows = String::new();
        let (mut whole, mut partly, mut missing) = (0, 0, 0);
        for number in (0..END).filter(|number| !UNUSED.contains(number)) {
            let (name, state, remark) = match TABLE.get(number as usize).and_then(Option::as_ref) {
                Some(entry) => match PARTLY.iter().find(|(name, _)| *name == entry.name) {
                    Some((_, remark)) => {
                        partly += 1;
                        (entry.name, "partly", *remark)
                    }
                    None => {
                        whole += 1;
                        (entry.name, "there", "")
                    }
                },
                None => {
                    missing += 1;
                    let known = MISSING.iter().find(|known| known.0 == number);
                    known.map_or(("?", "no", ""), |(_, name, reason)| (*name, "no", *reason))
                }
            };
            rows += &format!("| {number} | `{name}` | {state} | {remark} |\n");
        }
        format!(
            "# Linux's calls\n\n\
             What the Linux personality has of the system calls of x86-64, by number: {whole} are there, {partly} partly, \
             {missing} are not.\nA call that is not there answers `ENOSYS`, and the first time its name is written to the log. \
             This page is written by\n`BLESS=1 cargo test -p tessera-linux compatibility`; a test fails when it is \
             out of date.\n\n| number | name | | what is missing, or why |\n| --- | --- | --- | --- |\n{rows}"
        )
    }

    #[test]
    fn the_book_says_what_is_there() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/linux-calls.md");
        if env::var_os("BLESS").is_some() {
            fs::write(path, page()).unwrap();
        }
        assert!(
            fs::read_to_string(path).unwrap_or_default() == page(),
            "docs/src/linux-calls.md is out of date: BLESS=1 cargo test -p tessera-linux compatibility"
        );
    }
}
