//! Users, groups, capabilities (credentials(7), capabilities(7)).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use crate::errno::{Errno, Result};
use crate::task::credentials::capability;
use crate::task::{Context, Credentials, Process};

/// "Leave it as it is."
const KEEP: u32 = u32::MAX;

/// Changes the thread's identity as `change` says, unless it refuses.
pub fn change(context: &mut Context, change: impl FnOnce(&mut Credentials) -> Result<()>) -> Result<u64> {
    let current = context.credentials();
    let mut next = (*current).clone();
    change(&mut next)?;
    let users = |of: &Credentials| (of.user, of.effective_user, of.saved_user);
    if users(&next) != users(&current) {
        next.users_changed(&current);
    }
    context.become_someone(next);
    Ok(0)
}

/// Whether the caller may look into a process, and change it: it is the same user's and has no secrets (ptrace(2), "access mode").
pub fn may_inspect(context: &Context, process: &Arc<Process>) -> Result<()> {
    if Arc::ptr_eq(process, &context.process) {
        return Ok(());
    }
    let (who, other) = (context.credentials(), process.credentials());
    let users = [other.user, other.effective_user, other.saved_user];
    let groups = [other.group, other.effective_group, other.saved_group];
    let same = users == [who.user; 3] && groups == [who.group; 3];
    let open = process.dumpable.load(Ordering::Relaxed) == 1 && other.permitted & !who.permitted == 0;
    if same && open || who.has(capability::SYS_PTRACE) { Ok(()) } else { Err(Errno::EPERM) }
}

pub fn getuid(context: &mut Context) -> Result<u64> {
    Ok(context.credentials().user.into())
}

pub fn geteuid(context: &mut Context) -> Result<u64> {
    Ok(context.credentials().effective_user.into())
}

pub fn getgid(context: &mut Context) -> Result<u64> {
    Ok(context.credentials().group.into())
}

pub fn getegid(context: &mut Context) -> Result<u64> {
    Ok(context.credentials().effective_group.into())
}

pub fn getresuid(context: &mut Context, user: u64, effective: u64, saved: u64) -> Result<u64> {
    let who = context.credentials();
    for (address, value) in [(user, who.user), (effective, who.effective_user), (saved, who.saved_user)] {
        context.write_u32(address, value)?;
    }
    Ok(0)
}

pub fn getresgid(context: &mut Context, group: u64, effective: u64, saved: u64) -> Result<u64> {
    let who = context.credentials();
    for (address, value) in [(group, who.group), (effective, who.effective_group), (saved, who.saved_group)] {
        context.write_u32(address, value)?;
    }
    Ok(0)
}

pub fn setuid(context: &mut Context, id: u32) -> Result<u64> {
    if id == KEEP {
        return Err(Errno::EINVAL);
    }
    change(context, |who| {
        if who.has(capability::SETUID) {
            (who.user, who.saved_user) = (id, id);
        } else if id != who.user && id != who.saved_user {
            return Err(Errno::EPERM);
        }
        who.effective_user = id;
        Ok(())
    })
}

pub fn setgid(context: &mut Context, id: u32) -> Result<u64> {
    if id == KEEP {
        return Err(Errno::EINVAL);
    }
    change(context, |who| {
        if who.has(capability::SETGID) {
            (who.group, who.saved_group) = (id, id);
        } else if id != who.group && id != who.saved_group {
            return Err(Errno::EPERM);
        }
        (who.effective_group, who.file_group) = (id, id);
        Ok(())
    })
}

/// Whether every id that is not left as it is, is one of those allowed.
fn allowed(ids: &[u32], among: &[u32]) -> bool {
    ids.iter().all(|id| *id == KEEP || among.contains(id))
}

pub fn setreuid(context: &mut Context, user: u32, effective: u32) -> Result<u64> {
    change(context, |who| {
        let before = who.user;
        let own = allowed(&[user], &[who.user, who.effective_user])
            && allowed(&[effective], &[who.user, who.effective_user, who.saved_user]);
        if !own && !who.has(capability::SETUID) {
            return Err(Errno::EPERM);
        }
        if user != KEEP {
            who.user = user;
        }
        if effective != KEEP {
            who.effective_user = effective;
        }
        if user != KEEP || effective != KEEP && effective != before {
            who.saved_user = who.effective_user;
        }
        who.file_user = who.effective_user;
        Ok(())
    })
}

pub fn setregid(context: &mut Context, group: u32, effective: u32) -> Result<u64> {
    change(context, |who| {
        let before = who.group;
        let own = allowed(&[group], &[who.group, who.effective_group])
            && allowed(&[effective], &[who.group, who.effective_group, who.saved_group]);
        if !own && !who.has(capability::SETGID) {
            return Err(Errno::EPERM);
        }
        if group != KEEP {
            who.group = group;
        }
        if effective != KEEP {
            who.effective_group = effective;
        }
        if group != KEEP || effective != KEEP && effective != before {
            who.saved_group = who.effective_group;
        }
        who.file_group = who.effective_group;
        Ok(())
    })
}

pub fn setresuid(context: &mut Context, user: u32, effective: u32, saved: u32) -> Result<u64> {
    change(context, |who| {
        if !who.has(capability::SETUID)
            && !allowed(&[user, effective, saved], &[who.user, who.effective_user, who.saved_user])
        {
            return Err(Errno::EPERM);
        }
        for (place, id) in [(&mut who.user, user), (&mut who.effective_user, effective), (&mut who.saved_user, saved)] {
            if id != KEEP {
                *place = id;
            }
        }
        who.file_user = who.effective_user;
        Ok(())
    })
}

