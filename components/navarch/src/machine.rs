//! This machine: its name, its address, and the limit of open files.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// The host name, in lower case.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

/// Lets this process open as many files as it may ask for, as containerd and Kubernetes' own programs do: a shell's limit is
/// meant for programs without thousands of connections. Its containers inherit it.
///
/// # Errors
/// If the kernel refuses; then the limit is what it was.
pub fn raise_open_files() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
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
