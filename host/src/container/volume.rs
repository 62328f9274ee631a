//! Files of this machine in a container: `-v ./site:/var/www/html:ro`.
//!
//! They are taken into the root image as they are at the start, in place of what the image has there: the guest maps
//! them like all other files, with no device and no way back to this machine. So a volume is read-only on this side:
//! what the container writes there is its own, and is gone when it ends.

use std::path::PathBuf;
use std::str::FromStr;

use miette::{Result, WrapErr, miette};

use super::folder;
use super::root::Building;
use crate::progress::Step;

/// One folder or file of this machine, and its place in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub host: PathBuf,
    /// An absolute path.
    pub guest: String,
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        const WANTED: &str = "a volume is HOST:GUEST:ro, such as ./site:/var/www/html:ro";
        let Some(rest) = text.strip_suffix(":ro") else {
            return Err(format!(
                "`{text}` would be written to, which is not supported: {WANTED}; it is taken as it is at the start"
            ));
        };
        let (host, guest) = rest.rsplit_once(':').ok_or_else(|| format!("`{text}` is no volume: {WANTED}"))?;
        let is_inside = !guest.split('/').any(|part| part == "..") && !guest.trim_matches('/').is_empty();
        if host.is_empty() || !guest.starts_with('/') || !is_inside {
            return Err(format!(
                "`{text}` is no volume: the second path is one of the container, from `/` on; {WANTED}"
            ));
        }
        Ok(Self { host: host.into(), guest: guest.to_owned() })
    }
}

/// Takes the volumes' files, in place of what is there.
pub fn add(building: &mut Building, volumes: &[Volume], step: &mut Step) -> Result<()> {
    for Volume { host, guest } in volumes {
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
        let volume: Volume = "./a:b:/srv/www:ro".parse().unwrap();
        assert_eq!((volume.host, volume.guest), (PathBuf::from("./a:b"), "/srv/www".to_owned()));
        for (text, expected) in [
            ("a:/b", "would be written to"),
            ("a:/b:rw", "would be written to"),
            ("/b:ro", "is no volume"),
            ("a:b:ro", "is no volume"),
            ("a:/../b:ro", "is no volume"),
            ("a:/:ro", "is no volume"),
            (":/b:ro", "is no volume"),
        ] {
            let told = text.parse::<Volume>().unwrap_err();
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn a_volume_takes_the_place_of_what_the_image_has() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("site")).unwrap();
        fs::write(folder.path().join("site/new"), "new").unwrap();
        fs::write(folder.path().join("single"), "single").unwrap();
        let mut building = Building::new().unwrap();
        building.put_file("var/www/old", 0o644, b"old").unwrap();
        building.put_file("etc/motd", 0o644, b"old").unwrap();
        let volume = |host: &str, guest: &str| Volume { host: folder.path().join(host), guest: guest.to_owned() };
        let volumes = [volume("site", "/var/www"), volume("single", "/etc/motd")];
        add(&mut building, &volumes, &mut Step::start("test")).unwrap();
        assert_eq!(paths(&building), ["/etc", "/etc/motd", "/var", "/var/www", "/var/www/new"]);
        assert_eq!(building.read("etc/motd").unwrap().unwrap(), b"single");
        assert!(add(&mut building, &[volume("nothing", "/x")], &mut Step::start("test")).is_err());
    }
}
