//! Which objects of a collection a request is about: label and field selectors.
//!
//! Looks into an object no deeper than it must: metadata is decoded once and shared, other fields are read out of the
//! stored bytes without decoding the rest.

use std::collections::BTreeMap;

use navarch_types::selector::{FieldSelector, Selector};
use navarch_types::{ApiError, Object};

use crate::field_value;
use crate::resource::Resource;
use crate::strategy::SelectableField;

/// A parsed selection.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    labels: Option<Selector>,
    fields: Vec<FieldTerm>,
}

#[derive(Clone, Debug)]
struct FieldTerm {
    field: Field,
    equal: bool,
    value: String,
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Name,
    Namespace,
    Other(SelectableField),
}

impl Selection {
    /// From the two queries.
    ///
    /// # Errors
    /// 400 for what cannot be parsed, and for fields that the kind does not select by.
    pub fn parse(resource: &Resource, labels: Option<&str>, fields: Option<&str>) -> Result<Self, ApiError> {
        let labels = match labels.filter(|l| !l.is_empty()) {
            None => None,
            Some(text) => Some(Selector::parse(text)?),
        };
        let mut terms = Vec::new();
        if let Some(text) = fields.filter(|f| !f.is_empty()) {
            let parsed = FieldSelector::parse(text)?;
            for term in parsed.terms() {
                let field = field_of(resource, &term.field)?;
                terms.push(FieldTerm { field, equal: term.equals, value: term.value.clone() });
            }
        }
        Ok(Self { labels, fields: terms })
    }

    /// Whether everything is selected.
    pub fn is_all(&self) -> bool {
        self.labels.is_none() && self.fields.is_empty()
    }

    /// The one name that is selected, if the selection says so.
    pub fn name(&self) -> Option<&str> {
        self.fields.iter().find(|t| matches!(t.field, Field::Name) && t.equal).map(|t| t.value.as_str())
    }

    /// The one namespace that is selected, if the selection says so.
    pub fn namespace(&self) -> Option<&str> {
        self.fields.iter().find(|t| matches!(t.field, Field::Namespace) && t.equal).map(|t| t.value.as_str())
    }

    /// The value of an indexed field, if the selection fixes it.
    pub fn field(&self, name: &str) -> Option<(&'static str, &str)> {
        self.fields.iter().find_map(|t| match t.field {
            Field::Other(field) if field.name == name && t.equal => Some((field.name, t.value.as_str())),
            _ => None,
        })
    }

    /// Whether the object is selected. One that cannot be decoded is not.
    pub fn matches(&self, object: &Object) -> bool {
        if self.is_all() {
            return true;
        }
        let Ok(metadata) = object.metadata() else { return false };
        let none = BTreeMap::new();
        if let Some(labels) = &self.labels
            && !labels.matches(metadata.labels.as_ref().unwrap_or(&none))
        {
            return false;
        }
        self.fields.iter().all(|term| {
            let found = match term.field {
                Field::Name => metadata.name.clone().unwrap_or_default(),
                Field::Namespace => metadata.namespace.clone().unwrap_or_default(),
                Field::Other(field) => {
                    field_value::text_at(object.stored(), field.path).unwrap_or_else(|| field.absent.to_owned())
                }
            };
            (found == term.value) == term.equal
        })
    }
}

fn field_of(resource: &Resource, name: &str) -> Result<Field, ApiError> {
    match name {
        "metadata.name" => return Ok(Field::Name),
        "metadata.namespace" if resource.namespaced => return Ok(Field::Namespace),
        _ => {}
    }
    let selectable = resource.strategy.selectable_fields();
    match selectable.iter().find(|f| f.name == name) {
        Some(field) => Ok(Field::Other(*field)),
        None if selectable.is_empty() => Err(ApiError::bad_request(format!(
            "{name:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        ))),
        None => Err(ApiError::bad_request(format!("field label not supported: {name}"))),
    }
}

/// Whether an object's labels match.
pub fn labels_match(selector: &Selector, object: &Object) -> bool {
    let none = BTreeMap::new();
    object.metadata().is_ok_and(|m| selector.matches(m.labels.as_ref().unwrap_or(&none)))
}
