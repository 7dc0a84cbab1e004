//! What may differ from kind to kind.
//!
//! Functions here decide and change values they are given. They do no I/O; time and identity come in the [`Context`].

use jiff::Timestamp;
use navarch_types::UserInfo;
use navarch_types::field::FieldError;
use serde_json::Value;

/// What a strategy may know about the request.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Who asks.
    pub user: &'a UserInfo,
    /// The namespace of the request, empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// `status`, `scale`, …; `None` for the object itself.
    pub subresource: Option<&'a str>,
    /// The time of the request; the same in all its steps.
    pub now: Timestamp,
}

/// A field that field selectors may name, beyond `metadata.name` and `metadata.namespace`.
#[derive(Clone, Copy, Debug)]
pub struct SelectableField {
    /// As in the selector: `spec.nodeName`.
    pub name: &'static str,
    /// The way to it in the object's JSON. Absent values read as `absent`, others as their text.
    pub path: &'static [&'static str],
    /// The text for an absent value: mostly empty; `false` for booleans.
    pub absent: &'static str,
}

/// A column of the kind's Table, as `kubectl get` prints it.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The heading.
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, `date`, …
    pub column_type: &'static str,
    /// `name` for the object's name, otherwise mostly empty.
    pub format: &'static str,
    /// What it shows.
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

/// The columns of kinds that have none of their own: name and age.
pub const DEFAULT_COLUMNS: &[Column] = &[
    Column { name: "Name", column_type: "string", format: "name", description: "Name of the object", priority: 0 },
    Column { name: "Age", column_type: "string", format: "", description: "Time since creation", priority: 0 },
];

/// What is peculiar to a kind. Every object is in its storage version. The defaults suit a kind without `spec` rules.
///
/// The order on create: decode, prune or refuse unknown fields, `default`, mutating admission, `default` again,
/// `prepare_create`, generic metadata (uid, creationTimestamp, generation), `validate_create`, validating admission.
/// On update: decode or patch, `default`, admission, `prepare_update`, `validate_update`.
pub trait Strategy: Send + Sync {
    /// Fills in what is absent. Idempotent, and never fails: what cannot be defaulted is for validation to refuse.
    fn default(&self, _object: &mut Value) {}

    /// Before a create: drop what a client may not set (mostly `status`).
    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        if self.has_status()
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
    }

    /// Findings on a new object. Names and metadata are checked by generic code.
    fn validate_create(&self, _context: &Context<'_>, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Before an update of the object itself (`status` is already the old one for kinds with a status subresource) or of
    /// its `status` (everything but `status` and allowed metadata is already the old one). Generic code raises
    /// `metadata.generation` after this, by [`Strategy::generation_changes`].
    fn prepare_update(&self, _context: &Context<'_>, _object: &mut Value, _old: &Value) {}

    /// Findings on a changed object or status.
    fn validate_update(&self, context: &Context<'_>, object: &Value, _old: &Value) -> Vec<FieldError> {
        if context.subresource.is_none() { self.validate_create(context, object) } else { Vec::new() }
    }

    /// Whether this update raises the generation. Only asked of kinds that have one.
    fn generation_changes(&self, object: &Value, old: &Value) -> bool {
        object.get("spec") != old.get("spec")
    }

    /// Whether objects carry `metadata.generation` from their creation on.
    fn has_generation(&self) -> bool {
        self.has_status()
    }

    /// Whether `status` is split from the rest.
    fn has_status(&self) -> bool {
        false
    }

    /// Findings on the name; `prefix` when it is a `generateName`. A DNS subdomain by default. Empty if it is right.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        crate::strategy::dns_subdomain(name, prefix)
    }

    /// Texts for `Warning` headers.
    fn warnings(&self, _context: &Context<'_>, _object: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// Whether a PUT to a name that does not exist creates the object.
    fn create_on_update(&self) -> bool {
        false
    }

    /// Whether a PUT without a resourceVersion overwrites.
    fn unconditional_update(&self) -> bool {
        true
    }

    /// Fields for selectors.
    fn selectable_fields(&self) -> &'static [SelectableField] {
        &[]
    }

    /// Seconds of grace if a delete of this object is graceful, given what the request asks for; `None` if it is not.
    fn grace_period(&self, _object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }

    /// What becomes of dependents if the request does not say: background for all but a few old kinds.
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// How long objects live, in milliseconds, for kinds that expire (Events: one hour).
    fn ttl_ms(&self) -> Option<u64> {
        None
    }

    /// The columns of [`Strategy::row`].
    fn columns(&self) -> &'static [Column] {
        DEFAULT_COLUMNS
    }

    /// The cells of one object.
    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let name = object["metadata"]["name"].clone();
        vec![name, Value::from(age(object, now))]
    }
}

/// Upstream's finding on a name that is no DNS-1123 subdomain.
pub(crate) fn dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    const RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
        must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
        '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let mut findings = Vec::new();
    // A prefix is checked as if a character followed it.
    let full = if prefix && name.ends_with('-') { format!("{name}a") } else { name.to_owned() };
    if full.len() > 253 {
        findings.push("must be no more than 253 bytes".to_owned());
    }
    let good = full.split('.').all(|label| {
        let bytes = label.as_bytes();
        let alphanumeric = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        alphanumeric(bytes.first())
            && alphanumeric(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    });
    if !good {
        findings.push(RULE.to_owned());
    }
    findings
}

/// The age cell of a Table, as `duration.HumanDuration` words it; `<unknown>` without a creation time.
pub fn age(object: &Value, now: Timestamp) -> String {
    let created = object["metadata"]["creationTimestamp"].as_str().and_then(|t| t.parse::<Timestamp>().ok());
    match created {
        Some(created) => human_duration(now.as_second() - created.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// Upstream's short durations: `5s`, `2m30s`, `15m`, `3h5m`, `12h`, `2d3h`, `40d`, `2y30d`, `9y`.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |a: i64, unit_a: &str, b: i64, unit_b: &str| {
        if b == 0 { format!("{a}{unit_a}") } else { format!("{a}{unit_a}{b}{unit_b}") }
    };
    match seconds {
        i64::MIN..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => pair(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2920 => pair(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}
