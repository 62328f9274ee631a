//! A 9P server in memory: as much as the driver asks of one, written from the protocol and not from the driver.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tessera_interfaces::FileError;
use tessera_virtio_9p::Exchange;

const ENOENT: u32 = 2;
const EIO: u32 = 5;
const EBADF: u32 = 9;
const EEXIST: u32 = 17;
const ENOTDIR: u32 = 20;
const ENOTEMPTY: u32 = 39;
const ENODATA: u32 = 61;
const EOPNOTSUPP: u32 = 95;

#[derive(Clone, Default)]
pub struct Node {
    pub mode: u32,
    pub content: Vec<u8>,
    pub names: BTreeMap<Vec<u8>, usize>,
    pub extended: BTreeMap<Vec<u8>, Vec<u8>>,
    pub owner: (u32, u32),
    pub modified: (u64, u64),
    pub links: u64,
}

#[derive(Clone)]
enum Fid {
    File { node: usize, is_open: bool },
    Attribute { bytes: Vec<u8> },
    NewAttribute { node: usize, name: Vec<u8>, size: usize, bytes: Vec<u8> },
}

#[derive(Default)]
pub struct State {
    pub nodes: Vec<Node>,
    fids: BTreeMap<u32, Fid>,
    longest: u32,
    /// Requests that came.
    pub count: usize,
}

#[derive(Clone)]
pub struct Server(pub Arc<Mutex<State>>);

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (now, later) = self.0.split_at(count);
        self.0 = later;
        now
    }
    fn number(&mut self, bytes: usize) -> u64 {
        self.bytes(bytes).iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
    }
    fn u32(&mut self) -> u32 {
        self.number(4) as u32
    }
    fn text(&mut self) -> Vec<u8> {
        let count = self.number(2) as usize;
        self.bytes(count).to_vec()
    }
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes(), bytes].concat()
}

impl Server {
    pub fn new() -> Server {
        let root = Node { mode: 0o40755, links: 2, ..Node::default() };
        Server(Arc::new(Mutex::new(State { nodes: vec![root], ..State::default() })))
    }

    pub fn fids(&self) -> usize {
        self.0.lock().unwrap().fids.len()
    }
}

impl Exchange for Server {
    fn exchange(&mut self, request: &[u8]) -> Result<Vec<u8>, FileError> {
        let mut state = self.0.lock().unwrap();
        let mut reader = Reader(request);
        assert_eq!(reader.u32() as usize, request.len());
        let (kind, tag) = (reader.number(1) as u8, reader.bytes(2));
        state.count += 1;
        let (kind, contents) = match state.serve(kind, &mut reader) {
            Ok(contents) => (kind + 1, contents),
            Err(number) => (7, number.to_le_bytes().to_vec()),
        };
        assert!(reader.0.is_empty(), "request {kind} is longer than it should be");
        let answer = [&(contents.len() as u32 + 7).to_le_bytes()[..], &[kind], tag, &contents].concat();
        assert!(answer.len() <= state.longest as usize);
        Ok(answer)
    }
}

impl State {
    fn identity(&self, node: usize) -> Vec<u8> {
        let kind = (self.nodes[node].mode >> 12 & 4) as u8 * 0x20;
        [&[kind, 0, 0, 0, 0][..], &(node as u64 + 100).to_le_bytes()].concat()
    }

    fn node(&self, fid: u32) -> Result<usize, u32> {
        match self.fids.get(&fid) {
            Some(Fid::File { node, .. }) => Ok(*node),
            _ => Err(EBADF),
        }
    }

    fn add(&mut self, parent: usize, name: Vec<u8>, node: Node) -> Result<usize, u32> {
        if self.nodes[parent].names.contains_key(&name) {
            return Err(EEXIST);
        }
        self.nodes.push(Node { links: 1, ..node });
        let number = self.nodes.len() - 1;
        self.nodes[parent].names.insert(name, number);
        Ok(number)
    }

