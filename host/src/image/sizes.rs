//! What a description says of the virtual machine and of memory: values with their ranges.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The kind of virtual machine.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum MachineKind {
    /// A PC with PCI Express.
    #[default]
    Q35,
    /// A minimal machine without PCI and with little firmware.
    Microvm,
}

impl fmt::Display for MachineKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Q35 => "q35",
            Self::Microvm => "microvm",
        })
    }
}

/// The guest's memory in MiB, 4 or more.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Memory(u32);

impl Memory {
    pub fn bytes(self) -> u64 {
        u64::from(self.0) << 20
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self(64)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}M", self.0)
    }
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        const WANTED: &str = "memory is a number and a unit, `M` or `G`, from \"4M\" to \"1024G\"";
        let (number, scale) = match (text.strip_suffix('M'), text.strip_suffix('G')) {
            (Some(number), _) => (number, 1),
            (_, Some(number)) => (number, 1024),
            _ => return Err(format!("`{text}` is no size: {WANTED}")),
        };
        let size = number.parse().ok().and_then(|number: u32| number.checked_mul(scale));
        match size {
            Some(size) if (4..=1024 * 1024).contains(&size) => Ok(Self(size)),
            _ => Err(format!("`{text}` is out of range: {WANTED}")),
        }
    }
}

impl TryFrom<String> for Memory {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

/// The number of processors, 1 to 8.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "i64")]
pub struct Processors(u8);

impl Processors {
    pub fn count(self) -> u8 {
        self.0
    }
}

impl Default for Processors {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<i64> for Processors {
    type Error = String;

    fn try_from(count: i64) -> std::result::Result<Self, String> {
        match u8::try_from(count) {
            Ok(count @ 1..=8) => Ok(Self(count)),
            _ => Err(format!("{count} processors are out of range: Tessera runs on 1 to 8")),
        }
    }
}

impl FromStr for Processors {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        text.parse::<i64>().map_err(|_| format!("`{text}` is not a number"))?.try_into()
    }
}

/// An amount of memory in bytes, a multiple of the page size.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub struct Size(u64);

impl Size {
    /// Bytes of a page.
    const PAGE: u64 = 4096;

    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }

    pub fn bytes(self) -> u64 {
        self.0
    }

    pub fn pages(self) -> u64 {
        self.0 / Self::PAGE
    }

    /// As a description writes it.
    pub fn written(self) -> String {
        match self.0 >> 10 {
            kibibytes if kibibytes % 1024 == 0 => format!("{}M", kibibytes >> 10),
            kibibytes => format!("{kibibytes}K"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} KiB of memory", self.0 >> 10)
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        const WANTED: &str = "an amount of memory is a number and a unit, `K`, `M` or `G`, from \"256K\" to \"1024G\"";
        let shift = match text.bytes().last() {
            Some(b'K') => 10,
            Some(b'M') => 20,
            Some(b'G') => 30,
            _ => return Err(format!("`{text}` is no size: {WANTED}")),
        };
        let number: Option<u64> = text.get(..text.len() - 1).and_then(|number| number.parse().ok());
        match number.and_then(|number| number.checked_mul(1 << shift)) {
            Some(size) if (256 << 10..=1 << 40).contains(&size) && size % Self::PAGE == 0 => Ok(Self(size)),
            _ => Err(format!("`{text}` is out of range: {WANTED}")),
        }
    }
}

/// What a domain has of the memory: an amount, or as much between two as there is when the machine starts.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Amount {
    pub least: Size,
    pub most: Size,
}

impl Amount {
    /// What the other domains leave: known when the machine starts.
    pub const REST: Self = Self { least: Size::mebibytes(1), most: Size(tessera_plan::Domain::REST * Size::PAGE) };

    /// What a domain has if nothing is said.
    pub const DEFAULT: Self = Self::of(Size::mebibytes(4));

    const fn of(size: Size) -> Self {
        Self { least: size, most: size }
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        if self == Self::REST || other == Self::REST {
            return Self::REST;
        }
        let sum = |one: Size, other: Size| Size(one.0.saturating_add(other.0));
        Self { least: sum(self.least, other.least), most: sum(self.most, other.most) }
    }

    /// As a description writes it.
    pub fn written(self) -> String {
        match self {
            Self::REST => "the rest".to_owned(),
            Self { least, most } if least == most => most.written(),
            Self { least, most } => format!("{} to {}", least.written(), most.written()),
        }
    }
}

impl TryFrom<String> for Amount {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        if text == "rest" {
            return Ok(Self::REST);
        }
        let Some((least, most)) = text.split_once("..") else { return Size::try_from(text).map(Self::of) };
        let (least, most) = (Size::try_from(least.to_owned())?, Size::try_from(most.to_owned())?);
        if least > most {
            return Err(format!("`{text}` begins with more than it ends with: write the least amount first"));
        }
        Ok(Self { least, most })
    }
}

/// A span of time in nanoseconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Time(pub u64);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let units = [("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
        let read = units.iter().find_map(|(unit, scale): &(&str, u64)| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(*scale).filter(|time| *time > 0)
        });
        read.map(Self).ok_or_else(|| format!("`{text}` is no time: a time is a number and a unit, such as \"10ms\""))
    }
}
