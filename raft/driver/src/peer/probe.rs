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

/// Asks at a member's address. A member that is paused for long enough no longer takes connections there, because its kernel
/// keeps only so many for it; so if there is no answer at all, it is also tried at `beside`, another port of the member's.
pub async fn probe(config: &PeerConfig, member: u64, address: &str, beside: Option<(&str, u16)>) -> Found {
    let reached = timeout(config.connect_timeout, TcpStream::connect(address)).await;
    match reached {
        Err(_) => {
            let silent = format!("no answer within {} ms", config.connect_timeout.as_millis());
            let Some(beside) = beside else { return Found::Nobody(silent) };
            return match timeout(config.connect_timeout, TcpStream::connect(beside)).await {
                Ok(Ok(_)) => Found::Somebody(format!("{silent}, and one at port {}", beside.1)),
                _ => Found::Nobody(silent),
            };
        }
        Ok(Err(error)) => return Found::Nobody(error.to_string()),
        Ok(Ok(_)) => {}
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