    fn serve(&mut self, kind: u8, reader: &mut Reader) -> Result<Vec<u8>, u32> {
        let done = Ok(Vec::new());
        match kind {
            100 => {
                // Less than is proposed, so that large reads and writes take several messages.
                self.longest = reader.u32().min(8192);
                assert_eq!(reader.text(), b"9P2000.L");
                return Ok([&self.longest.to_le_bytes()[..], &text(b"9P2000.L")].concat());
            }
            104 => {
                let fid = reader.u32();
                let _ = (reader.u32(), reader.text(), reader.text(), reader.u32());
                self.fids.insert(fid, Fid::File { node: 0, is_open: false });
                return Ok(self.identity(0));
            }
            110 => {
                let (from, to, count) = (reader.u32(), reader.u32(), reader.number(2));
                let names: Vec<_> = (0..count).map(|_| reader.text()).collect();
                let Some(Fid::File { node, is_open: false }) = self.fids.get(&from).cloned() else {
                    return Err(EBADF);
                };
                if self.fids.contains_key(&to) {
                    return Err(EBADF);
                }
                let mut node = node;
                let mut answer = (count as u16).to_le_bytes().to_vec();
                for name in names {
                    if self.nodes[node].mode >> 12 != 4 {
                        return Err(ENOTDIR);
                    }
                    node = *self.nodes[node].names.get(&name).ok_or(ENOENT)?;
                    answer.extend(self.identity(node));
                }
                self.fids.insert(to, Fid::File { node, is_open: false });
                return Ok(answer);
            }
            12 => {
                let (fid, _flags) = (reader.u32(), reader.u32());
                let node = self.node(fid)?;
                self.fids.insert(fid, Fid::File { node, is_open: true });
                return Ok([self.identity(node), vec![0; 4]].concat());
            }
            14 => {
                let (fid, name) = (reader.u32(), reader.text());
                let (_flags, mode, group) = (reader.u32(), reader.u32(), reader.u32());
                let parent = self.node(fid)?;
                let made = Node { mode: mode & 0o7777 | 0o100000, owner: (7, group), ..Node::default() };
                let node = self.add(parent, name, made)?;
                self.fids.insert(fid, Fid::File { node, is_open: true });
                return Ok([self.identity(node), vec![0; 4]].concat());
            }
            16 | 18 | 72 => {
                let (fid, name) = (reader.u32(), reader.text());
                let parent = self.node(fid)?;
                let made = match kind {
                    16 => Node { mode: 0o120777, content: reader.text(), ..Node::default() },
                    18 => {
                        let mode = reader.u32();
                        let _ = (reader.u32(), reader.u32());
                        Node { mode, ..Node::default() }
                    }
                    _ => Node { mode: reader.u32() & 0o7777 | 0o40000, ..Node::default() },
                };
                let node = self.add(parent, name, Node { owner: (7, reader.u32()), ..made })?;
                return Ok(self.identity(node));
            }
            22 => return Ok(text(&self.nodes[self.node(reader.u32())?].content)),
            24 => {
                let (fid, _mask) = (reader.u32(), reader.number(8));
                let number = self.node(fid)?;
                let node = &self.nodes[number];
                let mut answer = [&0x7ff_u64.to_le_bytes()[..], &self.identity(number)].concat();
                for value in [node.mode, node.owner.0, node.owner.1] {
                    answer.extend(value.to_le_bytes());
                }
                let (size, time) = (node.content.len() as u64, node.modified);
                let words = [node.links, 0, size, 4096, size.div_ceil(512), 1, 2, time.0, time.1, 3, 4, 0, 0, 0, 0];
                words.iter().for_each(|word| answer.extend(word.to_le_bytes()));
                return Ok(answer);
            }
            26 => {
                let (fid, valid, mode) = (reader.u32(), reader.u32(), reader.u32());
                let (user, group, size) = (reader.u32(), reader.u32(), reader.number(8));
                let times = [(); 4].map(|()| reader.number(8));
                let number = self.node(fid)?;
                let node = &mut self.nodes[number];
                if valid & 1 != 0 {
                    node.mode = node.mode & !0o7777 | mode;
                }
                if valid & 2 != 0 {
                    node.owner.0 = user;
                }
                if valid & 4 != 0 {
                    node.owner.1 = group;
                }
                if valid & 8 != 0 {
                    node.content.resize(size as usize, 0);
                }
                if valid & 0x100 != 0 {
                    node.modified = (times[2], times[3]);
                }
            }
            30 => {
                let (fid, new, name) = (reader.u32(), reader.u32(), reader.text());
                let extended = &self.nodes[self.node(fid)?].extended;
                let bytes = if name.is_empty() {
                    extended.keys().flat_map(|name| [&name[..], &[0]].concat()).collect()
                } else {
                    extended.get(&name).cloned().ok_or(ENODATA)?
                };
                let answer = (bytes.len() as u64).to_le_bytes().to_vec();
                self.fids.insert(new, Fid::Attribute { bytes });
                return Ok(answer);
            }
            32 => {
                let (fid, name, size, _flags) = (reader.u32(), reader.text(), reader.number(8), reader.u32());
                let node = self.node(fid)?;
                let made = Fid::NewAttribute { node, name, size: size as usize, bytes: Vec::new() };
                self.fids.insert(fid, made);
            }
            40 => {
                let (fid, from, most) = (reader.u32(), reader.number(8), reader.u32() as usize);
                let Some(Fid::File { node, is_open: true }) = self.fids.get(&fid).cloned() else {
                    return Err(EBADF);
                };
                let own = [(b".".to_vec(), node), (b"..".to_vec(), 0)];
                let all = own.into_iter().chain(self.nodes[node].names.clone());
                let mut data = Vec::new();
                for (position, (name, number)) in all.enumerate().skip(from as usize) {
                    let kind = (self.nodes[number].mode >> 12) as u8;
                    let next = (position as u64 + 1).to_le_bytes();
                    let entry = [&self.identity(number)[..], &next, &[kind], &text(&name)].concat();
                    if data.len() + entry.len() > most {
                        break;
                    }
                    data.extend(entry);
                }
                return Ok([&(data.len() as u32).to_le_bytes()[..], &data].concat());
            }
            50 => drop((reader.u32(), reader.u32())),
            70 => {
                let (directory, fid, name) = (reader.u32(), reader.u32(), reader.text());
                let (directory, node) = (self.node(directory)?, self.node(fid)?);
                if self.nodes[directory].names.insert(name, node).is_some() {
                    return Err(EEXIST);
                }
                self.nodes[node].links += 1;
            }
            74 => {
                let (from, name, into, new_name) = (reader.u32(), reader.text(), reader.u32(), reader.text());
                let (from, into) = (self.node(from)?, self.node(into)?);
                let node = self.nodes[from].names.remove(&name).ok_or(ENOENT)?;
                self.nodes[into].names.insert(new_name, node);
            }
            76 => {
                let (fid, name, flags) = (reader.u32(), reader.text(), reader.u32());
                let parent = self.node(fid)?;
                let node = *self.nodes[parent].names.get(&name).ok_or(ENOENT)?;
                if (flags == 0x200) != (self.nodes[node].mode >> 12 == 4) {
                    return Err(if flags == 0 { 21 } else { ENOTDIR });
                }
                if !self.nodes[node].names.is_empty() {
                    return Err(ENOTEMPTY);
                }
                self.nodes[parent].names.remove(&name);
            }
            116 => {
                let (fid, at, count) = (reader.u32(), reader.number(8) as usize, reader.u32() as usize);
                let bytes = match self.fids.get(&fid) {
                    Some(Fid::File { node, is_open: true }) => &self.nodes[*node].content,
                    Some(Fid::Attribute { bytes }) => bytes,
                    _ => return Err(EBADF),
                };
                let from = at.min(bytes.len());
                let data = &bytes[from..bytes.len().min(from + count)];
                return Ok([&(data.len() as u32).to_le_bytes()[..], data].concat());
            }
            118 => {
                let (fid, at, count) = (reader.u32(), reader.number(8) as usize, reader.u32());
                let data = reader.bytes(count as usize);
                let content = match self.fids.get_mut(&fid) {
                    Some(Fid::File { node, is_open: true }) => &mut self.nodes[*node].content,
                    Some(Fid::NewAttribute { bytes, .. }) => bytes,
                    _ => return Err(EBADF),
                };
                content.resize(content.len().max(at + data.len()), 0);
                content[at..at + data.len()].copy_from_slice(data);
                return Ok(count.to_le_bytes().to_vec());
            }
            120 => match self.fids.remove(&reader.u32()).ok_or(EBADF)? {
                Fid::NewAttribute { node, name, size, bytes } if bytes.len() == size => {
                    let extended = &mut self.nodes[node].extended;
                    if size == 0 {
                        extended.remove(&name)
                    } else {
                        extended.insert(name, bytes)
                    };
                }
                Fid::NewAttribute { .. } => return Err(EIO),
                _ => {}
            },
            8 => {
                self.node(reader.u32())?;
                let head = [0x1021994_u32, 4096].map(u32::to_le_bytes).concat();
                let words = [1000_u64, 500, 400, 30, 20, 9].map(u64::to_le_bytes).concat();
                return Ok([head, words, 255_u32.to_le_bytes().to_vec()].concat());
            }
            _ => return Err(EOPNOTSUPP),
        }
        done
    }
}
