//! What a machine has to have before it becomes a node: told at once, and not by a service's log.

use std::collections::BTreeSet;
use std::path::PathBuf;

use navarch_config::Settings;

use crate::commands::CommandError;
use crate::node;

/// Programs of a container runtime of our own, and Debian's packages of them.
const RUNTIME: [(&str, &str); 3] =
    [("containerd", "containerd"), ("containerd-shim-runc-v2", "containerd"), ("runc", "runc")];
/// Those that program the node's network.
const NETWORK: [(&str, &str); 2] = [("nft", "nftables"), ("conntrack", "conntrack")];
/// Debian's package of the network's plugins.
const PLUGINS: &str = "containernetworking-plugins";

/// Refuses a machine that cannot run pods with these settings.
///
/// # Errors
/// What is missing, and how it is installed.
pub fn check_node(settings: &Settings) -> Result<(), CommandError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let own_runtime = settings.agent.container_runtime_endpoint.is_none();
    let programs = RUNTIME.iter().filter(|_| own_runtime).chain(NETWORK.iter().filter(|_| settings.agent.network));
    let has_program = |program: &str| folders.iter().any(|folder| folder.join(program).exists());
    let (missing, packages) = missing(programs, has_program, node::missing_plugins(settings));
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

fn missing<'p>(
    programs: impl Iterator<Item = &'p (&'static str, &'static str)>,
    has_program: impl Fn(&str) -> bool,
    plugins: Vec<PathBuf>,
) -> (Vec<String>, BTreeSet<&'static str>) {
    let programs = programs.filter(|(program, _)| !has_program(program));
    let programs = programs.map(|(program, package)| ((*program).to_owned(), *package));
    programs.chain(plugins.into_iter().map(|plugin| (plugin.display().to_string(), PLUGINS))).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_its_packages_once_each() {
        let all = || RUNTIME.iter().chain(&NETWORK);
        assert_eq!(missing(all(), |_| true, Vec::new()), (Vec::new(), BTreeSet::new()));
        let without = |program: &str| program != "nft" && !program.starts_with("containerd");
        let (names, packages) = missing(all(), without, Vec::new());
        assert_eq!(names, ["containerd", "containerd-shim-runc-v2", "nft"]);
        assert_eq!(packages.into_iter().collect::<Vec<_>>(), ["containerd", "nftables"]);
        let plugins = ["/usr/lib/cni/host-local", "/usr/lib/cni/loopback"].map(PathBuf::from).to_vec();
        let (names, packages) = missing(all(), |_| true, plugins);
        assert_eq!(names, ["/usr/lib/cni/host-local", "/usr/lib/cni/loopback"]);
        assert_eq!(packages.len(), 1);
    }
}
