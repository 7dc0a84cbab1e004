//! A typed client over a [`Transport`].

use std::marker::PhantomData;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use navarch_types::name::Str;
use navarch_types::{
    ApiError, Body, GroupVersionResource, ListOptions, Object, ObjectList, PatchType, Propagation, ResourceRequest,
    ResourceResponse, Verb, WriteOptions,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::transport::{Transport, WatchStream};

/// A built-in type with its place in the API.
pub trait Resource:
    k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Resource for K where
    K: k8s_openapi::Resource
        + k8s_openapi::Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Makes [`Api`]s. Cheap to clone. Carries the identity of its transport and, in a leader's controllers, the term that
/// fences their writes.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    fence_term: Option<u64>,
}

impl Client {
    /// Over a transport.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport, fence_term: None }
    }

    /// The same client, its writes refused unless applied in this Raft term.
    #[must_use]
    pub fn fenced(&self, term: u64) -> Self {
        Self { transport: Arc::clone(&self.transport), fence_term: Some(term) }
    }

    /// The transport.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// All objects of a type: of the cluster, or of all namespaces.
    pub fn all<K: Resource>(&self) -> Api<K> {
        Api { client: self.clone(), namespace: None, kind: PhantomData }
    }

    /// The objects of a type in one namespace.
    pub fn namespaced<K: Resource>(&self, namespace: &str) -> Api<K> {
        Api { client: self.clone(), namespace: Some(namespace.to_owned()), kind: PhantomData }
    }

    /// Sends any request, with this client's fence.
    ///
    /// # Errors
    /// Whatever the server or the transport answers.
    pub async fn send(&self, mut request: ResourceRequest) -> Result<ResourceResponse, ApiError> {
        request.write.fence_term = self.fence_term;
        self.transport.request(request).await
    }

    /// Opens any watch.
    ///
    /// # Errors
    /// Whatever the server or the transport answers.
    pub async fn watch(&self, request: ResourceRequest) -> Result<WatchStream, ApiError> {
        self.transport.watch(request).await
    }
}

/// Requests for one type, typed. Namespaced types need [`Client::namespaced`] for everything but list and watch.
pub struct Api<K> {
    client: Client,
    namespace: Option<String>,
    kind: PhantomData<fn() -> K>,
}

/// The resource of a type.
pub fn resource_of<K: Resource>() -> GroupVersionResource {
    GroupVersionResource::new(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT)
}

/// Options of [`Api::delete`].
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Delete only the object with this uid.
    pub uid: Option<String>,
    /// Delete only this version.
    pub resource_version: Option<String>,
    /// Seconds; `None` takes the object's own.
    pub grace_period_seconds: Option<u32>,
    /// `None` takes the kind's own.
    pub propagation: Option<Propagation>,
}

