//! Frames to and from QEMU's user network: who has 10.0.2.2?

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tessera_interfaces::{Cap, Device, NetDevice};
use tessera_rings::{BUFFER, Client, Offload, doorbell};
use tessera_runtime::object::{Access, Event, Vmo};
use tessera_runtime::{Mapping, Object, log, own};
use tessera_virtio_net::VirtioNet;

const BUFFERS: u32 = 64;

/// An ARP request (RFC 826) for 10.0.2.2 from 10.0.2.15.
fn request(mac: [u8; 6]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend([0xff; 6]);
    frame.extend(mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend([10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2]);
    frame.resize(60, 0);
    frame
}

/// One client's memory and events.
struct Peer {
    client: Client,
    buffers: Vmo,
    rings: Vmo,
    bell: Event,
    own: Event,
}

impl Peer {
    fn new() -> tessera_runtime::Result<Peer> {
        let pool = own::pool();
        let buffers = Vmo::create(&pool, u64::from(BUFFERS) * BUFFER as u64)?;
        let rings = Vmo::create(&pool, Client::ring_bytes(BUFFERS) as u64)?;
        let map = |vmo: &Vmo| Ok(Mapping::new(vmo, 0, vmo.size()?, Access::Write)?.into_memory());
        let client = Client::new(map(&buffers)?, map(&rings)?).map_err(|_| tessera_runtime::Error::BadState)?;
        Ok(Peer { client, buffers, rings, bell: Event::create(&pool)?, own: Event::create(&pool)? })
    }

    fn attach(&self, device: &VirtioNet) -> Result<(), String> {
        let said = |error: tessera_runtime::Error| format!("{error}");
        let buffers = self.buffers.try_clone().map_err(said)?;
        let rings = self.rings.try_clone().map_err(said)?;
        let (bell, own) = (self.bell.try_clone().map_err(said)?, self.own.try_clone().map_err(said)?);
        device.attach(buffers, rings, bell, own).map_err(|error| format!("{error:?}"))
    }

    /// Sends a request and waits for its answer.
    fn ask(&mut self, mac: [u8; 6]) -> Result<(), String> {
        const SECOND: u64 = 1_000_000_000;
        let mut frame = [0; 2048];
        let broken = |_| String::from("the driver broke the rules");
        if !self.client.send(&request(mac), Offload::default()).map_err(broken)? {
            return Err(String::from("no room"));
        }
        if self.client.publish() {
            let _ = self.bell.raise(doorbell::TO_DEVICE);
        }
        let deadline = own::clock().now().map(|now| now + 5 * SECOND).ok();
        loop {
            while let Some(received) = self.client.receive(&mut frame).map_err(broken)? {
                let frame = &frame[..received.length];
                if frame[12..14] == [8, 6] && frame[20..22] == [0, 2] && frame[28..32] == [10, 0, 2, 2] {
                    return Ok(());
                }
            }
            if self.client.publish() {
                let _ = self.bell.raise(doorbell::TO_DEVICE);
            }
            if self.client.sleep(false).map_err(broken)? {
                let waited = self.own.wait_until(doorbell::FROM_DEVICE, doorbell::FROM_DEVICE, deadline);
                waited.map_err(|error| format!("no answer: {error}"))?;
            }
            self.client.wake();
        }
    }
}

/// Asks many times, over several attachments.
pub fn run(device: Cap<dyn Device>) -> Result<(), String> {
    let device = VirtioNet::open(device).map_err(|error| format!("{error}"))?;
    let information = device.information().map_err(|error| format!("{error:?}"))?;
    log!("{information:x?}");
    for round in 0..10 {
        let mut peer = Peer::new().map_err(|error| format!("{error}"))?;
        peer.attach(&device)?;
        for number in 0..100 {
            peer.ask(information.mac).map_err(|reason| format!("attachment {round}, frame {number}: {reason}"))?;
        }
    }
    log!("1000 answers over 10 attachments");
    Ok(())
}
