//! The blocks of an archive that say what follows (POSIX `pax`, "ustar Interchange Format"), and the records of pax headers.

/// Bytes of a header, and what contents are padded to.
pub const BLOCK: usize = 512;

/// What a header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// Another name of a file that came before.
    Link,
    /// A symbolic link.
    Symbolic,
    /// A directory.
    Directory,
    /// Its contents are the next object's name (GNU).
    LongName,
    /// Its contents are the next object's target (GNU).
    LongTarget,
    /// Its contents are records about the next object (pax).
    Records,
    /// Something that is passed over: a device, a pipe, records about all that follows.
    Other,
}

/// A header.
#[derive(Clone, Debug)]
pub struct Header<'a> {
    /// What it announces.
    pub kind: Kind,
    /// Path, in two parts: the first is empty or goes before, with a slash between.
    pub path: (&'a [u8], &'a [u8]),
    /// What a link leads to.
    pub target: &'a [u8],
    /// Bytes of the contents.
    pub size: u64,
    /// Permissions.
    pub mode: u32,
    /// The user and the group.
    pub owner: (u32, u32),
    /// When it was modified, in seconds since 1970.
    pub modified: u64,
}

impl<'a> Header<'a> {
    /// Reads a header; none if its checksum is not right or a number is none.
    pub fn read(block: &'a [u8; BLOCK]) -> Option<Header<'a>> {
        let field = |from: usize, to: usize| block.get(from..to).unwrap_or_default();
        // The checksum counts its own field as spaces.
        let sum: u64 =
            (0..).zip(block).map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte })).sum();
        if number(field(148, 156))? != sum {
            return None;
        }
        let kind = match block.get(156)? {
            0 | b'0' | b'7' => Kind::File,
            b'1' => Kind::Link,
            b'2' => Kind::Symbolic,
            b'5' => Kind::Directory,
            b'L' => Kind::LongName,
            b'K' => Kind::LongTarget,
            b'x' => Kind::Records,
            _ => Kind::Other,
        };
        // GNU's own format has other fields where ustar has the prefix.
        let prefix = if field(257, 263) == b"ustar\0" { text(field(345, 500)) } else { &[] };
        Some(Header {
            kind,
            path: (prefix, text(field(0, 100))),
            target: text(field(157, 257)),
            size: number(field(124, 136))?,
            mode: number(field(100, 108))? as u32,
            owner: (number(field(108, 116))? as u32, number(field(116, 124))? as u32),
            modified: number(field(136, 148))?,
        })
    }
}

/// What stands before the first NUL.
pub fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number: octal digits, or GNU's binary one with the highest bit set. An empty field is 0.
fn number(field: &[u8]) -> Option<u64> {
    let add = |base: u64| move |sum: u64, digit: u64| sum.checked_mul(base)?.checked_add(digit);
    if let Some((first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        let begun = Some(u64::from(first & 0x7f));
        return rest.iter().fold(begun, |sum, byte| add(256)(sum?, (*byte).into()));
    }
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
        add(8)(sum, digit.into())
    })
}

/// The value of `key` in the records of a pax header: lines `LENGTH KEY=VALUE`, each of so many bytes. The last one counts.
pub fn record<'a>(records: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut rest = records;
    let mut found = None;
    loop {
        let Some(space) = rest.iter().position(|byte| *byte == b' ') else { return found };
        let (length, _) = rest.split_at_checked(space)?;
        let length: usize = core::str::from_utf8(length).ok()?.parse().ok()?;
        let (line, after) = rest.split_at_checked(length)?;
        let line = line.get(space.checked_add(1)?..)?.strip_suffix(b"\n")?;
        let equals = line.iter().position(|byte| *byte == b'=')?;
        let (name, value) = line.split_at_checked(equals)?;
        if name == key {
            found = value.get(1..);
        }
        rest = after;
    }
}
