//! The devices of the virtual machine that an image asks for, as arguments of QEMU.
//!
//! They are virtio devices without the legacy interface: over PCI on a PC, over MMIO on a microvm. Nothing here knows
//! what is done with them inside.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use miette::{IntoDiagnostic, Result, WrapErr};

use crate::image::MachineKind;
use crate::workspace;

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A network behind QEMU: 10.0.2.0/24 with DHCP, this machine at 10.0.2.2.
    Network,
    /// A network card that is an interface of this machine (TAP), by its name. No port needs to lead to it.
    Tap(String),
    /// A disk.
    Disk(Disk),
    /// A source of random numbers.
    Entropy,
    /// What keeps the others from memory that they were not given. A microvm has none.
    Iommu,
    /// A folder of this machine.
    Folder { path: PathBuf, read_only: bool },
    /// A console that leads to the socket which QEMU is given as its standard input.
    Attached,
}

/// What is on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Nothing: so many bytes of zeros at each start.
    Scratch(u64),
    /// A file.
    File { path: PathBuf, read_only: bool },
    /// A tar archive of a folder as it is at the start, which cannot be written.
    Folder(PathBuf),
}

/// A port of this machine that leads to one of the guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// As QEMU writes it: `tcp:127.0.0.1:8080-:80`.
    pub rule: String,
}

/// The device that is an IOMMU, as an option of QEMU's.
pub const IOMMU: [&str; 2] = ["-device", "intel-iommu"];

/// Firmware that starts a PC with fewer instructions, where QEMU's own package has it. It leaves PCI devices without addresses: the component `pci`
/// gives them some.
const QUICK_FIRMWARE: &str = "/usr/share/qemu/qboot.rom";

/// QEMU's arguments for the firmware of a machine that boots Tessera.
pub fn firmware(machine: MachineKind) -> Vec<String> {
    let has_quick = machine == MachineKind::Q35 && Path::new(QUICK_FIRMWARE).exists();
    if has_quick { ["-bios", QUICK_FIRMWARE].map(str::to_owned).to_vec() } else { Vec::new() }
}

/// QEMU's arguments for `devices` of the image `name`. Scratch disks are made.
pub fn arguments(machine: MachineKind, name: &str, devices: &[Device], ports: &[Forwarding]) -> Result<Vec<String>> {
    let bus = match machine {
        MachineKind::Q35 => "pci",
        MachineKind::Microvm => "device",
    };
    let mut arguments = Vec::new();
    let others = devices.iter().any(|device| *device != Device::Iommu);
    let iommu = machine == MachineKind::Q35 && others && devices.contains(&Device::Iommu);
    if iommu {
        // Before the devices that are to be behind it.
        arguments.extend(IOMMU.map(str::to_owned));
    }
    if machine == MachineKind::Microvm && !devices.is_empty() {
        // Not the default there, and without it the devices have the legacy interface.
        arguments.extend(["-global".to_owned(), "virtio-mmio.force-legacy=false".to_owned()]);
    }
    for (index, device) in devices.iter().enumerate() {
        let options = match machine {
            // QEMU's virtio devices go around an IOMMU unless they are told not to.
            MachineKind::Q35 if iommu => ",disable-legacy=on,iommu_platform=on".to_owned(),
            MachineKind::Q35 => ",disable-legacy=on".to_owned(),
            MachineKind::Microvm => format!(",bus=virtio-mmio-bus.{}", slot(index)),
        };
        let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
        match device {
            Device::Iommu => {}
            Device::Network => {
                let rules: String = ports.iter().map(|port| format!(",hostfwd={}", port.rule)).collect();
                add("-netdev", format!("user,id=device{index}{rules}"));
                add("-device", format!("virtio-net-{bus},netdev=device{index}{options}"));
            }
            Device::Tap(interface) => {
                add("-netdev", format!("tap,id=device{index},ifname={interface},script=no,downscript=no"));
                add("-device", format!("virtio-net-{bus},netdev=device{index}{options}"));
            }
            Device::Disk(disk) => {
                let (path, mode) = match disk {
                    Disk::Scratch(bytes) => (scratch(name, *bytes)?, ""),
                    Disk::File { path, read_only: true } => (path.clone(), ",readonly=on"),
                    Disk::File { path, read_only: false } => (path.clone(), ""),
                    Disk::Folder(path) => (packed(name, path)?, ",readonly=on"),
                };
                let path = escaped(&path);
                add("-drive", format!("if=none,id=device{index},format=raw,file={path}{mode}"));
                add("-device", format!("virtio-blk-{bus},drive=device{index}{options}"));
            }
            Device::Entropy => {
                add("-object", format!("rng-random,id=device{index},filename=/dev/urandom"));
                add("-device", format!("virtio-rng-{bus},rng=device{index}{options}"));
            }
            Device::Folder { path, read_only } => {
                let mode = if *read_only { ",readonly=on" } else { "" };
                let path = escaped(path);
                // Files belong to whoever runs this command, as far as that is not the superuser.
                add("-fsdev", format!("local,id=device{index},security_model=none,multidevs=remap,path={path}{mode}"));
                add("-device", format!("virtio-9p-{bus},fsdev=device{index},mount_tag=device{index}{options}"));
            }
            Device::Attached => {
                add("-chardev", format!("socket,id=device{index},fd=0"));
                add("-device", format!("virtio-serial-{bus},max_ports=1{options}"));
                add("-device", format!("virtconsole,chardev=device{index}"));
            }
        }
    }
    Ok(arguments)
}

