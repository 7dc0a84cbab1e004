//! Writes of the fake.

use std::sync::Arc;

use navarch_types::{
    ApiError, Body, GroupResource, Object, PatchType, Reason, ResourceRequest, ResourceResponse, Status,
};
use serde_json::{Map, Value, json};

use super::group_resource;
use super::state::{Key, Selection, State, now, text};

fn body_of(request: &ResourceRequest) -> Result<Value, ApiError> {
    match &request.body {
        Body::Value(value) => Ok(value.clone()),
        Body::Bytes { content, .. } => {
            serde_json::from_slice(content).map_err(|e| ApiError::bad_request(e.to_string()))
        }
        Body::Empty => Ok(Value::Null),
    }
}

fn key_of(request: &ResourceRequest, name: &str) -> Key {
    (group_resource(request), request.namespace.clone().unwrap_or_default(), name.to_owned())
}

fn is_deleting(value: &Value) -> bool {
    !text(value, "/metadata/deletionTimestamp").is_empty()
}

fn finalizers(value: &Value) -> usize {
    value.pointer("/metadata/finalizers").and_then(Value::as_array).map_or(0, Vec::len)
        + value.pointer("/spec/finalizers").and_then(Value::as_array).map_or(0, Vec::len)
}

fn value_of(object: &Object) -> Result<Value, ApiError> {
    object.to_value().map_err(ApiError::internal)
}

pub(super) fn scale_of(object: &Object) -> Result<Value, ApiError> {
    let value = value_of(object)?;
    Ok(json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": value["metadata"]["name"], "namespace": value["metadata"]["namespace"],
                     "resourceVersion": value["metadata"]["resourceVersion"]},
        "spec": {"replicas": value["spec"]["replicas"]},
        "status": {"replicas": value["status"]["replicas"].as_u64().unwrap_or(0)}}))
}

impl State {
    pub fn create(&mut self, request: &ResourceRequest) -> Result<ResourceResponse, ApiError> {
        if let Some(subresource) = request.subresource.as_deref() {
            return self.post(request, subresource);
        }
        let mut value = body_of(request)?;
        let resource = group_resource(request);
        if !value["metadata"].is_object() {
            return Err(ApiError::bad_request("no metadata"));
        }
        if text(&value, "/metadata/name").is_empty() {
            let prefix = text(&value, "/metadata/generateName");
            if prefix.is_empty() {
                return Err(ApiError::new(Reason::Invalid, "name or generateName is required"));
            }
            let name = format!("{prefix}{:05x}", self.revision);
            value["metadata"]["name"] = name.into();
        }
        let name = text(&value, "/metadata/name").to_owned();
        let key = key_of(request, &name);
        if let Some(namespace) = &request.namespace {
            value["metadata"]["namespace"] = namespace.as_str().into();
            let owner = GroupResource { group: "".into(), resource: "namespaces".into() };
            let terminating =
                self.get(&owner, "", namespace).is_some_and(|ns| value_of(&ns).is_ok_and(|v| is_deleting(&v)));
            if terminating {
                let why =
                    format!("unable to create new content in namespace {namespace} because it is being terminated");
                return Err(ApiError::forbidden(&resource, &name, &why).with_cause("NamespaceTerminating", why, ""));
            }
        }
        if self.objects.contains_key(&key) {
            return Err(ApiError::already_exists(&resource, &name));
        }
        let uid = self.new_uid();
        value["metadata"]["uid"] = uid.into();
        value["metadata"]["creationTimestamp"] = now().into();
        value["metadata"]["generation"] = 1.into();
        if resource.resource == "namespaces" && resource.group.is_empty() {
            value["spec"]["finalizers"] = json!(["kubernetes"]);
            value["status"]["phase"] = "Active".into();
        }
        if request.write.dry_run {
            let object = Object::from_value(&value, 0).map_err(ApiError::internal)?;
            return Ok(ResourceResponse::Created(Arc::new(object)));
        }
        Ok(ResourceResponse::Created(self.store(key, &value)))
    }

