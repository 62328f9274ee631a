//! Memory whose pages somebody else supplies.

use tessera_runtime::abi::{Delivery, PAGE};
use tessera_runtime::object::{Access, Endpoint, Vmo};
use tessera_runtime::{Mapping, Message, own, thread};

use crate::Test;
use crate::context::Context;

pub const TESTS: &[Test] = &[
    ("an absent page is asked for once and supplied by its pager", supplied),
    ("copying out of paged memory asks the pager too", copied),
];

/// Supplies `count` pages, each filled with the badge plus its number, then ends.
fn supply(endpoint: &Endpoint, memory: &Vmo, count: usize) {
    for _ in 0..count {
        let received = endpoint.receive().unwrap();
        assert_eq!(received.delivery, Delivery::Page);
        let offset = received.words[0];
        assert_eq!(offset % PAGE, 0);
        let content = [(received.badge + offset / PAGE) as u8; PAGE as usize];
        assert_eq!(memory.write(offset, &content), Ok(PAGE as usize));
        tessera_runtime::object::reply(Message::new(0)).unwrap();
    }
}

/// Paged memory and a thread that supplies `count` pages of it.
fn paged(pages: u64, count: usize) -> (Vmo, thread::JoinHandle<()>) {
    use tessera_runtime::Object;
    let endpoint = Endpoint::create(&own::pool()).unwrap();
    let memory = Vmo::create_paged(&own::pool(), pages * PAGE, &endpoint, 40).unwrap();
    let theirs = memory.try_clone().unwrap();
    let pager = thread::spawn(move || supply(&endpoint, &theirs, count)).unwrap();
    (memory, pager)
}

fn supplied(_: &mut Context) {
    let (memory, pager) = paged(8, 3);
    let mapping = Mapping::new(&memory, 0, 8 * PAGE, Access::Write).unwrap();
    for page in [5_u64, 0, 7, 5, 0] {
        let word = mapping.words()[(page * PAGE / 8) as usize].load(core::sync::atomic::Ordering::Relaxed);
        assert_eq!(word as u8, 40 + page as u8, "page {page}");
    }
    pager.join();
    assert_eq!(memory.pages(), Ok(3));
}

fn copied(_: &mut Context) {
    let (memory, pager) = paged(2, 2);
    let mut content = [0; 16];
    assert_eq!(memory.read(PAGE - 8, &mut content), Ok(16));
    assert_eq!(content, [40, 40, 40, 40, 40, 40, 40, 40, 41, 41, 41, 41, 41, 41, 41, 41]);
    pager.join();
}