/// The slot of a microvm's device: 24 there are, eight to a page, counted down as the guest looks for them. Each of the first three
/// has a page of its own, so that a driver can be given its registers and no other's.
fn slot(index: usize) -> usize {
    const SLOTS: usize = 24;
    const A_PAGE: usize = 8;
    let (page, place) = (index % (SLOTS / A_PAGE), index / (SLOTS / A_PAGE) % A_PAGE);
    SLOTS - 1 - page * A_PAGE - place
}

/// A path as a value among others: QEMU reads two commas as one.
pub fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

thread_local! {
    /// The disks that this thread made and did not remove yet.
    static SCRATCH: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

/// Makes a disk of zeros.
fn scratch(name: &str, bytes: u64) -> Result<PathBuf> {
    made(name, |disk| disk.set_len(bytes))
}

/// Makes a disk that is a tar archive of a folder.
fn packed(name: &str, folder: &Path) -> Result<PathBuf> {
    let disk = made(name, |disk| {
        let mut tar = tar::Builder::new(disk);
        tar.follow_symlinks(false);
        // The same files make the same disk.
        tar.mode(tar::HeaderMode::Deterministic);
        tar.append_dir_all("", folder)?;
        tar.finish()
    });
    disk.wrap_err_with(|| format!("cannot pack the folder {}", folder.display()))
}

/// A new file for a disk, filled by `fill`, with a name of its own: the same image may run several times at once.
fn made(name: &str, fill: impl FnOnce(&File) -> std::io::Result<()>) -> Result<PathBuf> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let folder = workspace::target().join("tessera/disks");
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("{name}-{}-{number}.img", std::process::id()));
    let make = || {
        fs::create_dir_all(&folder)?;
        fill(&File::create(&path)?)
    };
    make().into_diagnostic().wrap_err_with(|| format!("cannot make the disk {}", path.display()))?;
    SCRATCH.with_borrow_mut(|made| made.push(path.clone()));
    Ok(path)
}

