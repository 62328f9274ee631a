//! Starting a container: its root, its first process, its console.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_interfaces::{Cap, Network, Node as VolumeNode};
use tessera_rootfs::Image;
use tessera_rootfs::container::{Container, NOTE_MEMBER, ROOT_MEMBER};
use tessera_runtime::abi::x86_64::Registers;
use tessera_runtime::archive::Archive;
use tessera_runtime::component::StartError;
use tessera_runtime::object::Vmo;
use tessera_runtime::{Object, log};

use crate::attached::{Attachment, Streams};
use crate::errno::{Errno, Result};
use crate::file::console::{LogConsole, Simple};
use crate::file::inet::Inet;
use crate::file::pipe::Pipe;
use crate::file::terminal::Terminal;
use crate::file::{Description, OpenFile, Table, open};
use crate::fs::path::{Mounts, Walk, walk};
use crate::fs::ram::{Node, Ram, make_device};
use crate::fs::volume::VolumeInode;
use crate::fs::{Creation, FsContext, Inode, Kind, Owner, Place, devices};
use crate::memory::{GuestMemory, Mm, reserve};
use crate::program::load::load;
use crate::task::process::Resources;
use crate::task::run::{self, Parts};
use crate::task::shortage;
use crate::task::{Context, Credentials, Process, System, Task};

/// `st_dev` of the first volume.
const FIRST_VOLUME: u64 = 0x40;
/// Where programs are looked for if the environment does not say.
const PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the container is made of.
pub struct Setup {
    /// The network, if the container has one.
    pub network: Option<Cap<dyn Network>>,
    /// Who runs the container, where somebody is there.
    pub attachment: Option<Arc<Attachment>>,
    /// The roots of its volumes, in the order in which the note names their places.
    pub volumes: Vec<Cap<dyn VolumeNode>>,
    /// The root image, for as long as the machine runs.
    pub root: Image<'static>,
    /// The memory in which it lies, and where in it.
    pub root_memory: (Vmo, u64),
    /// What is to run, and how.
    pub note: Container<'static>,
    /// Nanoseconds from 1970 to boot.
    pub wall: i64,
    /// Bytes that nobody can foretell, where there is a source of them.
    pub seed: Option<[u8; 32]>,
}

/// The files behind device nodes.
fn open_device(context: &Context, node: &Arc<Node>, flags: u32) -> Result<Option<Arc<dyn OpenFile>>> {
    match node.attributes()?.kind {
        Kind::Fifo => devices::open_fifo(node.clone(), flags).map(Some),
        Kind::Character => devices::open_device(context, node.names_device, flags).map(Some),
        _ => Err(Errno::ENXIO),
    }
}

/// Makes the device nodes that programs expect, in a file system of its own on /dev.
fn make_devices(root: &Arc<dyn Inode>, mounts: &Mounts, time: i64) -> Result<()> {
    let Ok(on) = root.lookup(b"dev") else { return Ok(()) };
    let dev: Arc<dyn Inode> = Ram::root(5, None, open_device)?;
    let owner = Owner { uid: 0, gid: 0 };
    let devices: [(&[u8], u32, u32); 8] = [
        (b"null", 1, 3),
        (b"zero", 1, 5),
        (b"full", 1, 7),
        (b"random", 1, 8),
        (b"urandom", 1, 9),
        (b"tty", 5, 0),
        (b"console", 5, 1),
        (b"ptmx", 5, 2),
    ];
    for (name, major, minor) in devices {
        let names_device = make_device(major, minor);
        dev.create(name, &Creation { kind: Kind::Character, permissions: 0o666, owner, names_device, time })?;
    }
    let directory = Creation { kind: Kind::Directory, permissions: 0o755, owner, names_device: 0, time };
    let shared = dev.create(b"shm", &Creation { permissions: 0o1777, ..directory })?;
    let _ = shared;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        dev.symlink(name.as_bytes(), target.as_bytes(), &directory)?;
    }
    mounts.add(&on, dev)
}

