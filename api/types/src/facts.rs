//! The table of facts about Kubernetes' API: what the generator writes from upstream's OpenAPI file and Go types, and
//! [`crate::schema`] reads. Field names, types, protobuf numbers, list and patch rules; resources with their verbs. No
//! descriptions, defaults or ranges.

pub mod generate;

/// The committed table, one fact a line. `api/types/src/bin/generate-facts.rs` makes it.
///
/// ```text
/// D <definition> [atomic] [<group>:<version>:<Kind>]      a structure, then its fields:
///  <field> <type> [=<place>] [required] [atomic|set|map(<keys>)] [patch(<strategies>)] [key(<merge key>)] [atomicmap]
/// R <group|-> <version> <resource> <Kind> <namespaced|cluster> <verbs>
/// S <subresource> <verbs> <group>:<version>:<Kind> [connect]      of the resource above
/// ```
/// Types are `string int32 int64 bool double bytes time microtime quantity intorstring any object`, `@<definition>`,
/// and `[]` or `{}` before any of them for lists and maps.
///
/// A place is the field's protobuf number, `3`; after those of the structures that protobuf has around it and JSON has not,
/// `2.3`. Then `*` if upstream has a pointer, so that zero differs from absence, or `!` if JSON has the zero too. Then
/// `:items`, `:orarray`, `:orbool` or `:orstrings` for the messages that JSON has as a list or as one of two types.
pub const TABLE: &str = include_str!("../facts/schema.txt");
