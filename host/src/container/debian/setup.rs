//! What is done in place of the maintainers' scripts, so that programs find what they expect: users and groups,
//! alternatives, the bundle of certificates, the name service's configuration, nginx's first site. Everything else that
//! a script would have done is not done.

use std::collections::{BTreeMap, HashMap};
use std::process::Command;

use miette::{IntoDiagnostic, Result, WrapErr};
use tessera_rootfs::Kind;
use tessera_rootfs::build::{Content, NodeId};

use super::apt::Package;
use super::scripts::{Alternative, UserGroup, Wish, wishes};
use crate::container::root::Building;

/// The users that every Debian has (the package `base-passwd`): name, number, home.
const USERS: [(&str, u32, &str); 12] = [
    ("root", 0, "/root"),
    ("daemon", 1, "/usr/sbin"),
    ("bin", 2, "/bin"),
    ("sys", 3, "/dev"),
    ("games", 5, "/usr/games"),
    ("man", 6, "/var/cache/man"),
    ("mail", 8, "/var/mail"),
    ("proxy", 13, "/bin"),
    ("www-data", 33, "/var/www"),
    ("backup", 34, "/var/backups"),
    ("_apt", 42, "/nonexistent"),
    ("nobody", 65534, "/nonexistent"),
];
const GROUPS: [(&str, u32); 22] = [
    ("root", 0),
    ("daemon", 1),
    ("bin", 2),
    ("sys", 3),
    ("adm", 4),
    ("tty", 5),
    ("disk", 6),
    ("lp", 7),
    ("mail", 8),
    ("proxy", 13),
    ("kmem", 15),
    ("sudo", 27),
    ("www-data", 33),
    ("backup", 34),
    ("shadow", 42),
    ("utmp", 43),
    ("video", 44),
    ("staff", 50),
    ("games", 60),
    ("man", 12),
    ("users", 100),
    ("nogroup", 65534),
];
/// The first number of users that packages make.
const FIRST: u32 = 100;
const NOGROUP: u32 = 65534;

/// The files of base-files and libc-bin that their scripts make from others, and nginx's.
const COPIES: [(&str, &str); 2] = [
    ("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"),
    ("usr/share/nginx/html/index.html", "var/www/html/index.nginx-debian.html"),
];

/// What the packages want.
#[derive(Default)]
pub struct Setup {
    wishes: Vec<Wish>,
    status: String,
}

impl Setup {
    /// Reads a package's description and script.
    pub fn take(&mut self, package: &Package) -> Result<()> {
        let ask = |arguments: &[&str]| -> Result<(bool, String)> {
            let output = Command::new("dpkg-deb").arg(arguments[0]).arg(&package.file).args(&arguments[1..]).output();
            let output = output.into_diagnostic().wrap_err("cannot start dpkg-deb")?;
            Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
        };
        let (_, fields) = ask(&["--field"])?;
        // Right behind the name, where dpkg itself writes it.
        for (index, line) in fields.lines().enumerate() {
            self.status.push_str(line);
            self.status.push('\n');
            if index == 0 {
                self.status.push_str("Status: install ok installed\n");
            }
        }
        self.status.push('\n');
        // A package without a script is no error, but dpkg-deb's answer then is.
        let (has_script, script) = ask(&["--info", "postinst"])?;
        if has_script {
            self.wishes.extend(wishes(&script));
        }
        Ok(())
    }

    /// Does it.
    pub fn finish(self, building: &mut Building) -> Result<()> {
        for (from, to) in COPIES {
            if let Some(contents) = building.read(from)?
                && building.tree.find(to.as_bytes(), true).is_err()
            {
                building.put_file(to, 0o644, &contents)?;
            }
        }
        let is_there = |building: &Building, path: &str| building.tree.find(path.as_bytes(), true).is_ok();
        if is_there(building, "etc/nginx/sites-available/default")
            && !is_there(building, "etc/nginx/sites-enabled/default")
        {
            let target = b"/etc/nginx/sites-available/default".to_vec();
            building.put("etc/nginx/sites-enabled/default", 0o777, Content::Link(target))?;
        }
        if let Some(busybox) = building.read("usr/bin/busybox")? {
            for name in applets(&busybox) {
                let paths = ["usr/bin", "usr/sbin"].map(|folder| format!("{folder}/{name}"));
                if !paths.iter().any(|path| is_there(building, path)) {
                    building.put(&paths[0], 0o777, Content::Link(b"busybox".to_vec()))?;
                }
            }
        }
        if !is_there(building, "var/run") {
            building.put("var/run", 0o777, Content::Link(b"/run".to_vec()))?;
        }
        certificates(building)?;
        self.alternatives(building)?;
        self.users(building)?;
        building.put_file("var/lib/dpkg/status", 0o644, self.status.as_bytes())
    }

