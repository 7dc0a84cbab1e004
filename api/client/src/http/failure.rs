//! What went wrong between client and server, and what follows from it: pure.

use std::error::Error;

use hyper_util::client::legacy;
use navarch_types::{ApiError, Reason, ResourceRequest, Verb};

use super::servers::Trouble;

/// How an attempt at one server ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Surely nothing was carried out.
    Unsent(Trouble),
    /// Perhaps it was.
    Lost(Trouble),
    /// The answer did not come in the time that requests have.
    Late,
    /// The client has moved to another server meanwhile.
    Left,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The same request goes to another server.
    Elsewhere,
    /// Its sender has to know that it may have been carried out, or may be yet.
    Unknown,
    /// There is no time left.
    TooLate,
}

impl Failure {
    /// What it says of the server.
    pub fn trouble(self) -> Option<Trouble> {
        match self {
            Self::Unsent(trouble) | Self::Lost(trouble) => Some(trouble),
            Self::Late => Some(Trouble::Silent),
            Self::Left => None,
        }
    }

    /// `safe`: carrying the request out twice is as good as once.
    pub fn next(self, safe: bool) -> Next {
        match (self, safe) {
            (Self::Unsent(_), _) | (Self::Lost(_) | Self::Left, true) => Next::Elsewhere,
            (Self::Late, true) => Next::TooLate,
            (Self::Lost(_) | Self::Late | Self::Left, false) => Next::Unknown,
        }
    }
}

/// Whether a request changes nothing, so that it may be sent again.
pub(super) fn is_safe(request: &ResourceRequest) -> bool {
    matches!(request.verb, Verb::Get | Verb::List | Verb::Watch) || request.write.dry_run
}

/// What an answer says of the server that gave it. Another server may answer otherwise.
pub(super) fn of_answer(error: &ApiError) -> Option<Trouble> {
    let behind = || {
        let causes = error.status().details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason.as_deref() == Some("ResourceVersionTooLarge"))
    };
    match error.code() {
        503 => Some(Trouble::NotReady),
        504 if behind() => Some(Trouble::Behind),
        _ => None,
    }
}

/// What a failed request came to.
pub(super) fn of_request(error: &legacy::Error) -> Failure {
    let (mut trouble, mut refused) = (None, false);
    visit(error, &mut |cause| {
        if let Some(found) = cause.downcast_ref::<rustls::Error>()
            && matches!(found, rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_))
        {
            trouble = Some(Trouble::Untrusted);
        } else if let Some(found) = cause.downcast_ref::<std::io::Error>()
            && found.kind() == std::io::ErrorKind::TimedOut
        {
            trouble = trouble.or(Some(Trouble::Silent));
        } else if let Some(found) = cause.downcast_ref::<hyper::Error>()
            && found.is_timeout()
        {
            trouble = trouble.or(Some(Trouble::Silent));
        } else if let Some(found) = cause.downcast_ref::<h2::Error>() {
            // The one reset by which a server says that it has not looked at the request (RFC 9113, 8.7).
            refused |= found.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
    });
    if error.is_connect() {
        return Failure::Unsent(trouble.unwrap_or(Trouble::Refused));
    }
    let trouble = trouble.unwrap_or(Trouble::Lost);
    if refused { Failure::Unsent(trouble) } else { Failure::Lost(trouble) }
}

/// An error, and all that is behind it; `io::Error` hides what it was made of from `source`.
fn visit(error: &(dyn Error + 'static), see: &mut dyn FnMut(&(dyn Error + 'static))) {
    see(error);
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match (inner, error.source()) {
        (Some(inner), _) => visit(inner, see),
        (None, Some(source)) => visit(source, see),
        (None, None) => {}
    }
}

/// An error with its sources: hyper's own text says little.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// Nobody was reached.
pub(super) fn unreachable(server: &str, why: &str) -> ApiError {
    ApiError::new(Reason::ServiceUnavailable, format!("cannot reach {server}: {why}"))
}

/// A write may have happened.
pub(super) fn unknown(server: &str, why: &str) -> ApiError {
    let text = format!("{server} did not answer ({why}): it is unknown whether the request was carried out");
    ApiError::new(Reason::Timeout, text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use navarch_types::GroupVersionResource;

    use super::*;

    #[test]
    fn what_follows() {
        for (failure, safe, next) in [
            (Failure::Unsent(Trouble::Refused), true, Next::Elsewhere),
            (Failure::Unsent(Trouble::Refused), false, Next::Elsewhere),
            (Failure::Unsent(Trouble::Silent), false, Next::Elsewhere),
            (Failure::Unsent(Trouble::Untrusted), false, Next::Elsewhere),
            (Failure::Lost(Trouble::Lost), true, Next::Elsewhere),
            (Failure::Lost(Trouble::Lost), false, Next::Unknown),
            (Failure::Lost(Trouble::Silent), false, Next::Unknown),
            (Failure::Left, true, Next::Elsewhere),
            (Failure::Left, false, Next::Unknown),
            (Failure::Late, true, Next::TooLate),
            (Failure::Late, false, Next::Unknown),
        ] {
            assert_eq!(failure.next(safe), next, "{failure:?}, safe: {safe}");
        }
    }

    #[test]
    fn what_is_safe() {
        for (verb, dry_run, safe) in [
            (Verb::Get, false, true),
            (Verb::List, false, true),
            (Verb::Watch, false, true),
            (Verb::Create, false, false),
            (Verb::Create, true, true),
            (Verb::Update, false, false),
            (Verb::Patch, false, false),
            (Verb::Delete, false, false),
            (Verb::DeleteCollection, false, false),
        ] {
            let mut request = ResourceRequest::new(verb, GroupVersionResource::new("", "v1", "pods"));
            request.write.dry_run = dry_run;
            assert_eq!(is_safe(&request), safe, "{verb:?}, dry run: {dry_run}");
        }
    }

    #[test]
    fn what_answers_say_of_a_server() {
        let error = |reason| ApiError::new(reason, "m");
        for (error, trouble) in [
            (error(Reason::ServiceUnavailable), Some(Trouble::NotReady)),
            (error(Reason::Timeout), None),
            (error(Reason::Timeout).with_cause("ResourceVersionTooLarge", "m", ""), Some(Trouble::Behind)),
            (error(Reason::TooManyRequests), None),
            (error(Reason::InternalError), None),
            (error(Reason::Expired), None),
        ] {
            assert_eq!(of_answer(&error), trouble, "{error}");
        }
    }
}
