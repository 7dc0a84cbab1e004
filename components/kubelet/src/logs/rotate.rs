//! Keeps logs short: a file that is large enough is renamed, and the runtime opens a new one.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tracing::debug;

use super::files_of;
use crate::cri::api::ContainerState;
use crate::labels;
use crate::shared::Shared;

/// Between looks.
const INTERVAL: Duration = Duration::from_secs(10);

/// Rotates until it is dropped.
///
/// # Errors
/// Never.
pub async fn run(shared: Arc<Shared>) -> Result<(), Infallible> {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let node = shared.config.node_name.as_str();
        let Ok(containers) = shared.cri.list_containers(Some((labels::NODE, node))).await else { continue };
        for container in containers.iter().filter(|one| one.state == ContainerState::ContainerRunning as i32) {
            let Some(path) = log_path(&shared, &container.labels, &container.annotations) else { continue };
            let size = fs::metadata(&path).map_or(0, |data| data.len());
            if size >= shared.config.log_bytes_max {
                rotate(&shared, &container.id, &path).await;
            }
        }
    }
}

/// Where a container's log is, by what it was made with.
fn log_path(
    shared: &Shared,
    found: &std::collections::HashMap<String, String>,
    annotations: &std::collections::HashMap<String, String>,
) -> Option<std::path::PathBuf> {
    let folder = shared.config.pod_log_dir(
        found.get(labels::POD_NAMESPACE)?,
        found.get(labels::POD_NAME)?,
        found.get(labels::POD_UID)?,
    );
    let attempt = annotations.get(labels::RESTART_COUNT)?;
    Some(folder.join(found.get(labels::CONTAINER_NAME)?).join(format!("{attempt}.log")))
}

async fn rotate(shared: &Shared, id: &str, path: &Path) {
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S%.3f").to_string();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{stamp}"));
    if let Err(error) = fs::rename(path, &name) {
        return debug!("cannot rotate a log: {error}");
    }
    if let Err(error) = shared.cri.reopen_container_log(id).await {
        debug!("cannot open a log anew: {error}");
        // Without a new file the runtime goes on writing the old one: it keeps its name.
        let _ = fs::rename(&name, path);
        return;
    }
    let files = files_of(path);
    let surplus = files.len().saturating_sub(shared.config.log_files_max);
    for file in files.iter().take(surplus) {
        let _ = fs::remove_file(file);
    }
}
