//! CertificateApproval and CertificateSigning: approving or signing a request takes the right to do so for its signer.

use std::sync::Arc;

use async_trait::async_trait;
use navarch_auth::{Attributes, Authorizer};
use serde_json::Value;

use super::json::{at, text};
use crate::attributes::{AdmissionAttributes, Operation};
use crate::plugin::{FINE, Plugin, Verdict};

const GROUP: &str = "certificates.k8s.io";

pub(super) struct CertificateApproval {
    authorizer: Arc<Authorizer>,
}

pub(super) struct CertificateSigning {
    authorizer: Arc<Authorizer>,
}

impl CertificateApproval {
    pub(super) fn new(authorizer: Arc<Authorizer>) -> Self {
        Self { authorizer }
    }
}

impl CertificateSigning {
    pub(super) fn new(authorizer: Arc<Authorizer>) -> Self {
        Self { authorizer }
    }
}

/// Whether the user may do `verb` for a signer, or for all of its domain.
fn may(authorizer: &Authorizer, attributes: &AdmissionAttributes<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    let all = format!("{domain}/*");
    [signer, all.as_str()].into_iter().any(|name| {
        let mut asked = Attributes::resource(attributes.user, verb, GROUP, "v1", "signers");
        asked.name = name;
        authorizer.authorize(&asked).allowed()
    })
}

fn judge(authorizer: &Authorizer, attributes: &AdmissionAttributes<'_>, verb: &str, object: &Value) -> Verdict {
    // The signer is the stored one: the request cannot name another to be judged by.
    let signer = text(attributes.old.unwrap_or(object), &["spec", "signerName"]);
    if may(authorizer, attributes, verb, signer) {
        return FINE;
    }
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(attributes.forbidden(why))
}

fn is_update_of(attributes: &AdmissionAttributes<'_>, subresource: &str) -> bool {
    let is_update = attributes.operation == Operation::Update && attributes.subresource == subresource;
    is_update && attributes.is(GROUP, "certificatesigningrequests")
}

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        is_update_of(attributes, "approval")
    }

    async fn validate(&self, attributes: &AdmissionAttributes<'_>, object: &Value) -> Verdict {
        judge(&self.authorizer, attributes, "approve", object)
    }
}

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        is_update_of(attributes, "status")
    }

    async fn validate(&self, attributes: &AdmissionAttributes<'_>, object: &Value) -> Verdict {
        let old = attributes.old.unwrap_or(&Value::Null);
        let same = |field: &str| at(old, &["status", field]) == at(object, &["status", field]);
        // Signing is writing the certificate, or saying that it failed.
        if same("certificate") && same("conditions") {
            return FINE;
        }
        judge(&self.authorizer, attributes, "sign", object)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use navarch_auth::view::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES};
    use navarch_types::UserInfo;
    use serde_json::json;

    use super::super::testing::Case;
    use super::*;

    #[tokio::test]
    async fn approval_takes_the_right_for_the_signer() {
        let case = Case::new();
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "r"}, "rules": [{"verbs": ["approve"], "apiGroups": [GROUP],
            "resources": ["signers"], "resourceNames": ["acme.com/*"]}]});
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "b"}, "subjects": [{"kind": "User", "name": "jane"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}});
        case.view.put(&CLUSTER_ROLES, &role).unwrap();
        case.view.put(&CLUSTER_ROLE_BINDINGS, &binding).unwrap();
        for (signer, fine) in [("acme.com/web", true), ("other.com/web", false)] {
            let mut request = case.create(GROUP, "certificatesigningrequests", "", "c");
            (request.operation, request.subresource) = (Operation::Update, "approval");
            request.user = UserInfo::new("jane", &["system:authenticated"]);
            request.old = Some(json!({"spec": {"signerName": signer}}));
            let result = request.validate(&json!({"spec": {"signerName": "acme.com/web"}})).await;
            assert_eq!(result.is_ok(), fine, "{signer}");
        }
    }
}
