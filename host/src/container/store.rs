//! Root images that were made, kept under the target folder. What they were made from is told apart by what the file
//! system says about it (names, sizes, times), so that an image that was run before is not even read.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use blake3::Hasher;
use miette::{IntoDiagnostic, Result, WrapErr};

use super::debian;
use super::settings::Settings;
use super::source::Source;
use super::volume::{self, Volume};
use crate::progress::Step;
use crate::{lock, workspace};

/// Most images of a kind that are kept.
const MOST: usize = 16;

/// A root image on the disk.
pub struct Kept {
    pub path: PathBuf,
    pub settings: Settings,
}

/// The root image of `source`, made if it is not there, or if it is to be made anew.
pub fn root(source: &Source, volumes: &[&Volume], renew: bool) -> Result<Kept> {
    let folder = workspace::target().join("tessera/roots");
    fs::create_dir_all(&folder).into_diagnostic().wrap_err_with(|| format!("cannot write to {}", folder.display()))?;
    if !renew && let Some(kept) = kept(&folder, source, volumes)? {
        return Ok(kept);
    }
    let _lock = lock::hold(&folder.with_extension("lock"), "makes a root file system")?;
    // Whoever was waited for may have made this one.
    if !renew && let Some(kept) = kept(&folder, source, volumes)? {
        return Ok(kept);
    }
    let mut step = Step::start(format!("making the root file system of {}", source.name()));
    let mut unpacked = source.unpack(&mut step, renew)?;
    volume::add(&mut unpacked.building, volumes, &mut step)?;
    step.note("writing the root image");
    // What the source is may have become known only now.
    let key = key(source, volumes)?.unwrap_or_else(|| "unknown".to_owned());
    let path = folder.join(format!("{key}.erofs"));
    unpacked.building.write(&path)?;
    let settings = serde_json::to_vec_pretty(&unpacked.settings).into_diagnostic()?;
    // The settings come last: without them the image does not count.
    crate::image::write(&folder.join(format!("{key}.json")), &settings)?;
    forget(&folder, "erofs");
    Ok(Kept { path, settings: unpacked.settings })
}

/// The root image of `source` that is there already.
fn kept(folder: &Path, source: &Source, volumes: &[&Volume]) -> Result<Option<Kept>> {
    let Some(kept) = key(source, volumes)?.and_then(|key| find(folder, &key)) else { return Ok(None) };
    touch(&kept.path);
    Ok(Some(kept))
}

/// Says that the image is of use now, by its record's time; a file system that cannot keep it loses the image a little earlier.
pub fn touch(image: &Path) {
    let _ = File::open(image.with_extension("json")).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Removes the images that were of no use for longest, and their records, when there are many.
pub fn forget(folder: &Path, extension: &str) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let images = entries.filter(|path| path.extension().is_some_and(|found| found == extension));
    let time = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    // One that is being made has no record yet.
    let used = |path: &Path| time(path).max(time(&path.with_extension("json")));
    let mut images: Vec<(SystemTime, PathBuf)> = images.map(|path| (used(&path), path)).collect();
    images.sort();
    for (_, path) in images.iter().rev().skip(MOST) {
        // One that cannot be removed costs space and no more.
        let _ = fs::remove_file(path).and_then(|()| fs::remove_file(path.with_extension("json")));
    }
}

fn find(folder: &Path, key: &str) -> Option<Kept> {
    let path = folder.join(format!("{key}.erofs"));
    let settings = fs::read(folder.join(format!("{key}.json"))).ok()?;
    let settings = serde_json::from_slice(&settings).ok()?;
    path.exists().then_some(Kept { path, settings })
}

/// Tells sources apart: equal keys, equal root images. `None` if it cannot be told yet.
fn key(source: &Source, volumes: &[&Volume]) -> Result<Option<String>> {
    let mut hash = Hasher::new();
    // Another version of this command may make other images. Its file may have been replaced while it runs: the link leads to
    // it all the same, and its name does not.
    let command = Path::new("/proc/self/exe");
    add(&mut hash, command, &fs::metadata(command).into_diagnostic().wrap_err("cannot read the tessera command")?);
    match source {
        Source::Debian(names) => {
            let Some(stamp) = debian::stamp()? else { return Ok(None) };
            hash.update(b"debian\0").update(names.join(",").as_bytes()).update(stamp.as_bytes());
        }
        Source::Registry(name) => {
            hash.update(b"registry\0").update(name.as_bytes());
        }
        Source::Program(path) | Source::Tar(path) => add_file(&mut hash, path)?,
        Source::Folder(path) => add_folder(&mut hash, path)?,
    }
    for Volume { host, guest, .. } in volumes.iter().copied() {
        hash.update(b"volume\0").update(guest.as_bytes()).update(b"\0");
        add_folder(&mut hash, host)?;
    }
    Ok(Some(hash.finalize().to_hex().get(..32).unwrap_or_default().to_owned()))
}

fn add_folder(hash: &mut Hasher, folder: &Path) -> Result<()> {
    let cannot = |path: &Path| format!("cannot read {}", path.display());
    let folder = folder.canonicalize().into_diagnostic().wrap_err_with(|| cannot(folder))?;
    let mut waiting = vec![folder];
    while let Some(path) = waiting.pop() {
        let found = fs::symlink_metadata(&path).into_diagnostic().wrap_err_with(|| cannot(&path))?;
        add(hash, &path, &found);
        if found.is_dir() {
            let entries = fs::read_dir(&path).into_diagnostic().wrap_err_with(|| cannot(&path))?;
            let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            waiting.extend(paths);
        }
    }
    Ok(())
}

fn add_file(hash: &mut Hasher, path: &Path) -> Result<()> {
    let cannot = || format!("cannot read {}", path.display());
    let path = path.canonicalize().into_diagnostic().wrap_err_with(cannot)?;
    let found = fs::metadata(&path).into_diagnostic().wrap_err_with(cannot)?;
    add(hash, &path, &found);
    Ok(())
}

fn add(hash: &mut Hasher, path: &Path, found: &fs::Metadata) {
    hash.update(path.as_os_str().as_bytes()).update(b"\0");
    for number in [found.size(), found.ino(), found.mode().into(), found.uid().into(), found.gid().into()] {
        hash.update(&number.to_le_bytes());
    }
    // A change of the owner or of an attribute changes this time, and no other.
    for number in [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()] {
        hash.update(&number.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_of_use_last_is_kept_and_so_is_what_is_being_made() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: String, age: u64| {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        for number in 0..MOST as u64 + 2 {
            write(format!("{number}.elf"), 1000 + number);
            write(format!("{number}.json"), 1000 + number);
        }
        // The oldest is used again; another has no record yet.
        let oldest = folder.path().join(format!("{}.elf", MOST + 1));
        touch(&oldest);
        write("new.elf".to_owned(), 0);
        forget(folder.path(), "elf");
        assert!(oldest.exists() && folder.path().join("new.elf").exists() && folder.path().join("0.json").exists());
        let gone = [MOST - 2, MOST - 1, MOST].map(|number| folder.path().join(format!("{number}.elf")));
        assert!(gone.iter().all(|path| !path.exists() && !path.with_extension("json").exists()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2 * MOST - 1);
    }
}
