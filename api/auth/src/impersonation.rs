//! Acting as somebody else: the `Impersonate-*` headers, each part of which needs the verb `impersonate`.

use std::collections::BTreeMap;

use navarch_types::{ApiError, UserInfo};

use crate::attributes::Attributes;
use crate::authorize::Authorizer;

/// The headers of a request, already taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impersonation {
    /// `Impersonate-User`.
    pub user: Option<String>,
    /// `Impersonate-Uid`.
    pub uid: Option<String>,
    /// `Impersonate-Group`, in order.
    pub groups: Vec<String>,
    /// `Impersonate-Extra-<key>`; the key lower-case and percent-decoded.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Impersonation {
    /// Reads one header; others are left alone. Names in any case. Header values are taken as they are.
    pub fn header(&mut self, name: &str, value: &str) {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "impersonate-user" => self.user = Some(value.to_owned()),
            "impersonate-uid" => self.uid = Some(value.to_owned()),
            "impersonate-group" => self.groups.push(value.to_owned()),
            _ => {
                if let Some(key) = lower.strip_prefix("impersonate-extra-") {
                    self.extra.entry(percent_decode(key)).or_default().push(value.to_owned());
                }
            }
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The user to act as.
    ///
    /// # Errors
    /// 403 if the caller may not, 400 if the headers do not name a user.
    pub fn apply(&self, caller: &UserInfo, authorizer: &Authorizer) -> Result<UserInfo, ApiError> {
        let Some(user) = self.user.as_deref().filter(|u| !u.is_empty()) else {
            return Err(ApiError::bad_request(
                "requested impersonation of groups, uid or extra without impersonating a user",
            ));
        };
        let service_account = crate::split_service_account_user(user);
        let allowed = |group: &str, version: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
            let mut attributes = Attributes::resource(caller, "impersonate", group, version, resource);
            (attributes.subresource, attributes.namespace, attributes.name) = (subresource, namespace, name);
            let decision = authorizer.authorize(&attributes);
            if decision.allowed() { Ok(()) } else { Err(attributes.forbidden(decision.reason())) }
        };
        match service_account {
            Some((namespace, name)) => allowed("", "v1", "serviceaccounts", "", namespace, name)?,
            None => allowed("", "v1", "users", "", "", user)?,
        }
        for group in &self.groups {
            allowed("", "v1", "groups", "", "", group)?;
        }
        for (key, values) in &self.extra {
            for value in values {
                allowed("authentication.k8s.io", "v1", "userextras", key, "", value)?;
            }
        }
        if let Some(uid) = &self.uid {
            allowed("authentication.k8s.io", "v1", "uids", "", "", uid)?;
        }
        Ok(self.identity(user, service_account))
    }

    fn identity(&self, user: &str, service_account: Option<(&str, &str)>) -> UserInfo {
        let mut groups = self.groups.clone();
        if let Some((namespace, _)) = service_account
            && groups.is_empty()
        {
            groups.push(crate::ALL_SERVICE_ACCOUNTS.to_owned());
            groups.push(format!("{}{namespace}", crate::SERVICE_ACCOUNT_GROUP_PREFIX));
        }
        let universal = if user == crate::ANONYMOUS { crate::ALL_UNAUTHENTICATED } else { crate::ALL_AUTHENTICATED };
        let known = [crate::ALL_AUTHENTICATED, crate::ALL_UNAUTHENTICATED];
        if !groups.iter().any(|g| known.contains(&g.as_str())) {
            groups.push(universal.to_owned());
        }
        UserInfo { name: user.to_owned(), uid: self.uid.clone().unwrap_or_default(), groups, extra: self.extra.clone() }
    }
}

/// `%2F` and the like; what is malformed stays as it is.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                // Two hexadecimal digits make one byte.
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::sync::Arc;

    use super::*;
    use crate::view::FixedView;

    fn headers(list: &[(&str, &str)]) -> Impersonation {
        let mut all = Impersonation::default();
        list.iter().for_each(|(name, value)| all.header(name, value));
        all
    }

    #[test]
    fn headers_are_taken_apart() {
        let all = headers(&[
            ("Impersonate-User", "jane"),
            ("impersonate-group", "a"),
            ("Impersonate-Group", "b"),
            ("Impersonate-Extra-Acme.com%2FScopes", "x"),
            ("Impersonate-Extra-bad%2", "y"),
            ("Accept", "z"),
        ]);
        assert_eq!(all.groups, ["a", "b"]);
        assert_eq!(all.extra["acme.com/scopes"], ["x"]);
        assert_eq!(all.extra["bad%2"], ["y"]);
        assert!(headers(&[("Accept", "z")]).is_empty());
    }

    #[test]
    fn a_master_acts_as_anybody_and_others_as_nobody() {
        let authorizer = Authorizer::new(Arc::new(FixedView::default()));
        let master = UserInfo::new("root", &[crate::PRIVILEGED_GROUP]);
        let as_account = headers(&[("Impersonate-User", "system:serviceaccount:default:web")]);
        let user = as_account.apply(&master, &authorizer).unwrap();
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]);
        let jane = UserInfo::new("jane", &[crate::ALL_AUTHENTICATED]);
        let error = as_account.apply(&jane, &authorizer).unwrap_err();
        assert_eq!(error.code(), 403);
        assert!(error.to_string().contains("cannot impersonate resource \"serviceaccounts\""), "{error}");
        let no_user = headers(&[("Impersonate-Group", "system:masters")]);
        assert_eq!(no_user.apply(&master, &authorizer).unwrap_err().code(), 400);
    }
}
