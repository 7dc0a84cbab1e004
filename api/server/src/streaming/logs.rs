//! `pods/log`: passed on as the kubelet sends it, for as long as it does.

use actix_web::{HttpResponse, http::header};
use futures::StreamExt as _;
use http_body_util::BodyStream;
use navarch_types::{ApiError, Reason, Verb};

use super::{Kubelets, StreamRequest, location, node_of};

pub(super) async fn serve(request: &StreamRequest, kubelets: &Kubelets) -> Result<HttpResponse, ApiError> {
    if request.verb != Verb::Get {
        let why = "the server does not allow this method on the requested resource";
        return Err(ApiError::new(Reason::MethodNotAllowed, why));
    }
    let pod = kubelets.pod(&request.target)?;
    let container = location::container(&pod, request.query.get("container").unwrap_or_default())?;
    let (namespace, name) =
        (request.target.namespace.as_deref().unwrap_or_default(), request.target.name.as_deref().unwrap_or_default());
    let path = location::logs(namespace, name, container, &request.query)?;
    let mut answer = HttpResponse::Ok();
    answer.insert_header((header::CONTENT_TYPE, "text/plain"));
    // A pod that is nowhere has said nothing.
    if node_of(&pod).is_empty() {
        return Ok(answer.finish());
    }
    let kubelet = kubelets.of_node(node_of(&pod))?;
    let response = kubelets.get(&kubelet, &path).await?;
    let body = BodyStream::new(response.into_body()).filter_map(|frame| async move {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(error)),
        }
    });
    Ok(answer.streaming(Box::pin(body)))
}