    fn post(&mut self, request: &ResourceRequest, subresource: &str) -> Result<ResourceResponse, ApiError> {
        let object = self.require(request)?;
        let name = request.name.clone().unwrap_or_default();
        let mut value = value_of(&object)?;
        match subresource {
            "binding" => {
                if !text(&value, "/spec/nodeName").is_empty() {
                    let why = format!("pod {name} is already assigned to node {:?}", text(&value, "/spec/nodeName"));
                    return Err(ApiError::conflict(&group_resource(request), &name, &why));
                }
                if is_deleting(&value) {
                    let why = format!("pod {name} is being deleted, cannot be assigned to a host");
                    return Err(ApiError::conflict(&group_resource(request), &name, &why));
                }
                value["spec"]["nodeName"] = body_of(request)?["target"]["name"].clone();
                let condition = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now()});
                merge_list(&mut value["status"]["conditions"], &[condition]);
                self.store(key_of(request, &name), &value);
                Ok(ResourceResponse::Status(Box::new(success())))
            }
            "eviction" => self.delete(request),
            "token" => {
                let seconds = body_of(request)?["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
                let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
                let status = json!({"token": format!("token-of-{name}"),
                    "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
                Ok(ResourceResponse::Value(
                    201,
                    json!({"kind": "TokenRequest",
                    "apiVersion": "authentication.k8s.io/v1", "status": status}),
                ))
            }
            other => Err(ApiError::new(Reason::MethodNotAllowed, format!("the fake serves no {other}"))),
        }
    }

    pub fn change(&mut self, request: &ResourceRequest) -> Result<ResourceResponse, ApiError> {
        let current = self.require(request)?;
        let old = value_of(&current)?;
        let body = body_of(request)?;
        let scale = request.subresource.as_deref() == Some("scale");
        let mut new = match request.patch {
            None if scale => {
                let mut new = old.clone();
                new["spec"]["replicas"] = body["spec"]["replicas"].clone();
                new
            }
            None => body,
            Some(kind) => {
                let mut new = old.clone();
                match kind {
                    PatchType::Merge => merge(&mut new, &body, false),
                    PatchType::Strategic => merge(&mut new, &body, true),
                    PatchType::Json | PatchType::Apply => {
                        return Err(ApiError::new(Reason::UnsupportedMediaType, "the fake merges only"));
                    }
                }
                new
            }
        };
        let name = request.name.clone().unwrap_or_default();
        let resource = group_resource(request);
        let version = text(&new, "/metadata/resourceVersion");
        if !version.is_empty() && version != current.revision().to_string() {
            return Err(ApiError::stale(&resource, &name));
        }
        let uid = text(&new, "/metadata/uid");
        if !uid.is_empty() && uid != text(&old, "/metadata/uid") {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                text(&old, "/metadata/uid")
            );
            return Err(ApiError::conflict(&resource, &name, &why));
        }
        restrict(&mut new, &old, request.subresource.as_deref());
        if new["spec"] != old["spec"] {
            let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
            new["metadata"]["generation"] = (generation + 1).into();
        }
        let key = key_of(request, &name);
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if new == old || request.write.dry_run {
            return Ok(ResourceResponse::Object(current));
        }
        if is_deleting(&new) && finalizers(&new) == 0 && !waits_for_kubelet(&new, &key.0) {
            self.store(key.clone(), &new);
            let last = self.remove(&key.0, &key.1, &key.2);
            return last.map(ResourceResponse::Object).ok_or_else(|| ApiError::not_found(&resource, &name));
        }
        Ok(ResourceResponse::Object(self.store(key, &new)))
    }

    pub fn delete(&mut self, request: &ResourceRequest) -> Result<ResourceResponse, ApiError> {
        let current = self.require(request)?;
        let mut value = value_of(&current)?;
        let options = body_of(request)?;
        let options = if request.subresource.is_some() { options["deleteOptions"].clone() } else { options };
        let name = request.name.clone().unwrap_or_default();
        let key = key_of(request, &name);
        for (pointer, field) in [("/preconditions/uid", "uid"), ("/preconditions/resourceVersion", "resourceVersion")] {
            let wanted = text(&options, pointer);
            if !wanted.is_empty() && value["metadata"][field] != wanted {
                let why = format!(
                    "Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {}",
                    text(&value, &format!("/metadata/{field}"))
                );
                return Err(ApiError::conflict(&key.0, &name, &why));
            }
        }
        let finalizer = match text(&options, "/propagationPolicy") {
            "Foreground" => Some("foregroundDeletion"),
            "Orphan" => Some("orphan"),
            _ => None,
        };
        if let Some(finalizer) = finalizer {
            let list = value["metadata"].as_object_mut().map(|m| m.entry("finalizers").or_insert_with(|| json!([])));
            if let Some(Value::Array(list)) = list
                && !list.iter().any(|f| f == finalizer)
            {
                list.push(finalizer.into());
            }
        }
        let is_pod = key.0.resource == "pods" && key.0.group.is_empty();
        let asked = options["gracePeriodSeconds"].as_i64();
        let grace = if is_pod && !text(&value, "/spec/nodeName").is_empty() {
            asked.unwrap_or_else(|| {
                value.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(30)
            })
        } else {
            0
        };
        if grace == 0 && finalizers(&value) == 0 {
            self.remove(&key.0, &key.1, &key.2);
            return Ok(ResourceResponse::Status(Box::new(success())));
        }
        let shorter = value["metadata"]["deletionGracePeriodSeconds"].as_i64().is_none_or(|now| grace < now);
        if !is_deleting(&value) || shorter || value != value_of(&current)? {
            if !is_deleting(&value) {
                value["metadata"]["deletionTimestamp"] = now().into();
            }
            value["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            if key.0.resource == "namespaces" {
                value["status"]["phase"] = "Terminating".into();
            }
            return Ok(ResourceResponse::Object(self.store(key, &value)));
        }
        Ok(ResourceResponse::Object(current))
    }

