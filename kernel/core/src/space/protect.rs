//! Other protection for a part of a space, and the cuts by which a mapping becomes two.

use super::{Backing, Mapping, Range, STEP, Shown};
use crate::{Caller, Flow, Hardware, Machine, arena::Id, pool::Resource, space::Space, vmo::MAX_MAPPINGS};
use tessera_abi::{Error, PAGE, Rights, syscall::map_flags};

/// Mappings that one step of `space_protect` looks at, or changes.
const PROTECT_STEP: usize = 64;

impl<H: Hardware> Machine<H> {
    /// `space_protect`. All of the range is looked at before any of it is changed, a bounded number of mappings in one entry;
    /// `progress` is up to where that was done, zero at first. What is changed is what still stands there and allows it: what another
    /// thread puts there meanwhile is as if it were put there afterwards. So what has begun to change is never refused.
    pub(crate) fn space_protect(&mut self, caller: &Caller) -> Result<Flow, Error> {
        let [space, address, length, flags, progress, _] = caller.arguments;
        let (_, space) = self.space(caller.process, space, Rights::MAP)?;
        let range = Range::new(address, length)?;
        let access = map_flags::READ | map_flags::WRITE | map_flags::EXECUTE;
        let write_execute = map_flags::WRITE | map_flags::EXECUTE;
        if flags & !access != 0 || flags & write_execute == write_execute {
            return Err(Error::BadArgument);
        }
        if progress < range.end {
            let looked_at = self.check_protection(space, Range { start: progress.max(range.start), ..range }, flags)?;
            if looked_at < range.end {
                return self.protect_again(caller, range, looked_at);
            }
            // What is protected like that already needs no cut.
            self.cut_ends(space, range, |mapping| !mapping.is_protected(flags))?;
        }
        let root = self.spaces.get(space).map(|space| space.root).ok_or(Error::Gone)?;
        let mut at = range.start;
        for _ in 0..PROTECT_STEP {
            let Some(id) = self.mapping_from(space, at).filter(|_| at < range.end) else {
                at = range.end;
                break;
            };
            let Some(mapping) = self.mappings.get_mut(id) else { break };
            if range.start <= mapping.start && mapping.end <= range.end && mapping.allows(flags) {
                mapping.read = flags & map_flags::READ != 0;
                mapping.now.write = flags & map_flags::WRITE != 0;
                mapping.now.execute = flags & map_flags::EXECUTE != 0;
            }
            at = mapping.end.min(range.end);
        }
        let stopped = self.hardware.unmap(root, range.start, at, STEP);
        self.hardware.invalidate(root, range.start, stopped);
        if stopped >= range.end {
            return Ok(Flow::Done);
        }
        self.protect_again(caller, Range { start: stopped, ..range }, range.end)
    }

    /// The rest is what the call is made for again.
    fn protect_again(&mut self, caller: &Caller, rest: Range, progress: u64) -> Result<Flow, Error> {
        let registers = &mut self.threads.get_mut(caller.thread).ok_or(Error::Gone)?.activation.registers;
        registers.rsi = rest.start;
        registers.rdx = rest.end.saturating_sub(rest.start);
        registers.r8 = progress;
        Ok(Flow::Again)
    }

    /// Whether a range is mapped without a hole and everywhere allows `flags`; answers up to where one step looked.
    fn check_protection(&self, space: Id<Space>, range: Range, flags: u64) -> Result<u64, Error> {
        let mut at = range.start;
        for _ in 0..PROTECT_STEP {
            if at >= range.end {
                break;
            }
            let mapping = self.mapping_at(space, at).and_then(|id| self.mappings.get(id)).ok_or(Error::NotFound)?;
            if !mapping.allows(flags) {
                return Err(Error::NoRight);
            }
            at = mapping.end;
        }
        Ok(at)
    }

    /// Splits the mappings that lie across the ends of a range, of those that `concerns` names. Refused before any of it is done.
    pub(super) fn cut_ends(
        &mut self,
        space: Id<Space>,
        range: Range,
        concerns: impl Fn(&Mapping) -> bool,
    ) -> Result<(), Error> {
        let across = |at: u64| {
            let mapping = self.mapping_at(space, at).and_then(|id| self.mappings.get(id))?;
            (mapping.start != at && !mapping.grave.buried && concerns(mapping)).then_some((at, mapping.backing))
        };
        let cuts = [across(range.start), across(range.end)];
        let made = cuts.iter().flatten().count() as u32;
        let pool = self.spaces.get(space).map(|space| space.pool).ok_or(Error::Gone)?;
        let (quota, used) = self.pools.get(pool).map_or((0, 0), |pool| pool.account(Resource::HANDLES));
        if quota.saturating_sub(used) < made {
            return Err(Error::NoQuota);
        }
        for (_, backing) in cuts.iter().flatten() {
            let more = cuts.iter().flatten().filter(|(_, other)| other == backing).count() as u32;
            if let Backing::Vmo(vmo) = backing
                && self.vmos.get(*vmo).is_none_or(|vmo| vmo.mapping_count.saturating_add(more) > MAX_MAPPINGS)
            {
                return Err(Error::NoQuota);
            }
        }
        cuts.into_iter().flatten().try_for_each(|(at, _)| self.cut(space, at))
    }

    /// Splits the mapping that lies across `address`, so that one ends and another begins there.
    fn cut(&mut self, space: Id<Space>, address: u64) -> Result<(), Error> {
        let Some(id) = self.mapping_at(space, address) else { return Ok(()) };
        let mapping = self.mappings.get(id).ok_or(Error::Gone)?;
        if mapping.start == address || mapping.grave.buried {
            return Ok(());
        }
        let (parent, end, writable_entries) = (mapping.node, mapping.end, mapping.writable_entries);
        let rest = Shown {
            backing: mapping.backing,
            range: Range { start: address, end },
            offset: mapping.offset.saturating_add(address.saturating_sub(mapping.start) / PAGE),
            most: mapping.most,
            read: mapping.read,
            now: mapping.now,
        };
        if let Some(mapping) = self.mappings.get_mut(id) {
            mapping.end = address;
        }
        match self.mapping_make(space, rest, parent) {
            Ok(rest) => {
                if let Some(rest) = self.mappings.get_mut(rest) {
                    rest.writable_entries = writable_entries;
                }
                Ok(())
            }
            Err(error) => {
                if let Some(mapping) = self.mappings.get_mut(id) {
                    mapping.end = end;
                }
                Err(error)
            }
        }
    }
}