pub fn setresgid(context: &mut Context, group: u32, effective: u32, saved: u32) -> Result<u64> {
    change(context, |who| {
        if !who.has(capability::SETGID)
            && !allowed(&[group, effective, saved], &[who.group, who.effective_group, who.saved_group])
        {
            return Err(Errno::EPERM);
        }
        for (place, id) in
            [(&mut who.group, group), (&mut who.effective_group, effective), (&mut who.saved_group, saved)]
        {
            if id != KEEP {
                *place = id;
            }
        }
        who.file_group = who.effective_group;
        Ok(())
    })
}

/// `CAP_CHOWN`, `CAP_DAC_OVERRIDE`, `CAP_DAC_READ_SEARCH`, `CAP_FOWNER`, `CAP_FSETID`, `CAP_LINUX_IMMUTABLE`, `CAP_MKNOD`,
/// `CAP_MAC_OVERRIDE`.
const FILE_CAPABILITIES: u64 = 0x1f | 1 << 9 | 1 << 27 | 1 << 32;

/// Answers the old one, whether it was changed or not.
pub fn setfsuid(context: &mut Context, id: u32) -> Result<u64> {
    let before = context.credentials().file_user;
    if id == KEEP {
        return Ok(before.into());
    }
    let _ = change(context, |who| {
        if who.has(capability::SETUID) || [who.user, who.effective_user, who.saved_user].contains(&id) {
            who.file_user = id;
            // Who is root for files has the capabilities about files, and nobody else (capabilities(7)).
            match (before, id) {
                (0, 1..) => who.effective &= !FILE_CAPABILITIES,
                (1.., 0) => who.effective |= who.permitted & FILE_CAPABILITIES,
                _ => {}
            }
        }
        Ok(())
    });
    Ok(before.into())
}

pub fn setfsgid(context: &mut Context, id: u32) -> Result<u64> {
    let before = context.credentials().file_group;
    if id == KEEP {
        return Ok(before.into());
    }
    let _ = change(context, |who| {
        if who.has(capability::SETGID) || [who.group, who.effective_group, who.saved_group].contains(&id) {
            who.file_group = id;
        }
        Ok(())
    });
    Ok(before.into())
}

pub fn getgroups(context: &mut Context, size: i32, to: u64) -> Result<u64> {
    let who = context.credentials();
    let count = who.groups.len();
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    if size != 0 {
        if size < count {
            return Err(Errno::EINVAL);
        }
        let bytes: Vec<u8> = who.groups.iter().flat_map(|group| group.to_le_bytes()).collect();
        context.write_bytes(to, &bytes)?;
    }
    Ok(count as u64)
}

pub fn setgroups(context: &mut Context, count: u32, from: u64) -> Result<u64> {
    const MOST: u32 = 65_536;
    if !context.credentials().has(capability::SETGID) {
        return Err(Errno::EPERM);
    }
    if count > MOST {
        return Err(Errno::EINVAL);
    }
    let mut groups = Vec::with_capacity(count as usize);
    for index in 0..u64::from(count) {
        groups.push(context.read_u32(from.wrapping_add(index * 4))?);
    }
    change(context, |who| {
        who.groups = groups;
        Ok(())
    })
}

/// The versions of capget(2): words of 32 bits; the later ones have two of each.
fn version(context: &Context, head: u64) -> Result<(i32, usize)> {
    let words = context.read_u64(head)?;
    let number = (words >> 32) as i32;
    match words as u32 {
        0x1998_0330 => Ok((number, 1)),
        0x2007_1026 | 0x2008_0522 => Ok((number, 2)),
        _ => {
            context.write_u32(head, 0x2008_0522)?;
            Err(Errno::EINVAL)
        }
    }
}

pub fn capget(context: &mut Context, head: u64, data: u64) -> Result<u64> {
    let (number, words) = match version(context, head) {
        Err(Errno::EINVAL) if data == 0 => return Ok(0),
        other => other?,
    };
    if number < 0 {
        return Err(Errno::EINVAL);
    }
    let who = super::process::find(context, number)?.credentials();
    if data == 0 {
        return Ok(0);
    }
    for word in 0..words {
        let shift = 32 * word;
        for (index, set) in [who.effective, who.permitted, who.inheritable].into_iter().enumerate() {
            context.write_u32(data.wrapping_add((word * 12 + index * 4) as u64), (set >> shift) as u32)?;
        }
    }
    Ok(0)
}

pub fn capset(context: &mut Context, head: u64, data: u64) -> Result<u64> {
    let (number, words) = version(context, head)?;
    if number != 0 && number != context.process.number && number != context.task.number() {
        return Err(Errno::EPERM);
    }
    let mut sets = [0_u64; 3];
    for word in 0..words {
        for (index, set) in sets.iter_mut().enumerate() {
            let value = context.read_u32(data.wrapping_add((word * 12 + index * 4) as u64))?;
            *set |= u64::from(value) << (32 * word);
        }
    }
    let [effective, permitted, inheritable] = sets;
    change(context, |who| {
        let may_inherit = who.inheritable | who.permitted | if who.has(capability::SETPCAP) { who.bounding } else { 0 };
        if permitted & !who.permitted != 0 || effective & !permitted != 0 || inheritable & !may_inherit != 0 {
            return Err(Errno::EPERM);
        }
        (who.effective, who.permitted, who.inheritable) = (effective, permitted, inheritable);
        who.ambient &= permitted & inheritable;
        Ok(())
    })
}
