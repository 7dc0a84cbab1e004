//! The table of all plugins.

use crate::plugin::{Environment, Plugin};

mod certificate_approval;
mod certificate_subject_restriction;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod json;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod pod_security;
mod priority;
mod rbac_escalation;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_object_in_use;
mod taint_nodes_by_condition;
mod volume_resize;
mod webhook_configurations;

#[cfg(test)]
mod testing;

/// Every plugin, in the order in which they run: upstream's.
pub(crate) fn all(environment: &Environment) -> Vec<Box<dyn Plugin>> {
    let view = || environment.view.clone();
    let authorizer = || environment.authorizer.clone();
    vec![
        Box::new(namespace_lifecycle::NamespaceLifecycle::new(view())),
        Box::new(limit_ranger::LimitRanger::new(view())),
        Box::new(service_account::ServiceAccount::new(view())),
        Box::new(node_restriction::NodeRestriction::new(view())),
        Box::new(taint_nodes_by_condition::TaintNodesByCondition),
        Box::new(pod_security::PodSecurity::new(view())),
        Box::new(priority::Priority::new(view())),
        Box::new(default_toleration_seconds::DefaultTolerationSeconds),
        Box::new(default_storage_class::DefaultStorageClass::new(view())),
        Box::new(storage_object_in_use::StorageObjectInUseProtection),
        Box::new(volume_resize::PersistentVolumeClaimResize::new(view())),
        Box::new(runtime_class::RuntimeClass::new(view())),
        Box::new(certificate_approval::CertificateApproval::new(authorizer())),
        Box::new(certificate_approval::CertificateSigning::new(authorizer())),
        Box::new(certificate_subject_restriction::CertificateSubjectRestriction),
        Box::new(default_ingress_class::DefaultIngressClass::new(view())),
        Box::new(rbac_escalation::RbacEscalation::new(authorizer())),
        Box::new(webhook_configurations::WebhookConfigurations),
        // Last, so that what others refuse is not counted.
        Box::new(resource_quota::ResourceQuota::new(view())),
    ]
}
