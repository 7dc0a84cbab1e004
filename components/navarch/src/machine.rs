//! What is read of this machine: its name and address.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// The host name, in lower case.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

/// The address from which this machine would reach others: the one of the default route, or loopback without one. Nothing
/// is sent.
pub fn address() -> IpAddr {
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    probe.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}
