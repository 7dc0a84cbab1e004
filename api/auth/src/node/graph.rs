//! Which objects the pods of a node refer to. Walked from the pods at each question: nodes hold few pods, and nothing has
//! to be kept current.

use k8s_openapi::api::core::v1::{Container, PersistentVolume, PersistentVolumeClaim, Pod, PodSpec, Volume};
use k8s_openapi::api::storage::v1::VolumeAttachment;

use crate::view::{ObjectView, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, VOLUME_ATTACHMENTS};

/// Whether a pod is bound to a node.
pub(super) fn pod_on_node(view: &dyn ObjectView, node: &str, namespace: &str, name: &str) -> bool {
    let pod = view.get(&PODS, namespace, name).and_then(|o| o.typed::<Pod>().ok());
    pod.is_some_and(|p| p.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node))
}

/// Whether a pod on the node refers to an object. `namespace` is empty for objects of the cluster.
pub(super) fn related(view: &dyn ObjectView, node: &str, resource: &str, namespace: &str, name: &str) -> bool {
    if resource == "volumeattachments" {
        let object = view.get(&VOLUME_ATTACHMENTS, "", name).and_then(|o| o.typed::<VolumeAttachment>().ok());
        return object.is_some_and(|a| a.spec.node_name == node);
    }
    let scope = Some(namespace).filter(|n| !n.is_empty());
    view.list(&PODS, scope).iter().filter_map(|o| o.typed::<Pod>().ok()).any(|pod| {
        let Some(spec) = pod.spec.as_ref().filter(|s| s.node_name.as_deref() == Some(node)) else { return false };
        let here = pod.metadata.namespace.as_deref().unwrap_or_default();
        match resource {
            "secrets" => secret(spec, name) || volume_secret(view, &pod, spec, here, name),
            "configmaps" => config_map(spec, name),
            "serviceaccounts" => spec.service_account_name.as_deref() == Some(name),
            "persistentvolumeclaims" => claims(&pod, spec).any(|c| c == name),
            "persistentvolumes" => {
                claims(&pod, spec).any(|c| volume_of(view, here, &c).is_some_and(|(volume, _)| volume == name))
            }
            "resourceclaims" => resource_claim(&pod, spec, name),
            _ => false,
        }
    })
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn secret(spec: &PodSpec, name: &str) -> bool {
    let pull = spec.image_pull_secrets.iter().flatten().any(|s| s.name == name);
    let environment = containers(spec).any(|c| {
        let from = c.env_from.iter().flatten().filter_map(|e| e.secret_ref.as_ref()).any(|s| s.name == name);
        let keys = c.env.iter().flatten().filter_map(|e| e.value_from.as_ref()?.secret_key_ref.as_ref());
        from || keys.map(|k| &k.name).any(|n| n == name)
    });
    pull || environment || spec.volumes.iter().flatten().any(|v| volume_names_secret(v, name))
}

fn volume_names_secret(volume: &Volume, name: &str) -> bool {
    let plain = volume.secret.as_ref().and_then(|s| s.secret_name.as_deref()) == Some(name);
    let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    let projected = projected.filter_map(|s| s.secret.as_ref()).any(|s| s.name == name);
    let csi = volume.csi.as_ref().and_then(|c| c.node_publish_secret_ref.as_ref()).is_some_and(|s| s.name == name);
    let references = [
        volume.cephfs.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.cinder.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.flex_volume.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.iscsi.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.rbd.as_ref().and_then(|v| v.secret_ref.as_ref()),
        volume.scale_io.as_ref().map(|v| &v.secret_ref),
        volume.storageos.as_ref().and_then(|v| v.secret_ref.as_ref()),
    ];
    let azure = volume.azure_file.as_ref().is_some_and(|v| v.secret_name == name);
    plain || projected || csi || azure || references.into_iter().flatten().any(|s| s.name == name)
}

fn config_map(spec: &PodSpec, name: &str) -> bool {
    let environment = containers(spec).any(|c| {
        let from = c.env_from.iter().flatten().filter_map(|e| e.config_map_ref.as_ref()).any(|s| s.name == name);
        let keys = c.env.iter().flatten().filter_map(|e| e.value_from.as_ref()?.config_map_key_ref.as_ref());
        from || keys.map(|k| &k.name).any(|n| n == name)
    });
    let volumes = spec.volumes.iter().flatten().any(|v| {
        let projected = v.projected.iter().flat_map(|p| p.sources.iter().flatten());
        v.config_map.as_ref().is_some_and(|c| c.name == name)
            || projected.filter_map(|s| s.config_map.as_ref()).any(|c| c.name == name)
    });
    environment || volumes
}

/// The claims of a pod, those of its ephemeral volumes included: they are named after pod and volume.
fn claims<'a>(pod: &'a Pod, spec: &'a PodSpec) -> impl Iterator<Item = String> + 'a {
    spec.volumes.iter().flatten().filter_map(|v| match (&v.persistent_volume_claim, &v.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), v.name)),
        (None, None) => None,
    })
}

/// The volume that a claim is bound to, with its object if it refers back to the claim.
fn volume_of(
    view: &dyn ObjectView,
    namespace: &str,
    claim: &str,
) -> Option<(String, Option<std::sync::Arc<PersistentVolume>>)> {
    let claim_object = view.get(&PERSISTENT_VOLUME_CLAIMS, namespace, claim)?;
    let name = claim_object.typed::<PersistentVolumeClaim>().ok()?.spec.as_ref()?.volume_name.clone()?;
    let volume = view.get(&PERSISTENT_VOLUMES, "", &name).and_then(|o| o.typed::<PersistentVolume>().ok());
    let volume = volume.filter(|v| {
        let reference = v.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
        reference.is_some_and(|r| r.namespace.as_deref() == Some(namespace) && r.name.as_deref() == Some(claim))
    });
    Some((name, volume))
}

/// A secret that a pod needs through a volume that its claim is bound to.
fn volume_secret(view: &dyn ObjectView, pod: &Pod, spec: &PodSpec, namespace: &str, name: &str) -> bool {
    claims(pod, spec).any(|claim| {
        let Some((_, Some(volume))) = volume_of(view, namespace, &claim) else { return false };
        let Some(csi) = volume.spec.as_ref().and_then(|s| s.csi.as_ref()) else { return false };
        let references = [&csi.node_publish_secret_ref, &csi.node_stage_secret_ref, &csi.node_expand_secret_ref];
        references
            .into_iter()
            .flatten()
            .any(|s| s.name.as_deref() == Some(name) && s.namespace.as_deref().unwrap_or_default() == namespace)
    })
}

fn resource_claim(pod: &Pod, spec: &PodSpec, name: &str) -> bool {
    let direct = spec.resource_claims.iter().flatten().any(|c| c.resource_claim_name.as_deref() == Some(name));
    let generated = pod.status.iter().flat_map(|s| s.resource_claim_statuses.iter().flatten());
    direct || generated.filter_map(|s| s.resource_claim_name.as_deref()).any(|n| n == name)
}
