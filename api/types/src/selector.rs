//! Selectors: which objects a list, a watch, a Service or a controller means.
//!
//! [`Selector`] judges labels, [`FieldSelector`] judges fields. Parsing and the texts of errors follow Kubernetes.

mod field;
mod label;
mod lexer;
mod parse;

pub use field::{FieldSelector, FieldTerm};
pub use label::{Labels, Operator, Requirement, Selector, validate_label_selector};

use crate::error::ApiError;

/// Why a text or a structure is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

impl From<SelectorError> for ApiError {
    fn from(error: SelectorError) -> Self {
        Self::bad_request(error.0)
    }
}
