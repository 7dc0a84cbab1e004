//! Bindings by subject, each with the rules of its role. Immutable; built from one look at the store's objects.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use navarch_types::{Object, UserInfo};

use crate::view::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ObjectView, ROLE_BINDINGS, ROLES};

type Rules = Arc<[PolicyRule]>;

/// What one binding gives to one subject.
pub(super) struct Grant {
    binding: Arc<Binding>,
    subject: String,
    /// `None` if the role does not exist.
    pub(super) rules: Option<Rules>,
}

struct Binding {
    /// Empty for a ClusterRoleBinding.
    namespace: String,
    name: String,
    role: RoleRef,
}

impl Grant {
    /// What to say of a role that is not there.
    pub(super) fn role_not_found(&self) -> String {
        let resource = if self.binding.role.kind == "Role" { "role" } else { "clusterrole" };
        format!("{resource}.{} {:?} not found", super::GROUP, self.binding.role.name)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Binding { namespace, name, role } = &*self.binding;
        if namespace.is_empty() {
            write!(f, "ClusterRoleBinding {name:?}")?;
        } else {
            write!(f, "RoleBinding \"{name}/{namespace}\"")?;
        }
        write!(f, " of {} {:?} to {}", role.kind, role.name, self.subject)
    }
}

#[derive(Default)]
struct Subjects {
    users: HashMap<String, Vec<Arc<Grant>>>,
    groups: HashMap<String, Vec<Arc<Grant>>>,
}

impl Subjects {
    fn of<'a>(&'a self, user: &'a UserInfo) -> impl Iterator<Item = &'a Arc<Grant>> {
        let own = self.users.get(&user.name).into_iter();
        own.chain(user.groups.iter().filter_map(|g| self.groups.get(g))).flatten()
    }
}

/// All bindings.
#[derive(Default)]
pub(super) struct Index {
    /// All changes up to here are in it.
    pub(super) revision: u64,
    cluster: Subjects,
    namespaces: HashMap<String, Subjects>,
}

impl Index {
    /// What a user is given in the cluster and in a namespace.
    pub(super) fn grants<'a>(&'a self, user: &'a UserInfo, namespace: &str) -> impl Iterator<Item = &'a Arc<Grant>> {
        let local = if namespace.is_empty() { None } else { self.namespaces.get(namespace) };
        self.cluster.of(user).chain(local.into_iter().flat_map(|s| s.of(user)))
    }

    /// Builds the index. Objects that cannot be read are left out, and said so in the log: they give nothing.
    pub(super) fn build(view: &dyn ObjectView) -> Self {
        // Before the lists: what changes while they are read makes the index stale, never wrong for long.
        let revision = view.revision();
        let mut cluster_roles = HashMap::new();
        for object in view.list(&CLUSTER_ROLES, None) {
            if let Some(role) = read::<ClusterRole>(&object) {
                let rules: Rules = role.rules.clone().unwrap_or_default().into();
                cluster_roles.insert(role.metadata.name.clone().unwrap_or_default(), rules);
            }
        }
        let mut roles = HashMap::new();
        for object in view.list(&ROLES, None) {
            if let Some(role) = read::<Role>(&object) {
                let rules: Rules = role.rules.clone().unwrap_or_default().into();
                let metadata = &role.metadata;
                let key = (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
                roles.insert(key, rules);
            }
        }
        let mut index = Self { revision, ..Self::default() };
        for object in view.list(&CLUSTER_ROLE_BINDINGS, None) {
            if let Some(binding) = read::<ClusterRoleBinding>(&object) {
                // A ClusterRoleBinding can give nothing but a ClusterRole.
                let is_cluster_role = binding.role_ref.kind == "ClusterRole";
                let rules = cluster_roles.get(&binding.role_ref.name).filter(|_| is_cluster_role).cloned();
                let name = binding.metadata.name.clone().unwrap_or_default();
                let about = Binding { namespace: String::new(), name, role: binding.role_ref.clone() };
                add(&mut index.cluster, about, binding.subjects.as_deref().unwrap_or_default(), rules.as_ref());
            }
        }
        for object in view.list(&ROLE_BINDINGS, None) {
            if let Some(binding) = read::<RoleBinding>(&object) {
                let namespace = binding.metadata.namespace.clone().unwrap_or_default();
                let rules = match binding.role_ref.kind.as_str() {
                    "ClusterRole" => cluster_roles.get(&binding.role_ref.name).cloned(),
                    _ => roles.get(&(namespace.clone(), binding.role_ref.name.clone())).cloned(),
                };
                let name = binding.metadata.name.clone().unwrap_or_default();
                let about = Binding { namespace: namespace.clone(), name, role: binding.role_ref.clone() };
                let subjects = index.namespaces.entry(namespace).or_default();
                add(subjects, about, binding.subjects.as_deref().unwrap_or_default(), rules.as_ref());
            }
        }
        index
    }
}

fn read<K: serde::de::DeserializeOwned + Send + Sync + 'static>(object: &Object) -> Option<Arc<K>> {
    object.typed::<K>().inspect_err(|error| tracing::warn!(%error, "an RBAC object cannot be read")).ok()
}

fn add(into: &mut Subjects, binding: Binding, subjects: &[Subject], rules: Option<&Rules>) {
    let binding = Arc::new(binding);
    for subject in subjects {
        let namespace = subject.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(&binding.namespace);
        let (map, key, described) = match subject.kind.as_str() {
            "User" => (&mut into.users, subject.name.clone(), format!("User {:?}", subject.name)),
            "Group" => (&mut into.groups, subject.name.clone(), format!("Group {:?}", subject.name)),
            "ServiceAccount" if !namespace.is_empty() => {
                let described = format!("ServiceAccount \"{}/{namespace}\"", subject.name);
                (&mut into.users, crate::service_account_user(namespace, &subject.name), described)
            }
            _ => continue,
        };
        let grant = Grant { binding: Arc::clone(&binding), subject: described, rules: rules.cloned() };
        map.entry(key).or_default().push(Arc::new(grant));
    }
}

/// The rules of one role, straight from the objects.
pub(super) fn role_rules(view: &dyn ObjectView, namespace: &str, kind: &str, name: &str) -> Option<Vec<PolicyRule>> {
    match kind {
        "ClusterRole" => {
            let object = view.get(&CLUSTER_ROLES, "", name)?;
            read::<ClusterRole>(&object).map(|r| r.rules.clone().unwrap_or_default())
        }
        "Role" => {
            let object = view.get(&ROLES, namespace, name)?;
            read::<Role>(&object).map(|r| r.rules.clone().unwrap_or_default())
        }
        _ => None,
    }
}
