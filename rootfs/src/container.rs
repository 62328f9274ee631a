//! The note that tells the guest's side what to run in a root image: arguments, environment, user and so on.
//!
//! It is a member of the boot archive beside the root image. Format: any number of records `KEY=VALUE`, each ended by
//! a NUL; a key may come more than once; unknown keys are skipped. Reading needs no memory and cannot fail: what is
//! missing or wrong reads as the default.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used))]

/// The name of the root image in the boot archive. Its contents begin on a page of the archive.
pub const ROOT_MEMBER: &str = "root.erofs";
/// The name of the note in the boot archive.
pub const NOTE_MEMBER: &str = "container";

/// Linux's `SIGTERM`, the stop signal of an image that names none.
pub const DEFAULT_STOP_SIGNAL: u32 = 15;
/// Seconds between the stop signal and the end by force, unless the note says otherwise.
pub const DEFAULT_GRACE: u32 = 10;

pub(crate) const ARGUMENT: &str = "argument";
pub(crate) const ENVIRONMENT: &str = "environment";
pub(crate) const DIRECTORY: &str = "directory";
pub(crate) const USER: &str = "user";
pub(crate) const GROUP: &str = "group";
pub(crate) const MORE_GROUPS: &str = "more-groups";
pub(crate) const HOST_NAME: &str = "host-name";
pub(crate) const PORT: &str = "port";
pub(crate) const VOLUME: &str = "volume";
pub(crate) const MOUNT: &str = "mount";
pub(crate) const HELD_TO: &str = "held-to";
pub(crate) const STOP_SIGNAL: &str = "stop-signal";
pub(crate) const GRACE: &str = "grace";
pub(crate) const TERMINAL: &str = "terminal";
pub(crate) const INPUT: &str = "input";

/// How a port is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A note that was read.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    note: &'a [u8],
}

impl<'a> Container<'a> {
    /// Takes the contents of the archive's member.
    pub fn new(note: &'a [u8]) -> Self {
        Self { note }
    }

    /// The program's path or name and its arguments. The program is to be looked for in `PATH` of the environment if it
    /// has no `/` in it.
    pub fn arguments(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.all(ARGUMENT)
    }

    /// The environment's entries, each `NAME=VALUE`.
    pub fn environment(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.all(ENVIRONMENT)
    }

