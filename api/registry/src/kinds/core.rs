//! The small kinds of the core group.

mod config;
mod event;
mod namespace;
mod node;
mod quota;

pub(crate) use config::{CONFIG_MAP, SECRET};
pub(crate) use event::EVENT;
pub(crate) use namespace::NAMESPACE;
pub(crate) use node::NODE;
pub(crate) use quota::{LIMIT_RANGE, RESOURCE_QUOTA};

use super::apps::defaults;
use super::at::{At, same};
use super::cells::{age_cell, containers, list, map, name};
use super::kind::{AGE, Kind, NAME, column};
use super::pod::spec::template;

/// ServiceAccounts.
pub(crate) static SERVICE_ACCOUNT: Kind = Kind {
    unconditional_update: false,
    columns: &[NAME, column("Secrets", "string", "How many secrets are mounted into its pods"), AGE],
    row: |object, now| vec![name(object), list(object, &["secrets"]).len().into(), age_cell(object, now)],
    ..Kind::PLAIN
};

/// PodTemplates.
pub(crate) static POD_TEMPLATE: Kind = Kind {
    default: defaults::pod_template_object,
    create: |_, object, out| template(&At::root(object, "template"), out),
    generation_changes: |object, old| !same(&object["template"], &old["template"]),
    columns: &[
        NAME,
        column("Containers", "string", "Names of the template's containers"),
        column("Images", "string", "Images of the template's containers"),
        column("Pod Labels", "string", "Labels of the pods"),
    ],
    row: |object, _| {
        let (names, images) = containers(&object["template"]["spec"]);
        vec![name(object), names, images, map(&object["template"]["metadata"]["labels"]).into()]
    },
    ..Kind::WITH_GENERATION
};

#[cfg(test)]
mod tests;
