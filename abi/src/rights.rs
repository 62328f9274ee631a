//! What a handle lets its holder do. Duplicating can only drop rights.

/// A set of rights.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Rights(u32);

macro_rules! rights {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Rights {
            $($(#[$doc])* pub const $name: Rights = Rights(1 << $bit);)*
            /// Every right there is.
            pub const ALL: Rights = Rights(0 $(| 1 << $bit)*);
            const NAMES: &'static [(Rights, &'static str)] = &[$((Rights::$name, stringify!($name)),)*];
        }
    };
}

rights! {
    /// Make another handle to the same object.
    DUPLICATE = 0;
    /// Send the handle to another process.
    TRANSFER = 1;
    /// Read memory, registers, state.
    READ = 2;
    /// Write memory, registers, state.
    WRITE = 3;
    /// Map memory into a space; change a space's mappings; pin memory for a device.
    MAP = 4;
    /// Map memory as executable.
    EXECUTE = 5;
    /// Call a session.
    CALL = 6;
    /// Receive an endpoint's calls.
    RECEIVE = 7;
    /// Raise an event, unpark a thread.
    SIGNAL = 8;
    /// Wait for an event.
    WAIT = 9;
    /// Change or end the object; make objects from it; revoke what was derived from the handle.
    MANAGE = 10;
}

impl Rights {
    /// No rights at all.
    pub const NONE: Rights = Rights(0);

    /// The rights whose bits are set; bits without a meaning are refused.
    pub const fn from_bits(bits: u64) -> Option<Rights> {
        if bits & !(Rights::ALL.0 as u64) == 0 { Some(Rights(bits as u32)) } else { None }
    }

    /// The bits of this set.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether every right of `other` is in this set.
    pub const fn contains(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    pub const fn union(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// What is in both sets.
    pub const fn intersection(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }

    /// This set without `other`.
    pub const fn without(self, other: Rights) -> Rights {
        Rights(self.0 & !other.0)
    }
}

impl core::ops::BitOr for Rights {
    type Output = Rights;
    fn bitor(self, other: Rights) -> Rights {
        self.union(other)
    }
}

impl core::fmt::Debug for Rights {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut first = true;
        for (right, name) in Rights::NAMES {
            if self.contains(*right) {
                if !first {
                    formatter.write_str("|")?;
                }
                formatter.write_str(name)?;
                first = false;
            }
        }
        if first { formatter.write_str("NONE") } else { Ok(()) }
    }
}
