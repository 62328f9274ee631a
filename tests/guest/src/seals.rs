//! Sealed pairs.

use tessera_runtime::object::{Event, Seal, Vmo};
use tessera_runtime::{Error, Object, own};

use crate::Test;
use crate::context::{Context, event};

pub const TESTS: &[Test] = &[
    ("what one half seals the other opens", opened),
    ("another pair's half opens nothing", wrong_pair),
    ("a sealed handle is of no use as what it is", useless),
    ("a sealed handle goes when its origin is revoked", revoked),
];

fn opened(_: &mut Context) {
    let (seal, unseal) = Seal::create(&own::pool()).unwrap();
    let inside = event();
    inside.raise(12).unwrap();
    let sealed = seal.close(&own::pool(), inside.into_owned()).unwrap();
    let opened: Event = unseal.open(&sealed).unwrap();
    assert_eq!(opened.clear(0), Ok(12));
    let again: Event = unseal.open(&sealed).unwrap();
    again.raise(1).unwrap();
    assert_eq!(opened.clear(0), Ok(13));
}

fn wrong_pair(_: &mut Context) {
    let (seal, _unseal) = Seal::create(&own::pool()).unwrap();
    let (_other_seal, other_unseal) = Seal::create(&own::pool()).unwrap();
    let sealed = seal.close(&own::pool(), event().into_owned()).unwrap();
    let result = other_unseal.open::<Event>(&sealed).map(|_| ());
    assert!(matches!(result, Err(Error::NoRight | Error::BadArgument)), "{result:?}");
}

fn useless(_: &mut Context) {
    let (seal, _unseal) = Seal::create(&own::pool()).unwrap();
    let sealed = seal.close(&own::pool(), Vmo::create(&own::pool(), 4096).unwrap().into_owned()).unwrap();
    let pretended = Vmo::from_owned(sealed.into_owned());
    assert_eq!(pretended.read(0, &mut [0]), Err(Error::WrongKind));
    assert_eq!(pretended.size(), Err(Error::WrongKind));
}

fn revoked(_: &mut Context) {
    let (seal, unseal) = Seal::create(&own::pool()).unwrap();
    let origin = event();
    let sealed = seal.close(&own::pool(), origin.try_clone().unwrap().into_owned()).unwrap();
    origin.revoke().unwrap();
    let result = unseal.open::<Event>(&sealed).map(|_| ());
    assert!(matches!(result, Err(Error::Gone | Error::NotFound | Error::PeerGone)), "{result:?}");
}
