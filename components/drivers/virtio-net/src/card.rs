//! What is agreed with the card, and what it says of itself (Virtio 5.1.3, 5.1.4).

use tessera_interfaces::{NetInformation, offloads};
use tessera_rings::FRAME;
use tessera_virtio::{Misbehaved, Transport, configuration_consistently, feature};

/// It fills in checksums of what it sends.
const SEND_CHECKSUM: u64 = 1 << 0;
/// It may leave checksums of what it receives to be filled in, and says which it has verified.
const RECEIVE_CHECKSUM: u64 = 1 << 1;
/// Its configuration has the longest packet.
const MTU: u64 = 1 << 3;
/// Its configuration has the hardware address.
const ADDRESS: u64 = 1 << 5;
/// It may put TCP segments that it receives together.
const LARGE_4: u64 = 1 << 7;
const LARGE_6: u64 = 1 << 8;
/// It cuts TCP segments into frames.
const SEGMENT_4: u64 = 1 << 11;
const SEGMENT_6: u64 = 1 << 12;
/// A received frame may take several buffers.
const MERGED_BUFFERS: u64 = 1 << 15;

/// The features that the driver understands.
const FEATURES: u64 = SEND_CHECKSUM
    | RECEIVE_CHECKSUM
    | MTU
    | ADDRESS
    | LARGE_4
    | LARGE_6
    | SEGMENT_4
    | SEGMENT_6
    | MERGED_BUFFERS
    | feature::EVENT_INDEX;

/// The features that are wanted of a card that offers these. A frame that was put together fits into no single buffer, and its checksum is nobody's.
pub fn wanted(offered: u64) -> u64 {
    const NEEDED: u64 = MERGED_BUFFERS | RECEIVE_CHECKSUM;
    if offered & NEEDED == NEEDED { FEATURES } else { FEATURES & !(LARGE_4 | LARGE_6) }
}

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// A card as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Card {
    /// Address, longest packet, offloads.
    pub information: NetInformation,
    /// Whether the header of a received frame says how many buffers it takes (Virtio 5.1.6.3.1).
    pub merges: bool,
}

impl Card {
    /// Reads the configuration (Virtio 5.1.4).
    pub fn read(transport: &dyn Transport, features: u64) -> Result<Card, Misbehaved> {
        let has = |feature: u64| features & feature != 0;
        let (mac, said) = configuration_consistently(transport, |transport| {
            let mac: [u8; 6] = core::array::from_fn(|index| transport.configuration_8(index));
            (mac, u16::from_le_bytes([transport.configuration_8(10), transport.configuration_8(11)]))
        })?;
        // Without an address of its own it is given one that is locally administered.
        let mac = if has(ADDRESS) { mac } else { [0x52, 0x54, 0, 0x12, 0x34, 0x56] };
        let most = FRAME.saturating_sub(ETHERNET) as u16;
        // The least that IPv4 allows (RFC 791) is 68: what a card says below that is nonsense.
        let mtu = match said {
            0..68 if has(MTU) => return Err(Misbehaved::Nonsense),
            said if has(MTU) => said.min(most),
            _ => 1500,
        };
        let mut done = 0;
        for (feature, offload) in [
            (SEND_CHECKSUM, offloads::SEND_CHECKSUM),
            (RECEIVE_CHECKSUM, offloads::RECEIVE_CHECKSUM),
            // Cutting needs the checksum (Virtio 5.1.3.1).
            (SEGMENT_4 | SEND_CHECKSUM, offloads::SEGMENT_TCP4),
            (SEGMENT_6 | SEND_CHECKSUM, offloads::SEGMENT_TCP6),
            (LARGE_4 | MERGED_BUFFERS, offloads::RECEIVE_LARGE),
            (LARGE_6 | MERGED_BUFFERS, offloads::RECEIVE_LARGE),
        ] {
            if features & feature == feature {
                done |= offload;
            }
        }
        Ok(Card { information: NetInformation { mac, mtu, offloads: done }, merges: has(MERGED_BUFFERS) })
    }
}