    fn alternatives(&self, building: &mut Building) -> Result<()> {
        let mut best: BTreeMap<&str, (i64, &Vec<Alternative>)> = BTreeMap::new();
        for wish in &self.wishes {
            if let Wish::Alternative { links, priority } = wish
                && let Some(first) = links.first()
                && best.get(first.name.as_str()).is_none_or(|(other, _)| other < priority)
            {
                best.insert(&first.name, (*priority, links));
            }
        }
        for Alternative { link, name, path } in best.into_values().flat_map(|(_, links)| links) {
            let link = link.trim_start_matches('/');
            // A file that a package has there stays; so do names whose file is not there, such as manual pages.
            if building.tree.find(path.as_bytes(), true).is_err() || building.tree.find(link.as_bytes(), false).is_ok()
            {
                continue;
            }
            building.put(&format!("etc/alternatives/{name}"), 0o777, Content::Link(path.clone().into_bytes()))?;
            building.put(link, 0o777, Content::Link(format!("/etc/alternatives/{name}").into_bytes()))?;
        }
        Ok(())
    }

    fn users(&self, building: &mut Building) -> Result<()> {
        let mut groups: HashMap<String, u32> = GROUPS.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect();
        let mut group_lines: Vec<String> = GROUPS.iter().map(|(name, id)| format!("{name}:x:{id}:\n")).collect();
        let mut user_lines: Vec<String> = Vec::new();
        let mut known: Vec<String> = Vec::new();
        let mut user = |name: &str, id: u32, group: u32, home: &str| {
            let shell = if id == 0 { "/bin/sh" } else { "/usr/sbin/nologin" };
            user_lines.push(format!("{name}:x:{id}:{group}:{name}:{home}:{shell}\n"));
        };
        for (name, id, home) in USERS {
            user(name, id, groups.get(name).copied().unwrap_or(NOGROUP), home);
            known.push(name.to_owned());
        }
        let (mut next_user, mut next_group) = (FIRST, FIRST + 1);
        let mut new_group = |name: &str, groups: &mut HashMap<String, u32>| {
            *groups.entry(name.to_owned()).or_insert_with(|| {
                group_lines.push(format!("{name}:x:{next_group}:\n"));
                next_group += 1;
                next_group - 1
            })
        };
        for wish in &self.wishes {
            match wish {
                Wish::Group(name) => {
                    new_group(name, &mut groups);
                }
                Wish::User { name, home, group } if !known.contains(name) => {
                    let group = match group {
                        UserGroup::Own => new_group(name, &mut groups),
                        UserGroup::Named(group) => new_group(group, &mut groups),
                        UserGroup::None => NOGROUP,
                    };
                    user(name, next_user, group, home.as_deref().unwrap_or("/nonexistent"));
                    if let Some(home) = home {
                        own_home(building, home, next_user, group)?;
                    }
                    known.push(name.clone());
                    next_user += 1;
                }
                _ => {}
            }
        }
        building.put_file("etc/passwd", 0o644, user_lines.concat().as_bytes())?;
        building.put_file("etc/group", 0o644, group_lines.concat().as_bytes())
    }
}

/// The names under which busybox does something: they stand in it in order, each ended by a zero byte and the last by two.
fn applets(busybox: &[u8]) -> Vec<&str> {
    const FIRST: &[u8] = b"\0[\0[[\0";
    let Some(start) = busybox.windows(FIRST.len()).position(|bytes| bytes == FIRST) else { return Vec::new() };
    let is_name = |name: &&[u8]| {
        !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"[_-.+".contains(byte))
    };
    let names = busybox[start + 1..].split(|byte| *byte == 0).take_while(is_name);
    names.filter_map(|name| std::str::from_utf8(name).ok()).collect()
}

/// Gives a user the home that adduser would have made.
fn own_home(building: &mut Building, home: &str, user: u32, group: u32) -> Result<()> {
    let path = home.trim_start_matches('/');
    if path.is_empty() || home == "/nonexistent" {
        return Ok(());
    }
    if building.tree.find(path.as_bytes(), true).is_err() {
        building.put(path, 0o755, Content::Directory(Default::default()))?;
    }
    if let Ok(found) = building.tree.find(path.as_bytes(), true)
        && building.tree.node(found).kind() == Kind::Directory
        && building.tree.node(found).metadata.uid == 0
    {
        let metadata = building.tree.metadata_mut(found);
        (metadata.uid, metadata.gid) = (user, group);
    }
    Ok(())
}

/// `update-ca-certificates`: all certificates in one file.
fn certificates(building: &mut Building) -> Result<()> {
    const FOLDER: &str = "usr/share/ca-certificates";
    let Ok(folder) = building.tree.find(FOLDER.as_bytes(), true) else { return Ok(()) };
    let mut paths = Vec::new();
    let mut waiting: Vec<(NodeId, String)> = vec![(folder, FOLDER.to_owned())];
    while let Some((id, path)) = waiting.pop() {
        for (name, child) in building.tree.children(id) {
            let path = format!("{path}/{}", String::from_utf8_lossy(name));
            match building.tree.node(child).kind() {
                Kind::Directory => waiting.push((child, path)),
                Kind::Regular if path.ends_with(".crt") => paths.push(path),
                _ => {}
            }
        }
    }
    paths.sort();
    let mut bundle = Vec::new();
    for path in paths {
        bundle.extend(building.read(&path)?.unwrap_or_default());
        if !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
    }
    building.put_file("etc/ssl/certs/ca-certificates.crt", 0o644, &bundle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_busybox_stand_in_it() {
        assert_eq!(applets(b"\x7fELF junk [ \0[\0[[\0ash\0cat\0ntpd\0\0more\0"), ["[", "[[", "ash", "cat", "ntpd"]);
        assert!(applets(b"no busybox").is_empty());
    }
}
