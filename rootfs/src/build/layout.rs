//! Writes a tree as an EROFS image: the superblock, then all inodes with what belongs inside their blocks, then the
//! blocks of large directories, then the contents of files, each file from a page of its own.
//!
//! All inodes are extended ones. Link targets and directories of less than a block follow their inode; contents of
//! regular files never do, so that they can be mapped.

use std::collections::HashMap;
use std::io::{self, BufWriter, Read, Seek, Write};

use super::tree::{Content, Node, NodeId, Tree};
use super::{Blob, Spool};
use crate::format::{
    BLOCK_BITS, DIRENT, EXTENDED_INODE, FORMAT_EXTENDED, LAYOUT_INLINE, LAYOUT_PLAIN, MAGIC, SLOT, SUPER_LENGTH,
    SUPER_OFFSET, XATTR_ENTRY, XATTR_HEAD, XATTR_PREFIXES,
};
use crate::{Kind, NodeNumber, PAGE};

/// `feature_compat`: the block of the superblock has a checksum.
const COMPATIBLE_CHECKSUM: u32 = 1;
/// `feature_compat`: the times of extended inodes are times of modification.
const COMPATIBLE_MTIME: u32 = 2;

/// Writes the image of `tree`, whose contents are in `spool`, to `out`, and answers its length in bytes.
///
/// Errors: those of the spool and of `out`; `InvalidInput` for what the format cannot hold.
pub fn write<F: Read + Write + Seek>(tree: &Tree, spool: &mut Spool<F>, out: &mut dyn Write) -> io::Result<u64> {
    let mut plan = Plan::new(tree)?;
    let metadata = plan.metadata(tree)?;
    let mut out = BufWriter::with_capacity(1 << 20, out);
    out.write_all(&superblock(&plan))?;
    out.write_all(&metadata)?;
    for blob in &plan.contents {
        io::copy(&mut spool.open(blob)?, &mut out)?;
        pad(&mut out, blob.length)?;
    }
    out.flush()?;
    Ok(u64::from(plan.blocks) * PAGE)
}

fn pad(out: &mut dyn Write, length: u64) -> io::Result<()> {
    const ZEROES: [u8; PAGE as usize] = [0; PAGE as usize];
    let missing = length.next_multiple_of(PAGE) - length;
    out.write_all(&ZEROES[..missing as usize])
}

fn too_large(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what} is too large for a root image"))
}

/// Where an inode and its data go.
struct Place {
    node: NodeId,
    /// Byte offset in the image, a multiple of `SLOT`.
    offset: u64,
    links: u32,
    attributes: Vec<u8>,
    data: Data,
}

enum Data {
    None,
    /// Follows the inode.
    Inline(Vec<u8>),
    /// Blocks of a directory, in the metadata; the first one's number in the image.
    Blocks(u32, Vec<u8>),
    /// A file's contents: the first block's number in the image, and the length.
    File(u32, u64),
    Device(u32),
}

struct Plan {
    places: Vec<Place>,
    /// Contents in the order in which they are written; equal ranges of the spool once.
    contents: Vec<Blob>,
    metadata_blocks: u32,
    blocks: u32,
}

