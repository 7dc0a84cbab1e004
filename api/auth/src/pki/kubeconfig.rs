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
    /// The user's name in the file.
    pub user: &'a str,
    /// The user's certificate and key.
    pub identity: &'a Identity,
}

impl Kubeconfig<'_> {
    /// The file's text. Every scalar is quoted as in JSON, which YAML reads alike.
    pub fn render(&self) -> String {
        let context = format!("{}@{}", self.user, self.cluster);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {context}\npreferences: {{}}\nclusters:\n- name: {cluster}\n  \
             cluster:\n    server: {server}\n    certificate-authority-data: {ca}\ncontexts:\n- name: {context}\n  \
             context:\n    cluster: {cluster}\n    user: {user}\nusers:\n- name: {user}\n  user:\n    \
             client-certificate-data: {certificate}\n    client-key-data: {key}\n",
            context = json!(context),
            cluster = json!(self.cluster),
            server = json!(self.server),
            user = json!(self.user),
            ca = STANDARD.encode(self.ca_pem),
            certificate = STANDARD.encode(&self.identity.certificate_pem),
            key = STANDARD.encode(&self.identity.key_pem),
        )
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
