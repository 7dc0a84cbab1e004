//! DefaultBinder: tells the API server which node a pod has.

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::framework::{BindContext, BindStep, Plugin};

/// See the module.
pub struct DefaultBinder;

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }

    fn bind<'a>(&'a self, ctx: &'a BindContext<'a>) -> Option<BoxFuture<'a, BindStep>> {
        let body = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            // The uid makes sure that a pod made anew under the same name is not taken for this one.
            "metadata": {"namespace": ctx.pod.namespace(), "name": ctx.pod.name(), "uid": ctx.pod.uid()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": ctx.node},
        });
        let pods = ctx.client.namespaced::<Pod>(ctx.pod.namespace());
        let name = ctx.pod.name();
        Some(
            async move {
                match pods.post(name, "binding".into(), body).await {
                    Ok(_) => BindStep::Done,
                    Err(error) => BindStep::Failed(error),
                }
            }
            .boxed(),
        )
    }
}