impl Setup {
    /// What `tessera run` put into the boot archive, without a network and in 1970.
    ///
    /// # Errors
    /// What is missing or damaged, in words for people.
    pub fn of(archive: &Vmo) -> core::result::Result<Setup, StartError> {
        let memory = archive.try_clone()?;
        let archive = Archive::new(archive).map_err(|error| StartError::new(format!("no boot archive: {error}")))?;
        // Kept for as long as the machine runs: files are read from it.
        let archive: &'static Archive = Box::leak(Box::new(archive));
        let member = |name: &str| {
            let missing = || format!("the image has no `{name}`: make it by `tessera run CONTAINER`");
            archive.member(name).map_err(|_| StartError::new(missing()))
        };
        let (root, note) = (member(ROOT_MEMBER)?, member(NOTE_MEMBER)?);
        let root_memory = (memory, archive.place_of(root)?);
        let root =
            Image::new(root).map_err(|error| StartError::new(format!("the root file system is damaged: {error}")))?;
        Ok(Setup {
            network: None,
            attachment: None,
            volumes: Vec::new(),
            root,
            root_memory,
            note: Container::new(note),
            wall: 0,
            seed: None,
        })
    }
}

/// Starts the container's first process. The machine ends with it.
///
/// # Errors
/// Why it could not be started; what it was is in the log.
pub fn start(setup: Setup) -> Result<()> {
    let Setup { network, attachment, volumes, root, root_memory, note, wall, seed } = setup;
    reserve::split_off()?;
    let inet = network.map(Inet::new).transpose()?;
    let root: Arc<dyn Inode> = Ram::root_in(1, Some(root), Some(root_memory), open_device)?;
    let mounts = Arc::new(Mounts::default());
    make_devices(&root, &mounts, wall)?;
    let place = Place::root(root);
    let fs = Arc::new(FsContext::new(place.clone(), mounts.clone()));
    let host_name = if note.host_name().is_empty() { b"tessera".to_vec() } else { note.host_name().to_vec() };
    let held_to = String::from_utf8_lossy(note.held_to()).into_owned();
    let system = System::new(host_name, mounts.clone(), inet, attachment, held_to, wall, seed)?;
    shortage::keeper(&system)?;
    devices::mount(&system, &place.inode, &mounts)?;
    let credentials = Arc::new(Credentials::new(note.user(), note.group(), note.more_groups().collect()));
    let number = system.number();
    mount_volumes(&system, &place.inode, &note, volumes)?;
    let process = Process::new(number, None, credentials.clone(), system.now());
    let task = Task::new(number, process.clone(), crate::signal::Set::EMPTY, [0; 16]);
    let files = Arc::new(Table::default());
    process.threads.lock().push(task.clone());
    system.add_task(&task);
    system.add_process(&process);

    // Loading needs someone who asks: a context on this thread, without anything to run.
    let memory = GuestMemory::bind(Mm::new()?)?;
    let context = Context {
        state: Default::default(),
        has_registers: true,
        is_changed: true,
        result: 0,
        task: task.clone(),
        process: process.clone(),
        identity: credentials,
        memory,
        files: files.clone(),
        fs: fs.clone(),
        system: system.clone(),
        call: u64::MAX,
        saved_mask: None,
        signal_stack: (0, crate::signal::deliver::DISABLED, 0),
        clear_number: 0,
        robust_list: 0,
        waited: Default::default(),
        next: Default::default(),
    };
    for description in standard_streams(&context, &note)? {
        files.add(description, 0, 3, false)?;
    }
    let directory = if note.directory().is_empty() { b"/" } else { note.directory() };
    match walk(&context, place, directory, Walk::default()).and_then(|walked| walked.found()) {
        Ok(place) => context.fs.set_directory(place),
        Err(error) => {
            report(system.attachment.as_ref(), format!("no working directory {}: {}", shown(directory), error.name()));
            return Err(error);
        }
    }
    let arguments: Vec<Vec<u8>> = note.arguments().map(<[u8]>::to_vec).collect();
    let environment: Vec<Vec<u8>> = note.environment().map(<[u8]>::to_vec).collect();
    let name = arguments.first().cloned().unwrap_or_default();
    let loaded = find_program(&context, &name, &environment)
        .and_then(|(place, path)| load(&context, place, &path, arguments, &environment));
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            report(system.attachment.as_ref(), format!("cannot run {}: {}", shown(&name), error.name()));
            return Err(error);
        }
    };
    *task.name.lock() = loaded.name;
    process.executed.lock().place = Some(loaded.place);
    *process.credentials.lock() = loaded.credentials.clone();
    *process.resources.lock() =
        Resources { mm: Some(loaded.mm.clone()), files: Some(files.clone()), fs: Some(fs.clone()) };
    drop(context);
    if let Some(attachment) = &system.attachment {
        attachment.mark("the first instruction of Linux");
    }
    run::start(Parts {
        task,
        identity: loaded.credentials,
        mm: loaded.mm,
        files,
        fs,
        system,
        registers: Registers { rip: loaded.entry, rsp: loaded.stack, ..Registers::default() },
        vector: None,
        signal_stack: (0, crate::signal::deliver::DISABLED, 0),
        clear_number: 0,
        robust_list: 0,
    })
}

