//! The handle table. Numbers are never used again, so that a use after closing is always seen.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tessera_abi::{Error, Rights};

use super::Values;
use super::objects::Thing;

struct Table {
    entries: HashMap<u32, (Thing, Rights)>,
    next: u32,
}

/// What every process has a handle to, in the order of the numbers that they have here.
const OWN: [Thing; 6] = [Thing::Pool, Thing::Space, Thing::Process, Thing::Budget, Thing::Log, Thing::Clock];

/// The number of the process's own handle of this name.
pub(crate) const fn own_number(name: &str) -> u32 {
    match name.as_bytes() {
        b"pool" => 1,
        b"space" => 2,
        b"process" => 3,
        b"budget" => 4,
        b"log" => 5,
        b"clock" => 6,
        _ => 0,
    }
}

fn table() -> MutexGuard<'static, Table> {
    static TABLE: OnceLock<Mutex<Table>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let entries = (1..).zip(OWN).map(|(number, thing)| (number, (thing, Rights::ALL))).collect();
        Mutex::new(Table { entries, next: 16 })
    });
    // A test that failed while it held the lock has left the table whole: no change of it can stop half way.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a handle names, if it has these rights.
pub fn find(number: u64, rights: Rights) -> Result<Thing, Error> {
    let table = table();
    let (thing, has) = u32::try_from(number).ok().and_then(|key| table.entries.get(&key)).ok_or(Error::BadHandle)?;
    if has.contains(rights) { Ok(thing.clone()) } else { Err(Error::NoRight) }
}

/// A new handle.
pub fn insert(thing: Thing, rights: Rights) -> u32 {
    let mut table = table();
    let number = table.next;
    table.next += 1;
    table.entries.insert(number, (thing, rights));
    number
}

/// Takes a handle out of the table.
pub fn remove(number: u32) -> Result<(Thing, Rights), Error> {
    table().entries.remove(&number).ok_or(Error::BadHandle)
}

/// The rights of a handle.
pub fn rights(number: u64) -> Result<Rights, Error> {
    let table = table();
    u32::try_from(number).ok().and_then(|key| table.entries.get(&key)).map(|entry| entry.1).ok_or(Error::BadHandle)
}

/// `duplicate`.
pub fn duplicate(number: u64, bits: u64) -> Values {
    let wanted = Rights::from_bits(bits).ok_or(Error::BadArgument)?;
    let thing = find(number, wanted.union(Rights::DUPLICATE))?;
    Ok([insert(thing, wanted).into(), 0, 0, 0, 0, 0])
}

/// `inspect`.
pub fn inspect(number: u64) -> Values {
    let (rights, thing) = (rights(number)?, find(number, Rights::NONE)?);
    let same = table().entries.values().filter(|entry| entry.0.is_same(&thing)).count();
    Ok([thing.kind() as u64, rights.bits().into(), same as u64, 0, 0, 0])
}
