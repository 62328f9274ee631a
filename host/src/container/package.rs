//! Images as tools hand them on: `docker save` files (`manifest.json`), and OCI layouts (`index.json`) as folders and
//! archives. Both name a configuration and the layers from the lowest up.

use std::io::{self, Read};

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::blobs::Blobs;
use super::decode::decoded;
use super::layer::{self, Flavour};
use super::root::{Building, Unpacked};
use super::settings::{Configuration, Settings};
use crate::progress::Step;

/// The platform that Tessera runs, as image tools name it.
pub const ARCHITECTURE: &str = "amd64";

const MANIFEST: &str = "manifest.json";
const INDEX: &str = "index.json";
const LAYOUT: &str = "oci-layout";

/// A part of an image: OCI "Content Descriptor".
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    pub platform: Option<Platform>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
}

/// OCI "Image Index" or "Image Manifest": which of the two it is shows in the fields it has.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    pub manifests: Option<Vec<Descriptor>>,
    pub config: Option<Descriptor>,
    pub layers: Option<Vec<Descriptor>>,
}

/// One image of a `docker save` file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Whether `blobs` are an image, and not just files.
pub fn is_image(blobs: &Blobs) -> bool {
    is_layout(blobs) || (blobs.has(MANIFEST) && saved(blobs).is_ok())
}

fn is_layout(blobs: &Blobs) -> bool {
    blobs.has(LAYOUT) && blobs.has(INDEX)
}

/// Unpacks the image.
pub fn unpack(blobs: &Blobs, step: &mut Step) -> Result<Unpacked> {
    let (configuration, layers) = if is_layout(blobs) { layout_parts(blobs)? } else { saved_parts(blobs)? };
    let configuration: Configuration = parse(&configuration, "the image's configuration")?;
    check_platform(configuration.architecture.as_deref(), configuration.os.as_deref())?;
    let contents = configuration.rootfs.as_ref().map(|layers| layers.diff_ids.clone()).unwrap_or_default();
    if !contents.is_empty() && contents.len() != layers.len() {
        let (said, found) = (contents.len(), layers.len());
        return Err(miette!("the image's configuration is of {said} layers, but the image has {found}"));
    }
    let mut building = Building::new()?;
    for (index, name) in layers.iter().enumerate() {
        step.note(&format!("layer {} of {}", index + 1, layers.len()));
        add_layer(&mut building, blobs.open(name)?, contents.get(index))
            .wrap_err_with(|| format!("layer {} of {} ({name}) cannot be taken", index + 1, layers.len()))?;
        building.tree.next_layer();
    }
    building.finish()?;
    Ok(Unpacked { building, settings: Settings::of(configuration) })
}

/// Puts one layer over those below, and checks that it is the one that was meant.
pub fn add_layer(building: &mut Building, from: impl Read, digest: Option<&String>) -> Result<()> {
    let mut hashed = Hashed { from: decoded(from).into_diagnostic()?, hash: Sha256::new() };
    layer::add(building, &mut hashed, Flavour::Layer)?;
    // A tar file may have more behind its end, which the digest covers.
    io::copy(&mut hashed, &mut io::sink()).into_diagnostic()?;
    match digest.and_then(|digest| digest.strip_prefix("sha256:")) {
        Some(wanted) if wanted != hexadecimal(&hashed.hash.finalize()) => Err(miette!(
            help = "the file was damaged on its way: save or copy the image again",
            "the layer is not the one that the configuration names (its SHA-256 differs)"
        )),
        _ => Ok(()),
    }
}

struct Hashed<R> {
    from: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(into)?;
        self.hash.update(into.get(..length).unwrap_or_default());
        Ok(length)
    }
}

pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn parse<T: DeserializeOwned>(text: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(text).into_diagnostic().wrap_err_with(|| format!("{what} cannot be read"))
}

/// Refuses an image whose programs this machine cannot run.
pub fn check_platform(architecture: Option<&str>, os: Option<&str>) -> Result<()> {
    let (architecture, os) = (architecture.unwrap_or(ARCHITECTURE), os.unwrap_or("linux"));
    if os != "linux" {
        return Err(miette!(
            help = format!("take an image for linux/{ARCHITECTURE}"),
            "the image is for {os}, not for Linux"
        ));
    }
    // Some tools name it as Linux does.
    if architecture != ARCHITECTURE && architecture != "x86_64" {
        return Err(miette!(
            help = format!("pull it with `--platform linux/{ARCHITECTURE}` and save it again"),
            "the image is for another processor: {architecture}, not {ARCHITECTURE} (x86-64)"
        ));
    }
    Ok(())
}

