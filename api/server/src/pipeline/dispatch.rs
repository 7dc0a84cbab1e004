//! Which operation a request is.

use std::sync::Arc;

use navarch_auth::virtual_resources::{VirtualRequest, is_virtual};
use navarch_registry::call::Operation;
use navarch_registry::ops::delete::Deleted;
use navarch_registry::{Call, Resource, convert};
use navarch_types::{ApiError, GroupVersionKind, ResourceRequest, ResourceResponse, UserInfo, Verb};
use serde_json::Value;
use tokio::time::Instant;

use super::{Answer, Pipeline};
use crate::decode::{self, Patch};

const BINDING: GroupVersionKind = GroupVersionKind::new("", "v1", "Binding");
const EVICTION: GroupVersionKind = GroupVersionKind::new("policy", "v1", "Eviction");
const TOKEN_REQUEST: GroupVersionKind = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");

impl Pipeline {
    pub(super) async fn dispatch(
        &self,
        user: &UserInfo,
        resource: &Arc<Resource>,
        mut request: ResourceRequest,
        deadline: Instant,
    ) -> Result<Answer, ApiError> {
        if matches!(request.verb, Verb::Delete | Verb::DeleteCollection) {
            return self.delete(user, resource, &mut request, deadline).await;
        }
        let call = self.call(user, resource, &request, deadline);
        let response = match request.subresource.as_deref() {
            None if is_virtual(&resource.served.group, &resource.served.resource, "") => {
                self.ask(&call, &resource.kind, &request).await?
            }
            None if resource.is_core("bindings") => self.bind_by_body(user, &request, deadline).await?,
            None | Some("status") => self.object(&call, &request).await?,
            Some("scale") => self.scale(&call, &request).await?,
            Some("token") => self.ask(&call, &TOKEN_REQUEST, &request).await?,
            Some("binding") => {
                let binding = decode::object(&call, &BINDING, &request.body)?;
                self.bind(&call, binding).await?
            }
            Some("eviction") => {
                let eviction = decode::object(&call, &EVICTION, &request.body)?;
                ResourceResponse::Status(Box::new(self.registry.evict_pod(&call, &eviction).await?))
            }
            Some("finalize") => {
                let namespace = decode::object(&call, &resource.kind, &request.body)?;
                ResourceResponse::Object(self.registry.finalize_namespace(&call, namespace).await?)
            }
            Some("approval" | "ephemeralcontainers" | "resize") => self.corner(&call, &request).await?,
            Some(other) => {
                return Err(ApiError::bad_request(format!("{other} is a connection and is served over HTTP only")));
            }
        };
        Ok(Answer { response, warnings: call.warnings.into_inner() })
    }

    async fn object(&self, call: &Call<'_>, request: &ResourceRequest) -> Result<ResourceResponse, ApiError> {
        let kind = &call.resource.kind;
        Ok(match request.verb {
            Verb::Get => {
                ResourceResponse::Object(self.registry.get(call, request.list.resource_version.as_deref()).await?)
            }
            Verb::List => ResourceResponse::List(self.registry.list(call, &request.list).await?),
            Verb::Create => {
                let object = convert::to_storage(call.resource, decode::object(call, kind, &request.body)?);
                ResourceResponse::Created(self.registry.create(call, object).await?)
            }
            Verb::Update => {
                let object = convert::to_storage(call.resource, decode::object(call, kind, &request.body)?);
                let updated = self.registry.update(call, object).await?;
                if updated.created {
                    ResourceResponse::Created(updated.object)
                } else {
                    ResourceResponse::Object(updated.object)
                }
            }
            Verb::Patch => {
                let patch = Patch::read(request.patch, &request.body)?;
                let apply = |object: Value| patch.apply(call, kind, object);
                ResourceResponse::Object(self.registry.patch(call, &apply).await?)
            }
            Verb::Watch | Verb::Delete | Verb::DeleteCollection => {
                return Err(ApiError::internal("a verb that is dispatched elsewhere"));
            }
        })
    }

