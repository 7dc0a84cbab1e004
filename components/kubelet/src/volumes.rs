//! Volumes: made before a pod's containers, kept up to date while they run, taken down after they are gone.
//!
//! What a volume holds is decided in [`payload`]; [`mounts`] and [`atomic_writer`] touch the disk. Folders are named as
//! upstream names them, below the pod's own folder, which is all that has to be removed at the end.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};

use crate::cri::api;
use crate::env::{NodeFacts, expand};
use crate::resources::units;

pub mod atomic_writer;
pub mod mounts;
pub mod payload;

pub use payload::Objects;

/// Where a pod's volumes are on the host, by name.
pub type VolumePaths = BTreeMap<String, PathBuf>;

/// Why a pod's volumes are not ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {message}")]
pub struct VolumeError {
    /// The volume.
    pub volume: String,
    /// Why.
    pub message: String,
}

fn folder(pod_dir: &Path, plugin: &str, name: &str) -> PathBuf {
    pod_dir.join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
}

/// The kinds of volume that hold files of the API.
fn api_plugin(volume: &Volume) -> Option<&'static str> {
    if volume.config_map.is_some() {
        Some("configmap")
    } else if volume.secret.is_some() {
        Some("secret")
    } else if volume.downward_api.is_some() {
        Some("downward-api")
    } else if volume.projected.is_some() {
        Some("projected")
    } else {
        None
    }
}

/// Whether its files must never reach a disk.
fn is_secret(volume: &Volume) -> bool {
    let part_is_secret = |part: &k8s_openapi::api::core::v1::VolumeProjection| {
        part.secret.is_some() || part.service_account_token.is_some()
    };
    let projected = volume.projected.as_ref().and_then(|source| source.sources.as_ref());
    volume.secret.is_some() || projected.is_some_and(|parts| parts.iter().any(part_is_secret))
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// Makes or refreshes all volumes of a pod. Blocks.
///
/// # Errors
/// On the first that cannot be made; the others are tried again with it.
pub fn set_up(pod: &Pod, pod_dir: &Path, objects: &Objects, facts: &NodeFacts) -> Result<VolumePaths, VolumeError> {
    let mut paths = VolumePaths::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let fail = |message: String| VolumeError { volume: volume.name.clone(), message };
        let path = one(pod, pod_dir, volume, objects, facts).map_err(fail)?;
        paths.insert(volume.name.clone(), path);
    }
    Ok(paths)
}

fn one(pod: &Pod, pod_dir: &Path, volume: &Volume, objects: &Objects, facts: &NodeFacts) -> Result<PathBuf, String> {
    let text = |error: io::Error| error.to_string();
    if let Some(source) = &volume.host_path {
        let path = PathBuf::from(&source.path);
        mounts::host_path(&path, source.type_.as_deref().unwrap_or_default())?;
        return Ok(path);
    }
    if let Some(source) = &volume.empty_dir {
        let path = folder(pod_dir, "empty-dir", &volume.name);
        let fresh = !path.exists();
        match source.medium.as_deref().unwrap_or_default() {
            "" => std::fs::create_dir_all(&path).map_err(text)?,
            "Memory" => mounts::tmpfs(&path, source.size_limit.as_ref().and_then(units), 0o777).map_err(text)?,
            other => return Err(format!("unknown storage medium {other:?}")),
        }
        if fresh {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            std::fs::set_permissions(&path, mode).map_err(text)?;
            if let Some(group) = fs_group(pod) {
                mounts::give_to_group(&path, group, false).map_err(text)?;
            }
        }
        return Ok(path);
    }
    let Some(plugin) = api_plugin(volume) else {
        return Err("no volume plugin matched".to_owned());
    };
    let files = payload::payload(pod, volume, objects, facts)?;
    let path = folder(pod_dir, plugin, &volume.name);
    if is_secret(volume) {
        mounts::tmpfs(&path, None, 0o755).map_err(text)?;
    } else {
        std::fs::create_dir_all(&path).map_err(text)?;
    }
    let group = fs_group(pod);
    let own = |folder: &Path| match group {
        Some(group) => mounts::give_to_group(folder, group, true),
        None => Ok(()),
    };
    atomic_writer::write(&path, &files, own).map_err(text)?;
    Ok(path)
}

/// Whether the pod has volumes whose files follow the API's objects.
pub fn follows_api(pod: &Pod) -> bool {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(|volume| api_plugin(volume).is_some())
}

/// The mounts of one container. Blocks: sub-paths are made here.
///
/// # Errors
/// In upstream's words, for `CreateContainerConfigError`.
pub fn container_mounts(
    container: &Container,
    slot: &str,
    pod_dir: &Path,
    paths: &VolumePaths,
    env: &[(String, Vec<u8>)],
) -> Result<Vec<api::Mount>, String> {
    let mut result = Vec::new();
    for (at, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let Some(volume) = paths.get(&mount.name) else {
            return Err(format!("cannot find volume {:?} to mount into container {:?}", mount.name, container.name));
        };
        let host = match sub_path(mount, env)? {
            None => volume.clone(),
            Some(sub_path) => {
                let name = format!("volume-subpaths/{}/{}/{at}", mount.name, slot);
                mounts::bind_sub_path(volume, &sub_path, &pod_dir.join(name)).map_err(|error| error.to_string())?
            }
        };
        let propagation = match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => api::MountPropagation::PropagationHostToContainer,
            Some("Bidirectional") => api::MountPropagation::PropagationBidirectional,
            _ => api::MountPropagation::PropagationPrivate,
        };
        let container_path =
            if mount.mount_path.starts_with('/') { mount.mount_path.clone() } else { format!("/{}", mount.mount_path) };
        result.push(api::Mount {
            container_path,
            host_path: host.to_string_lossy().into_owned(),
            readonly: mount.read_only == Some(true),
            selinux_relabel: false,
            propagation: propagation as i32,
        });
    }
    Ok(result)
}

fn sub_path(mount: &VolumeMount, env: &[(String, Vec<u8>)]) -> Result<Option<String>, String> {
    let path = match (&mount.sub_path, &mount.sub_path_expr) {
        (Some(path), _) if !path.is_empty() => path.clone(),
        (_, Some(text)) if !text.is_empty() => {
            let lookup = |name: &str| {
                let found = env.iter().find(|(key, _)| key == name);
                found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            };
            let path = expand(text, lookup);
            if path.contains("$(") {
                return Err(format!("missing value for {text:?}"));
            }
            path
        }
        _ => return Ok(None),
    };
    if Path::new(&path).is_absolute() {
        return Err(format!("error SubPath `{path}` must not be an absolute path"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!("unable to provision SubPath `{path}`: must not contain '..'"));
    }
    Ok(Some(path))
}
