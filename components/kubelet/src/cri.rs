//! The only way to containers: the Container Runtime Interface, version 1, over a Unix socket.
//!
//! The connection is made at the first call and again after every loss, so a runtime that restarts is met with errors
//! for a moment and nothing more. Every call has a deadline. This module knows no pods.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use api::image_service_client::ImageServiceClient;
use api::runtime_service_client::RuntimeServiceClient;

/// Messages of the interface, generated.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod api {
    tonic::include_proto!("runtime.v1");
}

/// containerd's event stream, generated.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod events {
    tonic::include_proto!("containerd.services.events.v1");
}

/// The health service of gRPC servers, generated.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// Calls that only look.
const QUERY_DEADLINE: Duration = Duration::from_secs(10);
/// Calls that make or remove something: the network plugin may be slow.
const CHANGE_DEADLINE: Duration = Duration::from_secs(120);
/// A registry far away and a large image.
const PULL_DEADLINE: Duration = Duration::from_secs(1800);
/// One message: a node with hundreds of pods lists in a few megabytes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What a call to the runtime came to, if not well.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CriError {
    /// The object is not there. For removals this is success.
    #[error("{0}")]
    NotFound(String),
    /// The runtime cannot be reached; try again.
    #[error("the container runtime is not reachable: {0}")]
    Unavailable(String),
    /// The call took too long; its outcome is unknown.
    #[error("{0}")]
    Deadline(String),
    /// The runtime refused or failed.
    #[error("rpc error: code = {code:?} desc = {message}")]
    Failed {
        /// gRPC's code.
        code: Code,
        /// The runtime's words.
        message: String,
    },
}

impl CriError {
    /// The runtime's own words, without what gRPC adds.
    pub fn words(&self) -> &str {
        match self {
            Self::NotFound(m) | Self::Unavailable(m) | Self::Deadline(m) => m,
            Self::Failed { message, .. } => message,
        }
    }
}

impl From<Status> for CriError {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::NotFound => Self::NotFound(message),
            Code::Unavailable => Self::Unavailable(message),
            Code::DeadlineExceeded | Code::Cancelled => Self::Deadline(message),
            code => Self::Failed { code, message },
        }
    }
}

type Result<T> = std::result::Result<T, CriError>;

/// A client of one runtime. Cheap to clone; all clones share one connection.
#[derive(Clone)]
pub struct Cri {
    channel: Channel,
    socket: PathBuf,
}

/// A request with a deadline, which the runtime sees too.
fn within<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

async fn bounded<T>(
    deadline: Duration,
    call: impl Future<Output = std::result::Result<tonic::Response<T>, Status>>,
) -> Result<T> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(CriError::Deadline(format!("no answer within {deadline:?}"))),
    }
}

/// A label selector with one label.
fn selector(key: &str, value: &str) -> HashMap<String, String> {
    HashMap::from([(key.to_owned(), value.to_owned())])
}

macro_rules! call {
    ($client:expr, $method:ident, $message:expr, $deadline:expr) => {{
        let deadline = $deadline;
        let mut client = $client;
        let request = within($message, deadline);
        bounded(deadline, async move { client.$method(request).await })
    }};
}

