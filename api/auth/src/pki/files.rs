//! Certificates and keys on disk: readable by the owner alone, replaced by renaming.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Identity, PkiError};

pub(super) fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> PkiError {
    move |source| PkiError::File { path: path.to_owned(), source }
}

pub(super) fn make_directory(directory: &Path) -> Result<(), PkiError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.and_then(|()| sync_parent(directory)).map_err(failed(directory))
}

/// A name survives a power cut when its folder is synced too.
pub(super) fn sync_parent(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

pub(super) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path)(error)),
    }
}

/// Writes a file that only its owner may read, completely or not at all. When this returns, it survives a power cut.
///
/// # Errors
/// If it cannot be written; what was there before is there still.
pub fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = (|| {
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        sync_parent(path)
    })();
    written.map_err(failed(path))
}

fn paths(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")))
}

/// Certificate and key, if both are there.
pub(super) fn load(directory: &Path, name: &str) -> Result<Option<Identity>, PkiError> {
    let (certificate, key) = paths(directory, name);
    Ok(match (read(&certificate)?, read(&key)?) {
        (Some(certificate_pem), Some(key_pem)) => Some(Identity { certificate_pem, key_pem }),
        _ => None,
    })
}

/// The key first: a crash between the two leaves a pair that does not match and is made anew.
pub(super) fn store(directory: &Path, name: &str, identity: &Identity) -> Result<(), PkiError> {
    let (certificate, key) = paths(directory, name);
    write(&key, &identity.key_pem)?;
    write(&certificate, &identity.certificate_pem)
}

/// Certificate and key that must not be replaced: made only if neither is there, or the key alone, which a crash while
/// making them leaves.
pub(super) fn load_or_make(
    directory: &Path,
    name: &str,
    make: impl FnOnce() -> Result<Identity, PkiError>,
) -> Result<Identity, PkiError> {
    if let Some(present) = load(directory, name)? {
        return Ok(present);
    }
    let (certificate, key) = paths(directory, name);
    if certificate.exists() {
        let why = format!("present without {}", key.display());
        return Err(PkiError::Content { path: certificate, why });
    }
    let made = make()?;
    store(directory, name, &made)?;
    Ok(made)
}

/// A text that must not be replaced.
pub(super) fn load_or_make_text(
    path: &Path,
    make: impl FnOnce() -> Result<String, PkiError>,
) -> Result<String, PkiError> {
    if let Some(present) = read(path)? {
        return Ok(present);
    }
    let made = make()?;
    write(path, &made)?;
    Ok(made)
}
