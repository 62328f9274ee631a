//! Makes the program of each domain: a small crate that constructs the domain's components and binds their routes.
//!
//! It is meant to be read: what stands in it is what the image says, one line for each thing. All else is in the runtime's
//! `component` module. A domain that is to be linked with a program of the user's becomes a library.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::manifest::{Manifest, Source};
use super::system::{Bound, Domain, Instance, Object, Target};
use crate::mirror::Made;

/// Words that cannot be names of variables in the made code.
const TAKEN: [&str; 44] = [
    "as", "async", "await", "break", "const", "continue", "crate", "domain", "dyn", "else", "enum", "extern", "false",
    "fn", "for", "gen", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return",
    "self", "Self", "static", "struct", "super", "trait", "true", "type", "unsafe", "use", "where", "while",
    "abstract", "box", "try", "yield",
];

/// The package of `domain`, whose components lie below `root`.
pub fn package(domain: &Domain, root: &std::path::Path) -> Made {
    let is_library = domain.program().is_some();
    let mut files = BTreeMap::from([(if is_library { "src/lib.rs" } else { "src/main.rs" }, main(domain))]);
    if !is_library {
        files.insert("build.rs", BUILD.to_owned());
    }
    let manifest = |name: &str| manifest(name, domain, root);
    files.insert("Cargo.toml", manifest(""));
    let hash = blake3::hash(format!("{files:?}").as_bytes()).to_hex();
    let name = format!("domain-{}-{}", domain.name, hash.get(..8).unwrap_or_default());
    files.insert("Cargo.toml", manifest(&name));
    Made { name, files }
}

const BUILD: &str = r#"//! Links the program where native programs lie.

use std::env;

