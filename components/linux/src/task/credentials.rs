//! Who a process is: users, groups, capabilities (credentials(7)).

use alloc::vec::Vec;

/// Every capability that Linux has (`CAP_LAST_CAP` is 40).
pub const ALL_CAPABILITIES: u64 = (1 << 41) - 1;
/// The capabilities that container runtimes give by default, but for raw packets, which the network does not pass.
pub const CONTAINER: u64 = 0x0000_0000_a804_25fb & !(1 << capability::NET_RAW);

/// The numbers of the capabilities that are asked for.
pub mod capability {
    pub const CHOWN: u32 = 0;
    pub const DAC_OVERRIDE: u32 = 1;
    pub const FOWNER: u32 = 3;
    pub const FSETID: u32 = 4;
    pub const KILL: u32 = 5;
    pub const SETGID: u32 = 6;
    pub const SETUID: u32 = 7;
    pub const SETPCAP: u32 = 8;
    pub const NET_BIND_SERVICE: u32 = 10;
    pub const NET_RAW: u32 = 13;
    pub const IPC_LOCK: u32 = 14;
    pub const SYS_CHROOT: u32 = 18;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_NICE: u32 = 23;
    pub const SYS_RESOURCE: u32 = 24;
    pub const SYS_TIME: u32 = 25;
    pub const MKNOD: u32 = 27;
}

/// A process's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub user: u32,
    pub effective_user: u32,
    pub saved_user: u32,
    pub file_user: u32,
    pub group: u32,
    pub effective_group: u32,
    pub saved_group: u32,
    pub file_group: u32,
    pub groups: Vec<u32>,
    pub permitted: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub bounding: u64,
    pub ambient: u64,
    pub keep_capabilities: bool,
    pub no_new_privileges: bool,
    pub secure_bits: u32,
}

impl Credentials {
    /// What a container's first process is.
    pub fn new(user: u32, group: u32, groups: Vec<u32>) -> Credentials {
        let capabilities = if user == 0 { CONTAINER } else { 0 };
        Credentials {
            user,
            effective_user: user,
            saved_user: user,
            file_user: user,
            group,
            effective_group: group,
            saved_group: group,
            file_group: group,
            groups,
            permitted: capabilities,
            effective: capabilities,
            inheritable: 0,
            bounding: CONTAINER,
            ambient: 0,
            keep_capabilities: false,
            no_new_privileges: false,
            secure_bits: 0,
        }
    }

    /// Whether a capability is in effect.
    pub fn has(&self, capability: u32) -> bool {
        self.effective & 1 << capability != 0
    }

    /// Whether file permissions do not hold for it.
    pub fn overrides_permissions(&self) -> bool {
        self.has(capability::DAC_OVERRIDE)
    }

    pub fn is_in_group(&self, group: u32) -> bool {
        self.file_group == group || self.groups.contains(&group)
    }

    /// Whether it may do to `uid`'s files what owners may.
    pub fn owns(&self, uid: u32) -> bool {
        self.file_user == uid || self.has(capability::FOWNER)
    }

    /// After a change of users: capabilities follow the superuser (capabilities(7), "Effect of user ID changes").
    pub fn users_changed(&mut self, before: &Credentials) {
        let had_root = [before.user, before.effective_user, before.saved_user].contains(&0);
        let has_root = [self.user, self.effective_user, self.saved_user].contains(&0);
        if had_root && !has_root && !self.keep_capabilities {
            (self.permitted, self.effective, self.ambient) = (0, 0, 0);
        }
        if before.effective_user == 0 && self.effective_user != 0 {
            self.effective = 0;
        }
        if before.effective_user != 0 && self.effective_user == 0 {
            self.effective = self.permitted;
        }
        self.file_user = self.effective_user;
    }
}
