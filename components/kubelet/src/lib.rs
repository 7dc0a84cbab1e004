//! The node agent: runs the pods that are bound to its node, through a container runtime that speaks CRI v1.
//!
//! Pure functions decide ([`lifecycle`], [`admission`], [`resources`], [`env`](mod@env)); actors carry out. Everything it knows of the
//! cluster comes through the client trait, and everything it knows of containers through [`cri`]. It never touches a
//! container or sandbox that does not carry its node's label, and it stops none as undesired before it has seen a
//! complete list of its pods.

pub mod admission;
pub mod backoff;
pub mod cleanup;
pub mod containerd;
pub mod context;
pub mod cri;
pub mod env;
pub mod events;
pub mod handlers;
pub mod helpers;
pub mod hostfiles;
pub mod image;
pub mod images;
pub mod kubelet;
pub mod labels;
pub mod lifecycle;
pub mod logs;
pub mod node;
pub mod pleg;
pub mod pods;
pub mod podspec;
pub mod probes;
pub mod reflect;
pub mod resources;
pub mod runtime;
pub mod server;
pub mod shared;
pub mod sources;
pub mod tokens;
pub mod volumes;
pub mod worker;

pub use kubelet::{KubeletContext, specs};
