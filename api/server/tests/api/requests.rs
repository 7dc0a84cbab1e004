//! Short ways to say requests.

use navarch_server::InProcess;
use navarch_types::{
    ApiError, Body, GroupVersionResource, ListOptions, Object, ObjectList, PatchType, ResourceRequest,
    ResourceResponse, Verb,
};
use serde_json::Value;

use crate::world::{World, admin};

pub const CONFIG_MAPS: GroupVersionResource = GroupVersionResource::new("", "v1", "configmaps");
pub const NAMESPACES: GroupVersionResource = GroupVersionResource::new("", "v1", "namespaces");
pub const PODS: GroupVersionResource = GroupVersionResource::new("", "v1", "pods");
pub const SERVICES: GroupVersionResource = GroupVersionResource::new("", "v1", "services");
pub const DEPLOYMENTS: GroupVersionResource = GroupVersionResource::new("apps", "v1", "deployments");

/// A world with the namespace `default`, and a client.
pub async fn start() -> (tempfile::TempDir, World, Client) {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path()).await;
    let client = Client(world.client());
    for name in ["default", "other"] {
        let namespace = serde_json::json!({"metadata": {"name": name}});
        client.create(&NAMESPACES, None, namespace).await.unwrap();
    }
    let account = GroupVersionResource::new("", "v1", "serviceaccounts");
    client.create(&account, Some("default"), serde_json::json!({"metadata": {"name": "default"}})).await.unwrap();
    (dir, world, client)
}

#[derive(Clone)]
pub struct Client(pub InProcess);

pub fn request(
    verb: Verb,
    resource: &GroupVersionResource,
    namespace: Option<&str>,
    name: Option<&str>,
) -> ResourceRequest {
    let mut request = ResourceRequest::new(verb, resource.clone());
    request.namespace = namespace.map(str::to_owned);
    request.name = name.map(str::to_owned);
    request
}

pub fn value(object: &Object) -> Value {
    object.to_value().unwrap()
}

impl Client {
    pub async fn send(&self, request: ResourceRequest) -> Result<ResourceResponse, ApiError> {
        self.0.request(&admin(), request).await
    }

    pub async fn object(&self, request: ResourceRequest) -> Result<Value, ApiError> {
        match self.send(request).await? {
            ResourceResponse::Object(object) | ResourceResponse::Created(object) => Ok(value(&object)),
            ResourceResponse::Value(_, value) => Ok(value),
            ResourceResponse::Status(status) => Ok(serde_json::to_value(status).unwrap()),
            ResourceResponse::List(_) => panic!("a list"),
        }
    }

    pub async fn create(
        &self,
        resource: &GroupVersionResource,
        namespace: Option<&str>,
        object: Value,
    ) -> Result<Value, ApiError> {
        let mut request = request(Verb::Create, resource, namespace, None);
        request.body = Body::Value(object);
        self.object(request).await
    }

    pub async fn get(&self, resource: &GroupVersionResource, name: &str) -> Result<Value, ApiError> {
        self.object(request(Verb::Get, resource, Some("default"), Some(name))).await
    }

    pub async fn update(&self, resource: &GroupVersionResource, name: &str, object: Value) -> Result<Value, ApiError> {
        let mut request = request(Verb::Update, resource, Some("default"), Some(name));
        request.body = Body::Value(object);
        self.object(request).await
    }

    pub async fn patch(
        &self,
        resource: &GroupVersionResource,
        name: &str,
        patch_type: PatchType,
        patch: Value,
    ) -> Result<Value, ApiError> {
        let mut request = request(Verb::Patch, resource, Some("default"), Some(name));
        request.patch = Some(patch_type);
        request.body = Body::Value(patch);
        self.object(request).await
    }

    pub async fn delete(&self, resource: &GroupVersionResource, name: &str, options: Value) -> Result<Value, ApiError> {
        let mut request = request(Verb::Delete, resource, Some("default"), Some(name));
        request.body = Body::Value(options);
        self.object(request).await
    }

    pub async fn list(
        &self,
        resource: &GroupVersionResource,
        namespace: Option<&str>,
        options: ListOptions,
    ) -> Result<ObjectList, ApiError> {
        let mut request = request(Verb::List, resource, namespace, None);
        request.list = options;
        match self.send(request).await? {
            ResourceResponse::List(list) => Ok(list),
            _ => panic!("no list"),
        }
    }
}

pub fn names(list: &ObjectList) -> Vec<String> {
    list.items.iter().map(|o| o.metadata().unwrap().name.clone().unwrap()).collect()
}

pub fn config_map(name: &str) -> Value {
    serde_json::json!({"metadata": {"name": name}, "data": {"a": "1"}})
}

pub fn deployment(name: &str) -> Value {
    serde_json::json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "busybox"}]},
            },
        },
    })
}
