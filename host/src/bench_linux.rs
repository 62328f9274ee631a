//! The Linux guest: Debian's kernel for virtual machines on the same QEMU, with one static program as its first process that measures what
//! Tessera's benchmarks do (`bench/linux/peer.c`). The kernel is fetched by apt when a peer is asked for, and kept; the program is built by
//! this machine's C compiler. The same program runs under Tessera's personality.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use miette::{IntoDiagnostic, Result, WrapErr, miette};

use tessera_rootfs::{Image, Kind};

use super::LIMIT;
use crate::container::{self, Overrides, PortMapping, Source, debian, launch};
use crate::devices::{self, Device, Forwarding};
use crate::image::{MachineKind, Placement, Processors};
use crate::process::Running;
use crate::progress::Step;
use crate::qemu::{Boot, Engine};
use crate::symbols::Symbols;
use crate::workspace;

/// What brings Debian's current kernel for virtual machines, and how the package of the kernel itself is called.
const PACKAGE: &str = "linux-image-cloud-amd64";
const KERNEL: (&str, &str) = ("linux-image-", "-cloud-amd64");
/// The drivers that the measurements need; what these need in turn, they say themselves.
const DRIVERS: [&str; 3] = ["virtio_pci", "virtio_blk", "virtio_net"];
const MEMORY: &str = "256M";
/// The same for a program whose files are in memory too.
const RUNNING: &str = "512M";
/// The name of the last member of an archive.
const END: &str = "TRAILER!!!";

/// Debian's kernel with its first process.
pub struct Peer {
    /// What it is called in tables.
    pub name: String,
    kernel: PathBuf,
    initramfs: PathBuf,
}

impl Peer {
    /// Fetches and builds what is not there yet.
    pub fn prepare() -> Result<Self> {
        let mut step = Step::start("the peer");
        let program = program(&mut step)?;
        let is_kernel = |name: &str| {
            let version = name.strip_prefix(KERNEL.0).and_then(|rest| rest.strip_suffix(KERNEL.1));
            version.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
        };
        let package = debian::fetch_alone(PACKAGE, is_kernel, &mut step)?;
        let release = package.name.trim_start_matches(KERNEL.0).to_owned();
        let folder = unpacked(&package.file, &mut step)?;
        let initramfs = folder.join("initramfs");
        let modules = modules(&folder.join("lib/modules").join(&release))?;
        crate::image::write(&initramfs, &archive(&program, &modules)?)?;
        let kernel = folder.join("boot").join(format!("vmlinuz-{release}"));
        Ok(Self { name: format!("Debian {release}"), kernel, initramfs })
    }

    /// The machine that measures `what`, one of the words that `peer.c` knows.
    pub fn boot(&self, what: &str, devices: &[String], engine: Engine) -> Boot {
        let mut arguments = vec!["-initrd".to_owned(), self.initramfs.display().to_string()];
        arguments.extend_from_slice(devices);
        Boot {
            image: self.kernel.clone(),
            machine: MachineKind::Q35,
            memory: MEMORY.parse().unwrap_or_default(),
            processors: Processors::default(),
            engine,
            limit: Some(LIMIT),
            words: ["console=ttyS0", "quiet", "panic=-1", &format!("measure={what}")].map(str::to_owned).to_vec(),
            devices: arguments,
            keys_go_to_the_guest: false,
        }
    }
}

