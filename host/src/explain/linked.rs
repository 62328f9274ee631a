//! Which crates are linked into a domain, and how much code they are: from cargo's resolution of the workspace.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use serde::Deserialize;

use super::source::{self, Count, Setting};
use crate::bare;
use crate::toolchain::BareToolChain;

/// A crate that is linked, by its name and version, and its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    /// Whether it is of this checkout.
    pub is_own: bool,
    pub count: Count,
}

/// The packages of a workspace and what each is linked with.
pub struct Packages {
    packages: BTreeMap<String, Package>,
    links: BTreeMap<String, Vec<String>>,
    /// The package of the folder that was asked about.
    default: Vec<String>,
    system: &'static str,
    counted: RefCell<BTreeMap<String, Count>>,
}

struct Package {
    name: String,
    version: String,
    root: Option<PathBuf>,
    /// Whether it has no address: it is of the workspace.
    is_own: bool,
    features: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Listed>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    name: String,
    version: String,
    source: Option<String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
    /// The package of the folder, if it has one.
    root: Option<String>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
    features: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

impl Packages {
    /// Those of the workspace in `folder`, as they are built for `target`, whose `target_os` is `system`.
    pub fn read(folder: &std::path::Path, target: &str, system: &'static str) -> Result<Self> {
        let tool_chain = BareToolChain::find()?;
        let mut command = Command::new(&tool_chain.cargo);
        bare::clean_environment(&mut command, &tool_chain);
        command.current_dir(folder).args(["metadata", "--format-version", "1", "--filter-platform", target]);
        let output = command.output().into_diagnostic().wrap_err("cannot start cargo")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(miette!(help = said, "cargo cannot tell what is linked"));
        }
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).into_diagnostic().wrap_err("cannot read cargo's metadata")?;
        Ok(Self::new(metadata, system))
    }

    fn new(metadata: Metadata, system: &'static str) -> Self {
        let default = metadata.resolve.root.into_iter().collect();
        let mut features: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut links = BTreeMap::new();
        for node in metadata.resolve.nodes {
            let is_linked = |dependency: &&Dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
            let linked = node.deps.iter().filter(is_linked).map(|dependency| dependency.pkg.clone()).collect();
            links.insert(node.id.clone(), linked);
            features.insert(node.id, node.features);
        }
        let packages = metadata.packages.into_iter().map(|listed| {
            let root = |wanted: &[&str]| {
                let is = |target: &&Target| target.kind.iter().any(|kind| wanted.contains(&kind.as_str()));
                listed.targets.iter().find(is).map(|target| target.src_path.clone())
            };
            let package = Package {
                // A procedural macro runs in the compiler and is linked into nothing.
                root: root(&["lib", "rlib", "staticlib"]).or_else(|| root(&["bin"])),
                name: listed.name,
                version: listed.version,
                is_own: listed.source.is_none(),
                features: features.get(&listed.id).cloned().unwrap_or_default(),
            };
            (listed.id, package)
        });
        Self { packages: packages.collect(), links, default, system, counted: RefCell::default() }
    }

    /// All that is linked with the packages of these names, the largest first.
    pub fn linked(&self, names: &[&str]) -> Vec<Part> {
        let first =
            self.packages.iter().filter(|(_, package)| package.is_own && names.contains(&package.name.as_str()));
        self.with(first.map(|(id, _)| id).collect())
    }

    /// All that is linked with the packages that the workspace builds if nothing is said.
    pub fn own_program(&self) -> Vec<Part> {
        self.with(self.default.iter().collect())
    }

    fn with<'a>(&'a self, mut waiting: Vec<&'a String>) -> Vec<Part> {
        let mut seen = BTreeSet::new();
        let mut parts = Vec::new();
        while let Some(id) = waiting.pop() {
            let Some(package) = self.packages.get(id) else { continue };
            if !seen.insert(id) || package.root.is_none() {
                continue;
            }
            let name =
                if package.is_own { package.name.clone() } else { format!("{} {}", package.name, package.version) };
            parts.push(Part { name, is_own: package.is_own, count: self.count(id, package) });
            waiting.extend(self.links.get(id).into_iter().flatten());
        }
        parts.sort_by(|one, other| other.count.lines.cmp(&one.count.lines).then(one.name.cmp(&other.name)));
        parts
    }

    fn count(&self, id: &str, package: &Package) -> Count {
        if let Some(count) = self.counted.borrow().get(id) {
            return *count;
        }
        let setting = Setting { features: package.features.clone(), system: self.system };
        let count = package.root.as_ref().map(|root| source::count(root, &setting)).unwrap_or_default();
        self.counted.borrow_mut().insert(id.to_owned(), count);
        count
    }
}

/// The code of several parts.
pub fn sum<'a>(parts: impl IntoIterator<Item = &'a Part>) -> Count {
    let mut all = Count::default();
    parts.into_iter().for_each(|part| all += part.count);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn what_is_linked_with_a_component_is_found() {
        let packages = Packages::read(&workspace::root(), bare::TARGET, "none").unwrap();
        let parts = packages.linked(&["tessera-net"]);
        let names: Vec<&str> = parts.iter().map(|part| part.name.split(' ').next().unwrap()).collect();
        assert!(names.contains(&"smoltcp") && names.contains(&"tessera-runtime"), "{names:?}");
        assert!(!names.contains(&"tessera-interface"), "a procedural macro is linked into nothing");
        assert!(!names.contains(&"proptest"), "nor is what tests use");
        assert!(!names.contains(&"tessera-kernel") && !names.contains(&"tessera-linux"));
        let kernel = sum(&packages.linked(&["tessera-kernel"]));
        assert!(kernel.unsafe_lines > 100 && kernel.lines > 8000, "{kernel:?}");
    }
}
