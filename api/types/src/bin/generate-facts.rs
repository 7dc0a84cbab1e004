//! Writes the table of facts from Kubernetes' OpenAPI document and the Go files of its API types, which are below
//! `staging/src/k8s.io` in its repository:
//! `generate-facts kubernetes-openapi-v1.36.json staging/src/k8s.io > api/types/facts/schema.txt`.

use std::io::Write as _;
use std::path::PathBuf;

use navarch_types::facts::generate;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [document, types] = arguments.as_slice() else {
        return Err("usage: generate-facts OPENAPI-V2.json FOLDER-OF-GO-TYPES > schema.txt".into());
    };
    let document = serde_json::from_slice(&std::fs::read(document)?)?;
    let table = generate::generate(&document, |package| generate::go_files(&types.join(package)))?;
    std::io::stdout().write_all(table.as_bytes())?;
    Ok(())
}
