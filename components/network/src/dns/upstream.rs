//! Asks other servers for names outside the cluster: those of the node's own `resolv.conf`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use hickory_proto::op::Message;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// How long one server is waited for.
const SERVER_DEADLINE: Duration = Duration::from_secs(2);
/// How often each server is asked.
const ROUNDS: usize = 2;
/// As many servers as resolvers use.
const SERVERS_MAX: usize = 3;
/// How long the list of servers is believed before the file is looked at again.
const BELIEVE: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 65_535;

#[derive(Default)]
struct Known {
    read_at: Option<Instant>,
    modified: Option<SystemTime>,
    servers: Vec<SocketAddr>,
}

/// The servers of a `resolv.conf`.
pub struct Upstream {
    path: PathBuf,
    /// Never asked: this server itself.
    own: SocketAddr,
    known: Mutex<Known>,
}

/// The servers that a `resolv.conf` names.
pub fn parse(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        // Link-local addresses may name their interface, which is of no use to us.
        let address: IpAddr = words.next()?.split('%').next()?.parse().ok()?;
        Some(SocketAddr::new(address, 53))
    };
    text.lines().filter_map(server).take(SERVERS_MAX).collect()
}

impl Upstream {
    /// Of a file; `own` is left out.
    pub fn new(path: &Path, own: SocketAddr) -> Self {
        Self { path: path.to_owned(), own, known: Mutex::default() }
    }

    /// Fixed servers, for tests.
    #[cfg(test)]
    pub(crate) fn fixed(servers: Vec<SocketAddr>) -> Self {
        let own = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let far = Instant::now() + Duration::from_secs(3600);
        Self { path: PathBuf::new(), own, known: Mutex::new(Known { read_at: Some(far), modified: None, servers }) }
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let mut known = self.known.lock();
        if known.read_at.is_none_or(|at| at.elapsed() >= BELIEVE) {
            known.read_at = Some(Instant::now());
            let modified = std::fs::metadata(&self.path).and_then(|m| m.modified()).ok();
            if modified.is_none() || modified != known.modified {
                let text = std::fs::read_to_string(&self.path).unwrap_or_default();
                let is_other = |server: &SocketAddr| server.ip() != self.own.ip();
                known.servers = parse(&text).into_iter().filter(is_other).collect();
                known.modified = modified;
            }
        }
        known.servers.clone()
    }

    /// Asks with a whole message and returns the whole answer. `None` if nobody answers.
    pub async fn ask(&self, query: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let servers = self.servers();
        for _ in 0..ROUNDS {
            for server in &servers {
                let exchange =
                    async { if over_tcp { ask_tcp(*server, query).await } else { ask_udp(*server, query).await } };
                if let Ok(Ok(answer)) = tokio::time::timeout(SERVER_DEADLINE, exchange).await {
                    return Some(answer);
                }
            }
        }
        None
    }
}

/// With an id of our own and a fresh port: an answer that was not asked for is hard to guess.
async fn ask_udp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        "[::]:0".parse().map_err(std::io::Error::other)?
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let id: u16 = rand::random();
    let mut sent = query.to_vec();
    set_id(&mut sent, id);
    socket.send(&sent).await?;
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = &buffer[..length];
        if is_answer(answer, id, query) {
            let mut answer = answer.to_vec();
            restore_id(&mut answer, query);
            return Ok(answer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn set_id(message: &mut [u8], id: u16) {
    if let Some(head) = message.first_chunk_mut::<2>() {
        *head = id.to_be_bytes();
    }
}

fn restore_id(answer: &mut [u8], query: &[u8]) {
    if let Some(id) = query.first_chunk::<2>() {
        set_id(answer, u16::from_be_bytes(*id));
    }
}

fn is_answer(answer: &[u8], id: u16, query: &[u8]) -> bool {
    let (Ok(answer), Ok(query)) = (Message::from_vec(answer), Message::from_vec(query)) else { return false };
    answer.metadata.id == id && answer.queries == query.queries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_a_file() {
        let text =
            "# x\nsearch a b\nnameserver 192.0.2.1\nnameserver  fe80::1%eth0 # y\nnameserver nonsense\noptions edns0\n";
        assert_eq!(parse(text).iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.1:53", "[fe80::1]:53"]);
        assert_eq!(parse(&"nameserver 192.0.2.1\n".repeat(9)).len(), SERVERS_MAX);
    }
}
