//! Kubeconfig files, as far as programs use them: clusters, certificates and tokens. Plugins that print credentials,
//! identity providers, passwords, proxies and skipped verification are refused, not ignored.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::http::{Credentials, HttpConfig};

/// Why a kubeconfig cannot be used. Never shows what is secret in it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct KubeconfigError {
    path: PathBuf,
    what: String,
}

#[derive(Debug, Deserialize)]
struct Named<T> {
    name: String,
    #[serde(flatten)]
    inner: T,
}

#[derive(Debug, Deserialize)]
struct ClusterEntry {
    cluster: Cluster,
}

#[derive(Debug, Deserialize)]
struct ContextEntry {
    context: Context,
}

#[derive(Deserialize)]
struct UserEntry {
    user: User,
}

/// The fields of a kubeconfig's cluster that are understood; others are refused.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

/// As [`Cluster`]. No `Debug`: it holds secrets.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    clusters: Vec<Named<ClusterEntry>>,
    #[serde(default)]
    contexts: Vec<Named<ContextEntry>>,
    #[serde(default)]
    users: Vec<Named<UserEntry>>,
    #[serde(rename = "current-context", default)]
    current_context: String,
}

/// A kubeconfig file.
pub struct Kubeconfig {
    path: PathBuf,
    file: File,
}

