//! The store in this process, alone, in a folder that goes with it.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use navarch_store::{Op, OpKind, Store, StoreError, Txn};
use tempfile::TempDir;

use crate::Fallible;
use crate::member::{Member, MemberOptions};

/// As long as the program gives a request.
const DEADLINE: Duration = Duration::from_secs(34);
/// How long a member that is alone may take to lead.
const LEADS_WITHIN: Duration = Duration::from_secs(10);

/// A member and its folder.
pub struct Stored {
    pub member: Member,
    pub folder: TempDir,
}

impl Stored {
    /// Opens one below this folder and waits until it leads.
    pub async fn open(dir: &Path, memory_mib: usize, history_mib: u64) -> Fallible<Self> {
        std::fs::create_dir_all(dir)?;
        let folder = tempfile::Builder::new().prefix("store-").tempdir_in(dir)?;
        let options = MemberOptions {
            member: 1,
            data: folder.path().join("data"),
            peer_ports: vec![0],
            memory_mib,
            retention_minutes: 60,
            history_mib,
        };
        let member = Member::open(&options, &folder.path().join("pki"))?;
        let mut status = member.raft.watch();
        tokio::time::timeout(LEADS_WITHIN, status.wait_for(|status| status.ready)).await??;
        Ok(Self { member, folder })
    }
}

/// Puts a key; how long it took.
pub async fn put(store: &Store, key: Bytes, value: Bytes) -> Result<Duration, StoreError> {
    let begin = Instant::now();
    let op = Op { kind: OpKind::Put as i32, key, value, expires_at_ms: 0 };
    let txn = Txn { compares: Vec::new(), ops: vec![op] };
    store.commit(txn, None, tokio::time::Instant::now() + DEADLINE).await?;
    Ok(begin.elapsed())
}

/// The name of a key, as long as those of small objects.
pub fn key(number: u64) -> Bytes {
    format!("core/configmaps/recoverbench/object-{number:08}").into()
}

/// Values that no compression makes smaller (xorshift64*), so that bytes on the disk are bytes that were put.
pub fn values(count: usize, bytes: usize) -> Vec<Bytes> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    };
    let mut value = || (0..bytes.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(bytes).collect::<Vec<u8>>();
    (0..count).map(|_| Bytes::from(value())).collect()
}
