//! Cluster addresses and node ports of Services: chosen before the write, taken and given back in its transaction.
//!
//! An address is held by an `IPAddress` object, a node port by a reserved key; both are compared with "absent" in the
//! transaction that takes them, so that two Services never hold the same one. Nothing is taken outside a transaction.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use navarch_raft_contract::{Compare, Op, OpKind, Txn};
use navarch_store::key;
use navarch_types::field::{FieldError, Path};
use navarch_types::name::Str;
use navarch_types::{ApiError, GroupResource, GroupVersionKind, field};
use serde_json::{Value, json};

use crate::meta;
use crate::registry::{self, Registry};
use crate::resource::Resource;

mod addresses;
mod ports;

/// What Services are given.
#[derive(Clone, Debug)]
pub struct ServiceNetwork {
    /// The ranges of cluster addresses, the default family first; at most one of each family.
    pub cidrs: Vec<IpNet>,
    /// The first and last node port.
    pub node_ports: (u16, u16),
}

/// What a write takes and gives back besides the object itself.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    compares: Vec<Compare>,
    ops: Vec<Op>,
}

impl Plan {
    /// Adds the plan to the transaction of the object.
    pub(crate) fn add_to(self, txn: &mut Txn) {
        txn.compares.extend(self.compares);
        txn.ops.extend(self.ops);
    }

    /// Whether anything is taken or given back.
    pub(crate) fn changes(&self) -> bool {
        !self.ops.is_empty()
    }

    fn take(&mut self, key: bytes::Bytes, value: &Value) -> Result<(), ApiError> {
        self.compares.push(Compare { key: key.clone(), mod_revision: 0 });
        self.ops.push(Op { kind: OpKind::Put as i32, key, value: registry::encode(value)?, expires_at_ms: 0 });
        Ok(())
    }

    fn release(&mut self, key: bytes::Bytes) {
        self.ops.push(Op { kind: OpKind::Delete as i32, key, value: bytes::Bytes::new(), expires_at_ms: 0 });
    }
}

const SERVICE: GroupVersionKind =
    GroupVersionKind { group: Str::Borrowed(""), version: Str::Borrowed("v1"), kind: Str::Borrowed("Service") };

fn ip_addresses() -> GroupResource {
    GroupResource { group: "networking.k8s.io".into(), resource: "ipaddresses".into() }
}

fn node_ports() -> GroupResource {
    GroupResource { group: "navarch.internal".into(), resource: "nodeports".into() }
}

impl Registry {
    /// Decides what a write of `new` (absent on delete) over `old` (absent on create) takes and gives back, and fills the
    /// addresses and ports into `new`. Nothing for resources other than Services.
    pub(crate) fn plan_allocation(
        &self,
        resource: &Resource,
        new: Option<&mut Value>,
        old: Option<&Value>,
    ) -> Result<Plan, ApiError> {
        let mut plan = Plan::default();
        if !(resource.storage.group.is_empty() && resource.storage.resource == "services") {
            return Ok(plan);
        }
        let mut findings = Vec::new();
        let name = new.as_deref().or(old).map(|o| meta::text(o, "name").to_owned()).unwrap_or_default();
        match new {
            Some(new) => {
                self.plan_addresses(new, old, &mut plan, &mut findings)?;
                self.plan_ports(new, old, &mut plan, &mut findings)?;
            }
            None => {
                if let Some(old) = old {
                    for address in addresses::of(old) {
                        plan.release(key::object_key(&ip_addresses(), "", &address.to_string()));
                    }
                    for port in ports::of(old) {
                        plan.release(key::object_key(&node_ports(), "", &port.to_string()));
                    }
                }
            }
        }
        field::into_result(&SERVICE, &name, findings)?;
        Ok(plan)
    }

    fn plan_addresses(
        &self,
        new: &mut Value,
        old: Option<&Value>,
        plan: &mut Plan,
        findings: &mut Vec<FieldError>,
    ) -> Result<(), ApiError> {
        let held: BTreeSet<IpAddr> = old.map(|o| addresses::of(o).into_iter().collect()).unwrap_or_default();
        let cache = self.caches.resource(&ip_addresses(), false);
        let free = |address: &IpAddr| cache.get("", &address.to_string()).is_none();
        addresses::fill(new, old, &self.services.cidrs, &free, findings);
        if !findings.is_empty() {
            return Ok(());
        }
        let wanted: BTreeSet<IpAddr> = addresses::of(new).into_iter().collect();
        for address in wanted.difference(&held) {
            let name = address.to_string();
            if !free(address) {
                let spec = Path::root("spec");
                let path = spec.child("clusterIPs");
                let detail = format!("failed to allocate IP {address}: provided IP is already allocated");
                findings.push(FieldError::invalid(&path, json!([name]), detail));
                continue;
            }
            plan.take(key::object_key(&ip_addresses(), "", &name), &addresses::object(*address, new))?;
        }
        for address in held.difference(&wanted) {
            plan.release(key::object_key(&ip_addresses(), "", &address.to_string()));
        }
        Ok(())
    }

    fn plan_ports(
        &self,
        new: &mut Value,
        old: Option<&Value>,
        plan: &mut Plan,
        findings: &mut Vec<FieldError>,
    ) -> Result<(), ApiError> {
        let held: BTreeSet<u16> = old.map(ports::of).unwrap_or_default();
        let cache = self.caches.resource(&node_ports(), false);
        let free = |port: u16| held.contains(&port) || cache.get("", &port.to_string()).is_none();
        ports::fill(new, old, self.services.node_ports, &free, findings);
        let wanted = ports::of(new);
        let service = format!("{}/{}", meta::text(new, "namespace"), meta::text(new, "name"));
        for port in wanted.difference(&held) {
            let value = json!({"kind": "NodePort", "metadata": {"name": port.to_string()}, "service": service});
            plan.take(key::object_key(&node_ports(), "", &port.to_string()), &value)?;
        }
        for port in held.difference(&wanted) {
            plan.release(key::object_key(&node_ports(), "", &port.to_string()));
        }
        Ok(())
    }
}
