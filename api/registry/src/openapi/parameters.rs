//! The parameters that operations take, in our own words.

/// A parameter of a query or path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) place: &'static str,
    pub(super) kind: &'static str,
    pub(super) description: &'static str,
}

const fn query(name: &'static str, kind: &'static str, description: &'static str) -> Parameter {
    Parameter { name, place: "query", kind, description }
}

const fn path(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, place: "path", kind: "string", description }
}

pub(super) const PRETTY: Parameter = query("pretty", "string", "If 'true', the output is indented for people.");
pub(super) const NAME: Parameter = path("name", "The object's name.");
pub(super) const NAMESPACE: Parameter = path("namespace", "The namespace that the objects are in.");
pub(super) const PATH: Parameter = path("path", "The path to use behind the proxy.");

const DRY_RUN: Parameter =
    query("dryRun", "string", "With 'All' the request goes through every stage and nothing is stored.");
const FIELD_MANAGER: Parameter =
    query("fieldManager", "string", "Who makes this change, in at most 128 printable characters.");
const FIELD_VALIDATION: Parameter = query(
    "fieldValidation",
    "string",
    "What becomes of unknown and duplicate fields: Ignore drops them, Warn drops them with a warning, Strict refuses the \
     request.",
);
const FORCE: Parameter = query("force", "boolean", "Take over fields of others. Only for apply patches.");

/// Of a create or update.
pub(super) const WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
/// Of a patch.
pub(super) const PATCH: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
/// Of a delete, beside the body.
pub(super) const DELETE: &[Parameter] = &[
    DRY_RUN,
    query("gracePeriodSeconds", "integer", "Seconds before the object is deleted; 0 is at once."),
    query("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    query("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
];
/// Of a list, and for what a deletecollection selects.
pub(super) const SELECT: &[Parameter] = &[
    query("continue", "string", "Go on with a list where the answer with this token ended."),
    query("fieldSelector", "string", "Only objects with these values of fields."),
    query("labelSelector", "string", "Only objects with these labels."),
    query("limit", "integer", "At most so many objects in one answer."),
    query("resourceVersion", "string", "The version that the answer may or must be of."),
    query("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    query("sendInitialEvents", "boolean", "Begin a watch with an event for each object there is, then a bookmark."),
    query("timeoutSeconds", "integer", "End the request after so many seconds."),
];
/// Of a list alone.
pub(super) const WATCH: &[Parameter] = &[
    query("allowWatchBookmarks", "boolean", "Let a watch send bookmarks."),
    query("watch", "boolean", "Follow changes instead of listing."),
];

/// Of a subresource that is no object.
pub(super) fn of_subresource(resource: &str, subresource: &str) -> &'static [Parameter] {
    const CONTAINER: Parameter = query("container", "string", "Which container; the only one by default.");
    const STREAMS: &[Parameter] = &[
        CONTAINER,
        query("stderr", "boolean", "Connect the standard error."),
        query("stdin", "boolean", "Connect the standard input."),
        query("stdout", "boolean", "Connect the standard output."),
        query("tty", "boolean", "Give the process a terminal."),
    ];
    const EXEC: &[Parameter] = &[
        query("command", "string", "The command and, one parameter each, its arguments; no shell reads it."),
        CONTAINER,
        query("stderr", "boolean", "Connect the standard error."),
        query("stdin", "boolean", "Connect the standard input."),
        query("stdout", "boolean", "Connect the standard output."),
        query("tty", "boolean", "Give the process a terminal."),
    ];
    const LOG: &[Parameter] = &[
        CONTAINER,
        query("follow", "boolean", "Go on with what is logged from now on."),
        query("insecureSkipTLSVerifyBackend", "boolean", "Do not verify the node's certificate."),
        query("limitBytes", "integer", "End after so many bytes."),
        query("previous", "boolean", "The log of the container's run before this one."),
        query("sinceSeconds", "integer", "Only lines of the last so many seconds."),
        query("sinceTime", "string", "Only lines from this time on."),
        query("stream", "string", "All, Stdout or Stderr."),
        query("tailLines", "integer", "Only so many lines from the end."),
        query("timestamps", "boolean", "Begin each line with its time."),
    ];
    const PORTS: &[Parameter] = &[query("ports", "integer", "The ports to forward, if the protocol needs them named.")];
    const PROXY: &[Parameter] = &[query("path", "string", "The path to use behind the proxy.")];
    match (resource, subresource) {
        ("pods", "exec") => EXEC,
        ("pods", "attach") => STREAMS,
        ("pods", "log") => LOG,
        ("pods", "portforward") => PORTS,
        (_, "proxy") => PROXY,
        _ => &[],
    }
}
