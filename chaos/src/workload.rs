//! What clients do: random commands on few keys, so that they meet.

use bytes::Bytes;
use navarch_raft_contract::{Command, CommandBody, Compact, Compare, Expire, Op, OpKind, PrefixFloor, Term, Txn};
use rand::Rng;

use crate::model::Model;

/// Keys that contain one another, and bytes that need escaping.
const KEYS: [&[u8]; 9] = [b"a", b"a\0", b"a\0b", b"a/1", b"a/2", b"b", b"b\xff", b"c/very/long/name", b"\0"];

fn key(rng: &mut impl Rng) -> Bytes {
    Bytes::from_static(KEYS[rng.random_range(0..KEYS.len())])
}

fn value(rng: &mut impl Rng) -> Bytes {
    let length = if rng.random_bool(0.1) { rng.random_range(0..3000) } else { rng.random_range(0..20) };
    (0..length).map(|_| rng.random::<u8>()).collect::<Vec<_>>().into()
}

fn compare(rng: &mut impl Rng, model: &Model) -> Compare {
    let key = key(rng);
    // Mostly what holds by the last that is known; by the time it is applied it may not.
    let mod_revision = match rng.random_range(0..10) {
        0 => rng.random_range(0..=model.revision),
        _ => model.modified(&key),
    };
    Compare { key, mod_revision }
}

fn txn(rng: &mut impl Rng, model: &Model) -> Txn {
    let compares = (0..rng.random_range(0..3)).map(|_| compare(rng, model)).collect();
    let mut ops: Vec<Op> = Vec::new();
    for _ in 0..rng.random_range(0..4) {
        let key = key(rng);
        if ops.iter().any(|op| op.key == key) {
            continue;
        }
        let kind = if rng.random_bool(0.35) { OpKind::Delete } else { OpKind::Put };
        let expires_at_ms = if rng.random_bool(0.2) { rng.random_range(1..1000) } else { 0 };
        let value = if kind == OpKind::Delete && rng.random_bool(0.5) { Bytes::new() } else { value(rng) };
        ops.push(Op { kind: kind as i32, key, value, expires_at_ms });
    }
    Txn { compares, ops }
}

/// Keys with this prefix keep their history for a shorter time than others.
pub const SHORT: &str = "a";
/// So do these.
pub const SHORTER: &str = "b";

/// Raises the floor of all keys, or of some that begin with something.
fn compact(rng: &mut impl Rng, model: &Model) -> Compact {
    let floor = if rng.random_bool(0.4) { rng.random_range(0..model.revision + 3) } else { 0 };
    let some = [SHORT, SHORTER].into_iter().filter(|_| rng.random_bool(0.6)).collect::<Vec<_>>();
    let prefix = |prefix: &str| PrefixFloor {
        prefix: Bytes::copy_from_slice(prefix.as_bytes()),
        floor: rng.random_range(0..model.revision + 3),
    };
    Compact { floor, prefixes: some.into_iter().map(prefix).collect() }
}

/// One command.
pub fn command(rng: &mut impl Rng, model: &Model, term: Term) -> Command {
    let fence_term = match rng.random_range(0..12) {
        0 => term.saturating_sub(1),
        1 | 2 => term,
        _ => 0,
    };
    let body = match rng.random_range(0..20) {
        0 => CommandBody::Compact(compact(rng, model)),
        1 => CommandBody::Expire(Expire { keys: (0..3).map(|_| compare(rng, model)).collect() }),
        _ => CommandBody::Txn(txn(rng, model)),
    };
    Command { fence_term, body: Some(body) }
}

/// What keys begin with that are written once: damage of their values stays until somebody finds it.
pub const STILL: &str = "z/";

/// Writes a key of which there is no other write.
pub fn still(number: u64, rng: &mut impl Rng) -> Command {
    let value = format!("{number}, {:x}", rng.random::<u32>());
    let op =
        Op { kind: OpKind::Put as i32, key: format!("{STILL}{number}").into(), value: value.into(), expires_at_ms: 0 };
    Command { fence_term: 0, body: Some(CommandBody::Txn(Txn { compares: Vec::new(), ops: vec![op] })) }
}
