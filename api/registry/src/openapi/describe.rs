//! Descriptions of kinds and fields, taken from `k8s-openapi`'s schemas.
//!
//! They are only made while a document is: they are several megabytes of text in tens of thousands of small pieces.

use schemars::SchemaGenerator;
use serde_json::{Map, Value};

/// Descriptions of some kinds and all that they refer to.
pub(super) struct Descriptions(Map<String, Value>);

impl Descriptions {
    /// Of these kinds, by the names that the schema gives their structures.
    pub(super) fn of<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut generator = SchemaGenerator::default();
        for name in names {
            add(&mut generator, name);
        }
        Self(generator.take_definitions(true))
    }

    /// Of a structure: `io.k8s.api.core.v1.Pod`.
    pub(super) fn definition(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.get("description")?.as_str()
    }

    /// Of a field.
    pub(super) fn field(&self, name: &str, field: &str) -> Option<&str> {
        self.0.get(name)?.get("properties")?.get(field)?.get("description")?.as_str()
    }
}

/// Every kind that a resource or subresource speaks. Lists have no type of their own there.
#[allow(clippy::too_many_lines)] // A table.
fn add(generator: &mut SchemaGenerator, name: &str) {
    match name {
        "api.admissionregistration.v1.MutatingAdmissionPolicy" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicy>(),
        "api.admissionregistration.v1.MutatingAdmissionPolicyBinding" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicyBinding>(),
        "api.admissionregistration.v1.MutatingWebhookConfiguration" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration>(),
        "api.admissionregistration.v1.ValidatingAdmissionPolicy" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy>(),
        "api.admissionregistration.v1.ValidatingAdmissionPolicyBinding" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding>(),
        "api.admissionregistration.v1.ValidatingWebhookConfiguration" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration>(),
        "api.admissionregistration.v1alpha1.MutatingAdmissionPolicy" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1alpha1::MutatingAdmissionPolicy>(),
        "api.admissionregistration.v1alpha1.MutatingAdmissionPolicyBinding" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1alpha1::MutatingAdmissionPolicyBinding>(),
        "api.admissionregistration.v1beta1.MutatingAdmissionPolicy" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1beta1::MutatingAdmissionPolicy>(),
        "api.admissionregistration.v1beta1.MutatingAdmissionPolicyBinding" => generator.subschema_for::<k8s_openapi::api::admissionregistration::v1beta1::MutatingAdmissionPolicyBinding>(),
        "api.apiserverinternal.v1alpha1.StorageVersion" => generator.subschema_for::<k8s_openapi::api::apiserverinternal::v1alpha1::StorageVersion>(),
        "api.apps.v1.ControllerRevision" => generator.subschema_for::<k8s_openapi::api::apps::v1::ControllerRevision>(),
        "api.apps.v1.DaemonSet" => generator.subschema_for::<k8s_openapi::api::apps::v1::DaemonSet>(),
        "api.apps.v1.Deployment" => generator.subschema_for::<k8s_openapi::api::apps::v1::Deployment>(),
        "api.apps.v1.ReplicaSet" => generator.subschema_for::<k8s_openapi::api::apps::v1::ReplicaSet>(),
        "api.apps.v1.StatefulSet" => generator.subschema_for::<k8s_openapi::api::apps::v1::StatefulSet>(),
        "api.authentication.v1.SelfSubjectReview" => generator.subschema_for::<k8s_openapi::api::authentication::v1::SelfSubjectReview>(),
        "api.authentication.v1.TokenRequest" => generator.subschema_for::<k8s_openapi::api::authentication::v1::TokenRequest>(),
        "api.authentication.v1.TokenReview" => generator.subschema_for::<k8s_openapi::api::authentication::v1::TokenReview>(),
        "api.authorization.v1.LocalSubjectAccessReview" => generator.subschema_for::<k8s_openapi::api::authorization::v1::LocalSubjectAccessReview>(),
        "api.authorization.v1.SelfSubjectAccessReview" => generator.subschema_for::<k8s_openapi::api::authorization::v1::SelfSubjectAccessReview>(),
        "api.authorization.v1.SelfSubjectRulesReview" => generator.subschema_for::<k8s_openapi::api::authorization::v1::SelfSubjectRulesReview>(),
        "api.authorization.v1.SubjectAccessReview" => generator.subschema_for::<k8s_openapi::api::authorization::v1::SubjectAccessReview>(),
        "api.autoscaling.v1.HorizontalPodAutoscaler" => generator.subschema_for::<k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler>(),
        "api.autoscaling.v1.Scale" => generator.subschema_for::<k8s_openapi::api::autoscaling::v1::Scale>(),
        "api.autoscaling.v2.HorizontalPodAutoscaler" => generator.subschema_for::<k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler>(),
        "api.batch.v1.CronJob" => generator.subschema_for::<k8s_openapi::api::batch::v1::CronJob>(),
        "api.batch.v1.Job" => generator.subschema_for::<k8s_openapi::api::batch::v1::Job>(),
        "api.certificates.v1.CertificateSigningRequest" => generator.subschema_for::<k8s_openapi::api::certificates::v1::CertificateSigningRequest>(),
        "api.certificates.v1alpha1.ClusterTrustBundle" => generator.subschema_for::<k8s_openapi::api::certificates::v1alpha1::ClusterTrustBundle>(),
        "api.certificates.v1beta1.ClusterTrustBundle" => generator.subschema_for::<k8s_openapi::api::certificates::v1beta1::ClusterTrustBundle>(),
        "api.certificates.v1beta1.PodCertificateRequest" => generator.subschema_for::<k8s_openapi::api::certificates::v1beta1::PodCertificateRequest>(),
        "api.coordination.v1.Lease" => generator.subschema_for::<k8s_openapi::api::coordination::v1::Lease>(),
        "api.coordination.v1alpha2.LeaseCandidate" => generator.subschema_for::<k8s_openapi::api::coordination::v1alpha2::LeaseCandidate>(),
        "api.coordination.v1beta1.LeaseCandidate" => generator.subschema_for::<k8s_openapi::api::coordination::v1beta1::LeaseCandidate>(),
        "api.core.v1.Binding" => generator.subschema_for::<k8s_openapi::api::core::v1::Binding>(),
        "api.core.v1.ComponentStatus" => generator.subschema_for::<k8s_openapi::api::core::v1::ComponentStatus>(),
        "api.core.v1.ConfigMap" => generator.subschema_for::<k8s_openapi::api::core::v1::ConfigMap>(),
        "api.core.v1.Endpoints" => generator.subschema_for::<k8s_openapi::api::core::v1::Endpoints>(),
        "api.core.v1.Event" => generator.subschema_for::<k8s_openapi::api::core::v1::Event>(),
        "api.core.v1.LimitRange" => generator.subschema_for::<k8s_openapi::api::core::v1::LimitRange>(),
        "api.core.v1.Namespace" => generator.subschema_for::<k8s_openapi::api::core::v1::Namespace>(),
        "api.core.v1.Node" => generator.subschema_for::<k8s_openapi::api::core::v1::Node>(),
        "api.core.v1.PersistentVolume" => generator.subschema_for::<k8s_openapi::api::core::v1::PersistentVolume>(),
        "api.core.v1.PersistentVolumeClaim" => generator.subschema_for::<k8s_openapi::api::core::v1::PersistentVolumeClaim>(),
        "api.core.v1.Pod" => generator.subschema_for::<k8s_openapi::api::core::v1::Pod>(),
        "api.core.v1.PodTemplate" => generator.subschema_for::<k8s_openapi::api::core::v1::PodTemplate>(),
        "api.core.v1.ReplicationController" => generator.subschema_for::<k8s_openapi::api::core::v1::ReplicationController>(),
        "api.core.v1.ResourceQuota" => generator.subschema_for::<k8s_openapi::api::core::v1::ResourceQuota>(),
        "api.core.v1.Secret" => generator.subschema_for::<k8s_openapi::api::core::v1::Secret>(),
        "api.core.v1.Service" => generator.subschema_for::<k8s_openapi::api::core::v1::Service>(),
        "api.core.v1.ServiceAccount" => generator.subschema_for::<k8s_openapi::api::core::v1::ServiceAccount>(),
        "api.discovery.v1.EndpointSlice" => generator.subschema_for::<k8s_openapi::api::discovery::v1::EndpointSlice>(),
        "api.events.v1.Event" => generator.subschema_for::<k8s_openapi::api::events::v1::Event>(),
        "api.flowcontrol.v1.FlowSchema" => generator.subschema_for::<k8s_openapi::api::flowcontrol::v1::FlowSchema>(),
        "api.flowcontrol.v1.PriorityLevelConfiguration" => generator.subschema_for::<k8s_openapi::api::flowcontrol::v1::PriorityLevelConfiguration>(),
        "api.networking.v1.IPAddress" => generator.subschema_for::<k8s_openapi::api::networking::v1::IPAddress>(),
        "api.networking.v1.Ingress" => generator.subschema_for::<k8s_openapi::api::networking::v1::Ingress>(),
        "api.networking.v1.IngressClass" => generator.subschema_for::<k8s_openapi::api::networking::v1::IngressClass>(),
        "api.networking.v1.NetworkPolicy" => generator.subschema_for::<k8s_openapi::api::networking::v1::NetworkPolicy>(),
        "api.networking.v1.ServiceCIDR" => generator.subschema_for::<k8s_openapi::api::networking::v1::ServiceCIDR>(),
        "api.networking.v1beta1.IPAddress" => generator.subschema_for::<k8s_openapi::api::networking::v1beta1::IPAddress>(),
        "api.networking.v1beta1.ServiceCIDR" => generator.subschema_for::<k8s_openapi::api::networking::v1beta1::ServiceCIDR>(),
        "api.node.v1.RuntimeClass" => generator.subschema_for::<k8s_openapi::api::node::v1::RuntimeClass>(),
        "api.policy.v1.Eviction" => generator.subschema_for::<k8s_openapi::api::policy::v1::Eviction>(),
        "api.policy.v1.PodDisruptionBudget" => generator.subschema_for::<k8s_openapi::api::policy::v1::PodDisruptionBudget>(),
        "api.rbac.v1.ClusterRole" => generator.subschema_for::<k8s_openapi::api::rbac::v1::ClusterRole>(),
        "api.rbac.v1.ClusterRoleBinding" => generator.subschema_for::<k8s_openapi::api::rbac::v1::ClusterRoleBinding>(),
        "api.rbac.v1.Role" => generator.subschema_for::<k8s_openapi::api::rbac::v1::Role>(),
        "api.rbac.v1.RoleBinding" => generator.subschema_for::<k8s_openapi::api::rbac::v1::RoleBinding>(),
        "api.resource.v1.DeviceClass" => generator.subschema_for::<k8s_openapi::api::resource::v1::DeviceClass>(),
        "api.resource.v1.ResourceClaim" => generator.subschema_for::<k8s_openapi::api::resource::v1::ResourceClaim>(),
        "api.resource.v1.ResourceClaimTemplate" => generator.subschema_for::<k8s_openapi::api::resource::v1::ResourceClaimTemplate>(),
        "api.resource.v1.ResourceSlice" => generator.subschema_for::<k8s_openapi::api::resource::v1::ResourceSlice>(),
        "api.resource.v1alpha3.DeviceTaintRule" => generator.subschema_for::<k8s_openapi::api::resource::v1alpha3::DeviceTaintRule>(),
        "api.resource.v1alpha3.ResourcePoolStatusRequest" => generator.subschema_for::<k8s_openapi::api::resource::v1alpha3::ResourcePoolStatusRequest>(),
        "api.resource.v1beta1.DeviceClass" => generator.subschema_for::<k8s_openapi::api::resource::v1beta1::DeviceClass>(),
        "api.resource.v1beta1.ResourceClaim" => generator.subschema_for::<k8s_openapi::api::resource::v1beta1::ResourceClaim>(),
        "api.resource.v1beta1.ResourceClaimTemplate" => generator.subschema_for::<k8s_openapi::api::resource::v1beta1::ResourceClaimTemplate>(),
        "api.resource.v1beta1.ResourceSlice" => generator.subschema_for::<k8s_openapi::api::resource::v1beta1::ResourceSlice>(),
        "api.resource.v1beta2.DeviceClass" => generator.subschema_for::<k8s_openapi::api::resource::v1beta2::DeviceClass>(),
        "api.resource.v1beta2.DeviceTaintRule" => generator.subschema_for::<k8s_openapi::api::resource::v1beta2::DeviceTaintRule>(),
        "api.resource.v1beta2.ResourceClaim" => generator.subschema_for::<k8s_openapi::api::resource::v1beta2::ResourceClaim>(),
        "api.resource.v1beta2.ResourceClaimTemplate" => generator.subschema_for::<k8s_openapi::api::resource::v1beta2::ResourceClaimTemplate>(),
        "api.resource.v1beta2.ResourceSlice" => generator.subschema_for::<k8s_openapi::api::resource::v1beta2::ResourceSlice>(),
        "api.scheduling.v1.PriorityClass" => generator.subschema_for::<k8s_openapi::api::scheduling::v1::PriorityClass>(),
        "api.scheduling.v1alpha2.PodGroup" => generator.subschema_for::<k8s_openapi::api::scheduling::v1alpha2::PodGroup>(),
        "api.scheduling.v1alpha2.Workload" => generator.subschema_for::<k8s_openapi::api::scheduling::v1alpha2::Workload>(),
        "api.storage.v1.CSIDriver" => generator.subschema_for::<k8s_openapi::api::storage::v1::CSIDriver>(),
        "api.storage.v1.CSINode" => generator.subschema_for::<k8s_openapi::api::storage::v1::CSINode>(),
        "api.storage.v1.CSIStorageCapacity" => generator.subschema_for::<k8s_openapi::api::storage::v1::CSIStorageCapacity>(),
        "api.storage.v1.StorageClass" => generator.subschema_for::<k8s_openapi::api::storage::v1::StorageClass>(),
        "api.storage.v1.VolumeAttachment" => generator.subschema_for::<k8s_openapi::api::storage::v1::VolumeAttachment>(),
        "api.storage.v1.VolumeAttributesClass" => generator.subschema_for::<k8s_openapi::api::storage::v1::VolumeAttributesClass>(),
        "api.storage.v1beta1.VolumeAttributesClass" => generator.subschema_for::<k8s_openapi::api::storage::v1beta1::VolumeAttributesClass>(),
        "api.storagemigration.v1beta1.StorageVersionMigration" => generator.subschema_for::<k8s_openapi::api::storagemigration::v1beta1::StorageVersionMigration>(),
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition" => generator.subschema_for::<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>(),
        "apimachinery.pkg.apis.meta.v1.DeleteOptions" => generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions>(),
        "apimachinery.pkg.apis.meta.v1.Status" => generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Status>(),
        "kube-aggregator.pkg.apis.apiregistration.v1.APIService" => generator.subschema_for::<k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService>(),
        _ => return,
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use navarch_types::schema::Schema;

    use super::*;

    #[test]
    fn every_kind_is_described() {
        let schema = Schema::builtin();
        let kinds = schema.resources().iter().map(|r| schema.definition(schema.by_gvk(&r.gvk()).unwrap()).name.clone());
        let names: Vec<_> = kinds.collect();
        let descriptions = Descriptions::of(names.iter().map(AsRef::as_ref));
        for name in names {
            assert!(descriptions.definition(&format!("io.k8s.{name}")).is_some(), "{name}");
        }
        assert!(descriptions.field("io.k8s.api.core.v1.PodSpec", "containers").is_some());
        assert!(descriptions.field("io.k8s.api.core.v1.PodSpec", "hostUsers").is_some());
    }
}
