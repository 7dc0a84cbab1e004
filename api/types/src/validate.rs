//! Rules that many kinds share: how names, keys and metadata must look.
//!
//! Functions of [`names`] return upstream's texts, empty if the value is right; those of [`meta`] return findings with
//! their path. Nothing here changes what it is given.

pub mod meta;
pub mod names;
pub mod ranges;

pub use meta::{
    validate_annotations, validate_immutable, validate_labels, validate_object_meta, validate_object_meta_update,
};

use crate::field::{FieldError, Path};

/// One `Invalid` finding for each text, all on the same value.
pub fn invalid_all(path: &Path<'_>, value: &str, texts: Vec<String>) -> Vec<FieldError> {
    texts.into_iter().map(|text| FieldError::invalid(path, value, text)).collect()
}
