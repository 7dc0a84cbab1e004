//! Kubeconfig files with everything embedded.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Identity, PkiError, files};

/// What a kubeconfig says.
#[derive(Clone, Debug)]
pub struct Kubeconfig<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// `https://host:port`.
    pub server: &'a str,
    /// The authority's certificate.
    pub ca_pem: &'a str,
    /// The users: name in the file, certificate and key. There is a context for each, and the first is the current one.
    pub users: &'a [(&'a str, &'a Identity)],
}

impl Kubeconfig<'_> {
    fn context(&self, user: &str) -> String {
        json!(format!("{user}@{}", self.cluster)).to_string()
    }

    /// The file's text. Every scalar is quoted as in JSON, which YAML reads alike.
    pub fn render(&self) -> String {
        let current = self.users.first().map(|(name, _)| self.context(name)).unwrap_or_default();
        let cluster = json!(self.cluster);
        let mut text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {current}\npreferences: {{}}\nclusters:\n- name: {cluster}\n  \
             cluster:\n    server: {server}\n    certificate-authority-data: {ca}\ncontexts:\n",
            server = json!(self.server),
            ca = STANDARD.encode(self.ca_pem),
        );
        for (name, _) in self.users {
            text += &format!(
                "- name: {context}\n  context:\n    cluster: {cluster}\n    user: {user}\n",
                context = self.context(name),
                user = json!(name),
            );
        }
        text += "users:\n";
        for (name, identity) in self.users {
            text += &format!(
                "- name: {user}\n  user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\n",
                user = json!(name),
                certificate = STANDARD.encode(&identity.certificate_pem),
                key = STANDARD.encode(&identity.key_pem),
            );
        }
        text
    }
}

/// Writes a kubeconfig, readable by the owner alone.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, config: &Kubeconfig<'_>) -> Result<(), PkiError> {
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(|source| PkiError::File { path: directory.to_owned(), source })?;
    }
    files::write(path, &config.render())
}