fn saved(blobs: &Blobs) -> Result<Vec<Saved>> {
    parse(&blobs.text(MANIFEST)?, "the image's `manifest.json`")
}

/// The configuration's text and the layers' names.
fn saved_parts(blobs: &Blobs) -> Result<(Vec<u8>, Vec<String>)> {
    let mut images = saved(blobs)?;
    let image = match images.len() {
        1 => images.remove(0),
        0 => return Err(miette!("the file has no image in it")),
        count => {
            let names: Vec<String> = images.into_iter().flat_map(|image| image.repo_tags.unwrap_or_default()).collect();
            return Err(miette!(
                help = "save the one to be run alone: docker save NAME -o FILE",
                "the file has {count} images in it: {}",
                names.join(", ")
            ));
        }
    };
    Ok((blobs.text(&image.config)?, image.layers))
}

/// The same of an OCI layout.
fn layout_parts(blobs: &Blobs) -> Result<(Vec<u8>, Vec<String>)> {
    let mut manifest: Manifest = parse(&blobs.text(INDEX)?, "the image's `index.json`")?;
    // An index may name further indexes: one level is usual, more are a circle.
    for _ in 0..4 {
        let Some(manifests) = manifest.manifests.take() else { break };
        let chosen = choose(&manifests)?;
        manifest = parse(&verified(blobs, &chosen.digest)?, "the image's manifest")?;
    }
    let (Some(configuration), Some(layers)) = (manifest.config, manifest.layers) else {
        return Err(miette!("the image's manifest names no configuration and layers"));
    };
    check_media(&configuration)?;
    let layers = layers.iter().map(|layer| blob_name(&layer.digest)).collect::<Result<_>>()?;
    Ok((verified(blobs, &configuration.digest)?, layers))
}

/// The manifest for this platform; one that names no platform will do.
pub fn choose(manifests: &[Descriptor]) -> Result<&Descriptor> {
    let fits = |descriptor: &&Descriptor| {
        descriptor
            .platform
            .as_ref()
            .is_some_and(|platform| platform.architecture == ARCHITECTURE && platform.os == "linux")
    };
    // Attestations about an image stand beside it, for a platform that is unknown.
    let mut unnamed = manifests.iter().filter(|descriptor| descriptor.platform.is_none());
    if let Some(found) = manifests.iter().find(fits) {
        return Ok(found);
    }
    match (unnamed.next(), unnamed.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(miette!(
            help = "copy the one to be run into a layout of its own, as with `skopeo copy`",
            "there are several images in it"
        )),
        (None, _) => {
            let platforms: Vec<String> = manifests
                .iter()
                .filter_map(|descriptor| descriptor.platform.as_ref())
                .filter(|platform| platform.os != "unknown")
                .map(|platform| format!("{}/{}", platform.os, platform.architecture))
                .collect();
            Err(miette!(
                help = format!("Tessera runs images for linux/{ARCHITECTURE}: ask the image's makers for one"),
                "the image is for other processors: it has {}",
                if platforms.is_empty() { "none at all".to_owned() } else { platforms.join(", ") }
            ))
        }
    }
}

/// Refuses what is packaged as an image and is none, such as a Helm chart.
pub fn check_media(configuration: &Descriptor) -> Result<()> {
    let media = configuration.media_type.as_str();
    let is_image = media.is_empty() || media.contains("image.config") || media.contains("container.image");
    if is_image { Ok(()) } else { Err(miette!("it is no container image, but something else ({media})")) }
}

/// The file of a blob. A digest comes from the image and is checked before it becomes a path.
pub fn blob_name(digest: &str) -> Result<String> {
    Ok(format!("blobs/sha256/{}", sha256(digest)?))
}

/// The digits of a digest.
pub fn sha256(digest: &str) -> Result<&str> {
    let digits = digest.strip_prefix("sha256:").unwrap_or_default();
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return Err(miette!("`{digest}` is not a SHA-256 digest"));
    }
    Ok(digits)
}

/// A blob that is a text, and the one that its digest names.
fn verified(blobs: &Blobs, digest: &str) -> Result<Vec<u8>> {
    let text = blobs.text(&blob_name(digest)?)?;
    check_digest(&text, digest)?;
    Ok(text)
}

/// Refuses bytes that are not those of the digest.
pub fn check_digest(bytes: &[u8], digest: &str) -> Result<()> {
    if hexadecimal(&Sha256::digest(bytes)) == sha256(digest)? {
        return Ok(());
    }
    Err(miette!(help = "fetch or copy the image again", "a part of the image is damaged: it is not `{digest}`"))
}

#[cfg(test)]
#[path = "package_tests.rs"]
mod tests;
