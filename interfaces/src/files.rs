//! File systems: one trait for every object of theirs.

use tessera_runtime::object::Vmo;
use tessera_runtime::{Cap, InterfaceError, Plain, Transfer, TransportError, interface};

/// A file, directory, symbolic link, or what else a file system holds. A capability to a directory is a capability to all that is
/// below it, and to nothing above: `..` and `/` are no names.
#[interface]
pub trait Node {
    /// What is known of it.
    fn attributes(&self) -> Result<Attributes, FileError>;

    /// Changes some of its attributes; of a file also the size.
    fn set_attributes(&self, change: AttributeChange) -> Result<(), FileError>;

    /// What is called `name` in this directory.
    fn lookup(&self, name: &[u8]) -> Result<Cap<dyn Node>, FileError>;

    /// Makes something new in this directory. `device` is a device's number, and 0 for all else.
    fn create(
        &self,
        name: &[u8],
        kind: NodeKind,
        mode: u32,
        owner: Owner,
        device: u64,
    ) -> Result<Cap<dyn Node>, FileError>;

    /// Makes a file without a name, which [`Node::link`] can give it.
    fn create_unnamed(&self, mode: u32, owner: Owner) -> Result<Cap<dyn Node>, FileError>;

    /// Makes a symbolic link to `target` in this directory.
    fn symlink(&self, name: &[u8], target: &[u8], owner: Owner) -> Result<Cap<dyn Node>, FileError>;

    /// Gives a file of the same file system another name in this directory.
    fn link(&self, name: &[u8], to: Cap<dyn Node>) -> Result<(), FileError>;

    /// Takes a name out of this directory. A file whose last name it was lives as long as capabilities to it.
    fn unlink(&self, name: &[u8], kind: Unlink) -> Result<(), FileError>;

    /// Moves `name` from this directory to `new_name` in the directory `into` of the same file system.
    fn rename(&self, name: &[u8], into: Cap<dyn Node>, new_name: &[u8], how: Rename) -> Result<(), FileError>;

    /// Fills `into` with entries of this directory, from position `from` on (0: the first), each packed as: node number (u64), position of
    /// the next entry (u64), kind (u8, as [`NodeKind`]), bytes of the name (u8), the name; little-endian.
    #[fills]
    fn entries(&self, from: u64, into: &mut [u8]) -> Result<Entries, FileError>;

    /// Puts a symbolic link's target into `into`; answers its bytes.
    #[fills]
    fn target(&self, into: &mut [u8]) -> Result<u64, FileError>;

    /// Reads a file from byte `at` on; answers how many bytes there were, 0 at its end.
    #[fills]
    fn read(&self, at: u64, into: &mut [u8]) -> Result<u64, FileError>;

    /// Writes a file from byte `at` on; answers how many bytes were taken.
    fn write(&self, at: u64, from: &[u8]) -> Result<u64, FileError>;

    /// Writes behind the file's end, wherever that is when it happens.
    fn append(&self, from: &[u8]) -> Result<Appended, FileError>;

    /// The file's pages, to be mapped: what is written through one way is seen through the other.
    fn memory(&self) -> Result<Memory, FileError>;

    /// Makes what was written durable.
    fn synchronise(&self) -> Result<(), FileError>;

    /// Puts the value of an extended attribute into `into`; answers its bytes. An empty `into` asks for the size alone.
    fn attribute(&self, name: &[u8], into: &mut [u8]) -> Result<u64, FileError>;

    /// Sets an extended attribute.
    fn set_attribute(&self, name: &[u8], value: &[u8], how: SetAttribute) -> Result<(), FileError>;

    /// Removes an extended attribute.
    fn remove_attribute(&self, name: &[u8]) -> Result<(), FileError>;

    /// Puts the names of all extended attributes into `into`, each with a zero byte behind; answers their bytes. An empty `into` asks for the
    /// size alone.
    fn attribute_names(&self, into: &mut [u8]) -> Result<u64, FileError>;

    /// How full the file system is.
    fn statistics(&self) -> Result<FileSystemStatistics, FileError>;
}

/// What a node is. The numbers are those of Linux's `DT_` constants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub enum NodeKind {
    /// A named pipe.
    Pipe = 1,
    /// A device of characters.
    CharacterDevice = 2,
    /// A directory.
    Directory = 4,
    /// A device of blocks.
    BlockDevice = 6,
    /// A file.
    File = 8,
    /// A symbolic link.
    SymbolicLink = 10,
    /// A socket's name.
    Socket = 12,
}

/// Whose a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct Owner {
    /// The user's number.
    pub user: u32,
    /// The group's number.
    pub group: u32,
}

