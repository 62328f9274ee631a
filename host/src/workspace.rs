//! Where the checkout, its build folders and this user's cache are.
//!
//! Every other module asks here for a path of the project; none works one out for itself. Nothing here creates or
//! changes a file.

use std::env;
use std::path::{Path, PathBuf};

/// The root folder of the checkout: what the entry script says, else where this program was built from.
pub fn root() -> PathBuf {
    match env::var_os("TESSERA_ROOT") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
    }
    .canonicalize()
    .unwrap_or_else(|_| PathBuf::from("."))
}

/// The folder under which all build results go: `target`, unless `CARGO_TARGET_DIR` names another.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// The target folder of the bare-metal build. It is apart from the host's, because the two tool chains may differ.
pub fn bare_target() -> PathBuf {
    target().join("bare")
}

/// Where the command writes the images that `run`, `test` and `bench` build.
pub fn built_images() -> PathBuf {
    target().join("tessera/images")
}

/// This user's cache folder: answers about the machine, which hold for every checkout.
pub fn cache() -> PathBuf {
    let from = |variable: &str| env::var_os(variable).map(PathBuf::from);
    from("TESSERA_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|folder| folder.join("tessera")))
        .or_else(|| from("HOME").map(|folder| folder.join(".cache/tessera")))
        .unwrap_or_else(|| target().join("tessera/cache"))
}

/// `path` as a person in this working folder would write it.
pub fn shown(path: &Path) -> String {
    let here = env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
