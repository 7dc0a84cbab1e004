//! A strategy as a table of functions, so that a kind states only what is peculiar to it.
//!
//! Holds no rule of its own beyond upstream's generic ones; rules live in the kinds' modules.

use jiff::Timestamp;
use navarch_types::field::FieldError;
use serde_json::Value;

use crate::strategy::{Column, Context, DEFAULT_COLUMNS, SelectableField, Strategy, age, dns_subdomain};

/// What validation has found so far.
pub(crate) type Findings = Vec<FieldError>;

/// Everything that may differ. Written as `Kind { default: …, ..Kind::PLAIN }`.
pub(crate) struct Kind {
    /// Whether `status` is split from the rest.
    pub status: bool,
    /// Whether `metadata.generation` is kept.
    pub generation: bool,
    /// Whether a new object keeps the status it comes with (only Nodes, whose agents create them).
    pub created_with_status: bool,
    /// Fills in what is absent; idempotent.
    pub default: fn(&mut Value),
    /// Before a create; `status` is already gone for kinds that have one.
    pub prepare_create: fn(&Context<'_>, &mut Value),
    /// Before an update of the object or of a subresource.
    pub prepare_update: fn(&Context<'_>, &mut Value, &Value),
    /// Rules for a new object.
    pub create: fn(&Context<'_>, &Value, &mut Findings),
    /// Rules for a changed object; without one, those for a new object.
    pub update: Option<fn(&Context<'_>, &Value, &Value, &mut Findings)>,
    /// Rules for a change of `status` or another subresource.
    pub status_update: fn(&Context<'_>, &Value, &Value, &mut Findings),
    /// Whether an update raises the generation.
    pub generation_changes: fn(&Value, &Value) -> bool,
    /// Findings on a name, or on a prefix of one.
    pub name: fn(&str, bool) -> Vec<String>,
    /// Texts for warning headers.
    pub warnings: fn(&Context<'_>, &Value, Option<&Value>) -> Vec<String>,
    /// Whether PUT creates.
    pub create_on_update: bool,
    /// Whether PUT without a resourceVersion overwrites.
    pub unconditional_update: bool,
    /// Fields for selectors.
    pub selectable: &'static [SelectableField],
    /// Seconds of grace on delete.
    pub grace: fn(&Value, Option<i64>) -> Option<i64>,
    /// Whether dependents are orphaned unless the request says otherwise.
    pub orphans: bool,
    /// Lifetime of objects that expire.
    pub ttl_ms: Option<u64>,
    /// Table headings.
    pub columns: &'static [Column],
    /// Table cells.
    pub row: fn(&Value, Timestamp) -> Vec<Value>,
}

impl Kind {
    /// A kind without peculiarities.
    pub const PLAIN: Kind = Kind {
        status: false,
        generation: false,
        created_with_status: false,
        default: |_| {},
        prepare_create: |_, _| {},
        prepare_update: |_, _, _| {},
        create: |_, _, _| {},
        update: None,
        status_update: |_, _, _, _| {},
        generation_changes: |object, old| !super::at::same(&object["spec"], &old["spec"]),
        name: dns_subdomain,
        warnings: |_, _, _| Vec::new(),
        create_on_update: false,
        unconditional_update: true,
        selectable: &[],
        grace: |_, _| None,
        orphans: false,
        ttl_ms: None,
        columns: DEFAULT_COLUMNS,
        row: |object, now| vec![object["metadata"]["name"].clone(), Value::from(age(object, now))],
    };
    /// A kind with a status subresource and no generation.
    pub const WITH_STATUS: Kind = Kind { status: true, ..Self::PLAIN };
    /// A kind with a generation and no status subresource.
    pub const WITH_GENERATION: Kind = Kind { generation: true, ..Self::PLAIN };
    /// A kind with both.
    pub const FULL: Kind = Kind { status: true, generation: true, ..Self::PLAIN };
}

impl Strategy for Kind {
    fn default(&self, object: &mut Value) {
        (self.default)(object);
    }

    fn prepare_create(&self, context: &Context<'_>, object: &mut Value) {
        if self.status
            && !self.created_with_status
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
        (self.prepare_create)(context, object);
    }

    fn validate_create(&self, context: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut found = Findings::new();
        (self.create)(context, object, &mut found);
        found
    }

    fn prepare_update(&self, context: &Context<'_>, object: &mut Value, old: &Value) {
        (self.prepare_update)(context, object, old);
    }

    fn validate_update(&self, context: &Context<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut found = Findings::new();
        match (context.subresource, self.update) {
            (Some(_), _) => (self.status_update)(context, object, old, &mut found),
            (None, Some(update)) => update(context, object, old, &mut found),
            (None, None) => (self.create)(context, object, &mut found),
        }
        found
    }

    fn generation_changes(&self, object: &Value, old: &Value) -> bool {
        (self.generation_changes)(object, old)
    }

    fn has_generation(&self) -> bool {
        self.generation
    }

    fn has_status(&self) -> bool {
        self.status
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        (self.name)(name, prefix)
    }

    fn warnings(&self, context: &Context<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        (self.warnings)(context, object, old)
    }

    fn create_on_update(&self) -> bool {
        self.create_on_update
    }

    fn unconditional_update(&self) -> bool {
        self.unconditional_update
    }

    fn selectable_fields(&self) -> &'static [SelectableField] {
        self.selectable
    }

    fn grace_period(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        (self.grace)(object, asked)
    }

    fn orphans_by_default(&self) -> bool {
        self.orphans
    }

    fn ttl_ms(&self) -> Option<u64> {
        self.ttl_ms
    }

    fn columns(&self) -> &'static [Column] {
        self.columns
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        (self.row)(object, now)
    }
}

/// A column that is always shown.
pub(crate) const fn column(name: &'static str, column_type: &'static str, description: &'static str) -> Column {
    Column { name, column_type, format: "", description, priority: 0 }
}

/// A column that `-o wide` adds.
pub(crate) const fn wide(name: &'static str, column_type: &'static str, description: &'static str) -> Column {
    Column { name, column_type, format: "", description, priority: 1 }
}

/// The name column, first in nearly every table.
pub(crate) const NAME: Column =
    Column { name: "Name", column_type: "string", format: "name", description: "Name of the object", priority: 0 };

/// The age column.
pub(crate) const AGE: Column = column("Age", "string", "Time since creation");