/// A time, counted from the beginning of 1970 (UTC).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Plain)]
pub struct Time {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What is known of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct Attributes {
    /// What it is.
    pub kind: NodeKind,
    /// Permissions: the lower 12 bits of Linux's mode.
    pub mode: u32,
    /// Whose it is.
    pub owner: Owner,
    /// Bytes.
    pub size: u64,
    /// How many names it has.
    pub links: u32,
    /// Its number, unlike that of any other node of the file system.
    pub number: u64,
    /// For a device, which one.
    pub device: u64,
    /// Units of 512 bytes that its content takes.
    pub blocks: u64,
    /// When it was last read.
    pub accessed: Time,
    /// When its content last changed.
    pub modified: Time,
    /// When its attributes last changed.
    pub changed: Time,
}

/// Which attributes are changed, and to what. Fields whose bit in `which` is not set mean nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct AttributeChange {
    /// Bits of [`Changes`].
    pub which: u32,
    /// Permissions.
    pub mode: u32,
    /// Whose it is.
    pub owner: Owner,
    /// Bytes; beyond the old end are zeros.
    pub size: u64,
    /// When it was last read.
    pub accessed: Time,
    /// When its content last changed.
    pub modified: Time,
}

/// Bits that say which attributes are changed.
#[derive(Clone, Copy, Debug)]
pub struct Changes;

impl Changes {
    /// The permissions.
    pub const MODE: u32 = 1 << 0;
    /// The user.
    pub const USER: u32 = 1 << 1;
    /// The group.
    pub const GROUP: u32 = 1 << 2;
    /// The size.
    pub const SIZE: u32 = 1 << 3;
    /// The time of the last reading.
    pub const ACCESSED: u32 = 1 << 4;
    /// The time of the last writing.
    pub const MODIFIED: u32 = 1 << 5;
    /// All that the trait knows.
    pub const ALL: u32 = (1 << 6) - 1;
}

/// What a name is to be when it is taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub enum Unlink {
    /// Anything but a directory.
    File = 0,
    /// An empty directory.
    Directory = 1,
}

/// What happens to what has the new name already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub enum Rename {
    /// It goes.
    Replace = 0,
    /// The renaming is refused.
    NoReplace = 1,
    /// The two change places.
    Exchange = 2,
}

/// Whether an extended attribute may be there before it is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub enum SetAttribute {
    /// It may or may not.
    Any = 0,
    /// It must not.
    Create = 1,
    /// It must.
    Replace = 2,
}

/// What was written behind a file's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct Appended {
    /// Where it was written.
    pub at: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Entries of a directory that were put into a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct Entries {
    /// Bytes of the buffer that are filled; 0 at the end of the directory.
    pub bytes: u32,
    /// The position from which to go on.
    pub next: u64,
}

impl tessera_runtime::transport::Fills for Entries {
    fn filled(&self) -> u64 {
        self.bytes.into()
    }
}

/// The pages of a file.
#[derive(Debug, Transfer)]
pub struct Memory {
    /// The memory that they lie in.
    pub vmo: Vmo,
    /// Where in it the file's first byte is: whole pages, in bytes.
    pub offset: u64,
}

/// How full a file system is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Plain)]
pub struct FileSystemStatistics {
    /// Linux's number for the kind of file system (`f_type` of `statfs`).
    pub magic: u64,
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u64,
    /// Blocks that are free.
    pub free_blocks: u64,
    /// Nodes there can be.
    pub nodes: u64,
    /// Nodes that are free.
    pub free_nodes: u64,
    /// Bytes of the longest name.
    pub longest_name: u32,
    /// Whether changes are refused.
    pub read_only: bool,
}

/// Why a file system refused. Named as Linux's errors, which the names in brackets are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, InterfaceError)]
pub enum FileError {
    /// There is nothing of that name (ENOENT).
    NotFound,
    /// There is something of that name (EEXIST).
    AlreadyExists,
    /// It is no directory (ENOTDIR).
    NotDirectory,
    /// It is a directory (EISDIR).
    IsDirectory,
    /// The directory is not empty (ENOTEMPTY).
    NotEmpty,
    /// The name is too long (ENAMETOOLONG).
    NameTooLong,
    /// An argument makes no sense here (EINVAL).
    InvalidArgument,
    /// The file system cannot be changed (EROFS).
    ReadOnly,
    /// The file system is full (ENOSPC).
    NoSpace,
    /// The client has as much as it may have (EDQUOT).
    LimitReached,
    /// The other node is of another file system (EXDEV).
    CrossDevice,
    /// The file would be too large (EFBIG).
    TooLarge,
    /// The node has as many names as it can have (EMLINK).
    TooManyLinks,
    /// The client may not do this (EPERM).
    NotPermitted,
    /// The node does not do this (EOPNOTSUPP).
    NotSupported,
    /// There is no extended attribute of that name (ENODATA).
    NoAttribute,
    /// The buffer is too small (ERANGE).
    BufferTooSmall,
    /// The device below could not do it, or what it holds makes no sense (EIO).
    Device,
    /// The node is used in a way that forbids this (EBUSY).
    Busy,
    /// The node is gone (ESTALE).
    Stale,
    /// The call did not reach the object, or its answer did not come back.
    Transport(TransportError),
}
