//! Reading request bodies, up to a limit.

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
pub async fn read(mut payload: web::Payload) -> Result<Bytes, ApiError> {
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