impl Peer {
    /// The machine whose only program is `words` in the root file system of an image, reached through `ports`.
    pub fn running(&self, name: &str, root: &Path, words: &[&str], ports: &[PortMapping]) -> Result<Boot> {
        let bytes = fs::read(root).into_diagnostic().wrap_err_with(|| format!("cannot read {}", root.display()))?;
        let image = Image::new(&bytes).into_diagnostic()?;
        // The kernel unpacks one archive over the other.
        let mut archive = fs::read(&self.initramfs).into_diagnostic()?;
        add_tree(&mut archive, &image).into_diagnostic().wrap_err("the root image cannot be read")?;
        let command: String = words.iter().flat_map(|word| [word, "\0"]).collect();
        add_file(&mut archive, "command", 0o100_644, command.as_bytes());
        add_file(&mut archive, END, 0, &[]);
        let initramfs = folder()?.join(format!("initramfs-{name}"));
        crate::image::write(&initramfs, &archive)?;
        let ports: Vec<Forwarding> = ports.iter().map(|port| Forwarding { rule: port.rule() }).collect();
        let devices = devices::arguments(MachineKind::Q35, "peer", &[Device::Network], &ports)?;
        let peer = Self { name: self.name.clone(), kernel: self.kernel.clone(), initramfs };
        Ok(Boot { memory: RUNNING.parse().unwrap_or_default(), ..peer.boot("serve", &devices, Engine::Tcg) })
    }
}

/// Adds all that an image's root has below it.
fn add_tree(archive: &mut Vec<u8>, image: &Image) -> std::result::Result<(), tessera_rootfs::Error> {
    let mut folders = vec![(String::new(), image.root())];
    while let Some((path, number)) = folders.pop() {
        for entry in image.entries(&image.inode(number)?, 0)? {
            let entry = entry?;
            if [b".".as_slice(), b".."].contains(&entry.name) {
                continue;
            }
            let path = format!("{path}{}", String::from_utf8_lossy(entry.name));
            let inode = image.inode(entry.number)?;
            let content = match inode.kind() {
                Kind::Regular => image.contents(&inode, 0)?.concat(),
                Kind::Link => image.link_target(&inode)?.to_vec(),
                _ => Vec::new(),
            };
            add_file(archive, &path, inode.mode.into(), &content);
            if inode.kind() == Kind::Directory {
                folders.push((path + "/", entry.number));
            }
        }
    }
    Ok(())
}

/// The machine that runs the same program under Tessera's personality.
pub fn personality(what: &str, engine: Engine) -> Result<(Boot, Symbols)> {
    let program = program(&mut Step::start("the program"))?;
    let overrides = Overrides { words: vec![what.to_owned()], ..Overrides::default() };
    let system = launch::system(None, Some(Placement::Isolated))?;
    let container = container::prepare(&Source::Program(program), &overrides, &system, None)?;
    let devices = launch::devices(MachineKind::Q35, &container.system, &[], &[])?;
    let boot = Boot {
        image: container.image,
        machine: MachineKind::Q35,
        memory: container.memory,
        processors: Processors::default(),
        engine,
        limit: Some(LIMIT),
        words: Vec::new(),
        devices,
        keys_go_to_the_guest: false,
    };
    Ok((boot, container.symbols))
}