    pub fn delete_collection(&mut self, request: &ResourceRequest) -> Result<ResourceResponse, ApiError> {
        let selection = Selection::of(request)?;
        let list = self.list(&group_resource(request), request.namespace.as_deref());
        for object in list.iter().filter(|o| selection.selects(o)) {
            let metadata = object.metadata().map_err(ApiError::internal)?;
            let mut one = request.clone();
            one.name.clone_from(&metadata.name);
            one.namespace.clone_from(&metadata.namespace);
            self.delete(&one)?;
        }
        Ok(ResourceResponse::Status(Box::new(success())))
    }
}

fn success() -> Status {
    Status {
        kind: "Status".into(),
        api_version: "v1".into(),
        metadata: Map::new(),
        status: "Success".into(),
        message: String::new(),
        reason: String::new(),
        details: None,
        code: 200,
    }
}

/// A pod on a node goes when its kubelet deletes it with no grace.
fn waits_for_kubelet(value: &Value, resource: &GroupResource) -> bool {
    resource.resource == "pods"
        && !text(value, "/spec/nodeName").is_empty()
        && value["metadata"]["deletionGracePeriodSeconds"].as_i64().is_some_and(|g| g > 0)
}

/// Keeps what a request of this subresource may not change.
fn restrict(new: &mut Value, old: &Value, subresource: Option<&str>) {
    match subresource {
        Some("status") => {
            let (status, conditions) = (new["status"].take(), old["metadata"].clone());
            *new = old.clone();
            new["status"] = status;
            new["metadata"] = conditions;
        }
        Some("finalize") => {
            let finalizers = new["spec"]["finalizers"].take();
            *new = old.clone();
            new["spec"]["finalizers"] = finalizers;
        }
        _ => {
            for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
                match old["metadata"].get(field) {
                    Some(value) => new["metadata"][field] = value.clone(),
                    None => drop(new["metadata"].as_object_mut().map(|m| m.remove(field))),
                }
            }
            match old.get("status") {
                Some(status) => new["status"] = status.clone(),
                None => drop(new.as_object_mut().map(|o| o.remove("status"))),
            }
        }
    }
    // Absent and null are one here.
    for field in ["spec", "status"] {
        if new[field].is_null() {
            drop(new.as_object_mut().map(|o| o.remove(field)));
        }
    }
}

/// RFC 7396; `strategic` merges lists of objects by their usual keys.
fn merge(target: &mut Value, patch: &Value, strategic: bool) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.remove(key)),
            Value::Array(items) if strategic && items.iter().any(Value::is_object) => {
                merge_list(target.entry(key.clone()).or_insert_with(|| json!([])), items);
            }
            Value::Array(items) if strategic && key == "finalizers" => {
                let list = target.entry(key.clone()).or_insert_with(|| json!([]));
                if let Value::Array(list) = list {
                    let new: Vec<_> = items.iter().filter(|i| !list.contains(i)).cloned().collect();
                    list.extend(new);
                }
            }
            _ => merge(target.entry(key.clone()).or_insert(Value::Null), value, strategic),
        }
    }
}

fn merge_list(target: &mut Value, items: &[Value]) {
    if !target.is_array() {
        *target = json!([]);
    }
    let Value::Array(list) = target else { return };
    for item in items {
        let key = ["uid", "type", "name", "containerPort", "ip"].into_iter().find(|k| item.get(k).is_some());
        let at = key.and_then(|k| list.iter().position(|old| old.get(k) == item.get(k)));
        let delete = item.get("$patch").is_some_and(|p| p == "delete");
        match at {
            Some(at) if delete => drop(list.remove(at)),
            Some(at) => merge(&mut list[at], item, true),
            None if !delete => list.push(item.clone()),
            None => {}
        }
    }
}
