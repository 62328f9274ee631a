//! `/sys`: sysfs(5), as far as programs read it: how many processors there are and how they belong together, one memory node, the network's
//! interfaces, huge pages, and folders of devices and control groups that are empty. Nothing in it can be changed.

use alloc::format;
use alloc::vec::Vec;

use tessera_runtime::object::processors;

use super::Fixed::{self, Directory, File, Optional};
use super::system::memory_usage;
use crate::task::System;

/// The processors that an image can have.
const MOST: usize = 8;

fn line(text: impl core::fmt::Display) -> Vec<u8> {
    format!("{text}\n").into_bytes()
}

/// All processors, as a list of ranges.
fn all(_: &System) -> Vec<u8> {
    match processors() {
        0 | 1 => line(0),
        count => line(format_args!("0-{}", count - 1)),
    }
}

/// All processors, as a mask.
fn all_mask(_: &System) -> Vec<u8> {
    line(format_args!("{:x}", (1u64 << processors().min(MOST as u64)) - 1))
}

fn own<const NUMBER: usize>(_: &System) -> Vec<u8> {
    line(NUMBER)
}

fn own_mask<const NUMBER: usize>(_: &System) -> Vec<u8> {
    line(format_args!("{:x}", 1u64 << NUMBER))
}

/// Processor `NUMBER`: a core of its own of the one package.
const fn processor<const NUMBER: usize>(name: &'static str) -> Fixed {
    Optional(
        name,
        |_| (NUMBER as u64) < processors(),
        const {
            &[
                Directory(
                    "topology",
                    const {
                        &[
                            File("core_id", own::<NUMBER>),
                            File("physical_package_id", |_| line(0)),
                            File("die_id", |_| line(0)),
                            File("thread_siblings", own_mask::<NUMBER>),
                            File("thread_siblings_list", own::<NUMBER>),
                            File("core_cpus", own_mask::<NUMBER>),
                            File("core_cpus_list", own::<NUMBER>),
                            File("core_siblings", all_mask),
                            File("core_siblings_list", all),
                            File("package_cpus", all_mask),
                            File("package_cpus_list", all),
                        ]
                    },
                ),
                File("online", |_| line(1)),
            ]
        },
    )
}

fn node_memory(_: &System) -> Vec<u8> {
    let (total, used) = memory_usage();
    let (total, free) = (total / 1024, total.saturating_sub(used) / 1024);
    format!("Node 0 MemTotal: {total:>8} kB\nNode 0 MemFree:  {free:>8} kB\nNode 0 MemUsed:  {:>8} kB\n", total - free)
        .into_bytes()
}

/// What tells of a network: the hardware address and the longest packet.
fn wire(system: &System) -> ([u8; 6], u16) {
    let configuration = system.inet.as_ref().and_then(|inet| inet.configuration().ok());
    configuration.map_or(([0; 6], 1500), |configuration| (configuration.mac, configuration.mtu))
}

fn wire_address(system: &System) -> Vec<u8> {
    let ([a, b, c, d, e, f], _) = wire(system);
    line(format_args!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))
}

const LOOPBACK: &[Fixed] = &[
    File("address", |_| line("00:00:00:00:00:00")),
    File("broadcast", |_| line("00:00:00:00:00:00")),
    File("addr_len", |_| line(6)),
    File("flags", |_| line("0x9")),
    File("ifindex", |_| line(1)),
    File("iflink", |_| line(1)),
    File("mtu", |_| line(65_536)),
    File("operstate", |_| line("unknown")),
    File("carrier", |_| line(1)),
    File("tx_queue_len", |_| line(1000)),
    File("type", |_| line(772)),
];

const WIRE: &[Fixed] = &[
    File("address", wire_address),
    File("broadcast", |_| line("ff:ff:ff:ff:ff:ff")),
    File("addr_len", |_| line(6)),
    File("flags", |_| line("0x1003")),
    File("ifindex", |_| line(2)),
    File("iflink", |_| line(2)),
    File("mtu", |system| line(wire(system).1)),
    File("operstate", |_| line("up")),
    File("carrier", |_| line(1)),
    File("tx_queue_len", |_| line(1000)),
    File("type", |_| line(1)),
];

/// The root.
pub const ROOT: &Fixed = &Directory(
    "",
    &[
        Directory("block", &[]),
        Directory("bus", &[]),
        Directory(
            "class",
            &[
                Directory("block", &[]),
                Directory("net", &[Directory("lo", LOOPBACK), Optional("eth0", |system| system.inet.is_some(), WIRE)]),
            ],
        ),
        Directory("dev", &[Directory("block", &[]), Directory("char", &[])]),
        Directory(
            "devices",
            &[Directory(
                "system",
                &[
                    Directory(
                        "cpu",
                        &[
                            processor::<0>("cpu0"),
                            processor::<1>("cpu1"),
                            processor::<2>("cpu2"),
                            processor::<3>("cpu3"),
                            processor::<4>("cpu4"),
                            processor::<5>("cpu5"),
                            processor::<6>("cpu6"),
                            processor::<7>("cpu7"),
                            File("online", all),
                            File("possible", all),
                            File("present", all),
                            File("offline", |_| line("")),
                            File("isolated", |_| line("")),
                            File("kernel_max", |_| line(MOST - 1)),
                        ],
                    ),
                    Directory(
                        "node",
                        &[
                            Directory(
                                "node0",
                                &[
                                    File("cpulist", all),
                                    File("cpumap", all_mask),
                                    File("distance", |_| line(10)),
                                    File("meminfo", node_memory),
                                ],
                            ),
                            File("online", |_| line(0)),
                            File("possible", |_| line(0)),
                            File("has_cpu", |_| line(0)),
                            File("has_memory", |_| line(0)),
                        ],
                    ),
                ],
            )],
        ),
        Directory("firmware", &[]),
        Directory("fs", &[Directory("cgroup", &[])]),
        Directory(
            "kernel",
            &[Directory(
                "mm",
                &[
                    Directory("hugepages", &[]),
                    Directory(
                        "transparent_hugepage",
                        &[
                            File("enabled", |_| line("always madvise [never]")),
                            File("defrag", |_| line("always defer defer+madvise madvise [never]")),
                            File("hpage_pmd_size", |_| line(2 << 20)),
                        ],
                    ),
                ],
            )],
        ),
        Directory("module", &[]),
        Directory("power", &[]),
    ],
);