fn folder() -> Result<PathBuf> {
    let folder = workspace::target().join("tessera/peer");
    fs::create_dir_all(&folder).into_diagnostic().wrap_err_with(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Builds the measuring program, if it is not there or older than its source.
fn program(step: &mut Step) -> Result<PathBuf> {
    let source = workspace::root().join("bench/linux/peer.c");
    let program = folder()?.join("peer");
    let changed = |path: &Path| fs::metadata(path).and_then(|found| found.modified());
    if changed(&program).is_ok_and(|built| changed(&source).is_ok_and(|written| built > written)) {
        return Ok(program);
    }
    step.note("compiling bench/linux/peer.c");
    let mut command = Command::new("cc");
    command.args(["-static", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(&source);
    run(&mut command, "install gcc and libc6-dev, the C compiler and library that build the measuring program")?;
    Ok(program)
}

/// Unpacks a package into a folder that is named after it. It is there as a whole or not at all.
fn unpacked(package: &Path, step: &mut Step) -> Result<PathBuf> {
    let name = package.file_stem().unwrap_or_default();
    let (whole, begun) = (folder()?.join(name), folder()?.join("begun"));
    if !whole.exists() {
        step.note("unpacking Debian's kernel");
        // What an interrupted command left.
        let _ = fs::remove_dir_all(&begun);
        run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&begun), "remove the file; it will be fetched again")?;
        fs::rename(&begun, &whole).into_diagnostic()?;
    }
    Ok(whole)
}

fn run(command: &mut Command, mend: &str) -> Result<()> {
    let name = command.get_program().display().to_string();
    let running = Running::start(command.stdin(Stdio::null()), None);
    let running = running.into_diagnostic().wrap_err_with(|| format!("cannot start {name}: {mend}"))?;
    let (status, _) = running.wait().into_diagnostic()?;
    if status.success() { Ok(()) } else { Err(miette!(help = mend.to_owned(), "{name} failed")) }
}

/// The drivers' modules, each behind those that it needs.
fn modules(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut files = Vec::new();
    find_modules(folder, &mut files).into_diagnostic().wrap_err_with(|| format!("cannot read {}", folder.display()))?;
    let mut order = Vec::new();
    for driver in DRIVERS {
        add_module(driver, &files, &mut order)?;
    }
    Ok(order.into_iter().map(|(_, module)| module).collect())
}

fn find_modules(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find_modules(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Puts a module behind those that it needs, which its section `.modinfo` names.
fn add_module(name: &str, files: &[PathBuf], order: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    if order.iter().any(|(known, _)| known == name) {
        return Ok(());
    }
    let wanted = format!("{name}.ko");
    let file = files.iter().find(|file| file.file_name().is_some_and(|found| found == wanted.as_str()));
    let file = file.ok_or_else(|| miette!("Debian's kernel has no module {wanted}, or has it compressed"))?;
    let module = fs::read(file).into_diagnostic()?;
    for needed in needs(&module) {
        add_module(&needed, files, order)?;
    }
    order.push((name.to_owned(), module));
    Ok(())
}

/// What a module's `depends=` names.
fn needs(module: &[u8]) -> Vec<String> {
    const MARK: &[u8] = b"\0depends=";
    let Some(at) = module.windows(MARK.len()).position(|bytes| bytes == MARK) else { return Vec::new() };
    let rest = module.get(at + MARK.len()..).unwrap_or_default();
    let names = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(names).split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The initramfs: the program as `/init`, and the modules by the numbers in which they are loaded.
fn archive(program: &Path, modules: &[Vec<u8>]) -> Result<Vec<u8>> {
    let program = fs::read(program).into_diagnostic()?;
    let mut archive = Vec::new();
    add_file(&mut archive, "init", 0o100_755, &program);
    add_file(&mut archive, "modules", 0o040_755, &[]);
    for (number, module) in modules.iter().enumerate() {
        add_file(&mut archive, &format!("modules/{number:02}"), 0o100_644, module);
    }
    add_file(&mut archive, END, 0, &[]);
    Ok(archive)
}

/// A member in the "newc" format that the kernel unpacks (its Documentation/driver-api/early-userspace/buffer-format.rst).
fn add_file(archive: &mut Vec<u8>, name: &str, mode: usize, content: &[u8]) {
    // Inode, mode, user, group, links, time, size, four numbers of devices, length of the name with its NUL, checksum.
    let fields = [0, mode, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_behind_what_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        for (name, needed) in [("a", "c,b"), ("b", ""), ("c", "b")] {
            let module = format!("\x7fELF\0license=GPL\0depends={needed}\0name={name}\0");
            fs::write(folder.path().join(format!("{name}.ko")), module).unwrap();
        }
        let mut files = Vec::new();
        find_modules(folder.path(), &mut files).unwrap();
        let mut order = Vec::new();
        add_module("a", &files, &mut order).unwrap();
        let names: Vec<&str> = order.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b", "c", "a"]);
        assert!(add_module("d", &files, &mut order).is_err());
    }

    #[test]
    fn members_are_aligned_and_carry_their_sizes() {
        let mut archive = Vec::new();
        add_file(&mut archive, "init", 0o100_755, b"12345");
        assert_eq!(archive.len(), 110 + 6 + 8);
        assert_eq!(&archive[..6], b"070701");
        assert_eq!(&archive[14..22], b"000081ED");
        assert_eq!(&archive[54..62], b"00000005");
        assert_eq!(&archive[94..102], b"00000005");
        assert_eq!(&archive[110..], b"init\0\x0012345\0\0\0");
    }
}