/// Puts the volumes where the note says, in directories that are made where they are missing.
fn mount_volumes(
    system: &System,
    root: &Arc<dyn Inode>,
    note: &Container,
    volumes: Vec<Cap<dyn VolumeNode>>,
) -> Result<()> {
    let directory = Creation {
        kind: Kind::Directory,
        permissions: 0o755,
        owner: Owner { uid: 0, gid: 0 },
        names_device: 0,
        time: system.wall_now(),
    };
    for ((path, volume), device) in note.mounts().zip(volumes).zip(FIRST_VOLUME..) {
        let mut on = root.clone();
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let below = match on.lookup(name) {
                Err(Errno::ENOENT) => on.create(name, &directory),
                found => found,
            };
            on = below.map(|below| system.mounts.cover(below)).inspect_err(|error| {
                report(
                    system.attachment.as_ref(),
                    format!("no place for the volume at {}: {}", shown(path), error.name()),
                );
            })?;
        }
        system.mounts.add(&on, VolumeInode::root(volume, device))?;
    }
    Ok(())
}

/// Tells the person who runs the container, or the log.
pub fn report(attachment: Option<&Arc<Attachment>>, text: String) {
    match attachment {
        Some(attachment) => attachment.notice(text),
        None => log!("linux: {text}"),
    }
}

/// Standard input, output and error of the first process.
fn standard_streams(context: &Context, note: &Container) -> Result<[Arc<Description>; 3]> {
    let system = &context.system;
    let Some(attachment) = &system.attachment else {
        let console = Description::new(LogConsole::new(), None, open::READ_WRITE);
        return Ok([console.clone(), console.clone(), console]);
    };
    if note.has_terminal() {
        let master = Terminal::create(system.clone())?;
        master.become_console();
        let terminal = Description::new(master.terminal().open(context, open::READ_WRITE)?, None, open::READ_WRITE);
        attachment.carry(Streams::Terminal { master, has_keys: note.has_input() }, system);
        return Ok([terminal.clone(), terminal.clone(), terminal]);
    }
    let ((output, its_output), (error, its_error)) = (Pipe::pair(), Pipe::pair());
    let mut input = None;
    let its_input = if note.has_input() {
        let (reads, writes) = Pipe::pair();
        input = Some(writes);
        Description::new(reads, None, open::READ_ONLY)
    } else {
        let place = walk(context, context.fs.directory(), b"/dev/null", Walk::default())?.found()?;
        Description::new(Arc::new(Simple::Null), Some(place), open::READ_ONLY)
    };
    attachment.carry(Streams::Pipes { input, output: Some(output), error: Some(error) }, system);
    Ok([
        its_input,
        Description::new(its_output, None, open::WRITE_ONLY),
        Description::new(its_error, None, open::WRITE_ONLY),
    ])
}

/// Finds the program: a path, or a name in PATH.
fn find_program(context: &Context, name: &[u8], environment: &[Vec<u8>]) -> Result<(Arc<Place>, Vec<u8>)> {
    let at = |path: Vec<u8>| {
        let place = walk(context, context.fs.directory(), &path, Walk::default())?.found()?;
        Ok((place, path))
    };
    if name.contains(&b'/') {
        return at(name.to_vec());
    }
    let variable = environment.iter().find_map(|text| text.strip_prefix(b"PATH="));
    for folder in variable.unwrap_or(PATH).split(|byte| *byte == b':') {
        let found = at([folder, b"/", name].concat());
        if found.is_ok() {
            return found;
        }
    }
    Err(Errno::ENOENT)
}

fn shown(text: &[u8]) -> &str {
    core::str::from_utf8(text).unwrap_or("?")
}

/// Waits for ever: the machine ends when the container's first process does.
pub fn rest() -> ! {
    loop {
        let _ = tessera_runtime::object::park(None);
    }
}
