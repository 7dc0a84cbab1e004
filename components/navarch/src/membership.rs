//! The members of the control plane, as joining needs them.

use async_trait::async_trait;
use navarch_server::join::{Admission, AdmitRequest, Membership, not_implemented};
use navarch_types::ApiError;

/// The control plane of one member.
pub struct Alone {
    /// This member's URL.
    pub server: String,
}

#[async_trait]
impl Membership for Alone {
    fn servers(&self) -> Vec<String> {
        vec![self.server.clone()]
    }

    async fn admit(&self, _request: &AdmitRequest) -> Result<Admission, ApiError> {
        Err(not_implemented(
            "this member cannot take others yet: nodes can join it, members of the control plane cannot",
        ))
    }
}
