//! Which stream protocol client and server speak. Pure.

use navarch_types::ApiError;

/// What a client speaks with exec, attach or port-forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SPDY from end to end; bytes pass through.
    Spdy,
    /// Channels in WebSocket messages.
    Channels {
        /// The subprotocol to answer with.
        name: &'static str,
        /// Whether a client can say that standard input has ended (v5).
        closes: bool,
    },
    /// SPDY's bytes in WebSocket messages.
    Tunnel {
        /// The subprotocol to answer with.
        name: String,
        /// What is spoken inside: `portforward.k8s.io`.
        inner: String,
    },
}

/// WebSocket subprotocols with channels, the best first.
const CHANNELS: [(&str, bool); 2] = [("v5.channel.k8s.io", true), ("v4.channel.k8s.io", false)];
/// What precedes the inner protocol of a tunnel.
const TUNNEL_PREFIX: &str = "SPDY/3.1+";
/// The only protocol of port-forward.
const PORT_FORWARD: &str = "portforward.k8s.io";

/// Chooses from what a client offers. `upgrade` is its `Upgrade` header, `offered` its WebSocket subprotocols.
///
/// # Errors
/// 400 if there is nothing in common.
pub fn negotiate(upgrade: Option<&str>, offered: &[String], port_forward: bool) -> Result<Protocol, ApiError> {
    match upgrade.map(str::to_ascii_lowercase).as_deref() {
        Some("spdy/3.1") => Ok(Protocol::Spdy),
        Some("websocket") if port_forward => {
            let tunnel = format!("{TUNNEL_PREFIX}{PORT_FORWARD}");
            if offered.contains(&tunnel) {
                return Ok(Protocol::Tunnel { name: tunnel, inner: PORT_FORWARD.to_owned() });
            }
            Err(nothing_in_common(offered, &[&tunnel]))
        }
        Some("websocket") => {
            let chosen = CHANNELS.iter().find(|(name, _)| offered.iter().any(|o| o == name));
            let names: Vec<_> = CHANNELS.iter().map(|(name, _)| *name).collect();
            let (name, closes) = chosen.ok_or_else(|| nothing_in_common(offered, &names))?;
            Ok(Protocol::Channels { name, closes: *closes })
        }
        Some(other) => Err(ApiError::bad_request(format!("unable to upgrade: {other:?} is not supported"))),
        None => Err(ApiError::bad_request("Upgrade request required")),
    }
}

fn nothing_in_common(offered: &[String], served: &[&str]) -> ApiError {
    let why = format!("unable to negotiate protocol: client supports {offered:?}, server supports {served:?}");
    ApiError::bad_request(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_protocol_in_common_is_chosen() {
        let offer = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let channels = |name, closes| Ok(Protocol::Channels { name, closes });
        let refused = Err(400);
        let tunnel = Protocol::Tunnel { name: "SPDY/3.1+portforward.k8s.io".into(), inner: PORT_FORWARD.into() };
        for (upgrade, offered, port_forward, expected) in [
            (Some("SPDY/3.1"), offer(&[]), false, Ok(Protocol::Spdy)),
            (
                Some("WebSocket"),
                offer(&["v4.channel.k8s.io", "v5.channel.k8s.io"]),
                false,
                channels("v5.channel.k8s.io", true),
            ),
            (Some("websocket"), offer(&["v4.channel.k8s.io"]), false, channels("v4.channel.k8s.io", false)),
            (Some("websocket"), offer(&["v1.other"]), false, refused.clone()),
            (Some("websocket"), offer(&[]), false, refused.clone()),
            (Some("websocket"), offer(&["SPDY/3.1+portforward.k8s.io"]), true, Ok(tunnel)),
            (Some("websocket"), offer(&["v4.channel.k8s.io"]), true, refused.clone()),
            (Some("h2c"), offer(&[]), false, refused.clone()),
            (None, offer(&[]), false, refused),
        ] {
            let found = negotiate(upgrade, &offered, port_forward).map_err(|e| e.code());
            assert_eq!(found, expected, "{upgrade:?} {offered:?} {port_forward}");
        }
    }
}
