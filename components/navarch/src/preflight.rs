//! What a machine has to have before it becomes a node: told at once, and not by a service's log.

use std::collections::BTreeSet;
use std::path::Path;

use crate::commands::CommandError;

/// Programs that an agent runs, and Debian's packages of them.
const PROGRAMS: [(&str, &str); 5] = [
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("runc", "runc"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
];
/// Where Debian has the network's plugins, those that pods need, and their package.
const PLUGINS: (&str, [&str; 3], &str) =
    ("/usr/lib/cni", ["ptp", "host-local", "loopback"], "containernetworking-plugins");

/// Refuses a machine that cannot run pods.
///
/// # Errors
/// What is missing, and how it is installed.
pub fn check_node() -> Result<(), CommandError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let (missing, packages) = missing(
        |program| folders.iter().any(|folder| folder.join(program).exists()),
        |plugin| Path::new(PLUGINS.0).join(plugin).exists(),
    );
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "this machine cannot run pods, {} missing: on Debian, `apt-get install {}`",
        missing.join(", "),
        packages.into_iter().collect::<Vec<_>>().join(" ")
    )
    .into())
}

fn missing(
    has_program: impl Fn(&str) -> bool,
    has_plugin: impl Fn(&str) -> bool,
) -> (Vec<String>, BTreeSet<&'static str>) {
    let programs = PROGRAMS.into_iter().filter(|(program, _)| !has_program(program));
    let programs = programs.map(|(program, package)| (program.to_owned(), package));
    let (folder, plugins, package) = PLUGINS;
    let plugins = plugins.into_iter().filter(|plugin| !has_plugin(plugin));
    let plugins = plugins.map(|plugin| (format!("{folder}/{plugin}"), package));
    programs.chain(plugins).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_its_packages_once_each() {
        assert_eq!(missing(|_| true, |_| true), (Vec::new(), BTreeSet::new()));
        let (names, packages) = missing(|program| program != "nft" && !program.starts_with("containerd"), |_| true);
        assert_eq!(names, ["containerd", "containerd-shim-runc-v2", "nft"]);
        assert_eq!(packages.into_iter().collect::<Vec<_>>(), ["containerd", "nftables"]);
        let (names, packages) = missing(|_| true, |plugin| plugin == "ptp");
        assert_eq!(names, ["/usr/lib/cni/host-local", "/usr/lib/cni/loopback"]);
        assert_eq!(packages.len(), 1);
    }
}
