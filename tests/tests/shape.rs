//! The repository's shape: who may import whom, and what no file may contain.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// For each package: what it may import of this workspace. What is not here may import nothing.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("navarch-raft-driver", &["navarch-raft-contract", "navarch-supervision"]),
    ("navarch-storage", &["navarch-raft-contract"]),
    ("navarch-store", &["navarch-raft-contract", "navarch-raft-driver", "navarch-storage", "navarch-types"]),
    ("navarch-cache", &["navarch-raft-contract", "navarch-store", "navarch-types"]),
    ("navarch-auth", &["navarch-raft-contract", "navarch-types", "navarch-store", "navarch-cache"]),
    ("navarch-admission", &["navarch-types", "navarch-store", "navarch-cache", "navarch-auth"]),
    ("navarch-registry", &["navarch-raft-contract", "navarch-types", "navarch-store", "navarch-cache"]),
    (
        "navarch-server",
        &[
            "navarch-types",
            "navarch-raft-contract",
            "navarch-store",
            "navarch-cache",
            "navarch-auth",
            "navarch-admission",
            "navarch-registry",
            "navarch-supervision",
            "navarch-telemetry",
        ],
    ),
    ("navarch-client", &["navarch-types"]),
    ("navarch-controllers", &["navarch-types", "navarch-client", "navarch-supervision", "navarch-telemetry"]),
    ("navarch-scheduler", &["navarch-types", "navarch-client", "navarch-supervision", "navarch-telemetry"]),
    ("navarch-kubelet", &["navarch-types", "navarch-client", "navarch-supervision", "navarch-telemetry"]),
    ("navarch-network", &["navarch-types", "navarch-client", "navarch-supervision", "navarch-telemetry"]),
    ("navarch-chaos", &["navarch-raft-contract", "navarch-raft-driver", "navarch-storage"]),
    ("navarch-chaos-processes", &["navarch-chaos", "navarch-tests"]),
    ("navarch-tests", &["navarch-kubelet"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn imports_point_downwards() {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap();
    let ours: BTreeSet<String> = metadata.packages.iter().map(|p| p.name.to_string()).collect();
    let allowed: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        // The binary is where everything meets.
        if package.name.as_str() == "navarch" {
            continue;
        }
        let may = allowed.get(package.name.as_str()).copied().unwrap_or_default();
        for dependency in package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development) {
            if ours.contains(&dependency.name) && !may.contains(&dependency.name.as_str()) {
                wrong.push(format!("{} imports {}", package.name, dependency.name));
            }
            if dependency.name == "rocksdb" && package.name.as_str() != "navarch-storage" {
                wrong.push(format!("{} imports rocksdb", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn packages_are_named_for_the_project_and_inherit_its_lints() {
    for manifest in files(|path| path.file_name().is_some_and(|name| name == "Cargo.toml")) {
        let text = std::fs::read_to_string(&manifest).unwrap();
        if text.contains("[package]") {
            let name = text.lines().find_map(|l| l.strip_prefix("name = ")).unwrap().trim_matches('"');
            assert!(name == "navarch" || name.starts_with("navarch-"), "{name}");
            assert!(text.contains("[lints]\nworkspace = true"), "{}: must inherit the lints", manifest.display());
            assert!(!text.contains("description = \"\""), "{}: has no description", manifest.display());
        }
    }
}

#[test]
fn modules_say_what_they_are_for() {
    let mut silent = Vec::new();
    for file in files(|path| path.extension().is_some_and(|e| e == "rs")) {
        assert_ne!(file.file_name().unwrap(), "mod.rs", "{}: foo.rs beside foo/", file.display());
        let text = std::fs::read_to_string(&file).unwrap();
        if !text.starts_with("//!") {
            silent.push(file.display().to_string());
        }
    }
    assert!(silent.is_empty(), "files that do not begin with a module comment:\n{}", silent.join("\n"));
}

#[test]
fn nothing_is_left_unfinished() {
    // Spelt in two halves, so that this file does not find itself.
    let marks = [["todo", "!("], ["unimpl", "emented!("], ["dbg", "!("], ["FIX", "ME"], ["do_", "send("]];
    let mut found = Vec::new();
    for file in files(|path| path.extension().is_some_and(|e| e == "rs")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(&mark.concat())) && !line.trim_start().starts_with("//") {
                found.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn files(wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let skipped = |path: &Path| path.file_name().is_some_and(|name| name == "target" || name == ".git");
    walkdir::WalkDir::new(root())
        .into_iter()
        .filter_entry(|entry| !skipped(entry.path()))
        .map(Result::unwrap)
        .map(walkdir::DirEntry::into_path)
        .filter(|path| wanted(path))
        .collect()
}
