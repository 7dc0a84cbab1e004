//! `POST /navarch/v1/snapshot`: this member's state as a stream, for `navarch snapshot save`.

use std::io::Read as _;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use navarch_raft_driver::RaftHandle;
use navarch_server::service::{PathRequest, PathService, PathStream};
use navarch_store::Store;
use navarch_types::{ApiError, Reason};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use crate::snapshots;

/// Where a snapshot is asked for.
pub const SNAPSHOT_PATH: &str = "/navarch/v1/snapshot";

/// How long it may take until this member has everything that was acknowledged.
const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes sent at once, and how many of them are read ahead.
const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS_AHEAD: usize = 4;

/// Gives snapshots.
pub struct Save {
    pub store: Store,
    pub raft: RaftHandle,
    pub cluster_id: String,
    pub own: u64,
}

#[async_trait]
impl PathService for Save {
    async fn answer(&self, _: PathRequest) -> Result<Value, ApiError> {
        Err(ApiError::internal("a snapshot is a stream"))
    }

    async fn stream(&self, request: &PathRequest) -> Result<Option<PathStream>, ApiError> {
        tracing::info!(user = %request.user.name, "a snapshot is saved");
        let unavailable = |why: String| ApiError::new(Reason::ServiceUnavailable, format!("no snapshot: {why}"));
        // With everything that was acknowledged before it was asked for.
        self.store.barrier(Instant::now() + DEADLINE).await.map_err(|error| unavailable(error.to_string()))?;
        let raft = self.raft.clone();
        let taken = tokio::task::spawn_blocking(move || raft.take_snapshot()).await.map_err(ApiError::internal)?;
        let mut source = taken.map_err(|error| unavailable(error.to_string()))?;
        let (to_client, pieces) = mpsc::channel::<std::io::Result<Bytes>>(CHUNKS_AHEAD);
        tokio::task::spawn_blocking(move || {
            loop {
                let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                let read = source.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
                let (piece, last) = match read {
                    Ok(0) => return,
                    Ok(_) => (Ok(Bytes::from(chunk)), false),
                    Err(error) => (Err(error), true),
                };
                // An error: the client has gone.
                if to_client.blocking_send(piece).is_err() || last {
                    return;
                }
            }
        });
        let header = Bytes::from(snapshots::header(&self.cluster_id, self.own).encoded());
        let rest = futures::stream::unfold(pieces, |mut pieces| async {
            let piece = pieces.recv().await?;
            Some((piece, pieces))
        });
        let bytes = futures::stream::iter([Ok(header)]).chain(rest).boxed();
        Ok(Some(PathStream { content_type: "application/octet-stream", bytes }))
    }
}
