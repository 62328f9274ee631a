//! The plan of an image: its domains, what each is given, and who may call whom.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// The plan's path in the boot archive.
pub const MEMBER: &str = "plan";

/// An image, as the manager carries it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`Plan::VERSION`].
    pub version: u32,
    /// The image's name.
    pub image: String,
    /// The domains, servers before their clients.
    pub domains: Vec<Domain>,
}

impl Domain {
    /// In place of a number of pages: all that the other domains leave.
    pub const REST: u64 = (1 << 40) - 1;
}

/// One protection domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// Its name, and its process's in crash reports.
    pub name: String,
    /// The name of its program in the boot archive.
    pub program: String,
    /// Pages of its pool at most, or [`Domain::REST`].
    pub pages: u64,
    /// The pages that it has in any case.
    pub least: u64,
    /// Its budget's priority.
    pub priority: u8,
    /// How much processor time it may use; all that its priority gets if there is none.
    pub share: Option<Share>,
    /// A bit for each processor that it may use; 0: all.
    pub processors: u64,
    /// What happens when it ends.
    pub restart: Restart,
    /// Whether the machine is turned off when it has ended for good.
    pub essential: bool,
    /// In which mode of the processor it runs.
    pub level: Level,
    /// The components in it.
    pub components: Vec<Component>,
}

/// In which mode of the processor a domain runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// In user mode.
    #[default]
    User,
    /// In the kernel's mode, linked with the kernel.
    Kernel,
    /// The same, and its guests too.
    Guests,
}

impl Level {
    /// Its code in the ELF header of a program that was linked for it.
    pub fn code(self) -> u32 {
        tessera_abi::Level::from(self) as u32
    }
}

impl From<Level> for tessera_abi::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::User => tessera_abi::Level::User,
            Level::Kernel => tessera_abi::Level::Kernel,
            Level::Guests => tessera_abi::Level::Guests,
        }
    }
}

/// An amount of processor time in every period, both in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub amount: u64,
    pub period: u64,
}

/// What happens when a domain has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// It is started again.
    Always,
    /// It is started again unless it ended by itself with code 0.
    OnFailure,
    /// It stays ended.
    Never,
}

/// One component of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    pub name: String,
    pub arguments: Vec<String>,
    /// What it offers to others.
    pub provisions: Vec<Provision>,
    /// What it calls.
    pub uses: Vec<Use>,
    /// What it holds besides.
    pub needs: Vec<Need>,
}

/// An interface that a component provides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provision {
    pub name: String,
    pub interface: String,
}

/// An interface that a component uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    pub name: String,
    pub interface: String,
    /// Which component provides it, for people.
    pub provider: String,
    pub server: Server,
}

/// Where a used interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Server {
    /// In the same domain: a method call.
    Neighbour,
    /// In another domain.
    Domain {
        /// Its index in [`Plan::domains`].
        domain: u16,
        /// Which of its root objects, as the domain's program registers them.
        object: u16,
        /// The route's number, unique in the image.
        route: u32,
        /// The bit of the client domain's event that is raised when the server was restarted.
        bit: u8,
    },
    /// The manager itself.
    Manager {
        /// The route's number, unique in the image.
        route: u32,
    },
}

/// Something that a component holds besides its routes. `name` is how the component asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Need {
    /// The debug log, which the whole domain shares.
    Log,
    /// The clock, which the whole domain shares.
    Clock,
    /// I/O ports.
    Ports { name: String, first: u16, count: u16 },
    /// One interrupt line.
    Interrupt { name: String, line: u32 },
    /// Device memory: bytes, page aligned.
    Memory { name: String, first: u64, length: u64 },
    /// The manager's own handle called `of`, whole: `devices`, `interrupts`, `ports`, `power`, `archive`, `dma`.
    Authority { name: String, of: String },
}

/// The badge under which calls over a route to root object `object` arrive.
pub const fn badge(object: u16, route: u32) -> u64 {
    (object as u64) << 32 | route as u64
}

impl Plan {
    /// The version of the format.
    pub const VERSION: u32 = 3;

    /// Says how many pages each domain has, of `free` pages of which the manager keeps `kept` for itself: those that can do with less have all
    /// that they may have if it is half of the memory or less, otherwise as much of that half as there is, above their least, all in the
    /// same proportion. The domain that is to have the rest has what the others leave.
    pub fn share_memory(&mut self, free: u64, kept: u64) {
        let free = free.saturating_sub(kept);
        let others = || self.domains.iter().filter(|domain| domain.pages != Domain::REST);
        let least = others().map(|domain| domain.least).fold(0, u64::saturating_add);
        let most = others().map(|domain| domain.pages).fold(0, u64::saturating_add);
        let more = (free / 2).min(most).saturating_sub(least);
        let mut taken = 0_u64;
        for domain in self.domains.iter_mut().filter(|domain| domain.pages != Domain::REST) {
            let wanted = u128::from(domain.pages.saturating_sub(domain.least)) * u128::from(more);
            let part = wanted.checked_div(u128::from(most.saturating_sub(least))).unwrap_or(0);
            domain.pages = domain.least.saturating_add(part as u64);
            taken = taken.saturating_add(domain.pages);
        }
        let wanting = self.domains.iter_mut().filter(|domain| domain.pages == Domain::REST);
        for domain in wanting.take(1) {
            domain.pages = free.saturating_sub(taken).max(1);
        }
    }

    /// The plan as bytes.
    pub fn encode(&self) -> Vec<u8> {
        // Writing into a vector cannot fail: no type here refuses to be serialised.
        postcard::to_allocvec(self).unwrap_or_default()
    }
}
