//! Failures on purpose, and what was asked.

use navarch_types::{ApiError, GroupResource, Reason, ResourceRequest, Verb};

use super::state::State;

/// A request that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it wanted.
    pub verb: Verb,
    /// Of which resource: `pods`.
    pub resource: String,
    /// Of which subresource; empty for none.
    pub subresource: String,
    /// Where.
    pub namespace: String,
    /// Of which object; empty for collections and creates.
    pub name: String,
    /// The writer's fence.
    pub fence_term: Option<u64>,
}

/// A failure to inject.
#[derive(Clone, Debug)]
pub struct Fault {
    verb: Option<Verb>,
    resource: Option<String>,
    name: Option<String>,
    skip: u32,
    times: u32,
    after_effect: bool,
    error: ApiError,
}

impl Fault {
    /// One failure of any request, with an error.
    pub fn new(error: ApiError) -> Self {
        Self { verb: None, resource: None, name: None, skip: 0, times: 1, after_effect: false, error }
    }

    /// The connection is lost; the request had no effect.
    pub fn lost_connection() -> Self {
        Self::new(ApiError::new(Reason::ServiceUnavailable, "connection refused"))
    }

    /// The request had its effect, but the answer is lost.
    pub fn lost_answer() -> Self {
        let mut fault = Self::new(ApiError::new(Reason::ServiceUnavailable, "connection reset by peer"));
        fault.after_effect = true;
        fault
    }

    /// Somebody else was faster.
    pub fn conflict(resource: &str) -> Self {
        let gr = GroupResource { group: "".into(), resource: resource.to_owned().into() };
        Self::new(ApiError::stale(&gr, "injected")).on(Verb::Update, resource)
    }

    /// Only requests with this verb, of this resource.
    #[must_use]
    pub fn on(mut self, verb: Verb, resource: &str) -> Self {
        self.verb = Some(verb);
        self.resource = Some(resource.to_owned());
        self
    }

    /// Only requests for the object of this name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Lets the first `skip` matching requests pass.
    #[must_use]
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// Fails this many matching requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    fn concerns(&self, seen: &Seen) -> bool {
        self.times > 0
            && self.verb.is_none_or(|v| v == seen.verb)
            && self.resource.as_ref().is_none_or(|r| *r == seen.resource)
            && self.name.as_ref().is_none_or(|n| *n == seen.name)
    }
}

impl State {
    /// Notes a request. An error is to be answered at once; an inner one after the effect.
    pub(super) fn admit(&mut self, request: &ResourceRequest) -> Result<Option<ApiError>, ApiError> {
        let seen = Seen {
            verb: request.verb,
            resource: request.resource.resource.to_string(),
            subresource: request.subresource.as_deref().unwrap_or_default().to_owned(),
            namespace: request.namespace.clone().unwrap_or_default(),
            name: request.name.clone().unwrap_or_default(),
            fence_term: request.write.fence_term,
        };
        self.seen.push(seen.clone());
        let Some(fault) = self.faults.iter_mut().find(|f| f.concerns(&seen)) else { return Ok(None) };
        if fault.skip > 0 {
            fault.skip -= 1;
            return Ok(None);
        }
        fault.times -= 1;
        if fault.after_effect { Ok(Some(fault.error.clone())) } else { Err(fault.error.clone()) }
    }
}
