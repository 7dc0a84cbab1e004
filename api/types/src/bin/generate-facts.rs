//! Writes the table of facts from Kubernetes' OpenAPI document:
//! `generate-facts kubernetes-openapi-v1.36.json > api/types/facts/schema.txt`.

use std::io::Write as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: generate-facts OPENAPI-V2.json > schema.txt")?;
    let document = serde_json::from_slice(&std::fs::read(path)?)?;
    let table = navarch_types::facts::generate::generate(&document)?;
    std::io::stdout().write_all(table.as_bytes())?;
    Ok(())
}
