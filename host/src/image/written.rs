//! The parts of an `image.toml` that describe a system of components, as they are written.
//!
//! ```toml
//! name = "web"
//! placement = "isolated"         # each component in a domain of its own; or "libos", "monolith", "unikernel" (`placement.rs`)
//!
//! [[component]]
//! name = "net"                   # this instance's name; a domain of one component has it too
//! component = "net"              # which component.toml, if it has another name
//! domain = "services"            # places it with others of the same domain
//! arguments = ["address=dhcp"]
//! allow = ["ports"]              # what of its [needs] it is given, besides log and clock
//! program = "../server"          # of the component `native`: the Cargo project that it runs
//!
//! [domain.services]              # each key has a default
//! privilege = "kernel"           # linked with the kernel, in its mode of the processor; or "user"
//! memory = "8M"                  # what its pool holds; "2M..64M": as much between as there is; "rest": all that the other domains leave (for one domain)
//! priority = 20                  # 0 to 59, higher first; a server's is not lower than its clients'
//! processor = { amount = "10ms", period = "100ms" }
//! processors = [0, 1]            # which it may use
//! threads = 2                    # how many calls it serves at once
//! restart = "always"             # or "on-failure", "never"
//! essential = true               # the machine is turned off when it has ended for good
//!
//! [route]                        # only where several components provide what one uses
//! web.network = "net"            # or "net.network", if it provides the interface twice
//!
//! [[device]]                     # what `tessera run` puts into the virtual machine: "network", "disk", "entropy"
//! kind = "disk"
//! size = "64M"                   # zeros at each start; or `path` of a file, and perhaps `read-only = true`, or of a
//!                                # folder: a tar archive of it, read only
//! # tap = "tap0"                 # of a network: an interface of this machine, in place of one behind QEMU
//!
//! [[file]]                       # any number of further members of the boot archive
//! name = "root.img"
//! path = "web/root.img"          # from the folder of the image.toml
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::sizes::{Amount, Size, Time};

/// From the names of a component and of what it uses to the name of a component, or of a component and what it provides.
pub type Routes = BTreeMap<Spanned<String>, BTreeMap<Spanned<String>, Spanned<String>>>;

/// Where components are if nothing else is said.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// Each in a domain of its own.
    #[default]
    Isolated,
    /// Those that drive devices each in a domain of its own, all others together in one.
    Libos,
    /// All linked with the kernel, together in one.
    Monolith,
    /// All linked with the kernel, and the program too.
    Unikernel,
}

impl Placement {
    /// The word that chooses it.
    pub fn word(self) -> &'static str {
        match self {
            Placement::Isolated => "isolated",
            Placement::Libos => "libos",
            Placement::Monolith => "monolith",
            Placement::Unikernel => "unikernel",
        }
    }

    /// Whether it places components in the kernel's mode of the processor.
    pub fn is_kernel(self) -> bool {
        matches!(self, Placement::Monolith | Placement::Unikernel)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenComponent {
    pub name: Spanned<String>,
    pub component: Option<Spanned<String>>,
    pub domain: Option<Spanned<String>>,
    /// Of a component that runs one: the folder of a Cargo project, from that of the image.toml.
    pub program: Option<Spanned<String>>,
    #[serde(default)]
    pub arguments: Vec<Spanned<String>>,
    #[serde(default)]
    pub allow: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenDomain {
    pub privilege: Option<Spanned<Privilege>>,
    pub memory: Option<Spanned<Amount>>,
    pub priority: Option<Spanned<i64>>,
    pub processor: Option<Spanned<WrittenShare>>,
    pub processors: Vec<Spanned<i64>>,
    pub threads: Option<Spanned<i64>>,
    pub restart: Option<WrittenRestart>,
    pub essential: bool,
}

/// In which mode of the processor a domain runs.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    User,
    Kernel,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenShare {
    pub amount: Time,
    pub period: Time,
}

/// The stricter, the later.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum WrittenRestart {
    Always,
    OnFailure,
    Never,
}

/// A device of the virtual machine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenDevice {
    pub kind: Spanned<DeviceKind>,
    /// Of a disk: so many zeros at each start.
    pub size: Option<Spanned<Size>>,
    /// Of a disk: a file, or a folder to be packed; from the folder of the image.toml.
    pub path: Option<Spanned<String>>,
    /// Of a network: an interface of this machine.
    pub tap: Option<Spanned<String>>,
    #[serde(default, rename = "read-only")]
    pub read_only: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    Network,
    Disk,
    Entropy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenFile {
    pub name: Spanned<String>,
    pub path: Spanned<String>,
}

/// A text, or a table where a text does not say enough.
#[derive(Clone, Debug)]
pub enum TextOr<T> {
    Text(String),
    Table(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = TextOr<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text or a table")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOr::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(TextOr::Table)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}
