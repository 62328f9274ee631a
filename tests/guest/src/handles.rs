//! Handles: duplicates lose rights only, what was derived goes with a revocation, in every process.

use alloc::vec::Vec;

use tessera_runtime::abi::{Kind, PAGE};
use tessera_runtime::object::{Access, Event, Progress, Vmo};
use tessera_runtime::{Error, Object, Rights, own};

use crate::context::{Context, event, within};
use crate::{Role, Test, machine};

pub const TESTS: &[Test] = &[
    ("a handle tells its kind, rights and how many there are", inspected),
    ("a duplicate has no right that its origin lacks", narrowed),
    ("a duplicate outlives its origin", outlives),
    ("revoking removes what was derived, not the handle itself", revoked),
    ("revoking removes what was derived from what was derived", revoked_deep),
    ("revoking leaves siblings alone", siblings),
    ("revoking reaches into other processes before it returns", revoked_elsewhere),
    ("revoking memory undoes its mappings", revoked_mapping),
    ("revoking ten thousand handles ends", revoked_many),
    ("a handle that was granted is no longer the giver's", granted),
    ("a process's handles are limited by its pool", limited),
];

pub const ROLES: &[Role] = &[("holder", holder)];

fn inspected(_: &mut Context) {
    let event = event();
    let inspected = event.inspect().unwrap();
    assert_eq!((inspected.kind, inspected.rights, inspected.handles), (Kind::Event, Rights::ALL, 1));
    let second = event.duplicate(Rights::WAIT).unwrap();
    assert_eq!(second.inspect().unwrap().rights, Rights::WAIT);
    assert_eq!(event.inspect().unwrap().handles, 2);
    drop(second);
    assert_eq!(event.inspect().unwrap().handles, 1);
}

fn narrowed(_: &mut Context) {
    let event = event();
    let waiter = event.duplicate(Rights::WAIT | Rights::DUPLICATE).unwrap();
    assert_eq!(waiter.raise(1), Err(Error::NoRight));
    assert_eq!(waiter.duplicate(Rights::WAIT | Rights::SIGNAL), Err(Error::NoRight));
    assert_eq!(waiter.duplicate(Rights::ALL), Err(Error::NoRight));
    let second = waiter.duplicate(Rights::WAIT).unwrap();
    assert_eq!(second.duplicate(Rights::NONE), Err(Error::NoRight), "it may not be duplicated at all");
    event.raise(4).unwrap();
    assert_eq!(second.wait_until(4, 4, within(1000)), Ok(4));
}

fn outlives(_: &mut Context) {
    let first = event();
    let second = first.try_clone().unwrap();
    drop(first);
    assert_eq!(second.raise(1), Ok(()));
    assert_eq!(second.inspect().unwrap().handles, 1);
}

fn revoked(_: &mut Context) {
    let first = event();
    let second = first.try_clone().unwrap();
    first.revoke().unwrap();
    assert_eq!(second.raise(1), Err(Error::BadHandle));
    assert_eq!(first.raise(1), Ok(()));
}

fn revoked_deep(_: &mut Context) {
    let first = event();
    let second = first.try_clone().unwrap();
    let third = second.try_clone().unwrap();
    // What the middle one leaves behind when it is closed is still derived from the first.
    drop(second);
    assert_eq!(third.raise(1), Ok(()));
    first.revoke().unwrap();
    assert_eq!(third.raise(1), Err(Error::BadHandle));
}

fn siblings(_: &mut Context) {
    let first = event();
    let (left, right) = (first.try_clone().unwrap(), first.try_clone().unwrap());
    let (below_left, below_right) = (left.try_clone().unwrap(), right.try_clone().unwrap());
    left.revoke().unwrap();
    assert_eq!(below_left.raise(1), Err(Error::BadHandle));
    assert_eq!((left.raise(1), right.raise(1), below_right.raise(1)), (Ok(()), Ok(()), Ok(())));
}

/// Waits until its handle is gone. Exit code 0: it could be used, and then it could not.
fn holder(context: &mut Context) -> i32 {
    let held: Event = context.start.take("held").unwrap();
    let told: Event = context.start.take("told").unwrap();
    if held.raise(1).is_err() {
        return 3;
    }
    told.raise(1).unwrap();
    if told.wait_until(2, 0, within(5000)) != Ok(2) {
        return 4;
    }
    if held.raise(1) == Err(Error::BadHandle) { 0 } else { 5 }
}

fn revoked_elsewhere(context: &mut Context) {
    let (held, told) = (event(), event());
    let (theirs, tell) = (held.try_clone().unwrap(), told.try_clone().unwrap());
    let child = context.role("holder", |program| program.handle("held", theirs).handle("told", tell));
    assert_eq!(told.wait_until(1, 0, within(5000)), Ok(1));
    held.revoke().unwrap();
    assert_eq!(held.inspect().unwrap().handles, 1, "theirs is gone when the call returns");
    told.raise(2).unwrap();
    assert_eq!(child.wait(within(5000)), Ok(Progress::Ended(0)));
}

fn revoked_mapping(_: &mut Context) {
    let memory = Vmo::create(&own::pool(), PAGE).unwrap();
    let derived = memory.try_clone().unwrap();
    let space = own::space();
    let address = space.map(&derived, 0, PAGE, Access::Write).unwrap();
    machine::write(address, 5);
    memory.revoke().unwrap();
    let nothing = machine::protect(&space, address, PAGE, Access::Read);
    assert_eq!(nothing, Err(Error::NotFound), "the mapping went with the handle");
    let mut byte = [0];
    assert_eq!(memory.read(0, &mut byte), Ok(1));
    assert_eq!(byte, [5]);
}

fn revoked_many(_: &mut Context) {
    let first = event();
    let mut derived = Vec::new();
    while derived.len() < 10_000 {
        match first.try_clone() {
            Ok(event) => derived.push(event),
            Err(error) => {
                assert_eq!(error, Error::NoQuota);
                break;
            }
        }
    }
    assert!(derived.len() > 100, "there is room for {} only", derived.len());
    first.revoke().unwrap();
    assert_eq!(first.inspect().unwrap().handles, 1);
    // Their numbers name nothing: closing them again would be refused.
    derived.into_iter().for_each(|event| core::mem::forget(event.into_owned()));
}

fn granted(context: &mut Context) {
    let told = event();
    let (mine, tell) = (event(), told.try_clone().unwrap());
    let stale = mine.handle();
    let child = context.role("holder", |program| program.handle("held", mine).handle("told", tell));
    assert_eq!(Event::from_owned(machine::named(stale)).raise(1), Err(Error::BadHandle));
    assert_eq!(told.wait_until(1, 0, within(5000)), Ok(1));
    child.kill(9).unwrap();
    assert_eq!(child.wait(within(5000)), Ok(Progress::Ended(9)));
}

fn limited(_: &mut Context) {
    let first = event();
    let mut handles = Vec::new();
    let error = loop {
        match first.try_clone() {
            Ok(event) => handles.push(event),
            Err(error) => break error,
        }
        assert!(handles.len() < 1 << 20);
    };
    assert_eq!(error, Error::NoQuota);
    drop(handles);
    assert!(first.try_clone().is_ok(), "closing gives them back");
}