fn main() {
    let script = env::var("DEP_TESSERA_RUNTIME_LINKER_SCRIPT").expect("the runtime's build script sets it");
    println!("cargo:rustc-link-arg-bins=-T{script}");
    // Equal functions are there once, and segments stand close together in the file: they begin with blocks of the archive, of which a page's are
    // padded to show the code where it lies.
    for argument in ["--no-pie", "--icf=all", "-zmax-page-size=512"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rerun-if-changed={script}");
}
"#;

fn manifest(name: &str, domain: &Domain, root: &std::path::Path) -> String {
    let mut text = format!(
        "[package]\nname = \"{name}\"\nversion.workspace = true\nedition.workspace = true\npublish.workspace = true\nautobins = false\n\n\
         [dependencies]\ntessera-interfaces = {{ path = \"../../interfaces\" }}\n\
         tessera-runtime = {{ path = \"../../runtime\" }}\n"
    );
    let packages = domain.instances.iter().map(|instance| (instance.manifest.package().get_ref(), &instance.manifest));
    for (package, manifest) in packages.collect::<BTreeMap<_, _>>() {
        let folder = manifest.folder.strip_prefix(root).unwrap_or(&manifest.folder);
        let _ = writeln!(text, "{package} = {{ path = \"../../{}\" }}", folder.display());
    }
    let (what, name, file) = match domain.program() {
        None => ("[[bin]]", name.to_owned(), "main"),
        Some(_) => ("[lib]\ncrate-type = [\"staticlib\"]", name.replace('-', "_"), "lib"),
    };
    let _ = write!(text, "\n{what}\nname = \"{name}\"\npath = \"src/{file}.rs\"\ntest = false\nbench = false\n");
    text
}

fn main(domain: &Domain) -> String {
    let no_main = if domain.program().is_some() { "" } else { "#![no_main]\n" };
    let mut text = format!(
        "//! The domain `{}`, made from an image's description.\n#![no_std]\n{no_main}\
         #![feature(optimize_attribute)]\n#![forbid(unsafe_code)]\n\nuse tessera_runtime::component::{{self, Domain, StartError}};\n\
         use tessera_runtime::{{Start, program}};\n\nprogram!(main);\n\n",
        domain.name
    );
    // A domain that nobody calls may still hand out objects of its own.
    let threads = if domain.objects.is_empty() { 1 } else { domain.settings.threads };
    let _ = write!(
        text,
        "fn main(start: Start) -> i32 {{\n    component::run(start, {threads}, build)\n}}\n\n\
         #[optimize(size)]\nfn build(domain: &mut Domain) -> Result<(), StartError> {{\n"
    );
    let read = read_later(domain);
    for instance in &domain.instances {
        construct(&mut text, domain, instance, read.contains(instance.name.as_str()));
    }
    for (index, object) in domain.objects.iter().enumerate() {
        let Some(instance) = domain.instances.iter().find(|instance| instance.name == object.instance) else {
            continue;
        };
        let interface = interface_of(&instance.manifest, &object.provision);
        let value = value(instance, object);
        let _ = writeln!(text, "    domain.provide::<dyn tessera_interfaces::{interface}>({index}, {value});");
    }
    text.push_str("    Ok(())\n}\n");
    text
}

/// The instances that something later in the program names.
fn read_later(domain: &Domain) -> BTreeSet<&str> {
    let uses = domain.instances.iter().flat_map(|instance| &instance.uses);
    let neighbours = uses.filter_map(|used| match &used.target {
        Some(Target::Neighbour { instance, .. }) => Some(instance.as_str()),
        _ => None,
    });
    neighbours.chain(domain.objects.iter().map(|object| object.instance.as_str())).collect()
}

/// One component: its constructor with its routes.
fn construct(text: &mut String, domain: &Domain, instance: &Instance, is_read: bool) {
    let manifest = &instance.manifest;
    let krate = manifest.package().get_ref().replace('-', "_");
    let variable = variable(&instance.name);
    let _ = write!(text, "    let {variable} = {krate}::{}(", manifest.constructor());
    if instance.uses.is_empty() {
        let _ = writeln!(text, "domain.context(\"{}\"))?;", instance.name);
    } else {
        let _ = write!(text, "\n        domain.context(\"{}\"),\n        {krate}::Uses {{\n", instance.name);
        for used in &instance.uses {
            let route = route(domain, instance, used);
            let _ = writeln!(text, "            {}: {route},", used.name);
        }
        text.push_str("        },\n    )?;\n");
    }
    if !is_read {
        let _ = writeln!(text, "    domain.keep({variable});");
    }
}

/// The route that a use is bound to.
fn route(domain: &Domain, client: &Instance, used: &Bound) -> String {
    let route = match &used.target {
        None => return "None".to_owned(),
        Some(Target::Manager { .. }) => format!("domain.remote(\"{}.{}\", None)?", client.name, used.name),
        Some(Target::Domain { bit, .. }) => format!("domain.remote(\"{}.{}\", Some({bit}))?", client.name, used.name),
        Some(Target::Neighbour { instance, provision }) => {
            let Some(server) = domain.instances.iter().find(|other| other.name == *instance) else {
                return "None".to_owned();
            };
            let object =
                Object { instance: instance.clone(), provision: provision.clone(), client: Some(client.name.clone()) };
            let interface = interface_of(&server.manifest, provision);
            format!("domain.local::<dyn tessera_interfaces::{interface}>({})", value(server, &object))
        }
    };
    if used.optional { format!("Some({route})") } else { route }
}

/// The expression for an object that `instance` provides.
fn value(instance: &Instance, object: &Object) -> String {
    let variable = variable(&instance.name);
    let provisions = instance.manifest.provisions();
    let source = provisions.into_iter().find(|offer| offer.name == object.provision).map(|offer| offer.source);
    match source {
        Some(Source::From(method)) => format!("{variable}.{method}()"),
        Some(Source::ForEach(method)) => {
            format!("{variable}.{method}(\"{}\")", object.client.as_deref().unwrap_or_default())
        }
        Some(Source::Itself) | None => format!("{variable}.clone()"),
    }
}

fn interface_of(manifest: &Manifest, provision: &str) -> String {
    let provisions = manifest.provisions();
    provisions.into_iter().find(|offer| offer.name == provision).map(|offer| offer.interface).unwrap_or_default()
}

fn variable(name: &str) -> String {
    let name = name.replace('-', "_");
    let begins_with_digit = name.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
    if TAKEN.contains(&name.as_str()) || begins_with_digit { format!("the_{name}") } else { name }
}
