//! The in-process transport: requests of this process's own components, as one identity, into the server's pipeline.

use std::sync::Arc;

use async_trait::async_trait;
use navarch_client::{Client, Transport, WatchStream};
use navarch_server::InProcess;
use navarch_types::{ApiError, ResourceRequest, ResourceResponse, UserInfo};

struct Local {
    server: InProcess,
    user: UserInfo,
}

#[async_trait]
impl Transport for Local {
    async fn request(&self, request: ResourceRequest) -> Result<ResourceResponse, ApiError> {
        self.server.request(&self.user, request).await
    }

    async fn watch(&self, request: ResourceRequest) -> Result<WatchStream, ApiError> {
        self.server.watch(&self.user, request).await
    }
}

/// A client as `user`, past every filter and check, without a socket.
pub fn client(server: &InProcess, user: UserInfo) -> Client {
    Client::new(Arc::new(Local { server: server.clone(), user }))
}
