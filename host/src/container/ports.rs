//! Ports of this machine that lead into the guest: `-p 8080:80`.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::str::FromStr;

use miette::{Result, miette};
use tessera_rootfs::container::Protocol;

/// One port of this machine and the guest's port behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMapping {
    pub address: IpAddr,
    pub host: u16,
    pub guest: u16,
    pub protocol: Protocol,
}

impl FromStr for PortMapping {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        const WANTED: &str = "a mapping is HOST:GUEST, such as 8080:80, ADDRESS:HOST:GUEST, or either with /udp";
        let wrong = || format!("`{text}` is no mapping of ports: {WANTED}");
        let (ports, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return Err(wrong()),
        };
        let (rest, guest) = ports.rsplit_once(':').ok_or_else(wrong)?;
        let (address, host) = match rest.rsplit_once(':') {
            None => (IpAddr::V4(Ipv4Addr::LOCALHOST), rest),
            Some((address, host)) => (address.parse().map_err(|_| wrong())?, host),
        };
        let port = |text: &str| text.parse().ok().filter(|port| *port != 0).ok_or_else(wrong);
        Ok(Self { address, host: port(host)?, guest: port(guest)?, protocol })
    }
}

impl PortMapping {
    /// Checks that QEMU will be able to take the port. Between this and QEMU's start somebody else may: then QEMU says
    /// so.
    pub fn check_free(&self) -> Result<()> {
        let taken = match self.protocol {
            Protocol::Tcp => TcpListener::bind((self.address, self.host)).map(|_| ()),
            Protocol::Udp => UdpSocket::bind((self.address, self.host)).map(|_| ()),
        };
        let Err(error) = taken else { return Ok(()) };
        let (host, guest, protocol) = (self.host, self.guest, self.protocol.name());
        Err(match error.kind() {
            std::io::ErrorKind::AddrInUse => miette!(
                help = format!(
                    "choose another, such as `-p {}:{guest}`, or end what listens there (`ss -lnp 'sport = :{host}'` \
                        names it)",
                    if host < 60_000 { host + 1 } else { host - 1 }
                ),
                "port {host}/{protocol} of this machine is in use"
            ),
            std::io::ErrorKind::PermissionDenied => miette!(
                help = format!("choose one from 1024 on, such as `-p {}:{guest}`", 8000 + u32::from(host) % 1000),
                "port {host}/{protocol} of this machine may be opened by the superuser alone"
            ),
            _ => miette!("port {host}/{protocol} at {} cannot be opened: {error}", self.address),
        })
    }

    /// The rule for QEMU's user network (`hostfwd=`). The guest's address is the one that QEMU's DHCP gives.
    pub fn rule(&self) -> String {
        let address = match self.address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        format!("{}:{address}:{}-:{}", self.protocol.name(), self.host, self.guest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_read() {
        let cases = [
            ("8080:80", "tcp:127.0.0.1:8080-:80"),
            ("5353:53/udp", "udp:127.0.0.1:5353-:53"),
            ("0.0.0.0:8080:80/tcp", "tcp:0.0.0.0:8080-:80"),
        ];
        for (text, rule) in cases {
            assert_eq!(text.parse::<PortMapping>().unwrap().rule(), rule);
        }
        for text in ["80", "0:80", "8080:0", "a:80", "8080:80/sctp", "99999:80", "x:1:2", ""] {
            let told = text.parse::<PortMapping>().unwrap_err();
            assert!(told.contains("HOST:GUEST"), "{told}");
        }
    }

    #[test]
    fn a_port_in_use_names_another() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mapping: PortMapping = format!("{port}:80").parse().unwrap();
        let report = mapping.check_free().unwrap_err();
        assert!(report.to_string().contains(&format!("port {port}/tcp of this machine is in use")));
        assert!(report.help().unwrap().to_string().contains("choose another"));
        drop(listener);
        mapping.check_free().unwrap();
    }
}
