//! From what the image says and what the command line changes: the note of what to run.

use miette::{Result, miette};
use tessera_rootfs::Image;
use tessera_rootfs::container::{DEFAULT_GRACE, DEFAULT_STOP_SIGNAL, Note};

use super::look::Look;
use super::settings::{DEFAULT_PATH, Settings, signal};
use super::{Overrides, Volume, program};

/// Decides what is run, and checks that it can be.
pub fn note(image: &Image, settings: &Settings, overrides: &Overrides, live: &[&Volume]) -> Result<Note> {
    let look = Look(*image);
    // As Docker does: a new entry point makes the image's command meaningless.
    let entrypoint = match &overrides.entrypoint {
        Some(program) => vec![program.clone()],
        None => settings.entrypoint.clone(),
    };
    let command = if overrides.words.is_empty() && overrides.entrypoint.is_none() {
        settings.command.clone()
    } else {
        overrides.words.clone()
    };
    let arguments = [entrypoint, command].concat();
    let Some(name) = arguments.first() else {
        return Err(miette!(
            help = "give a command after `--`, such as `-- /bin/sh`",
            "the image does not say what to run"
        ));
    };
    let directory = overrides.directory.clone().unwrap_or_else(|| settings.directory.clone());
    let directory = if directory.starts_with('/') { directory } else { format!("/{directory}") };
    let user = overrides.user.as_ref().unwrap_or(&settings.user);
    let user = User::find(&look, user)?;
    let environment = environment(settings, overrides, &user)?;
    let path = environment.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    program::check(image, name, path, &directory)?;
    let stop_signal = match settings.stop_signal.as_str() {
        "" => DEFAULT_STOP_SIGNAL,
        text => signal(text).ok_or_else(|| miette!("the image's stop signal `{text}` is no signal of Linux"))?,
    };
    Ok(Note {
        arguments,
        environment,
        directory,
        user: user.id,
        group: user.group,
        more_groups: user.more_groups,
        host_name: overrides.host_name.clone().unwrap_or_else(|| "tessera".to_owned()),
        ports: overrides.ports.iter().map(|mapping| (mapping.protocol, mapping.guest)).collect(),
        volumes: settings.volumes.clone(),
        mounts: live.iter().map(|volume| volume.guest.clone()).collect(),
        held_to: overrides.authority.told().unwrap_or_default(),
        stop_signal,
        grace: overrides.grace.unwrap_or(DEFAULT_GRACE),
        terminal: overrides.terminal.is_some(),
        input: overrides.input,
    })
}

/// The image's environment with what the command line sets: a later entry of a name takes the earlier one's place.
fn environment(settings: &Settings, overrides: &Overrides, user: &User) -> Result<Vec<String>> {
    let mut environment: Vec<String> = Vec::new();
    let mut set = |entry: String| {
        let name = entry.split_inclusive('=').next().unwrap_or_default().to_owned();
        match environment.iter_mut().find(|old| old.starts_with(&name)) {
            Some(old) => *old = entry,
            None => environment.push(entry),
        }
    };
    set(DEFAULT_PATH.to_owned());
    set(format!("HOME={}", user.home));
    set(format!("HOSTNAME={}", overrides.host_name.as_deref().unwrap_or("tessera")));
    if let Some(terminal) = &overrides.terminal {
        set(format!("TERM={terminal}"));
    }
    settings.environment.iter().filter(|entry| entry.contains('=')).cloned().for_each(&mut set);
    for given in &overrides.environment {
        if given.is_empty() || given.starts_with('=') {
            return Err(miette!(help = "write NAME=VALUE, or NAME to pass this machine's on", "`{given}` has no name"));
        }
        if given.contains('=') {
            set(given.clone());
        }
    }
    Ok(environment)
}

/// A user of the image.
#[derive(Debug, PartialEq, Eq)]
struct User {
    id: u32,
    group: u32,
    more_groups: Vec<u32>,
    home: String,
}

impl User {
    /// Finds `USER`, `USER:GROUP`, each a name or a number, in the image's `/etc/passwd` and `/etc/group`.
    fn find(look: &Look, wanted: &str) -> Result<Self> {
        let (user, group) = match wanted.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (wanted, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let (users, groups) = (look.text("etc/passwd"), look.text("etc/group"));
        // NAME:PASSWORD:NUMBER:GROUP:DESCRIPTION:HOME:SHELL
        let entry = |line: &str| -> Option<(String, u32, u32, String)> {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let (id, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            Some((name, id, group, fields.nth(1).unwrap_or("/").to_owned()))
        };
        let number: Option<u32> = user.parse().ok();
        let found = users.lines().filter_map(entry).find(|(name, id, ..)| name == user || Some(*id) == number);
        let (name, id, own_group, home) = match (found, number) {
            (Some((name, id, group, home)), _) => (Some(name), id, group, home),
            (None, Some(number)) => (None, number, 0, "/".to_owned()),
            (None, None) => {
                return Err(miette!(
                    help = "give a user that its /etc/passwd has, or a number, with `--user`",
                    "the image has no user `{user}`"
                ));
            }
        };
        // NAME:PASSWORD:NUMBER:MEMBERS
        let group_entry = |line: &str| -> Option<(String, u32, Vec<String>)> {
            let mut fields = line.split(':');
            let (name, id) = (fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?);
            let members = fields.next().unwrap_or_default().split(',').map(str::to_owned).collect();
            Some((name, id, members))
        };
        let groups: Vec<_> = groups.lines().filter_map(group_entry).collect();
        let primary = match group {
            None => own_group,
            Some(text) => match (groups.iter().find(|(name, ..)| name == text), text.parse()) {
                (Some((_, id, _)), _) => *id,
                (None, Ok(number)) => number,
                (None, Err(_)) => {
                    return Err(miette!(
                        help = "give a group that its /etc/group has, or a number",
                        "the image has no group `{text}`"
                    ));
                }
            },
        };
        // A group that was given stands alone, as with Docker.
        let more_groups = match (&name, group) {
            (Some(name), None) => {
                let is_member =
                    |(_, id, members): &&(String, u32, Vec<String>)| *id != primary && members.contains(name);
                groups.iter().filter(is_member).map(|(_, id, _)| *id).collect()
            }
            _ => Vec::new(),
        };
        Ok(Self { id, group: primary, more_groups, home })
    }
}

#[cfg(test)]
#[path = "note_tests.rs"]
mod tests;
