//! Names by which containers and sandboxes are found again after a restart: labels and annotations in the runtime, and
//! folders on the disk. They are upstream's, so that other tools on the node understand them.

/// Label: the pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label: the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label: the pod's uid.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label: the container's name in the pod.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Label: the node whose agent made it. What lacks it, or has another's, is never touched.
pub const NODE: &str = "navarch.io/node";
/// Annotation: hash of the container's specification.
pub const HASH: &str = "io.kubernetes.container.hash";
/// Annotation: how often the container was restarted before.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation: path of the termination message in the container.
pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Annotation: `File` or `FallbackToLogsOnError`.
pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation: seconds between SIGTERM and SIGKILL, for containers whose pod is not known any more.
pub const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
/// Annotation on pods from files: where they came from.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