    /// The working directory. It is to be made if it is not there.
    pub fn directory(&self) -> &'a [u8] {
        self.one(DIRECTORY).unwrap_or(b"/")
    }

    pub fn user(&self) -> u32 {
        self.number(USER).unwrap_or(0)
    }

    pub fn group(&self) -> u32 {
        self.number(GROUP).unwrap_or(0)
    }

    /// The supplementary groups.
    pub fn more_groups(&self) -> impl Iterator<Item = u32> + Clone + use<'a> {
        self.all(MORE_GROUPS).filter_map(number)
    }

    pub fn host_name(&self) -> &'a [u8] {
        self.one(HOST_NAME).unwrap_or(b"tessera")
    }

    /// The guest's ports that the host maps to ports of its own.
    pub fn ports(&self) -> impl Iterator<Item = (Protocol, u16)> + Clone + use<'a> {
        self.all(PORT).filter_map(|port| {
            let (protocol, port) = [(Protocol::Tcp, b"tcp:"), (Protocol::Udp, b"udp:")]
                .into_iter()
                .find_map(|(protocol, prefix)| Some((protocol, port.strip_prefix(prefix)?)))?;
            Some((protocol, u16::try_from(number(port)?).ok()?))
        })
    }

    /// Paths that are volumes: they are to be written to even where the rest of the root is not.
    pub fn volumes(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.all(VOLUME)
    }

    /// Where volumes of the host are to be, the first that the guest has first.
    pub fn mounts(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.all(MOUNT)
    }

    /// What the person who runs it said of the network that it may reach, to be told when something is refused; empty if nothing. It is held to
    /// that by others.
    pub fn held_to(&self) -> &'a [u8] {
        self.one(HELD_TO).unwrap_or_default()
    }

    /// The number of the signal that asks the program to end.
    pub fn stop_signal(&self) -> u32 {
        self.number(STOP_SIGNAL).filter(|signal| (1..=64).contains(signal)).unwrap_or(DEFAULT_STOP_SIGNAL)
    }

    /// Seconds between the stop signal and the end by force.
    pub fn grace(&self) -> u32 {
        self.number(GRACE).unwrap_or(DEFAULT_GRACE)
    }

    /// Whether standard input and output are a terminal (`-t`).
    pub fn has_terminal(&self) -> bool {
        self.one(TERMINAL) == Some(b"1")
    }

    /// Whether the console's input is the program's (`-i`); otherwise its input is empty.
    pub fn has_input(&self) -> bool {
        self.one(INPUT) == Some(b"1")
    }

    fn all(&self, key: &'static str) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let records = self.note.split(|byte| *byte == 0);
        records.filter_map(move |record| record.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
    }

    fn one(&self, key: &'static str) -> Option<&'a [u8]> {
        self.all(key).next()
    }

    fn number(&self, key: &'static str) -> Option<u32> {
        self.one(key).and_then(number)
    }
}

/// Reads a decimal number without a sign.
fn number(text: &[u8]) -> Option<u32> {
    let digits = text.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

#[cfg(feature = "build")]
mod write {
    use super::*;

    /// What to run, on the side that decides it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Note {
        pub arguments: Vec<String>,
        pub environment: Vec<String>,
        pub directory: String,
        pub user: u32,
        pub group: u32,
        pub more_groups: Vec<u32>,
        pub host_name: String,
        pub ports: Vec<(Protocol, u16)>,
        pub volumes: Vec<String>,
        pub mounts: Vec<String>,
        pub held_to: String,
        pub stop_signal: u32,
        pub grace: u32,
        pub terminal: bool,
        pub input: bool,
    }

    impl Note {
        /// The member's contents, or the text that cannot be written because it has a NUL in it.
        pub fn to_text(&self) -> Result<String, String> {
            let mut text = String::new();
            let mut put = |key: &str, value: &str| {
                if value.contains('\0') {
                    return Err(value.to_owned());
                }
                for part in [key, "=", value, "\0"] {
                    text.push_str(part);
                }
                Ok(())
            };
            self.arguments.iter().try_for_each(|value| put(ARGUMENT, value))?;
            self.environment.iter().try_for_each(|value| put(ENVIRONMENT, value))?;
            put(DIRECTORY, &self.directory)?;
            put(USER, &self.user.to_string())?;
            put(GROUP, &self.group.to_string())?;
            self.more_groups.iter().try_for_each(|value| put(MORE_GROUPS, &value.to_string()))?;
            put(HOST_NAME, &self.host_name)?;
            self.ports.iter().try_for_each(|(protocol, port)| put(PORT, &format!("{}:{port}", protocol.name())))?;
            self.volumes.iter().try_for_each(|value| put(VOLUME, value))?;
            self.mounts.iter().try_for_each(|value| put(MOUNT, value))?;
            put(HELD_TO, &self.held_to)?;
            put(STOP_SIGNAL, &self.stop_signal.to_string())?;
            put(GRACE, &self.grace.to_string())?;
            put(TERMINAL, if self.terminal { "1" } else { "0" })?;
            put(INPUT, if self.input { "1" } else { "0" })?;
            Ok(text)
        }
    }
}

#[cfg(feature = "build")]
pub use write::Note;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_note_comes_back_as_it_was_written() {
        let note = Note {
            arguments: vec!["nginx".into(), "-g".into(), "daemon off;".into(), String::new()],
            environment: vec!["PATH=/bin".into(), "A==b".into()],
            directory: "/srv".into(),
            user: 33,
            group: 34,
            more_groups: vec![4, 20],
            host_name: "web".into(),
            ports: vec![(Protocol::Tcp, 80), (Protocol::Udp, 53)],
            volumes: vec!["/data".into()],
            mounts: vec!["/srv/www".into(), "/logs".into()],
            held_to: "--deny net".into(),
            stop_signal: 3,
            grace: 7,
            terminal: true,
            input: false,
        };
        let bytes = note.to_text().unwrap();
        let read = Container::new(bytes.as_bytes());
        let texts = |values: Vec<&[u8]>| -> Vec<String> {
            values.into_iter().map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
        };
        let back = Note {
            arguments: texts(read.arguments().collect()),
            environment: texts(read.environment().collect()),
            directory: String::from_utf8(read.directory().to_vec()).unwrap(),
            user: read.user(),
            group: read.group(),
            more_groups: read.more_groups().collect(),
            host_name: String::from_utf8(read.host_name().to_vec()).unwrap(),
            ports: read.ports().collect(),
            volumes: texts(read.volumes().collect()),
            mounts: texts(read.mounts().collect()),
            held_to: String::from_utf8(read.held_to().to_vec()).unwrap(),
            stop_signal: read.stop_signal(),
            grace: read.grace(),
            terminal: read.has_terminal(),
            input: read.has_input(),
        };
        assert_eq!(back, note);
        assert!(Note { host_name: "a\0b".into(), ..note }.to_text().is_err());
    }

    #[test]
    fn what_is_missing_or_wrong_is_the_default() {
        let read = Container::new(b"user=-1\0group=99999999999\0stop-signal=0\0port=tcp:70000\0port=sctp:1\0junk");
        assert_eq!((read.user(), read.group(), read.stop_signal()), (0, 0, DEFAULT_STOP_SIGNAL));
        assert_eq!(read.ports().count(), 0);
        assert_eq!(read.directory(), b"/");
        assert!(!read.has_terminal());
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let read = Container::new(&bytes);
            let _ = (read.arguments().count(), read.ports().count(), read.more_groups().count(), read.grace());
        }
    }
}
