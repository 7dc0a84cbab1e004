//! Subresources that change one corner of an object: certificate approval, ephemeral containers, resize.

use navarch_types::ApiError;
use serde_json::Value;

/// What of a given object a subresource takes over into the present one.
///
/// # Errors
/// 404 for a subresource that is not served.
pub fn merged(subresource: &str, old: &Value, given: &Value) -> Result<Value, ApiError> {
    let mut object = old.clone();
    match subresource {
        "approval" => {
            object["status"]["conditions"] = given["status"]["conditions"].clone();
        }
        "ephemeralcontainers" => {
            object["spec"]["ephemeralContainers"] = given["spec"]["ephemeralContainers"].clone();
        }
        "resize" => {
            for list in ["containers", "initContainers"] {
                let wanted = given["spec"][list].as_array().cloned().unwrap_or_default();
                let Some(present) = object["spec"][list].as_array_mut() else { continue };
                for container in present {
                    if let Some(new) = wanted.iter().find(|c| c["name"] == container["name"]) {
                        for field in ["resources", "resizePolicy"] {
                            if let Some(value) = new.get(field) {
                                container[field] = value.clone();
                            }
                        }
                    }
                }
            }
            if let Some(resources) = given["spec"].get("resources") {
                object["spec"]["resources"] = resources.clone();
            }
        }
        _ => return Err(crate::registry::no_such_path()),
    }
    // What the client has seen decides about conflicts, as in any update.
    for field in ["resourceVersion", "uid"] {
        match given["metadata"].get(field) {
            Some(seen) => crate::meta::set(&mut object, field, Some(seen.clone())),
            None if field == "resourceVersion" => crate::meta::set(&mut object, field, None),
            None => {}
        }
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_corner_changes() -> Result<(), ApiError> {
        let old = json!({"metadata": {"name": "a", "resourceVersion": "5"}, "spec": {"containers": [
            {"name": "c", "image": "i", "resources": {"limits": {"cpu": "1"}}}]}});
        let given = json!({"metadata": {"name": "a"}, "spec": {"containers": [
            {"name": "c", "image": "other", "resources": {"limits": {"cpu": "2"}}}]}});
        let merged = merged("resize", &old, &given)?;
        assert_eq!(
            merged["spec"]["containers"][0],
            json!({"name": "c", "image": "i", "resources": {"limits": {"cpu": "2"}}})
        );
        assert!(super::merged("other", &old, &given).is_err());
        Ok(())
    }
}
