//! The other side of the measurements: answers each call with as much as it was called with, and ends with the last session.

use tessera_runtime::abi::Delivery;
use tessera_runtime::object::{Endpoint, Received};
use tessera_runtime::{Message, Result, Start};

/// Serves calls of one shape: `words`, `bytes` or `lease`.
pub fn serve(start: &mut Start, shape: &str) -> i32 {
    let Ok(endpoint) = start.take::<Endpoint>("endpoint") else { return 2 };
    let result = match shape {
        "words" => words(&endpoint),
        "bytes" => bytes(&endpoint),
        "lease" => lease(&endpoint),
        _ => return 2,
    };
    // Only an error ends a server that is not told so.
    i32::from(result.is_err())
}

fn ended(received: &Received) -> bool {
    received.delivery == Delivery::Closed
}

/// The label says how many words the answer has.
fn words(endpoint: &Endpoint) -> Result<()> {
    let mut next = endpoint.receive()?;
    loop {
        let received = next;
        if ended(&received) {
            return Ok(());
        }
        let (label, words) = (received.label(), received.words);
        let [a, b, c, d, ..] = words;
        drop(received);
        next = match label {
            0 => endpoint.reply_and_receive_words(0, [])?,
            4 => endpoint.reply_and_receive_words(0, [a, b, c, d])?,
            _ => endpoint.reply_and_receive_words(0, words)?,
        };
    }
}

fn bytes(endpoint: &Endpoint) -> Result<()> {
    let mut buffer = [0; 1024];
    let mut received = endpoint.receive_into(&mut buffer)?;
    while !ended(&received) {
        let count = received.tag.bytes();
        received = endpoint.reply_and_receive(Message::new(0).bytes(&mut buffer, count))?;
    }
    Ok(())
}

/// Under label 1 the lease is read, under any other not.
fn lease(endpoint: &Endpoint) -> Result<()> {
    let memory = &mut alloc::vec![0_u8; 8192];
    let page = memory.as_ptr().align_offset(4096);
    let mut received = endpoint.receive()?;
    while !ended(&received) {
        if let (1, Some(lease), Some(page)) = (received.label(), received.lease(0), memory.get_mut(page..page + 4096)) {
            lease.read(0, page)?;
        }
        received = endpoint.reply_and_receive_words(0, [])?;
    }
    Ok(())
}