    async fn corner(&self, call: &Call<'_>, request: &ResourceRequest) -> Result<ResourceResponse, ApiError> {
        if request.verb == Verb::Update {
            let given = convert::to_storage(call.resource, decode::object(call, &call.resource.kind, &request.body)?);
            return Ok(ResourceResponse::Object(self.registry.update_corner(call, &given).await?));
        }
        self.object(call, request).await
    }

    async fn scale(&self, call: &Call<'_>, request: &ResourceRequest) -> Result<ResourceResponse, ApiError> {
        let kind = &navarch_registry::ops::scale::SCALE;
        let scale = match request.verb {
            Verb::Update => {
                let given = decode::object(call, kind, &request.body)?;
                self.registry.update_scale(call, &|_: &Value| Ok(given.clone())).await?
            }
            Verb::Patch => {
                let patch = Patch::read(request.patch, &request.body)?;
                self.registry.update_scale(call, &|scale: &Value| patch.apply(call, kind, scale.clone())).await?
            }
            _ => self.registry.get_scale(call).await?,
        };
        Ok(ResourceResponse::Value(200, scale))
    }

    /// Resources that are answered and never stored.
    async fn ask(
        &self,
        call: &Call<'_>,
        kind: &GroupVersionKind,
        request: &ResourceRequest,
    ) -> Result<ResourceResponse, ApiError> {
        let mut object = decode::object(call, kind, &request.body)?;
        if request.subresource.is_none() {
            call.resource.strategy.default(&mut object);
        }
        call.mutate(Operation::Create, &mut object, None).await?;
        call.validate(Operation::Create, call.name, Some(&object), None).await?;
        let answer = self.virtuals.handle(VirtualRequest {
            user: call.user,
            resource: &call.resource.served,
            subresource: call.subresource.unwrap_or_default(),
            namespace: call.namespace,
            name: call.name,
            object,
        })?;
        Ok(ResourceResponse::Value(201, answer))
    }

    async fn bind(&self, call: &Call<'_>, mut binding: Value) -> Result<ResourceResponse, ApiError> {
        call.mutate(Operation::Create, &mut binding, None).await?;
        call.validate(Operation::Create, call.name, Some(&binding), None).await?;
        Ok(ResourceResponse::Status(Box::new(self.registry.bind_pod(call, &binding).await?)))
    }

    /// `POST bindings`: the pod is the one that the binding is named after.
    async fn bind_by_body(
        &self,
        user: &UserInfo,
        request: &ResourceRequest,
        deadline: Instant,
    ) -> Result<ResourceResponse, ApiError> {
        let pods = self.registry.resource(&navarch_types::GroupVersionResource::new("", "v1", "pods"))?;
        let call = self.call(user, pods, request, deadline);
        let binding = decode::object(&call, &BINDING, &request.body)?;
        let mut request = request.clone();
        request.name = binding["metadata"]["name"].as_str().map(str::to_owned);
        request.subresource = Some("binding".into());
        let call = self.call(user, pods, &request, deadline);
        self.bind(&call, binding).await
    }

    async fn delete(
        &self,
        user: &UserInfo,
        resource: &Arc<Resource>,
        request: &mut ResourceRequest,
        deadline: Instant,
    ) -> Result<Answer, ApiError> {
        let options = decode::delete_options(&request.body, &mut request.write)?;
        let call = self.call(user, resource, request, deadline);
        let response = if request.verb == Verb::Delete {
            match self.registry.delete(&call, &options).await? {
                Deleted::Gone(status) => ResourceResponse::Status(status),
                Deleted::Pending(object) => ResourceResponse::Object(object),
            }
        } else {
            ResourceResponse::List(self.registry.delete_collection(&call, &request.list, &options).await?)
        };
        Ok(Answer { response, warnings: call.warnings.into_inner() })
    }
}
