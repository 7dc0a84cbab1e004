//! Makes sure of a container's image: by its pull policy, with upstream's reasons, words and waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Secret};

use crate::backoff::BackOff;
use crate::cri::{Cri, api};
use crate::events::Level;

/// Why a container has no image: `state.waiting`'s reason and message, and whether an event says so too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageError {
    /// `ErrImagePull`, `ImagePullBackOff`, `ErrImageNeverPull`, `InvalidImageName`, `ImageInspectError`.
    pub reason: &'static str,
    /// The message.
    pub message: String,
}

/// What is told while it is worked on.
pub type Tell<'a> = &'a dyn Fn(Level, &str, String);

/// Waits and last failures by image.
#[derive(Clone, Debug)]
pub struct PullState {
    waits: BackOff,
    failures: BTreeMap<String, String>,
}

impl Default for PullState {
    fn default() -> Self {
        Self { waits: BackOff::kubernetes(), failures: BTreeMap::new() }
    }
}

impl PullState {
    /// When the next pull of an image is due, if one has to wait.
    pub fn due(&self, image: &str, now: Timestamp) -> Option<Timestamp> {
        self.waits.until_since_update(image, now)
    }
}

/// Whether a name can be an image's: `[host[:port]/]path[:tag][@digest]`, the path in lower case.
pub fn is_valid_name(image: &str) -> bool {
    let (rest, digest) = image.split_once('@').map_or((image, None), |(rest, digest)| (rest, Some(digest)));
    if let Some(digest) = digest {
        let Some((algorithm, hex)) = digest.split_once(':') else { return false };
        if algorithm.is_empty() || hex.len() < 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return false;
        }
    }
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if let Some(tag) = tag {
        let fits = tag.len() <= 128 && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if !fits || !tag.bytes().next().is_some_and(word) {
            return false;
        }
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    let has_host = parts.len() > 1 && (parts[0].contains(['.', ':']) || parts[0] == "localhost");
    if has_host {
        let host = parts.remove(0);
        let (name, port) = host.split_once(':').unwrap_or((host, "1"));
        let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
        if name.is_empty() || !fits || port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return false;
        }
    }
    parts.iter().all(|part| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = part.bytes().next().is_some_and(plain) && part.bytes().last().is_some_and(plain);
        ends && part.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'))
    })
}

/// The pull policy: the container's, or by the tag.
fn policy(container: &Container, image: &str) -> String {
    container.image_pull_policy.clone().filter(|policy| !policy.is_empty()).unwrap_or_else(|| {
        let last = image.rsplit('/').next().unwrap_or(image);
        let latest = !image.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
        if latest { "Always" } else { "IfNotPresent" }.to_owned()
    })
}

/// Makes sure of the image.
///
/// # Errors
/// With the reason to show; an event was told already.
pub async fn ensure(
    cri: &Cri,
    container: &Container,
    pull_secrets: &[Arc<Secret>],
    state: &mut PullState,
    tell: Tell<'_>,
) -> Result<api::Image, ImageError> {
    let image = container.image.as_deref().unwrap_or_default();
    if !is_valid_name(image) {
        let message = format!(
            "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid reference format"
        );
        tell(Level::Warning, "InspectFailed", message.clone());
        return Err(ImageError { reason: "InvalidImageName", message });
    }
    let found = cri.image_status(image).await.map_err(|error| {
        let message = format!("Failed to inspect image {image:?}: {error}");
        tell(Level::Warning, "InspectFailed", message.clone());
        ImageError { reason: "ImageInspectError", message }
    })?;
    match (policy(container, image).as_str(), found) {
        ("IfNotPresent" | "Never", Some(found)) => {
            tell(Level::Normal, "Pulled", format!("Container image {image:?} already present on machine"));
            return Ok(found);
        }
        ("Never", None) => {
            let message = format!("Container image {image:?} is not present with pull policy of Never");
            tell(Level::Warning, "ErrImageNeverPull", message.clone());
            return Err(ImageError { reason: "ErrImageNeverPull", message });
        }
        _ => {}
    }
    if state.due(image, Timestamp::now()).is_some() {
        let message = format!("Back-off pulling image {image:?}");
        tell(Level::Normal, "BackOff", message.clone());
        let message = match state.failures.get(image) {
            Some(failure) => format!("{message}: ErrImagePull: {failure}"),
            None => message,
        };
        return Err(ImageError { reason: "ImagePullBackOff", message });
    }
    pull(cri, image, pull_secrets, state, tell).await
}

