//! Asking whether a member lives, without being one: what a recovery does before it takes the others for lost.

use std::time::Duration;

use tokio::{net::TcpStream, time::timeout};

use super::{PeerConfig, frame::Purpose, hello::connect};

/// What was found where a member takes its peers' connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The member, as one of the same cluster.
    Member,
    /// Somebody takes connections there and does not answer as that member: it may be paused, or of another cluster.
    Somebody(String),
    /// Nobody takes connections there.
    Nobody(String),
}

/// Asks at a member's address. If nobody is there, it is also tried at `beside`, another port of the member's: one that is
/// paused for long enough takes no connections any more, because its kernel keeps only so many for it, and one that was started
/// with other settings takes them elsewhere.
pub async fn probe(config: &PeerConfig, member: u64, address: &str, beside: Option<(&str, u16)>) -> Found {
    let why = match timeout(config.connect_timeout, TcpStream::connect(address)).await {
        Err(_) => Some(format!("no answer within {} ms", config.connect_timeout.as_millis())),
        Ok(Err(error)) => Some(error.to_string()),
        Ok(Ok(_)) => None,
    };
    if let Some(why) = why {
        let Some(beside) = beside else { return Found::Nobody(why) };
        return match timeout(config.connect_timeout, TcpStream::connect(beside)).await {
            Ok(Ok(_)) => Found::Somebody(format!("{why}, and at port {} there is", beside.1)),
            _ => Found::Nobody(why),
        };
    }
    match connect(config, member, address, Purpose::Unknown).await {
        Ok(mut connection) => {
            // It lives, whether it hears this or not.
            let _ = timeout(Duration::from_secs(1), connection.goodbye(None)).await;
            Found::Member
        }
        Err(ended) => Found::Somebody(ended.to_string()),
    }
}
