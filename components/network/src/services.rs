//! Services as nftables rules. [`model`] reads objects into what has to be reachable, [`plan`] turns that into a table's
//! contents, [`diff`] two of those into one transaction, [`conntrack`] says which connections are stale; all are pure.
//! [`apply`] follows the informers and carries it out.

pub mod apply;
pub mod conntrack;
pub mod diff;
pub mod model;
pub mod nft;
pub mod plan;
