//! What was learnt of the servers, on the disk: `{"servers": ["https://10.0.0.1:6443", …]}`. Holds no secret.

use std::fs::File;
use std::io::{ErrorKind, Result, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Remembered {
    servers: Vec<String>,
}

/// What is there; nothing if it cannot be read, since it can be learnt again.
pub(super) fn read(path: &Path) -> Vec<String> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(%error, path = %path.display(), "cannot read the list of servers");
            }
            return Vec::new();
        }
    };
    match serde_json::from_slice::<Remembered>(&text) {
        Ok(remembered) => remembered.servers,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "the list of servers is malformed, and not used");
            Vec::new()
        }
    }
}

/// Replaces it as a whole: whoever reads it, also after a crash, has the old one or the new one.
pub(super) fn write(path: &Path, servers: &[String]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut text = serde_json::to_vec_pretty(&Remembered { servers: servers.to_vec() })?;
    text.push(b'\n');
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}