async fn pull(
    cri: &Cri,
    image: &str,
    pull_secrets: &[Arc<Secret>],
    state: &mut PullState,
    tell: Tell<'_>,
) -> Result<api::Image, ImageError> {
    tell(Level::Normal, "Pulling", format!("Pulling image {image:?}"));
    let begun = Instant::now();
    let pulled = match cri.pull_image(image, auth_for(image, pull_secrets)).await {
        Ok(_) => cri.image_status(image).await,
        Err(error) => Err(error),
    };
    let message = match pulled {
        Ok(Some(found)) => {
            state.waits.reset(image);
            state.failures.remove(image);
            let took = begun.elapsed().as_secs_f64();
            let took = if took < 1.0 { format!("{:.0}ms", took * 1000.0) } else { format!("{took:.3}s") };
            let size = found.size;
            let message = format!(
                "Successfully pulled image {image:?} in {took} ({took} including waiting). Image size: {size} bytes."
            );
            tell(Level::Normal, "Pulled", message);
            return Ok(found);
        }
        Ok(None) => format!("image {image:?} was pulled and is not there"),
        Err(error) => error.words().to_owned(),
    };
    state.waits.next(image, Timestamp::now());
    state.failures.insert(image.to_owned(), message.clone());
    tell(Level::Warning, "Failed", format!("Failed to pull image {image:?}: {message}"));
    Err(ImageError { reason: "ErrImagePull", message })
}

/// The credentials for an image's registry, from the pod's pull secrets.
fn auth_for(image: &str, secrets: &[Arc<Secret>]) -> Option<api::AuthConfig> {
    use base64::Engine;
    let first = image.split('/').next().unwrap_or_default();
    let host =
        if image.contains('/') && (first.contains(['.', ':']) || first == "localhost") { first } else { "docker.io" };
    let wanted = |key: &str| {
        let key = key.trim_start_matches("https://").trim_start_matches("http://");
        let key_host = key.split('/').next().unwrap_or(key);
        key_host == host || (host == "docker.io" && key_host == "index.docker.io")
    };
    for secret in secrets {
        let data = secret.data.as_ref();
        let modern = data.and_then(|data| data.get(".dockerconfigjson"));
        let old = data.and_then(|data| data.get(".dockercfg"));
        let Some(bytes) = modern.or(old) else { continue };
        let Ok(parsed) = serde_json::from_slice::<serde_json::Value>(&bytes.0) else { continue };
        let auths = if modern.is_some() { parsed.get("auths") } else { Some(&parsed) };
        let Some((_, entry)) = auths.and_then(|a| a.as_object()).and_then(|a| a.iter().find(|(key, _)| wanted(key)))
        else {
            continue;
        };
        let text = |key: &str| entry.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        let (mut username, mut password) = (text("username"), text("password"));
        if username.is_empty() {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text("auth")).unwrap_or_default();
            if let Some((user, pass)) = String::from_utf8_lossy(&decoded).split_once(':') {
                (username, password) = (user.to_owned(), pass.to_owned());
            }
        }
        return Some(api::AuthConfig { username, password, ..api::AuthConfig::default() });
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn names() {
        let digest = format!("repo/a@sha256:{}", "a".repeat(64));
        for good in ["busybox", "busybox:1.36", "a/b/c", "localhost/x", "reg.io:5000/a-b/c_d:v1", digest.as_str()] {
            assert!(is_valid_name(good), "{good}");
        }
        for bad in ["", "Busybox", "a//b", "a:", "a b", "a:b:c", "-a", "a/", "@sha256:00", "a@sha256:xyz", "reg.io:x/a"]
        {
            assert!(!is_valid_name(bad), "{bad}");
        }
    }

    #[test]
    fn policies_by_tag() {
        let run = |image: &str| policy(&Container::default(), image);
        for (image, expected) in [
            ("a", "Always"),
            ("a:latest", "Always"),
            ("a:1", "IfNotPresent"),
            ("r:5000/a", "Always"),
            ("a@sha256:1", "IfNotPresent"),
        ] {
            assert_eq!(run(image), expected, "{image}");
        }
    }

    #[test]
    fn credentials_by_registry() {
        let config =
            r#"{"auths": {"https://reg.io/v2/": {"auth": "dTpw"}, "other.io": {"username": "x", "password": "y"}}}"#;
        let data = [(".dockerconfigjson".to_owned(), k8s_openapi::ByteString(config.as_bytes().to_vec()))].into();
        let secret = Arc::new(Secret { data: Some(data), ..Secret::default() });
        let found = auth_for("reg.io/a:1", &[Arc::clone(&secret)]).unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("u", "p"));
        assert!(auth_for("busybox", &[secret]).is_none());
    }
}
