//! Names. [`zone`] answers for the cluster's domain out of what informers know and is pure; [`upstream`] asks others for
//! everything else; [`server`] speaks the protocol.

pub mod records;
pub mod server;
pub mod upstream;
pub mod zone;
