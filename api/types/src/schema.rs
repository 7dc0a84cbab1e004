//! Field names, types, list and patch rules of every kind, and the resources that serve them.
//!
//! [`Schema::builtin`] is read once from [`crate::facts`]. [`Schema::check`] is structural validation; patches and pruning
//! ask for [`Definition`]s and [`Field`]s. Lookups are by hash or binary search and allocate nothing.

mod check;
mod load;
mod resource;
mod scalar;
mod wire;

use std::collections::HashMap;
use std::sync::LazyLock;

pub use check::{Checked, TypeError};
pub use resource::{ResourceFacts, SubresourceFacts};
pub use wire::{Entry, Form, Message, Target, Wire};

use crate::name::{GroupVersionKind, Str};

/// A definition in its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DefinitionId(u32);

/// A type in its schema: what lists and maps hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(u32);

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// `true` or `false`.
    Bool,
    /// Text.
    String,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// Any number.
    Double,
    /// Bytes as base64.
    Bytes,
    /// RFC 3339 with seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// See [`crate::Quantity`].
    Quantity,
    /// A whole number of 32 bits or a text.
    IntOrString,
    /// Any JSON.
    Any,
    /// Any JSON object.
    Object,
    /// A structure.
    Struct(DefinitionId),
    /// A list.
    List(TypeId),
    /// A map from text.
    Map(TypeId),
}

/// How the elements of a list belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListType {
    /// Only as a whole.
    Atomic,
    /// Each value once.
    Set,
    /// Each tuple of these fields once.
    Map(Vec<Str>),
}

/// A field of a structure.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: Str,
    /// Its type.
    pub field_type: Type,
    /// Whether it is always written. Absence is for validation to judge: upstream decodes it as empty.
    pub required: bool,
    /// How it is in protobuf, if it is.
    pub wire: Option<Wire>,
    /// For lists that say so.
    pub list_type: Option<ListType>,
    /// For maps: replaced only as a whole.
    pub atomic_map: bool,
    /// Strategic merge: elements of this list are merged, not replaced.
    pub patch_merge: bool,
    /// Strategic merge: the patch says which fields stay.
    pub patch_retain_keys: bool,
    /// Strategic merge: replaced as a whole, although it is a structure.
    pub patch_replace: bool,
    /// Strategic merge: the field that identifies elements.
    pub patch_merge_key: Option<Str>,
}

/// A structure.
#[derive(Clone, Debug)]
pub struct Definition {
    /// `api.core.v1.Pod`: upstream's name without `io.k8s.`.
    pub name: Str,
    /// Whether the structure is replaced only as a whole.
    pub atomic: bool,
    /// If it is a kind.
    pub kind: Option<GroupVersionKind>,
    /// In order of name.
    fields: Vec<Field>,
    message: Message,
}

impl Definition {
    /// A field by name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|f| f.name.as_ref().cmp(name)).ok().map(|index| &self.fields[index])
    }

    /// All fields, in order of name.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The structure as a protobuf message. Without entries it has no protobuf form, or it has no fields at all.
    pub const fn message(&self) -> &Message {
        &self.message
    }

    /// Its last part, which is upstream's Go type: `Pod`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

/// Definitions and resources.
#[derive(Debug, Default)]
pub struct Schema {
    definitions: Vec<Definition>,
    types: Vec<Type>,
    resources: Vec<ResourceFacts>,
    by_name: HashMap<Str, DefinitionId>,
    by_kind: HashMap<Str, Vec<DefinitionId>>,
    by_resource: HashMap<Str, Vec<usize>>,
}

/// A table that does not parse is a fault of the build, which a test finds; a server that ran on would refuse every kind.
#[allow(clippy::panic)]
static BUILTIN: LazyLock<Schema> = LazyLock::new(|| match load::load(crate::facts::TABLE) {
    Ok(schema) => schema,
    Err(error) => panic!("the committed table of facts is damaged: {error}"),
});

impl Schema {
    /// Kubernetes' own kinds.
    pub fn builtin() -> &'static Self {
        &BUILTIN
    }

    /// A structure by its id.
    pub fn definition(&self, id: DefinitionId) -> &Definition {
        &self.definitions[id.0 as usize]
    }

    /// What a list or map holds.
    pub fn element(&self, id: TypeId) -> Type {
        self.types[id.0 as usize]
    }

    /// A structure by name: `api.core.v1.Pod`.
    pub fn by_name(&self, name: &str) -> Option<DefinitionId> {
        self.by_name.get(name).copied()
    }

    /// A kind.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<DefinitionId> {
        let found = self.by_kind.get(kind)?.iter().copied();
        found.into_iter().find(|id| {
            let kind = self.definition(*id).kind.as_ref();
            kind.is_some_and(|k| k.group == group && k.version == version)
        })
    }

    /// A kind.
    pub fn by_gvk(&self, kind: &GroupVersionKind) -> Option<DefinitionId> {
        self.by_kind(&kind.group, &kind.version, &kind.kind)
    }

    /// All structures.
    pub fn definitions(&self) -> impl Iterator<Item = (DefinitionId, &Definition)> {
        self.definitions.iter().zip(0..).map(|(definition, id)| (DefinitionId(id), definition))
    }

    /// All resources, in order of group, version and name.
    pub fn resources(&self) -> &[ResourceFacts] {
        &self.resources
    }

    /// One resource.
    pub fn resource(&self, group: &str, version: &str, resource: &str) -> Option<&ResourceFacts> {
        let found = self.by_resource.get(resource)?.iter().map(|index| &self.resources[*index]);
        found.into_iter().find(|r| r.group == group && r.version == version)
    }
}