impl DeleteOptions {
    /// As it stands in the body.
    pub fn to_value(&self) -> Value {
        let mut value = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(seconds) = self.grace_period_seconds {
            value["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(policy) = self.propagation {
            value["propagationPolicy"] = json!(policy);
        }
        if let Some(uid) = &self.uid {
            value["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(version) = &self.resource_version {
            value["preconditions"]["resourceVersion"] = version.as_str().into();
        }
        value
    }
}

impl<K: Resource> Api<K> {
    /// The client that it was made by.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A request of this API's type and namespace.
    pub fn request(&self, verb: Verb, name: Option<&str>) -> ResourceRequest {
        let mut request = ResourceRequest::new(verb, resource_of::<K>());
        request.namespace.clone_from(&self.namespace);
        request.name = name.map(str::to_owned);
        request
    }

    async fn object(&self, request: ResourceRequest) -> Result<Arc<Object>, ApiError> {
        match self.client.send(request).await? {
            ResourceResponse::Object(object) | ResourceResponse::Created(object) => Ok(object),
            _ => Err(ApiError::internal("the server answered with something that is no object")),
        }
    }

    async fn typed(&self, request: ResourceRequest) -> Result<Arc<K>, ApiError> {
        self.object(request).await?.typed().map_err(ApiError::internal)
    }

    fn body(object: &K) -> Result<Body, ApiError> {
        let mut value = serde_json::to_value(object).map_err(ApiError::internal)?;
        value["apiVersion"] = K::API_VERSION.into();
        value["kind"] = K::KIND.into();
        Ok(Body::Value(value))
    }

    /// Reads one object, linearizably.
    ///
    /// # Errors
    /// `NotFound`, and whatever the server or the transport answers.
    pub async fn get(&self, name: &str) -> Result<Arc<K>, ApiError> {
        self.typed(self.request(Verb::Get, Some(name))).await
    }

    /// Lists.
    ///
    /// # Errors
    /// Whatever the server or the transport answers.
    pub async fn list(&self, options: ListOptions) -> Result<ObjectList, ApiError> {
        let mut request = self.request(Verb::List, None);
        request.list = options;
        match self.client.send(request).await? {
            ResourceResponse::List(list) => Ok(list),
            _ => Err(ApiError::internal("the server answered with something that is no list")),
        }
    }

    /// Watches.
    ///
    /// # Errors
    /// Whatever the server or the transport answers.
    pub async fn watch(&self, options: ListOptions) -> Result<WatchStream, ApiError> {
        let mut request = self.request(Verb::Watch, None);
        request.list = options;
        self.client.watch(request).await
    }

    /// Creates.
    ///
    /// # Errors
    /// `AlreadyExists`, and whatever the server or the transport answers.
    pub async fn create(&self, object: &K) -> Result<Arc<K>, ApiError> {
        let mut request = self.request(Verb::Create, None);
        request.body = Self::body(object)?;
        self.typed(request).await
    }

    /// Replaces the object; its `resourceVersion`, if set, must be the latest.
    ///
    /// # Errors
    /// `Conflict`, `NotFound`, and whatever the server or the transport answers.
    pub async fn update(&self, object: &K) -> Result<Arc<K>, ApiError> {
        self.replace(object, None).await
    }

    /// Replaces the object's status.
    ///
    /// # Errors
    /// As [`Api::update`].
    pub async fn update_status(&self, object: &K) -> Result<Arc<K>, ApiError> {
        self.replace(object, Some("status".into())).await
    }

    async fn replace(&self, object: &K, subresource: Option<Str>) -> Result<Arc<K>, ApiError> {
        let name = object.metadata().name.as_deref().unwrap_or_default();
        let mut request = self.request(Verb::Update, Some(name));
        request.subresource = subresource;
        request.body = Self::body(object)?;
        self.typed(request).await
    }

    /// Patches the object, or a subresource of it.
    ///
    /// # Errors
    /// `Conflict`, `NotFound`, and whatever the server or the transport answers.
    pub async fn patch(
        &self,
        name: &str,
        subresource: Option<Str>,
        patch_type: PatchType,
        patch: Value,
    ) -> Result<Arc<K>, ApiError> {
        let mut request = self.request(Verb::Patch, Some(name));
        request.subresource = subresource;
        request.patch = Some(patch_type);
        request.body = Body::Value(patch);
        self.typed(request).await
    }

    /// Deletes one object.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` on a failed precondition, and whatever the server or the transport answers.
    pub async fn delete(&self, name: &str, options: &DeleteOptions) -> Result<(), ApiError> {
        let mut request = self.request(Verb::Delete, Some(name));
        request.body = Body::Value(options.to_value());
        self.client.send(request).await.map(drop)
    }

    /// Deletes one object and returns what is left of it while it waits for finalizers or its grace; `None` if it is gone.
    ///
    /// # Errors
    /// As [`Api::delete`].
    pub async fn delete_returning(&self, name: &str, options: &DeleteOptions) -> Result<Option<Arc<K>>, ApiError> {
        let mut request = self.request(Verb::Delete, Some(name));
        request.body = Body::Value(options.to_value());
        match self.client.send(request).await? {
            ResourceResponse::Object(object) => object.typed().map(Some).map_err(ApiError::internal),
            _ => Ok(None),
        }
    }

    /// Posts to a subresource and returns what it answers.
    ///
    /// # Errors
    /// Whatever the server or the transport answers.
    pub async fn post(&self, name: &str, subresource: Str, body: Value) -> Result<ResourceResponse, ApiError> {
        let mut request = self.request(Verb::Create, Some(name));
        request.subresource = Some(subresource);
        request.body = Body::Value(body);
        request.write = WriteOptions::default();
        self.client.send(request).await
    }
}
