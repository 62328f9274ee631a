//! Running guests: where they are found, and how they are asked what runs in them.
//!
//! Each guest that `tessera run` boots has a folder of its own, named after the command's process number, in this user's
//! runtime folder. In it are the socket of the guest's control channel and a note of what runs. The folder goes with the
//! guest; one whose command was killed is removed by whoever finds that nobody listens any more.

mod ask;
mod show;

use std::env;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::{Deserialize, Serialize};

use crate::devices::escaped;
use crate::image::MachineKind;

pub use show::{inspect, kill, ps, restart, top};

/// The socket's name in the guest's folder.
const SOCKET: &str = "control";
/// The note's name.
const NOTE: &str = "guest.json";

/// What is noted of a guest.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Note {
    /// The image's name.
    image: String,
    /// The file that was booted, by which crash reports find names and lines.
    file: PathBuf,
}

/// A guest that this command runs. Dropping it removes its folder.
pub struct Registered {
    folder: PathBuf,
}

/// The folder of all guests of this user.
fn guests() -> PathBuf {
    match env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) => PathBuf::from(folder).join("tessera"),
        None => env::temp_dir().join(format!("tessera-{}", rustix::process::getuid().as_raw())),
    }
}

impl Registered {
    /// Registers a guest.
    pub fn new(image: &str, file: &Path) -> Result<Self> {
        Self::within(&guests(), image, file)
    }

    fn within(guests: &Path, image: &str, file: &Path) -> Result<Self> {
        let folder = guests.join(std::process::id().to_string());
        let note = Note { image: image.to_owned(), file: file.canonicalize().unwrap_or_else(|_| file.to_owned()) };
        let make = || {
            // A folder of that name is left from an earlier process with this number.
            let _ = fs::remove_dir_all(&folder);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            // Where everybody can make folders, this one might be another's.
            fs::set_permissions(guests, fs::Permissions::from_mode(0o700))?;
            fs::write(folder.join(NOTE), serde_json::to_vec(&note)?)
        };
        make().into_diagnostic().wrap_err_with(|| format!("cannot register the guest in {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// QEMU's arguments for the control channel: the second serial port. A microvm has none.
    pub fn arguments(&self, machine: MachineKind) -> Vec<String> {
        if machine == MachineKind::Microvm {
            return Vec::new();
        }
        let socket = escaped(&self.folder.join(SOCKET));
        let channel = format!("socket,id=control,path={socket},server=on,wait=off");
        ["-chardev", &channel, "-serial", "chardev:control"].map(str::to_owned).to_vec()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // A folder that stays is removed by the next command that finds nobody in it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A guest that was found.
#[derive(Clone, Debug)]
struct Guest {
    /// The number of the process that runs it.
    id: u32,
    note: Note,
    folder: PathBuf,
}

impl Guest {
    fn socket(&self) -> PathBuf {
        self.folder.join(SOCKET)
    }
}

/// The guest that `wanted` means, by its image's name or its number; without it, the only one.
fn find(wanted: Option<&str>) -> Result<Guest> {
    choose(all(&guests()), wanted)
}

/// All guests that answer, in the order of their numbers.
fn all(guests: &Path) -> Vec<Guest> {
    let Ok(entries) = fs::read_dir(guests) else { return Vec::new() };
    let mut found: Vec<Guest> = entries.flatten().filter_map(|entry| look(&entry.path())).collect();
    found.sort_by_key(|guest| guest.id);
    found
}

fn look(folder: &Path) -> Option<Guest> {
    let id = folder.file_name()?.to_str()?.parse().ok()?;
    let note = serde_json::from_slice(&fs::read(folder.join(NOTE)).ok()?).ok()?;
    let runs = Path::new("/proc").join(folder.file_name()?).exists();
    if !runs && UnixStream::connect(folder.join(SOCKET)).is_err() {
        // Its command was killed.
        let _ = fs::remove_dir_all(folder);
        return None;
    }
    Some(Guest { id, note, folder: folder.to_owned() })
}

fn choose(mut guests: Vec<Guest>, wanted: Option<&str>) -> Result<Guest> {
    let listed: Vec<String> = guests.iter().map(|guest| format!("{} ({})", guest.id, guest.note.image)).collect();
    let listed = listed.join(", ");
    if let Some(wanted) = wanted {
        guests.retain(|guest| guest.note.image == wanted || guest.id.to_string() == wanted);
    }
    match (guests.len(), guests.pop(), wanted) {
        (1, Some(guest), _) => Ok(guest),
        (0, _, None) => Err(miette!(
            help = "boot an image that has the component `control`, such as `./tessera run images/control.toml`",
            "no guest is running"
        )),
        (0, _, Some(wanted)) => {
            let help =
                if listed.is_empty() { "no guest is running".to_owned() } else { format!("there are: {listed}") };
            Err(miette!(help = help, "no running guest is `{wanted}`"))
        }
        (count, ..) => Err(miette!(
            help = format!("choose with `--guest` and a number or an image's name; there are: {listed}"),
            "{count} guests are running"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(id: u32, image: &str) -> Guest {
        Guest { id, note: Note { image: image.into(), file: "x.elf".into() }, folder: "/x".into() }
    }

    #[test]
    fn a_guest_is_chosen_by_number_or_image_and_only_one_needs_no_choice() {
        let two = || vec![guest(1, "web"), guest(2, "echo")];
        assert_eq!(choose(vec![guest(1, "web")], None).unwrap().id, 1);
        assert_eq!(choose(two(), Some("echo")).unwrap().id, 2);
        assert_eq!(choose(two(), Some("1")).unwrap().id, 1);
        assert!(choose(two(), None).unwrap_err().to_string().contains("2 guests"));
        assert!(choose(two(), Some("x")).unwrap_err().to_string().contains("`x`"));
        assert!(choose(Vec::new(), None).unwrap_err().to_string().contains("no guest"));
    }

    #[test]
    fn a_registered_guest_is_found_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let registered = Registered::within(folder.path(), "web", Path::new("web.elf")).unwrap();
        let found = all(folder.path());
        assert_eq!((found.len(), found[0].note.image.as_str()), (1, "web"));
        assert!(
            registered.arguments(MachineKind::Q35).join(" ").contains("server=on,wait=off -serial chardev:control")
        );
        drop(registered);
        assert!(all(folder.path()).is_empty());
    }

    #[test]
    fn what_a_killed_command_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        // No process has this number: it is above the largest that Linux gives.
        let left = folder.path().join("4194305");
        fs::create_dir(&left).unwrap();
        let note = Note { image: "web".into(), file: "web.elf".into() };
        fs::write(left.join(NOTE), serde_json::to_vec(&note).unwrap()).unwrap();
        assert!(all(folder.path()).is_empty());
        assert!(!left.exists());
    }
}