impl Plan {
    fn new(tree: &Tree) -> io::Result<Self> {
        let (order, parents) = order(tree);
        let mut places = Vec::with_capacity(order.len());
        // Node numbers count from the start of the image, so that none is 0: programs take that inode number for none.
        let mut cursor = PAGE;
        let mut links: HashMap<NodeId, u32> = HashMap::new();
        for id in &order {
            for (_, child) in tree.children(*id) {
                *links.entry(child).or_default() += 1;
            }
        }
        for id in &order {
            let node = tree.node(*id);
            let attributes = attributes(node)?;
            let inline = match &node.content {
                Content::Link(target) => target.len() as u64,
                Content::Directory(_) => directory_length(tree, *id),
                _ => 0,
            };
            let head = EXTENDED_INODE + attributes.len() as u64;
            let inline = if head + inline <= PAGE && inline < PAGE { inline } else { 0 };
            let needed = head + inline;
            // Nothing that fits into a block crosses into the next.
            if cursor % PAGE + needed.min(PAGE) > PAGE {
                cursor = cursor.next_multiple_of(PAGE);
            }
            let links = match node.kind() {
                // Its own `.`, its name (the root counts itself), and the `..` of each directory in it.
                Kind::Directory => {
                    2 + tree.children(*id).filter(|(_, child)| tree.node(*child).kind() == Kind::Directory).count()
                        as u32
                }
                _ => links.get(id).copied().unwrap_or(1),
            };
            let data = if inline > 0 { Data::Inline(Vec::new()) } else { Data::None };
            places.push(Place { node: *id, offset: cursor, links, attributes, data });
            cursor = (cursor + needed).next_multiple_of(SLOT);
        }
        let numbers: HashMap<NodeId, NodeNumber> =
            places.iter().map(|place| (place.node, NodeNumber(place.offset / SLOT))).collect();
        // The superblock's block comes first; then inodes, then large directories, then contents.
        let mut next = u32::try_from(cursor.div_ceil(PAGE)).map_err(|_| too_large("the tree"))?;
        for place in &mut places {
            place.data = match &tree.node(place.node).content {
                Content::Directory(_) => {
                    let parent = parents.get(&place.node).copied().unwrap_or(tree.root());
                    let bytes = directory(tree, place.node, parent, &numbers);
                    match place.data {
                        Data::Inline(_) => Data::Inline(bytes),
                        _ => {
                            let first = next;
                            next = advance(next, bytes.len() as u64)?;
                            Data::Blocks(first, bytes)
                        }
                    }
                }
                Content::Link(target) if matches!(place.data, Data::Inline(_)) => Data::Inline(target.clone()),
                Content::Link(_) => return Err(too_large("the target of a symbolic link")),
                Content::Special(_, major, minor) => {
                    Data::Device((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12))
                }
                Content::Regular(_) => Data::None,
            };
        }
        let metadata_blocks = next - 1;
        let mut contents = Vec::new();
        let mut known: HashMap<(u64, u64), u32> = HashMap::new();
        for place in &mut places {
            let Content::Regular(blob) = tree.node(place.node).content else { continue };
            if blob.length == 0 {
                continue;
            }
            let first = match known.get(&(blob.offset, blob.length)) {
                Some(first) => *first,
                None => {
                    let first = next;
                    known.insert((blob.offset, blob.length), first);
                    contents.push(blob);
                    next = advance(next, blob.length)?;
                    first
                }
            };
            place.data = Data::File(first, blob.length);
        }
        Ok(Self { places, contents, metadata_blocks, blocks: next })
    }

    /// The metadata's blocks: inodes with what follows them, then large directories.
    fn metadata(&mut self, tree: &Tree) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (u64::from(self.metadata_blocks) * PAGE) as usize];
        let mut put = |offset: u64, part: &[u8]| {
            let start = (offset - PAGE) as usize;
            bytes[start..start + part.len()].copy_from_slice(part);
        };
        for (index, place) in self.places.iter().enumerate() {
            put(place.offset, &inode(tree.node(place.node), place, index));
            let after = place.offset + EXTENDED_INODE;
            put(after, &place.attributes);
            match &place.data {
                Data::Inline(data) => put(after + place.attributes.len() as u64, data),
                Data::Blocks(first, data) => put(u64::from(*first) * PAGE, data),
                _ => {}
            }
        }
        Ok(bytes)
    }
}

fn advance(block: u32, length: u64) -> io::Result<u32> {
    let blocks = u32::try_from(length.div_ceil(PAGE)).ok();
    blocks.and_then(|blocks| block.checked_add(blocks)).ok_or_else(|| too_large("the image"))
}

/// All nodes, parents before children, siblings by name, each once; and the parents of directories.
fn order(tree: &Tree) -> (Vec<NodeId>, HashMap<NodeId, NodeId>) {
    let mut order = Vec::new();
    let mut parents = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    let mut stack = vec![tree.root()];
    while let Some(id) = stack.pop() {
        if !seen.insert(id) {
            continue;
        }
        order.push(id);
        let children: Vec<NodeId> = tree.children(id).map(|(_, child)| child).collect();
        for child in children.into_iter().rev() {
            if tree.node(child).kind() == Kind::Directory {
                parents.insert(child, id);
            }
            stack.push(child);
        }
    }
    (order, parents)
}

/// The names of a directory with its `.` and `..`, in the order of the format.
fn names(tree: &Tree, id: NodeId, parent: NodeId) -> Vec<(&[u8], NodeId)> {
    let mut names: Vec<(&[u8], NodeId)> = vec![(b".", id), (b"..", parent)];
    names.extend(tree.children(id));
    names.sort_by_key(|(name, _)| *name);
    names
}

/// Divides names into blocks: how many names each holds.
fn block_counts<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<(usize, u64)> {
    let mut blocks: Vec<(usize, u64)> = Vec::new();
    for name in names {
        let needed = DIRENT + name.len() as u64;
        match blocks.last_mut() {
            Some((count, used)) if *used + needed <= PAGE => {
                *count += 1;
                *used += needed;
            }
            _ => blocks.push((1, needed)),
        }
    }
    blocks
}

fn directory_length(tree: &Tree, id: NodeId) -> u64 {
    let names = names(tree, id, id);
    let blocks = block_counts(names.iter().map(|(name, _)| *name));
    let whole = (blocks.len() as u64 - 1) * PAGE;
    whole + blocks.last().map_or(0, |(_, used)| *used)
}