impl Cri {
    /// A client of the runtime at `socket` (a path, `unix://` before it allowed). Does not connect yet.
    pub fn new(socket: &Path) -> Self {
        let text = socket.to_string_lossy();
        let path = PathBuf::from(text.strip_prefix("unix://").unwrap_or(&text));
        let target = path.clone();
        // The authority is never resolved: the connector opens the socket whatever it says.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(
            move |_: http::Uri| {
                let target = target.clone();
                async move { UnixStream::connect(target).await.map(TokioIo::new) }
            },
        ));
        Self { channel, socket: path }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// containerd's event stream for its Kubernetes namespace, tasks only. Other runtimes answer `Unimplemented`.
    pub async fn task_events(&self) -> Result<tonic::Streaming<events::Envelope>> {
        let mut client = events::events_client::EventsClient::new(self.channel.clone());
        let filters = vec!["namespace==\"k8s.io\",topic~=\"^/tasks/(start|exit|oom|delete)\"".to_owned()];
        let mut request = Request::new(events::SubscribeRequest { filters });
        request.metadata_mut().insert("containerd-namespace", tonic::metadata::MetadataValue::from_static("k8s.io"));
        Ok(client.subscribe(request).await?.into_inner())
    }

    /// Name and version of the runtime.
    pub async fn version(&self) -> Result<api::VersionResponse> {
        let message = api::VersionRequest { version: "v1".into() };
        call!(self.runtime(), version, message, QUERY_DEADLINE).await
    }

    /// Whether runtime and network are ready.
    pub async fn status(&self) -> Result<api::StatusResponse> {
        call!(self.runtime(), status, api::StatusRequest { verbose: false }, QUERY_DEADLINE).await
    }

    /// Hands the node's address range to the runtime.
    pub async fn update_runtime_config(&self, pod_cidr: &str) -> Result<()> {
        let network_config = Some(api::NetworkConfig { pod_cidr: pod_cidr.to_owned() });
        let message = api::UpdateRuntimeConfigRequest { runtime_config: Some(api::RuntimeConfig { network_config }) };
        call!(self.runtime(), update_runtime_config, message, QUERY_DEADLINE).await.map(drop)
    }

    /// Makes and starts a sandbox.
    pub async fn run_pod_sandbox(&self, config: api::PodSandboxConfig, handler: &str) -> Result<String> {
        let message = api::RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_owned() };
        Ok(call!(self.runtime(), run_pod_sandbox, message, CHANGE_DEADLINE).await?.pod_sandbox_id)
    }

    /// Stops a sandbox and takes its network down. A missing one is stopped.
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        let message = api::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_fine(call!(self.runtime(), stop_pod_sandbox, message, CHANGE_DEADLINE).await.map(drop))
    }

    /// Removes a sandbox. A missing one is removed.
    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        let message = api::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_fine(call!(self.runtime(), remove_pod_sandbox, message, CHANGE_DEADLINE).await.map(drop))
    }

    /// One sandbox.
    pub async fn pod_sandbox_status(&self, id: &str) -> Result<api::PodSandboxStatus> {
        let message = api::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = call!(self.runtime(), pod_sandbox_status, message, QUERY_DEADLINE).await?;
        answer.status.ok_or_else(|| CriError::NotFound(format!("no status of sandbox {id}")))
    }

    /// All sandboxes, or those with a label.
    pub async fn list_pod_sandbox(&self, label: Option<(&str, &str)>) -> Result<Vec<api::PodSandbox>> {
        let filter = label.map(|(key, value)| api::PodSandboxFilter {
            label_selector: selector(key, value),
            ..api::PodSandboxFilter::default()
        });
        Ok(call!(self.runtime(), list_pod_sandbox, api::ListPodSandboxRequest { filter }, QUERY_DEADLINE).await?.items)
    }

    /// Makes a container.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: api::ContainerConfig,
        sandbox_config: api::PodSandboxConfig,
    ) -> Result<String> {
        let message = api::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(call!(self.runtime(), create_container, message, CHANGE_DEADLINE).await?.container_id)
    }

    /// Starts a container.
    pub async fn start_container(&self, id: &str) -> Result<()> {
        let message = api::StartContainerRequest { container_id: id.to_owned() };
        call!(self.runtime(), start_container, message, CHANGE_DEADLINE).await.map(drop)
    }

    /// Stops a container: SIGTERM, and SIGKILL after `grace`. A missing one is stopped.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let message = api::StopContainerRequest { container_id: id.to_owned(), timeout };
        let deadline = grace.saturating_add(CHANGE_DEADLINE);
        gone_is_fine(call!(self.runtime(), stop_container, message, deadline).await.map(drop))
    }

    /// Removes a container. A missing one is removed.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let message = api::RemoveContainerRequest { container_id: id.to_owned() };
        gone_is_fine(call!(self.runtime(), remove_container, message, CHANGE_DEADLINE).await.map(drop))
    }

    /// All containers, or those with a label.
    pub async fn list_containers(&self, label: Option<(&str, &str)>) -> Result<Vec<api::Container>> {
        let filter = label.map(|(key, value)| api::ContainerFilter {
            label_selector: selector(key, value),
            ..api::ContainerFilter::default()
        });
        let message = api::ListContainersRequest { filter };
        Ok(call!(self.runtime(), list_containers, message, QUERY_DEADLINE).await?.containers)
    }

    /// One container.
    pub async fn container_status(&self, id: &str) -> Result<api::ContainerStatus> {
        let message = api::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = call!(self.runtime(), container_status, message, QUERY_DEADLINE).await?;
        answer.status.ok_or_else(|| CriError::NotFound(format!("no status of container {id}")))
    }

    /// Makes the runtime open the log file again, after it was renamed.
    pub async fn reopen_container_log(&self, id: &str) -> Result<()> {
        let message = api::ReopenContainerLogRequest { container_id: id.to_owned() };
        call!(self.runtime(), reopen_container_log, message, QUERY_DEADLINE).await.map(drop)
    }

    /// Use of processor and memory by all containers.
    pub async fn list_container_stats(&self) -> Result<Vec<api::ContainerStats>> {
        let message = api::ListContainerStatsRequest { filter: None };
        Ok(call!(self.runtime(), list_container_stats, message, QUERY_DEADLINE).await?.stats)
    }

    /// Runs a command and waits for it. A zero `timeout` is none.
    pub async fn exec_sync(&self, id: &str, cmd: Vec<String>, timeout: Duration) -> Result<api::ExecSyncResponse> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let message = api::ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: seconds };
        let deadline = if timeout.is_zero() { PULL_DEADLINE } else { timeout.saturating_add(Duration::from_secs(5)) };
        call!(self.runtime(), exec_sync, message, deadline).await
    }

    /// Where to run a command with streams.
    pub async fn exec(&self, request: api::ExecRequest) -> Result<String> {
        Ok(call!(self.runtime(), exec, request, QUERY_DEADLINE).await?.url)
    }

    /// Where to attach.
    pub async fn attach(&self, request: api::AttachRequest) -> Result<String> {
        Ok(call!(self.runtime(), attach, request, QUERY_DEADLINE).await?.url)
    }

    /// Where to forward ports of a sandbox.
    pub async fn port_forward(&self, sandbox: &str, ports: Vec<i32>) -> Result<String> {
        let message = api::PortForwardRequest { pod_sandbox_id: sandbox.to_owned(), port: ports };
        Ok(call!(self.runtime(), port_forward, message, QUERY_DEADLINE).await?.url)
    }

    /// All images.
    pub async fn list_images(&self) -> Result<Vec<api::Image>> {
        let message = api::ListImagesRequest { filter: None };
        Ok(call!(self.images(), list_images, message, QUERY_DEADLINE).await?.images)
    }

    /// The image of this name, if it is on the node.
    pub async fn image_status(&self, image: &str) -> Result<Option<api::Image>> {
        let message = api::ImageStatusRequest { image: Some(image_spec(image)), verbose: false };
        Ok(call!(self.images(), image_status, message, QUERY_DEADLINE).await?.image)
    }

    /// Pulls an image and returns its reference.
    pub async fn pull_image(&self, image: &str, auth: Option<api::AuthConfig>) -> Result<String> {
        let message = api::PullImageRequest { image: Some(image_spec(image)), auth, sandbox_config: None };
        Ok(call!(self.images(), pull_image, message, PULL_DEADLINE).await?.image_ref)
    }

    /// Where images are kept, and how much they take.
    pub async fn image_fs_info(&self) -> Result<Vec<api::FilesystemUsage>> {
        let answer = call!(self.images(), image_fs_info, api::ImageFsInfoRequest {}, QUERY_DEADLINE).await?;
        Ok(answer.image_filesystems)
    }
}

/// An image by its name.
pub fn image_spec(image: &str) -> api::ImageSpec {
    api::ImageSpec { image: image.to_owned(), user_specified_image: image.to_owned(), annotations: HashMap::new() }
}

fn gone_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(CriError::NotFound(_)) => Ok(()),
        other => other,
    }
}
