//! What form of an answer a client accepts, and which of them this server can make.

use navarch_types::protobuf::MEDIA_TYPE;
use navarch_types::{ApiError, Reason};

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// How it is written.
    pub syntax: Syntax,
    /// What of it.
    pub view: View,
    /// With line breaks and indentation.
    pub pretty: bool,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// What of an object an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// All of it.
    Full,
    /// `as=Table`.
    Table,
    /// `as=PartialObjectMetadata` or `as=PartialObjectMetadataList`.
    Metadata,
}

impl Syntax {
    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => MEDIA_TYPE,
        }
    }
}

/// The best form for an `Accept` header. Forms that this server does not make, such as Tables in protobuf, are passed over
/// if others are listed. `protobuf` says whether what is asked for has that form: custom resources have not.
///
/// # Errors
/// 406 if nothing listed can be made.
pub fn negotiate(accept: Option<&str>, pretty: bool, protobuf: bool) -> Result<Form, ApiError> {
    let form = |syntax, view| Form { syntax, view, pretty };
    let accept = match accept.map(str::trim) {
        None | Some("") => return Ok(form(Syntax::Json, View::Full)),
        Some(accept) => accept,
    };
    // Clients list what they like best first; weights are rare, and then a sort by them keeps the order of equals.
    let mut clauses: Vec<(f32, &str)> = accept.split(',').map(|c| (weight(c), c.trim())).collect();
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    clauses
        .iter()
        .find_map(|(_, clause)| offer(clause).filter(|(syntax, _)| protobuf || *syntax != Syntax::Protobuf))
        .map(|(syntax, view)| form(syntax, view))
        .ok_or_else(|| not_acceptable(protobuf))
}

fn weight(clause: &str) -> f32 {
    let weight = clause.split(';').find_map(|p| p.trim().strip_prefix("q="));
    weight.and_then(|w| w.trim().parse().ok()).unwrap_or(1.0)
}

fn offer(clause: &str) -> Option<(Syntax, View)> {
    let mut parts = clause.split(';').map(str::trim);
    let syntax = match parts.next()?.to_ascii_lowercase().as_str() {
        "application/json" | "*/*" | "application/*" => Syntax::Json,
        "application/yaml" => Syntax::Yaml,
        MEDIA_TYPE => Syntax::Protobuf,
        _ => return None,
    };
    let (mut view, mut version, mut group) = (View::Full, "v1", "meta.k8s.io");
    for part in parts {
        match part.split_once('=') {
            Some(("as", "Table")) => view = View::Table,
            Some(("as", "PartialObjectMetadata" | "PartialObjectMetadataList")) => view = View::Metadata,
            // Discovery's own, answered before this is asked.
            Some(("as", "APIGroupDiscoveryList")) => return None,
            Some(("as", _)) => return None,
            Some(("v", v)) => version = v,
            Some(("g", g)) => group = g,
            _ => {}
        }
    }
    let known = view == View::Full || (group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1"));
    // Upstream has no Tables in protobuf either: their cells are of any type.
    let made = known && !(syntax == Syntax::Protobuf && view == View::Table);
    made.then_some((syntax, view))
}

fn not_acceptable(protobuf: bool) -> ApiError {
    let more = if protobuf { ", application/vnd.kubernetes.protobuf" } else { "" };
    ApiError::new(
        Reason::NotAcceptable,
        format!("only the following media types are accepted: application/json, application/yaml{more}"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_first_form_that_can_be_made() {
        const KUBECTL: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        for (accept, syntax, view) in [
            (None, Syntax::Json, View::Full),
            (Some("*/*"), Syntax::Json, View::Full),
            (Some(KUBECTL), Syntax::Json, View::Table),
            (Some("application/vnd.kubernetes.protobuf, */*"), Syntax::Protobuf, View::Full),
            (Some("application/vnd.kubernetes.protobuf;stream=watch"), Syntax::Protobuf, View::Full),
            (Some("application/vnd.kubernetes.protobuf,application/json"), Syntax::Protobuf, View::Full),
            (Some("application/json,application/vnd.kubernetes.protobuf"), Syntax::Json, View::Full),
            (Some("application/vnd.kubernetes.protobuf;q=0.8,application/json"), Syntax::Json, View::Full),
            (
                Some("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
                Syntax::Protobuf,
                View::Metadata,
            ),
            (
                Some("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json"),
                Syntax::Json,
                View::Full,
            ),
            (Some("application/yaml"), Syntax::Yaml, View::Full),
            (Some("application/json;q=0.5, application/yaml"), Syntax::Yaml, View::Full),
            (Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"), Syntax::Json, View::Metadata),
            (Some("application/json;as=Table;v=v2;g=meta.k8s.io,application/json"), Syntax::Json, View::Full),
            (Some("application/json, */*"), Syntax::Json, View::Full),
        ] {
            let form = negotiate(accept, false, true).unwrap();
            assert_eq!((form.syntax, form.view), (syntax, view), "{accept:?}");
        }
        for accept in [
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
            "text/html",
            "application/json;as=Other",
        ] {
            assert_eq!(negotiate(Some(accept), false, true).unwrap_err().code(), 406, "{accept}");
        }
    }

    #[test]
    fn what_has_no_protobuf_form_is_answered_in_another_or_not_at_all() {
        let form = negotiate(Some("application/vnd.kubernetes.protobuf,application/json"), false, false).unwrap();
        assert_eq!(form.syntax, Syntax::Json);
        assert_eq!(negotiate(Some("application/vnd.kubernetes.protobuf"), false, false).unwrap_err().code(), 406);
    }
}