fn directory(tree: &Tree, id: NodeId, parent: NodeId, numbers: &HashMap<NodeId, NodeNumber>) -> Vec<u8> {
    let names = names(tree, id, parent);
    let blocks = block_counts(names.iter().map(|(name, _)| *name));
    let mut bytes = Vec::new();
    let mut names = names.as_slice();
    for (count, _) in blocks {
        let (these, rest) = names.split_at(count);
        names = rest;
        bytes.resize(bytes.len().next_multiple_of(PAGE as usize), 0);
        let mut name_offset = these.len() as u64 * DIRENT;
        for (name, node) in these {
            bytes.extend_from_slice(&numbers[node].0.to_le_bytes());
            bytes.extend_from_slice(&(name_offset as u16).to_le_bytes());
            bytes.extend_from_slice(&[tree.node(*node).kind().entry(), 0]);
            name_offset += name.len() as u64;
        }
        for (name, _) in these {
            bytes.extend_from_slice(name);
        }
    }
    bytes
}

/// The extended attributes as they follow an inode; empty if there are none.
fn attributes(node: &Node) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (name, value) in &node.metadata.attributes {
        // Attributes of other classes mean nothing outside of the system that made them.
        let Some((index, rest)) = XATTR_PREFIXES
            .iter()
            .find_map(|(index, prefix)| Some((*index, name.strip_prefix(*prefix)?)))
            .filter(|(index, rest)| matches!(index, 2 | 3) == rest.is_empty())
        else {
            continue;
        };
        let name_length = u8::try_from(rest.len()).map_err(|_| too_large("the name of an extended attribute"))?;
        let value_length = u16::try_from(value.len()).map_err(|_| too_large("an extended attribute"))?;
        bytes.extend_from_slice(&[name_length, index]);
        bytes.extend_from_slice(&value_length.to_le_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(XATTR_ENTRY as usize), 0);
    }
    if bytes.is_empty() {
        return Ok(bytes);
    }
    // The kernel's own limit for all attributes of a file in one call; the format's is four times that.
    if bytes.len() > 1 << 16 {
        return Err(too_large("the extended attributes of a file"));
    }
    let mut head = vec![0; XATTR_HEAD as usize];
    head.append(&mut bytes);
    Ok(head)
}

fn inode(node: &Node, place: &Place, index: usize) -> [u8; EXTENDED_INODE as usize] {
    let metadata = &node.metadata;
    let layout = if matches!(place.data, Data::Inline(_)) { LAYOUT_INLINE } else { LAYOUT_PLAIN };
    let (size, union) = match &place.data {
        Data::None => (0, 0),
        Data::Inline(data) => (data.len() as u64, 0),
        Data::Blocks(first, data) => (data.len() as u64, *first),
        Data::File(first, length) => (*length, *first),
        Data::Device(number) => (0, *number),
    };
    // Names an attribute area of so many 4-byte units behind its head, and one for the head.
    let units = match place.attributes.len() as u64 {
        0 => 0,
        length => ((length - XATTR_HEAD) / XATTR_ENTRY + 1) as u16,
    };
    let mut bytes = [0; EXTENDED_INODE as usize];
    let mut put = |offset: usize, part: &[u8]| bytes[offset..offset + part.len()].copy_from_slice(part);
    put(0, &(FORMAT_EXTENDED | layout << 1).to_le_bytes());
    put(2, &units.to_le_bytes());
    put(4, &(node.kind().mode() | metadata.permissions & 0o7777).to_le_bytes());
    put(8, &size.to_le_bytes());
    put(16, &union.to_le_bytes());
    put(20, &(index as u32 + 1).to_le_bytes());
    put(24, &metadata.uid.to_le_bytes());
    put(28, &metadata.gid.to_le_bytes());
    put(32, &metadata.mtime.to_le_bytes());
    put(40, &metadata.mtime_nanoseconds.min(999_999_999).to_le_bytes());
    put(44, &place.links.to_le_bytes());
    bytes
}

/// The first block.
fn superblock(plan: &Plan) -> Vec<u8> {
    let mut block = vec![0; PAGE as usize];
    let base = SUPER_OFFSET as usize;
    let mut put = |offset: usize, part: &[u8]| block[base + offset..base + offset + part.len()].copy_from_slice(part);
    put(0, &MAGIC.to_le_bytes());
    put(8, &(COMPATIBLE_CHECKSUM | COMPATIBLE_MTIME).to_le_bytes());
    put(12, &[BLOCK_BITS]);
    // The root is the first inode, in the block after this one.
    put(14, &((PAGE / SLOT) as u16).to_le_bytes());
    put(16, &(plan.places.len() as u64).to_le_bytes());
    put(36, &plan.blocks.to_le_bytes());
    put(64, b"tessera-root");
    debug_assert!(base + SUPER_LENGTH <= block.len());
    let checksum = crc32c(&block[base..]);
    block[base + 4..base + 8].copy_from_slice(&checksum.to_le_bytes());
    block
}

/// CRC-32C with the initial value of all ones and without the final inversion, as Linux's `crc32c(~0, …)` computes it.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
        crc
    })
}
