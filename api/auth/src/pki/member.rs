//! What a member that joins gets from the others: both authorities and the service-account issuer's key. Whoever has it
//! is the cluster.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Pki, PkiError, files};

/// The files that all members share, by their names. Never to be logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSecrets {
    /// The cluster's authority.
    #[serde(rename = "ca.crt")]
    pub ca_crt: String,
    /// Its key.
    #[serde(rename = "ca.key")]
    pub ca_key: String,
    /// The members' authority.
    #[serde(rename = "peer-ca.crt")]
    pub peer_ca_crt: String,
    /// Its key.
    #[serde(rename = "peer-ca.key")]
    pub peer_ca_key: String,
    /// The service-account issuer's key.
    #[serde(rename = "sa.key")]
    pub sa_key: String,
}

impl std::fmt::Debug for MemberSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemberSecrets").finish_non_exhaustive()
    }
}

impl MemberSecrets {
    fn files(&self) -> [(&'static str, &str); 5] {
        [
            ("ca.crt", &self.ca_crt),
            ("ca.key", &self.ca_key),
            ("peer-ca.crt", &self.peer_ca_crt),
            ("peer-ca.key", &self.peer_ca_key),
            ("sa.key", &self.sa_key),
        ]
    }
}

/// A folder that goes unless it was put in its place.
struct Half(Option<PathBuf>);

impl Drop for Half {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // What stays is in nobody's way: the next one clears it.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

impl Pki {
    /// What another member needs to be one.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn member_secrets(&self) -> Result<MemberSecrets, PkiError> {
        let read = |name: &str| {
            let path = self.directory.join(name);
            files::read(&path)?.ok_or_else(|| PkiError::Content { path, why: "is not there any more".to_owned() })
        };
        Ok(MemberSecrets {
            ca_crt: read("ca.crt")?,
            ca_key: read("ca.key")?,
            peer_ca_crt: read("peer-ca.crt")?,
            peer_ca_key: read("peer-ca.key")?,
            sa_key: read("sa.key")?,
        })
    }

    /// Writes a new member's directory, completely or not at all. If the same is there already, that is as good.
    ///
    /// # Errors
    /// If the directory holds anything else, another authority above all; if the secrets are not whole, or do not belong
    /// together; if files cannot be written.
    pub fn import(directory: &Path, secrets: &MemberSecrets) -> Result<Self, PkiError> {
        if present(directory)? {
            for (name, text) in secrets.files() {
                if files::read(&directory.join(name))?.as_deref() != Some(text) {
                    let why = "keys are here already, and they are not those of the cluster to join".to_owned();
                    return Err(PkiError::Content { path: directory.to_owned(), why });
                }
            }
            return Self::open(directory);
        }
        let mut name = directory.file_name().unwrap_or_default().to_owned();
        name.push(".joining");
        let temporary = directory.with_file_name(name);
        if temporary.exists() {
            std::fs::remove_dir_all(&temporary).map_err(files::failed(&temporary))?;
        }
        files::make_directory(&temporary)?;
        let mut half = Half(Some(temporary.clone()));
        for (name, text) in secrets.files() {
            files::write(&temporary.join(name), text)?;
        }
        // Whether it is whole is told before it is in its place.
        drop(Self::open(&temporary)?);
        std::fs::File::open(&temporary).and_then(|folder| folder.sync_all()).map_err(files::failed(&temporary))?;
        std::fs::rename(&temporary, directory).map_err(files::failed(directory))?;
        half.0 = None;
        files::sync_parent(directory).map_err(files::failed(directory))?;
        Self::open(directory)
    }
}

/// Whether a directory is there and holds something.
fn present(directory: &Path) -> Result<bool, PkiError> {
    match std::fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(files::failed(directory)(error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_member_s_keys_are_the_others_keys() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Pki::open(one.path()).unwrap();
        let secrets = first.member_secrets().unwrap();
        assert!(!format!("{secrets:?}").contains("PRIVATE"));
        let text = serde_json::to_string(&secrets).unwrap();
        assert!(text.contains("\"peer-ca.key\":\"-----BEGIN PRIVATE KEY"), "file names are the keys");
        let secrets: MemberSecrets = serde_json::from_str(&text).unwrap();
        let directory = two.path().join("data/pki");
        std::fs::create_dir(two.path().join("data")).unwrap();
        let second = Pki::import(&directory, &secrets).unwrap();
        assert_eq!(second.ca_hash(), first.ca_hash());
        assert_eq!(second.service_account_key().id(), first.service_account_key().id());
        // What one signs, the other takes.
        let verifier = first.client_verifier().unwrap();
        let admin = second.admin().unwrap();
        let now = rustls_pki_types::UnixTime::now();
        verifier.verify_client_cert(&admin.chain().unwrap()[0], &[], now).unwrap();
        // Again, with what it has made meanwhile.
        assert_eq!(Pki::import(&directory, &secrets).unwrap().admin().unwrap().certificate_pem, admin.certificate_pem);
    }

    #[test]
    fn another_authority_is_not_overwritten() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secrets = Pki::open(one.path()).unwrap().member_secrets().unwrap();
        let present = Pki::open(two.path()).unwrap();
        let error = Pki::import(two.path(), &secrets).unwrap_err().to_string();
        assert!(error.contains("not those of the cluster to join"), "{error}");
        assert_eq!(Pki::open(two.path()).unwrap().ca_hash(), present.ca_hash());
    }

    #[test]
    fn what_is_not_whole_leaves_nothing() {
        let one = tempfile::tempdir().unwrap();
        let good = Pki::open(&one.path().join("a")).unwrap().member_secrets().unwrap();
        let other = Pki::open(&one.path().join("b")).unwrap().member_secrets().unwrap();
        let broken = [
            MemberSecrets { sa_key: String::new(), ..good.clone() },
            MemberSecrets { ca_key: other.ca_key.clone(), ..good.clone() },
            MemberSecrets { peer_ca_key: good.ca_key.clone(), ..good.clone() },
            MemberSecrets { peer_ca_crt: "nonsense".to_owned(), ..good.clone() },
        ];
        for secrets in broken {
            let directory = one.path().join("new/pki");
            std::fs::create_dir_all(one.path().join("new")).unwrap();
            let error = Pki::import(&directory, &secrets).unwrap_err().to_string();
            assert!(!error.contains("PRIVATE"), "{error}");
            assert_eq!(std::fs::read_dir(one.path().join("new")).unwrap().count(), 0);
        }
    }
}