impl Kubeconfig {
    /// Reads one.
    ///
    /// # Errors
    /// If it cannot be read, or is no kubeconfig.
    pub fn read(path: &Path) -> Result<Self, KubeconfigError> {
        let fail = |what: String| KubeconfigError { path: path.to_owned(), what };
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        // The parser's own message may quote the line, and with it a key.
        let file = serde_saphyr::from_str(&text)
            .map_err(|error| fail(format!("no kubeconfig that is understood{}", place(&error))))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Cluster and user of the current context.
    ///
    /// # Errors
    /// If one of them is missing, or something about it cannot be used.
    pub fn current(&self) -> Result<HttpConfig, KubeconfigError> {
        self.find(&format!("current context {:?}", self.file.current_context), |entry| {
            entry.name == self.file.current_context
        })
    }

    /// The first context of a user.
    ///
    /// # Errors
    /// As [`Kubeconfig::current`].
    pub fn user(&self, user: &str) -> Result<HttpConfig, KubeconfigError> {
        self.find(&format!("context of user {user:?}"), |entry| entry.inner.context.user == user)
    }

    fn fail(&self, what: impl Into<String>) -> KubeconfigError {
        KubeconfigError { path: self.path.clone(), what: what.into() }
    }

    fn find(&self, what: &str, wanted: impl Fn(&Named<ContextEntry>) -> bool) -> Result<HttpConfig, KubeconfigError> {
        let context = self.file.contexts.iter().find(|entry| wanted(entry)).map(|entry| &entry.inner.context);
        let context = context.ok_or_else(|| self.fail(format!("no {what}")))?;
        let cluster = self.file.clusters.iter().find(|entry| entry.name == context.cluster);
        let cluster = &cluster.ok_or_else(|| self.fail(format!("no cluster {:?}", context.cluster)))?.inner.cluster;
        let user = self.file.users.iter().find(|entry| entry.name == context.user);
        let user = &user.ok_or_else(|| self.fail(format!("no user {:?}", context.user)))?.inner.user;
        let ca = (cluster.certificate_authority_data.as_deref(), cluster.certificate_authority.as_deref());
        let ca_pem = self.pem("certificate-authority", ca.0, ca.1)?;
        Ok(HttpConfig {
            servers: vec![cluster.server.clone()],
            ca_pem: ca_pem.ok_or_else(|| self.fail("no certificate-authority"))?,
            credentials: self.credentials(user)?,
            user_agent: concat!("navarch/", env!("CARGO_PKG_VERSION")).to_owned(),
        })
    }

    fn credentials(&self, user: &User) -> Result<Credentials, KubeconfigError> {
        let certificate = self.pem(
            "client-certificate",
            user.client_certificate_data.as_deref(),
            user.client_certificate.as_deref(),
        )?;
        let key = self.pem("client-key", user.client_key_data.as_deref(), user.client_key.as_deref())?;
        match (certificate, key, &user.token_file, &user.token) {
            (Some(certificate), Some(key), ..) => Ok(Credentials::Certificate { certificate, key }),
            (Some(_), None, ..) => Err(self.fail("a client-certificate without its client-key")),
            (None, Some(_), ..) => Err(self.fail("a client-key without its client-certificate")),
            (None, None, Some(file), _) => Ok(Credentials::TokenFile(self.beside(file))),
            (None, None, None, Some(token)) => Ok(Credentials::Token(token.clone())),
            (None, None, None, None) => Ok(Credentials::Anonymous),
        }
    }

    /// Relative paths are relative to the file, as kubectl has it.
    fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    /// Embedded data wins over a file, as kubectl has it.
    fn pem(&self, name: &str, data: Option<&str>, file: Option<&Path>) -> Result<Option<Vec<u8>>, KubeconfigError> {
        if let Some(data) = data {
            let pem = STANDARD.decode(data).map_err(|_| self.fail(format!("{name}-data is no base64")))?;
            return Ok(Some(pem));
        }
        let Some(file) = file else { return Ok(None) };
        let file = self.beside(file);
        std::fs::read(&file).map(Some).map_err(|error| self.fail(format!("{name} {}: {error}", file.display())))
    }
}

fn place(error: &serde_saphyr::Error) -> String {
    error.location().map(|at| format!(" (line {}, column {})", at.line(), at.column())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const GOOD: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- name: c\n  cluster:\n    \
        server: https://127.0.0.1:6443\n    certificate-authority: ca.pem\ncontexts:\n- name: a\n  context:\n    \
        cluster: c\n    user: u\n- name: b\n  context: {cluster: c, user: v, namespace: x}\nusers:\n- name: u\n  user:\n    \
        client-certificate-data: Y2VydA==\n    client-key-data: a2V5\n- name: v\n  user: {token: hush}\n";

    fn read(text: &str) -> Result<Kubeconfig, KubeconfigError> {
        let folder = tempfile::tempdir().unwrap().keep();
        std::fs::write(folder.join("ca.pem"), "authority").unwrap();
        std::fs::write(folder.join("config"), text).unwrap();
        Kubeconfig::read(&folder.join("config"))
    }

    #[test]
    fn contexts_are_found_with_what_belongs_to_them() {
        let config = read(GOOD).unwrap();
        let own = config.current().unwrap();
        assert_eq!(
            (own.servers.as_slice(), own.ca_pem.as_slice()),
            (&["https://127.0.0.1:6443".to_owned()][..], &b"authority"[..])
        );
        assert!(
            matches!(&own.credentials, Credentials::Certificate { certificate, key } if certificate == b"cert" && key == b"key")
        );
        assert!(matches!(config.user("v").unwrap().credentials, Credentials::Token(token) if token == "hush"));
        assert!(config.user("w").unwrap_err().to_string().contains("no context of user \"w\""));
    }

    #[test]
    fn what_is_not_understood_is_refused_without_showing_secrets() {
        let refused = |from: &str, to: &str| {
            let error = read(&GOOD.replace(from, to)).and_then(|config| {
                config.current()?;
                config.user("v")
            });
            error.unwrap_err().to_string()
        };
        assert!(refused("token: hush", "exec: {command: hush}").contains("no kubeconfig that is understood"));
        assert!(!refused("token: hush", "token: [hush").contains("hush"));
        assert!(refused("    client-key-data: a2V5\n", "").contains("without its client-key"));
        assert!(refused("client-key-data: a2V5", "client-key-data: '*'").contains("client-key-data is no base64"));
        assert!(refused("ca.pem", "none.pem").contains("none.pem"));
        assert!(refused("current-context: a", "current-context: z").contains("no current context \"z\""));
        assert!(refused("certificate-authority: ca.pem", "insecure-skip-tls-verify: true").contains("no kubeconfig"));
    }
}
