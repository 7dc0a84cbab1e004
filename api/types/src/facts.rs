//! The table of facts about Kubernetes' API: what the generator writes from upstream's OpenAPI file and [`crate::schema`]
//! reads. Field names, types, list and patch rules; resources with their verbs. No descriptions, defaults or ranges.

pub mod generate;

/// The committed table, one fact a line. `api/types/src/bin/generate-facts.rs` makes it.
///
/// ```text
/// D <definition> [atomic] [<group>:<version>:<Kind>]      a structure, then its fields:
///  <field> <type> [required] [atomic|set|map(<keys>)] [patch(<strategies>)] [key(<merge key>)] [atomicmap]
/// R <group|-> <version> <resource> <Kind> <namespaced|cluster> <verbs>
/// S <subresource> <verbs> <group>:<version>:<Kind> [connect]      of the resource above
/// ```
/// Types are `string int32 int64 bool double bytes time microtime quantity intorstring any object`, `@<definition>`,
/// and `[]` or `{}` before any of them for lists and maps.
pub const TABLE: &str = include_str!("../facts/schema.txt");