/// Removes the disks that [`arguments`] made in this thread.
pub fn remove_scratch() {
    for path in SCRATCH.take() {
        // One that stays costs space until the next `cargo clean`.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_a_back_end_of_its_own() {
        let disk = Disk::File { path: "a,b.img".into(), read_only: true };
        let folder = Device::Folder { path: "site".into(), read_only: true };
        let devices = [Device::Network, Device::Disk(disk), Device::Entropy, folder, Device::Attached];
        let ports = [Forwarding { rule: "tcp:127.0.0.1:8080-:80".to_owned() }];
        let arguments = arguments(MachineKind::Q35, "web", &devices, &ports).unwrap().join(" ");
        let expected = "-netdev user,id=device0,hostfwd=tcp:127.0.0.1:8080-:80 \
            -device virtio-net-pci,netdev=device0,disable-legacy=on \
            -drive if=none,id=device1,format=raw,file=a,,b.img,readonly=on \
            -device virtio-blk-pci,drive=device1,disable-legacy=on \
            -object rng-random,id=device2,filename=/dev/urandom \
            -device virtio-rng-pci,rng=device2,disable-legacy=on \
            -fsdev local,id=device3,security_model=none,multidevs=remap,path=site,readonly=on \
            -device virtio-9p-pci,fsdev=device3,mount_tag=device3,disable-legacy=on \
            -chardev socket,id=device4,fd=0 \
            -device virtio-serial-pci,max_ports=1,disable-legacy=on \
            -device virtconsole,chardev=device4";
        assert_eq!(arguments, expected);
    }

    #[test]
    fn a_folder_becomes_a_disk_with_an_archive_of_whole_blocks() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("index.html"), "<p>here</p>").unwrap();
        let disk = packed("test", folder.path()).unwrap();
        let bytes = fs::read(&disk).unwrap();
        assert!(bytes.len().is_multiple_of(512));
        let mut archive = tar::Archive::new(&bytes[..]);
        let paths: Vec<PathBuf> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert!(paths.contains(&"index.html".into()), "{paths:?}");
        fs::remove_file(disk).unwrap();
        let gone = packed("test", &folder.path().join("none")).unwrap_err();
        assert!(format!("{gone:?}").contains("cannot pack the folder"), "{gone:?}");
    }

    #[test]
    fn an_iommu_stands_before_the_devices_that_it_holds_back() {
        let devices = [Device::Iommu, Device::Network];
        let told = |machine, devices: &[Device]| arguments(machine, "web", devices, &[]).unwrap();
        let pc = told(MachineKind::Q35, &devices).join(" ");
        let expected = "-device intel-iommu -netdev user,id=device1 \
            -device virtio-net-pci,netdev=device1,disable-legacy=on,iommu_platform=on";
        assert_eq!(pc, expected);
        assert!(!told(MachineKind::Microvm, &devices).join(" ").contains("iommu"));
        assert!(told(MachineKind::Q35, &[Device::Iommu]).is_empty(), "there is nothing to hold back");
    }

    #[test]
    fn a_card_can_be_an_interface_of_this_machine() {
        let devices = [Device::Tap("tap0".to_owned())];
        let told = arguments(MachineKind::Q35, "web", &devices, &[]).unwrap().join(" ");
        let expected = "-netdev tap,id=device0,ifname=tap0,script=no,downscript=no \
            -device virtio-net-pci,netdev=device0,disable-legacy=on";
        assert_eq!(told, expected);
    }

    #[test]
    fn a_microvm_has_them_on_its_own_bus() {
        let arguments = arguments(MachineKind::Microvm, "web", &[Device::Network], &[]).unwrap().join(" ");
        assert!(arguments.contains("virtio-net-device,netdev=device0,bus=virtio-mmio-bus.23"), "{arguments}");
        assert!(arguments.contains("force-legacy=false"), "{arguments}");
    }

    #[test]
    fn no_two_devices_have_one_slot_and_the_first_three_share_no_page() {
        let slots: std::collections::BTreeSet<usize> = (0..24).map(slot).collect();
        assert_eq!((slots.len(), slots.last()), (24, Some(&23)));
        let pages: std::collections::BTreeSet<usize> = (0..3).map(|index| slot(index) / 8).collect();
        assert_eq!(pages.len(), 3);
    }
}
