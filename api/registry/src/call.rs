//! What generic operations know about the request they serve, and the door to admission, which is above this crate.

use tokio::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;
use navarch_types::{ApiError, UserInfo, WriteOptions};
use parking_lot::Mutex;
use serde_json::Value;

use crate::resource::Resource;
use crate::strategy::Context;

/// A request for one resource, authorized.
pub struct Call<'a> {
    /// For what.
    pub resource: &'a Resource,
    /// By whom.
    pub user: &'a UserInfo,
    /// Empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// Empty for collections.
    pub name: &'a str,
    /// `status`, `scale`, …
    pub subresource: Option<&'a str>,
    /// Options of writes.
    pub write: &'a WriteOptions,
    /// The time of the request.
    pub now: Timestamp,
    /// When to give up.
    pub deadline: Instant,
    /// Decides over writes.
    pub admission: &'a dyn Admission,
    /// Texts for `Warning` headers, collected.
    pub warnings: Mutex<Vec<String>>,
}

/// What admission is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object, or a post to a subresource.
    Create,
    /// A changed object.
    Update,
    /// An object to be removed.
    Delete,
}

/// A question to admission. Objects are in their storage version.
pub struct Review<'a> {
    /// The request.
    pub call: &'a Call<'a>,
    /// The name, where it is known.
    pub name: &'a str,
    /// What is to be done.
    pub operation: Operation,
    /// The object before, on update and delete.
    pub old: Option<&'a Value>,
}

/// The admission chain, as the server puts it together.
#[async_trait]
pub trait Admission: Send + Sync {
    /// Changes the object or refuses it. Returns warnings.
    async fn mutate(&self, review: &Review<'_>, object: &mut Value) -> Result<Vec<String>, ApiError>;

    /// Refuses the object, or on delete (no object) the deletion. Returns warnings.
    async fn validate(&self, review: &Review<'_>, object: Option<&Value>) -> Result<Vec<String>, ApiError>;
}

/// Admits everything; for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmitAll;

#[async_trait]
impl Admission for AdmitAll {
    async fn mutate(&self, _review: &Review<'_>, _object: &mut Value) -> Result<Vec<String>, ApiError> {
        Ok(Vec::new())
    }

    async fn validate(&self, _review: &Review<'_>, _object: Option<&Value>) -> Result<Vec<String>, ApiError> {
        Ok(Vec::new())
    }
}

impl Call<'_> {
    /// What strategies may know.
    pub fn context(&self) -> Context<'_> {
        Context { user: self.user, namespace: self.namespace, subresource: self.subresource, now: self.now }
    }

    /// Adds texts for `Warning` headers.
    pub fn warn(&self, texts: impl IntoIterator<Item = String>) {
        let mut warnings = self.warnings.lock();
        for text in texts {
            if !warnings.contains(&text) {
                warnings.push(text);
            }
        }
    }

    /// Runs mutating admission.
    ///
    /// # Errors
    /// Whatever refuses the object.
    pub async fn mutate(&self, operation: Operation, object: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
        let name =
            if self.name.is_empty() { crate::meta::text(object, "name").to_owned() } else { self.name.to_owned() };
        let review = Review { call: self, name: &name, operation, old };
        let warnings = self.admission.mutate(&review, object).await?;
        self.warn(warnings);
        Ok(())
    }

    /// Runs validating admission.
    ///
    /// # Errors
    /// Whatever refuses the object or its deletion.
    pub async fn validate(
        &self,
        operation: Operation,
        name: &str,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        let review = Review { call: self, name, operation, old };
        let warnings = self.admission.validate(&review, object).await?;
        self.warn(warnings);
        Ok(())
    }
}
