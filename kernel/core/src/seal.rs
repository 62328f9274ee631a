//! Sealed pairs (Hydra's rights amplification): whoever holds the `Seal` can put a handle into a box, only whoever holds the
//! `Unseal` can take one derived from it out. A server so recognises its own objects when others hand them back.

use crate::{
    Caller, Flow, Hardware, Machine,
    arena::Id,
    node::{Holder, Node, Object},
    pool::{Pool, Resource},
    reaper::{Dead, Grave, Progress},
};
use tessera_abi::{Error, Kind, Rights};

/// What a pair has in common.
#[derive(Default)]
pub struct Brand {
    pub(crate) references: u32,
    pub(crate) pool: Id<Pool>,
}

/// A box with a handle in it.
#[derive(Default)]
pub struct Sealed {
    pub(crate) references: u32,
    pub(crate) pool: Id<Pool>,
    pub(crate) grave: Grave,
    brand: Id<Brand>,
    content: Id<Node>,
}

impl<H: Hardware> Machine<H> {
    /// `seal_create`.
    pub(crate) fn seal_create(&mut self, caller: &Caller, pool: u64) -> Result<Flow, Error> {
        let (node, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let handles = self.handle_pool(caller.process)?;
        self.charge(handles, Resource::HANDLES, 1)?;
        self.charge_object(pool, Kind::Seal, handles).inspect_err(|_| self.credit(handles, Resource::HANDLES, 1))?;
        let brand = self.brands.insert(Brand { references: 0, pool }).ok_or(Error::NoQuota)?;
        let seal = self.publish(caller.process, node, Object::Seal(brand), Rights::ALL)?;
        let unseal = self.publish(caller.process, node, Object::Unseal(brand), Rights::ALL)?;
        Ok(Flow::Values([seal, unseal, 0, 0, 0, 0]))
    }

    /// `seal_close`: the handle moves into the box.
    pub(crate) fn seal_close(&mut self, caller: &Caller, seal: u64, pool: u64, handle: u64) -> Result<u64, Error> {
        let (_, brand) = self.seal(caller.process, seal, Rights::NONE)?;
        let (node, pool) = self.pool(caller.process, pool, Rights::MANAGE)?;
        let content = self.transferable(caller.process, handle)?;
        if content == node {
            return Err(Error::BadArgument);
        }
        let handles = self.handle_pool(caller.process)?;
        self.charge_object(pool, Kind::Sealed, handles)?;
        let sealed = self.boxes.insert(Sealed { pool, brand, content, ..Sealed::default() }).ok_or(Error::NoQuota)?;
        self.node_unhold(content);
        self.node_hold(content, Holder::Box(sealed));
        self.publish(caller.process, node, Object::Sealed(sealed), Rights::ALL)
    }

    /// `seal_open`: a handle derived from the one in the box.
    pub(crate) fn seal_open(&mut self, caller: &Caller, unseal: u64, sealed: u64) -> Result<u64, Error> {
        let (_, brand) = self.unseal(caller.process, unseal, Rights::NONE)?;
        let (_, sealed) = self.sealed(caller.process, sealed, Rights::NONE)?;
        let content = self
            .boxes
            .get(sealed)
            .filter(|sealed| sealed.brand == brand)
            .map(|sealed| sealed.content)
            .ok_or(Error::NoRight)?;
        let node = self.nodes.get(content).ok_or(Error::Gone)?;
        let (object, rights) = (node.object, node.rights);
        let pool = self.handle_pool(caller.process)?;
        self.charge(pool, Resource::HANDLES, 1)?;
        self.publish(caller.process, content, object, rights)
    }

    /// The handle in a box was revoked: the box is empty from now on.
    pub(crate) fn sealed_empty(&mut self, id: Id<Sealed>) {
        if let Some(sealed) = self.boxes.get_mut(id) {
            let content = core::mem::take(&mut sealed.content);
            self.node_remove(content);
        }
    }

    pub(crate) fn sealed_reap(&mut self, id: Id<Sealed>) -> Progress {
        self.sealed_empty(id);
        if let Some(sealed) = self.boxes.remove(id) {
            self.credit(sealed.pool, Resource::of(Kind::Sealed), 1);
        }
        debug_assert!(!matches!(self.dead, Dead::Sealed(dead) if dead == id));
        Progress::Finished
    }
}
