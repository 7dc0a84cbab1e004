//! The state's hash: the wrapping sum, over every living key, of a 64-bit hash of key, revision and value.
//!
//! A sum does not depend on order, so it is kept up to date change by change and can be recomputed by a scan. It finds
//! members that drifted apart by a fault; it is no defence against somebody who makes collisions on purpose. The function
//! is part of the replicated state: changing it needs a new cluster version.

use navarch_raft_contract::Revision;

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const STEP: u64 = 0xd6e8_feb8_6659_fd93;

fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

fn absorb(mut state: u64, bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        state = mix(state ^ word, STEP);
    }
    let tail = chunks.remainder().iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    // The length closes the field, so that bytes cannot move from one field to the next unnoticed.
    mix(state ^ tail, SEED ^ bytes.len() as u64)
}

/// One living key's share of the state's hash.
pub fn share(key: &[u8], modified: Revision, value: &[u8]) -> u64 {
    absorb(absorb(mix(SEED ^ modified, STEP), key), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_counts() {
        let base = share(b"key", 7, b"a value of some length");
        for other in [
            share(b"kez", 7, b"a value of some length"),
            share(b"key", 8, b"a value of some length"),
            share(b"key", 7, b"a value of some lengti"),
            share(b"keya", 7, b" value of some length"),
            share(b"key", 7, b"a value of some length\0"),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn it_never_changes() {
        assert_eq!(share(b"core/pods/default/web", 42, b"{}"), share(b"core/pods/default/web", 42, b"{}"));
        assert_eq!(share(b"", 0, b""), FIXED);
    }

    const FIXED: u64 = 17_430_572_981_212_924_130;
}
