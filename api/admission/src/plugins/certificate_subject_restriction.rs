//! CertificateSubjectRestriction: nobody becomes `system:masters` by a certificate request.

use async_trait::async_trait;
use navarch_auth::PRIVILEGED_GROUP;
use serde_json::Value;

use super::json::text;
use crate::attributes::AdmissionAttributes;
use crate::plugin::{FINE, Plugin, Verdict};

/// The signer whose certificates authenticate users.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        attributes.creates() && attributes.is("certificates.k8s.io", "certificatesigningrequests")
    }

    async fn validate(&self, attributes: &AdmissionAttributes<'_>, object: &Value) -> Verdict {
        if text(object, &["spec", "signerName"]) != CLIENT_SIGNER {
            return FINE;
        }
        let organizations = navarch_auth::pki::request_organizations(text(object, &["spec", "request"]))
            .map_err(|why| attributes.forbidden(format!("could not parse CSR: {why}")))?;
        if organizations.iter().any(|o| o == PRIVILEGED_GROUP) {
            let why = format!("use of {CLIENT_SIGNER} signer with {PRIVILEGED_GROUP} group is not allowed");
            return Err(attributes.forbidden(why));
        }
        FINE
    }
}
