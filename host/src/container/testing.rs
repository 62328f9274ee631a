//! Makes tar files, images and programs for the tests.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::package::hexadecimal;
use super::root::Building;

/// A tar file under construction.
pub struct Tar(Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub fn file(self, path: &str, contents: &[u8], mode: u32) -> Self {
        self.entry(path, EntryType::Regular, "", contents, mode)
    }

    pub fn directory(self, path: &str) -> Self {
        self.entry(path, EntryType::Directory, "", b"", 0o755)
    }

    pub fn link(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Symlink, target, b"", 0o777)
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Link, target, b"", 0o644)
    }

    /// Any entry, with a name that is written as it is.
    pub fn entry(mut self, path: &str, kind: EntryType, target: &str, contents: &[u8], mode: u32) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(contents.len() as u64);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        self.0.append(&header, contents).unwrap();
        self
    }

    /// Extended headers (PAX) for the next entry.
    pub fn extensions(mut self, extensions: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(extensions.iter().copied()).unwrap();
        self
    }

    pub fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// An x86-64 program of nothing but headers.
pub fn program(machine: u16, interpreter: Option<&str>) -> Vec<u8> {
    let mut file = vec![0u8; 64 + 56];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |offset: usize, bytes: &[u8]| file[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(16, &2u16.to_le_bytes());
    put(18, &machine.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &1u16.to_le_bytes());
    let name = interpreter.unwrap_or_default();
    put(64, &(if interpreter.is_some() { 3u32 } else { 1 }).to_le_bytes());
    put(72, &120u64.to_le_bytes());
    put(96, &(name.len() as u64 + 1).to_le_bytes());
    file.extend_from_slice(name.as_bytes());
    file.push(0);
    file
}

/// The number of x86-64, and of another machine.
pub const X86_64: u16 = 62;
pub const AARCH64: u16 = 183;

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hexadecimal(&Sha256::digest(bytes)))
}

/// An image's configuration for these layers.
pub fn configuration(architecture: &str, layers: &[Vec<u8>]) -> Value {
    let contents: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Cmd": ["/bin/program"], "Env": ["GREETING=hello"], "WorkingDir": "/srv" },
        "rootfs": { "type": "layers", "diff_ids": contents },
    })
}

/// What `docker save` writes.
pub fn saved(configuration: &Value, layers: &[Vec<u8>]) -> Vec<u8> {
    let names: Vec<String> = (0..layers.len()).map(|index| format!("{index}/layer.tar")).collect();
    let manifest = json!([{ "Config": "config.json", "RepoTags": ["test:latest"], "Layers": names }]);
    let mut tar = Tar::new().file("manifest.json", manifest.to_string().as_bytes(), 0o644);
    tar = tar.file("config.json", configuration.to_string().as_bytes(), 0o644);
    for (name, layer) in names.iter().zip(layers) {
        tar = tar.file(name, layer, 0o644);
    }
    tar.finish()
}

/// An OCI layout: its files by name. `packed` are the layers as they are kept.
pub fn layout(configuration: &Value, packed: &[Vec<u8>]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::from([("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())]);
    let mut blob = |bytes: &[u8], media: &str| {
        let digest = digest(bytes);
        files.insert(format!("blobs/{}", digest.replace(':', "/")), bytes.to_vec());
        json!({ "mediaType": media, "digest": digest, "size": bytes.len() })
    };
    let layers: Vec<Value> =
        packed.iter().map(|layer| blob(layer, "application/vnd.oci.image.layer.v1.tar+gzip")).collect();
    let text = configuration.to_string();
    let configuration = blob(text.as_bytes(), "application/vnd.oci.image.config.v1+json");
    let manifest = json!({ "schemaVersion": 2, "config": configuration, "layers": layers }).to_string();
    let manifest = blob(manifest.as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    files.insert("index.json".to_owned(), index.to_string().into_bytes());
    files
}

pub fn write_files(folder: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (name, contents) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }
}

/// All paths of a tree.
pub fn paths(building: &Building) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![(building.tree.root(), String::new())];
    while let Some((id, path)) = waiting.pop() {
        for (name, child) in building.tree.children(id) {
            let path = format!("{path}/{}", String::from_utf8_lossy(name));
            found.push(path.clone());
            waiting.push((child, path));
        }
    }
    found.sort();
    found
}

/// A report with its causes and its mend, as one text.
pub fn told(report: &miette::Report) -> String {
    let causes: Vec<String> = report.chain().map(ToString::to_string).collect();
    let help = report.help().map(|help| help.to_string()).unwrap_or_default();
    format!("{}; {help}", causes.join(": "))
}
