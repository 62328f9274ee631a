//! The component: which client gets which device.

use alloc::sync::Arc;
use alloc::vec::Vec;

use tessera_interfaces::{AbsentDevice, Keeper};
use tessera_runtime::component::{Context, Route, StartError};
use tessera_runtime::log;
use tessera_runtime::object::{Dma, Interrupt, IoPort, Mmio};
use tessera_virtio::client_wants;

use crate::{Access, Authority, PciDevice, Ports, Window, place, scan, windows};

/// What the bus uses.
pub struct Uses {
    /// What holds the memory that devices reach if this bus ends.
    pub keeper: Route<dyn Keeper>,
}

/// The bus.
pub struct Pci {
    devices: Vec<Arc<PciDevice>>,
    /// `CLIENT=VENDOR:DEVICE[:INDEX]`.
    wishes: Vec<(alloc::string::String, alloc::string::String)>,
}

/// Which function a client is meant to get: vendor, device, and the how manieth of these, from 0 on. A wish is
/// `VENDOR:DEVICE[:INDEX]`, the first two in hexadecimal. Without one the client's name says it: `virtio-net` the first virtio network
/// card, `virtio-net-2` the second.
pub fn wanted(client: &str, wish: Option<&str>) -> Option<(u16, u16, usize)> {
    if let Some(wish) = wish {
        let mut parts = wish.split(':');
        let vendor = u16::from_str_radix(parts.next()?, 16).ok()?;
        let device = u16::from_str_radix(parts.next()?, 16).ok()?;
        let index = parts.next().map_or(Some(0), |index| index.parse().ok())?;
        return parts.next().is_none().then_some((vendor, device, index));
    }
    let (device_type, index) = client_wants(client)?;
    // Virtio 1.2, section 4.1.2.
    Some((0x1af4, 0x1040_u16.checked_add(device_type as u16)?, index))
}

impl Pci {
    /// Looks at the bus and stops every device on it.
    pub fn new(context: Context, uses: Uses) -> Result<Arc<Pci>, StartError> {
        let ports: IoPort = context.take("configuration")?;
        let authority = Authority {
            devices: context.take::<Mmio>("devices")?,
            interrupts: context.take::<Interrupt>("lines")?,
            dma: context.take::<Dma>("dma")?,
            keeper: uses.keeper.cap,
        };
        let wishes =
            context.arguments().filter_map(|argument| argument.split_once('=')).map(|(a, b)| (a.into(), b.into()));
        Ok(Arc::new(Pci::open(Arc::new(Ports::new(ports)), authority, wishes.collect())))
    }

    /// The bus behind a configuration space.
    pub fn open(
        access: Arc<dyn Access>,
        authority: Authority,
        wishes: Vec<(alloc::string::String, alloc::string::String)>,
    ) -> Pci {
        let authority = Arc::new(authority);
        let functions = scan(&*access);
        let mut all: Vec<Window> = Vec::new();
        for function in &functions {
            all.extend(windows(&*access, function));
        }
        place(&*access, &functions, &mut all);
        let alone = |window: &&Window| {
            let mut others = all.iter().filter(|other| other.function != window.function && other.first != 0);
            window.first != 0 && !others.any(|other| other.shares_a_page_with(window))
        };
        let devices = functions.into_iter().map(|function| {
            let windows = all.iter().filter(|window| window.function == function.address).filter(alone);
            let windows = windows.copied().collect();
            Arc::new(PciDevice::new(access.clone(), authority.clone(), function, windows))
        });
        Pci { devices: devices.collect(), wishes }
    }

    /// All devices.
    pub fn devices(&self) -> &[Arc<PciDevice>] {
        &self.devices
    }

    /// The device that is meant for a client, if it is there.
    pub fn find(&self, client: &str) -> Option<Arc<PciDevice>> {
        let wish = self.wishes.iter().find(|(name, _)| name == client).map(|(_, wish)| wish.as_str());
        let (vendor, device, index) = wanted(client, wish)?;
        let is_meant = |found: &&Arc<PciDevice>| {
            let function = found.function();
            function.vendor == vendor && function.device == device
        };
        self.devices.iter().filter(is_meant).nth(index).cloned()
    }

    /// The device for a client; one that answers everything with "not found" if it is not there.
    pub fn device(&self, client: &str) -> Arc<dyn tessera_interfaces::Device> {
        match self.find(client) {
            Some(device) => device,
            None => {
                log!("no device on this bus for {client}");
                Arc::new(AbsentDevice)
            }
        }
    }
}
