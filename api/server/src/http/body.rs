//! Reading request bodies, up to a limit.

use std::time::Duration;

use actix_web::web;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use navarch_types::{ApiError, Reason};

/// Upstream's limit: what etcd takes, and some.
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// The whole body.
///
/// # Errors
/// 413 beyond the limit, 400 if the client breaks off.
pub async fn read(payload: &mut web::Payload) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk =
            chunk.map_err(|e| ApiError::bad_request(format!("the body of the request could not be read: {e}")))?;
        if first.len() + all.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(ApiError::new(
                Reason::RequestEntityTooLarge,
                format!("Request entity too large: limit is {BODY_BYTES_MAX}"),
            ));
        }
        // Most bodies come in one piece and need no copy.
        if first.is_empty() && all.is_empty() {
            first = chunk;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&chunk);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// How long an answer waits for the rest of a body that nobody reads.
const DRAIN: Duration = Duration::from_secs(1);

/// Reads what is left of a body and drops it, up to the limit of bodies. A connection that closes with unread bytes is reset,
/// and the client may never see the answer that was on its way: a refusal is sent only after this.
pub async fn drain(payload: &mut web::Payload) {
    let rest = async {
        let mut bytes = 0;
        while let Some(Ok(chunk)) = payload.next().await {
            bytes += chunk.len();
            if bytes > BODY_BYTES_MAX {
                break;
            }
        }
    };
    // Past the time the connection is closed whatever the client still sends.
    let _ = tokio::time::timeout(DRAIN, rest).await;
}
