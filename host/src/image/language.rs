//! Refuses code that nothing would hold to what it was given.
//!
//! A component alone in its domain in ring 3 is held by the processor: whatever it does, it reaches its own memory and the handles of its
//! domain. Between components of one domain, and in ring 0, only the language stands: safe code names no memory and no handle that it
//! was not given. So a component is placed there only if its crate forbids `unsafe`, or if its component.toml names the files that
//! need it and no other has it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use miette::Result;
use tessera_plan::Level;

use super::description::Description;
use super::manifest::Manifest;
use super::system::{Placed, Settings};
use crate::explain::source::{self, Setting};
use crate::workspace;

/// Checks every component that its domain does not hold.
pub fn check(description: &Description, placed: &[Placed], settings: &BTreeMap<String, Settings>) -> Result<()> {
    for (index, this) in placed.iter().enumerate() {
        let in_kernel = settings.get(&this.domain).is_some_and(|settings| settings.level == Level::Kernel);
        let mut others = placed.iter().enumerate().filter(|(other, _)| *other != index);
        let place = match others.find(|(_, other)| other.domain == this.domain) {
            _ if in_kernel => format!("runs in ring 0 (domain `{}`)", this.domain),
            Some((_, other)) => format!("shares the domain `{}` with `{}`", this.domain, other.name()),
            None => continue,
        };
        let Some(why) = loose(&this.manifest) else { continue };
        let what = format!("`{}` {place}, where only the language holds it to what it was given: {why}", this.name());
        let mend = "write it without `unsafe` and say `#![forbid(unsafe_code)]`; or name the files that need it, as `unsafe` in its \
                    component.toml; or give it a `domain` of its own with `privilege = \"user\"`";
        return Err(description.wrong(this.written.name.span(), &what, mend));
    }
    Ok(())
}

/// Why the language does not hold a component; nothing if it does, or if nobody looked for its code.
fn loose(manifest: &Manifest) -> Option<String> {
    let root = manifest.root.as_deref()?;
    let text = match fs::read_to_string(root) {
        Ok(text) => text,
        Err(error) => return Some(format!("{} cannot be read ({error})", workspace::shown(root))),
    };
    let level = if manifest.unsafe_files().next().is_none() { "forbid" } else { "deny" };
    if !source::says(&text, level) {
        return Some(format!("{} does not say `#![{level}(unsafe_code)]`", workspace::shown(root)));
    }
    let setting = Setting { system: "none", ..Setting::default() };
    let files = source::files(root, &setting).into_iter().filter(|(_, count)| count.unsafe_lines > 0);
    let is_named = |file: &Path| manifest.unsafe_files().any(|named| manifest.folder.join(named) == *file);
    let unnamed = files.map(|(file, _)| file).find(|file| !is_named(file))?;
    Some(format!("{} says `unsafe`, and its component.toml does not name that file", workspace::shown(&unnamed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::Manifests;
    use crate::image::system::System;

    const TEXT: &str = "name = \"a\"\npackage = \"a\"\nconstructor = \"A::new\"\n";

    /// Why a component with these files, by their paths, is not held.
    fn why(named: &str, files: &[(&str, &str)]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut manifest = Manifest::parse("a", folder.path(), format!("{TEXT}unsafe = [{named}]\n")).unwrap();
        manifest.root = Some(folder.path().join("src/lib.rs"));
        loose(&manifest)
    }

    #[test]
    fn a_crate_that_forbids_unsafe_is_held() {
        let root = "//! A.\n#![no_std]\n#![forbid(missing_docs, unsafe_code)]\nfn a() {}\n";
        assert_eq!(why("", &[("src/lib.rs", root)]), None);
    }

    #[test]
    fn words_about_unsafe_do_not_count() {
        for root in [
            "",
            "// #![forbid(unsafe_code)]\n",
            "const A: &str = \"#![forbid(unsafe_code)]\";\n",
            "#![deny(unsafe_code)]\n",
            "fn a() {}\nmod b { #![forbid(unsafe_code)] }\n",
            "#![allow(unsafe_code)]\n#![cfg_attr(test, forbid(unsafe_code))]\n",
        ] {
            let why = why("", &[("src/lib.rs", root)]).expect(root);
            assert!(why.contains("does not say `#![forbid(unsafe_code)]`"), "{why}");
        }
        assert!(why("", &[]).unwrap().contains("cannot be read"));
    }

    #[test]
    fn only_the_files_that_are_named_may_say_unsafe() {
        let root = "#![deny(unsafe_code)]\n#[allow(unsafe_code)]\nmod border;\nmod rest;\n";
        let files = |rest| [("src/lib.rs", root), ("src/border.rs", "unsafe fn a() {}\n"), ("src/rest.rs", rest)];
        assert_eq!(why("\"src/border.rs\"", &files("fn b() {}\n")), None);
        let told = why("\"src/border.rs\"", &files("#![allow(unsafe_code)]\nunsafe fn b() {}\n")).unwrap();
        assert!(told.contains("src/rest.rs says `unsafe`"), "{told}");
        let root = [("src/lib.rs", "mod border;\n"), ("src/border.rs", "unsafe fn a() {}\n")];
        assert!(why("\"src/border.rs\"", &root).unwrap().contains("does not say `#![deny(unsafe_code)]`"));
    }

    #[test]
    fn a_component_that_is_not_held_has_a_domain_of_its_own_in_ring_3() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = |name: &str, root: &str| {
            let path = folder.path().join(name);
            fs::write(&path, root).unwrap();
            let text = TEXT.replace("\"a\"", &format!("\"{name}\""));
            let mut manifest = Manifest::parse(name, folder.path(), text)?;
            manifest.root = Some(path);
            Ok(manifest)
        };
        let manifests = Manifests::new(vec![
            manifest("loose", "fn a() {}\n"),
            manifest("held", "#![forbid(unsafe_code)]\n"),
            manifest("other", "#![forbid(unsafe_code)]\n"),
        ]);
        let built = |components: &[&str], rest: &str| {
            let components = components.iter().map(|name| format!("[[component]]\nname = \"{name}\"\n"));
            let text = format!("name = \"test\"\n{}{rest}", components.collect::<String>());
            let description = Description::parse(Path::new("image.toml"), text)?;
            System::new(&description, &manifests)
        };
        assert!(built(&["loose", "held"], "").is_ok());
        assert!(built(&["held", "other"], "domain = \"held\"\n[domain.held]\nprivilege = \"kernel\"\n").is_ok());
        let shared = format!("{:?}", built(&["held", "loose"], "domain = \"held\"\n").unwrap_err());
        assert!(shared.contains("shares the domain `held` with `held`"), "{shared}");
        let kernel = built(&["loose", "held"], "[domain.loose]\nprivilege = \"kernel\"\n").unwrap_err();
        assert!(format!("{kernel:?}").contains("runs in ring 0"), "{kernel:?}");
        for placement in ["libos", "monolith", "unikernel"] {
            let text = format!(
                "name = \"test\"\nplacement = \"{placement}\"\n[[component]]\nname = \"loose\"\n[[component]]\nname = \"held\"\n"
            );
            let description = Description::parse(Path::new("image.toml"), text).unwrap();
            assert!(System::new(&description, &manifests).is_err(), "{placement}");
        }
    }
}
