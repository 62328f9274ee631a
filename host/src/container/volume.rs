//! Folders of this machine in a container: `-v ./data:/data`, `-v ./site:/var/www/html:ro`, `-v ./site:/srv:copy`.
//!
//! A volume is live in both directions: QEMU serves the folder over virtio 9P, and a driver of the guest gives the personality a
//! capability to its root. Read-only ones cannot be written to from the guest, which QEMU sees to as well. A copy is taken into the root image
//! as it is at the start, in place of what the image has there: the guest maps it like all other files, and there is no way back.

use std::path::PathBuf;
use std::str::FromStr;

use miette::{IntoDiagnostic, Result, WrapErr, miette};

use super::folder;
use super::root::Building;
use crate::devices::Device;
use crate::progress::Step;

/// One folder or file of this machine, and its place in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub host: PathBuf,
    /// An absolute path.
    pub guest: String,
    pub mode: Mode,
}

/// How a volume is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Live,
    ReadOnly,
    Copy,
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        const WANTED: &str = "a volume is HOST:GUEST, such as ./data:/data, with `:ro` behind it if it is to be read only, or `:copy` \
            if the container is to have a copy";
        let (rest, mode) = match text.rsplit_once(':') {
            Some((rest, "ro")) => (rest, Mode::ReadOnly),
            Some((rest, "rw")) => (rest, Mode::Live),
            Some((rest, "copy")) => (rest, Mode::Copy),
            _ => (text, Mode::Live),
        };
        let (host, guest) = rest.rsplit_once(':').ok_or_else(|| format!("`{text}` is no volume: {WANTED}"))?;
        let is_inside = !guest.split('/').any(|part| part == "..") && !guest.trim_matches('/').is_empty();
        if host.is_empty() || !guest.starts_with('/') || !is_inside {
            return Err(format!(
                "`{text}` is no volume: the second path is one of the container, from `/` on; {WANTED}"
            ));
        }
        Ok(Self { host: host.into(), guest: guest.to_owned(), mode })
    }
}

impl Volume {
    pub fn is_read_only(&self) -> bool {
        self.mode == Mode::ReadOnly
    }

    /// The device by which the guest reaches it.
    pub fn device(&self) -> Result<Device> {
        let told = || format!("{} cannot be a volume", self.host.display());
        // The folder behind a link on the command line is meant, not the link.
        let folder = self.host.canonicalize().into_diagnostic().wrap_err_with(told)?;
        Ok(Device::Folder { path: folder, read_only: self.is_read_only() })
    }
}

/// Parts volumes into live ones and copies. A single file is a copy, if it is not to be written to.
pub fn part(volumes: &[Volume]) -> Result<(Vec<&Volume>, Vec<&Volume>)> {
    let is_wrong = |volume: &&Volume| volume.mode == Mode::Live && volume.host.is_file();
    if let Some(volume) = volumes.iter().find(is_wrong) {
        return Err(miette!(
            help = "give the folder that it is in, or add `:ro`",
            "{} is a file, and only folders can be written to by a container",
            volume.host.display()
        ));
    }
    let is_live = |volume: &&Volume| volume.mode != Mode::Copy && !volume.host.is_file();
    Ok(volumes.iter().partition(is_live))
}

/// Takes copies of the volumes' files, in place of what is there.
pub fn add(building: &mut Building, volumes: &[&Volume], step: &mut Step) -> Result<()> {
    for Volume { host, guest, .. } in volumes {
        let told = || format!("{} cannot be taken to {guest}", host.display());
        building.tree.next_layer();
        building.tree.hide(guest.as_bytes()).map_err(|error| miette!("{error}")).wrap_err_with(told)?;
        // The folder behind a link on the command line is meant, not the link.
        let host = host.canonicalize().map_err(|error| miette!("{error}")).wrap_err_with(told)?;
        folder::add(building, &host, guest.as_bytes(), step).wrap_err_with(told)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::paths;
    use super::*;
    use std::fs;

    #[test]
    fn volumes_are_read() {
        for (text, host, mode) in [
            ("./a:b:/srv/www:ro", "./a:b", Mode::ReadOnly),
            ("a:/srv/www", "a", Mode::Live),
            ("a:/srv/www:rw", "a", Mode::Live),
            ("a:/srv/www:copy", "a", Mode::Copy),
        ] {
            let volume: Volume = text.parse().unwrap();
            assert_eq!(volume, Volume { host: host.into(), guest: "/srv/www".to_owned(), mode });
        }
        for text in ["/b", "/b:ro", "a:b:ro", "a:/../b:ro", "a:/:ro", ":/b:ro", "a:/b:x"] {
            let told = text.parse::<Volume>().unwrap_err();
            assert!(told.contains("is no volume"), "{told}");
        }
    }

    #[test]
    fn a_file_is_copied_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "x").unwrap();
        let volume = |text: &str| -> Volume { format!("{}/{text}", folder.path().display()).parse().unwrap() };
        let volumes = [volume(":/a"), volume("file:/b:ro"), volume(":/c:copy"), volume(":/d:ro")];
        let (live, copies) = part(&volumes).unwrap();
        let guests = |volumes: &[&Volume]| volumes.iter().map(|volume| volume.guest.clone()).collect::<Vec<_>>();
        assert_eq!((guests(&live), guests(&copies)), (vec!["/a".into(), "/d".into()], vec!["/b".into(), "/c".into()]));
        assert!(part(&[volume("file:/b")]).unwrap_err().to_string().contains("only folders"));
    }

    #[test]
    fn a_copy_takes_the_place_of_what_the_image_has() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("site")).unwrap();
        fs::write(folder.path().join("site/new"), "new").unwrap();
        fs::write(folder.path().join("single"), "single").unwrap();
        let mut building = Building::new().unwrap();
        building.put_file("var/www/old", 0o644, b"old").unwrap();
        building.put_file("etc/motd", 0o644, b"old").unwrap();
        let volume = |host: &str, guest: &str| Volume {
            host: folder.path().join(host),
            guest: guest.to_owned(),
            mode: Mode::Copy,
        };
        let volumes = [&volume("site", "/var/www"), &volume("single", "/etc/motd")];
        add(&mut building, &volumes, &mut Step::start("test")).unwrap();
        assert_eq!(paths(&building), ["/etc", "/etc/motd", "/var", "/var/www", "/var/www/new"]);
        assert_eq!(building.read("etc/motd").unwrap().unwrap(), b"single");
        assert!(add(&mut building, &[&volume("nothing", "/x")], &mut Step::start("test")).is_err());
    }
}
