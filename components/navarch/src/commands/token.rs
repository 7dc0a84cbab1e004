//! `navarch token`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use navarch_auth::bootstrap_token::{self, TokenFacts};
use navarch_auth::pki::ca_hash_of;
use navarch_auth::{BootstrapToken, JoinRole, JoinToken};
use navarch_client::http::HttpTransport;
use navarch_client::kubeconfig::Kubeconfig;
use navarch_client::{Client, DeleteOptions};
use navarch_config::Settings;
use navarch_types::ListOptions;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::CommandError;
use crate::cli::TokenCommand;
use crate::process::admin_kubeconfig;

/// Beyond this an end in time is none.
const TTL_SECONDS_MAX: u64 = 10 * 365 * 86_400;

/// Makes, lists and deletes join tokens.
pub fn run(settings: &Settings, kubeconfig: Option<PathBuf>, command: &TokenCommand) -> Result<(), CommandError> {
    let path = kubeconfig.unwrap_or_else(|| admin_kubeconfig(&settings.data_dir));
    let config = Kubeconfig::read(&path)?.current()?;
    let ca_pem = config.ca_pem.clone();
    let client = Client::new(Arc::new(HttpTransport::new(config)?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            TokenCommand::Create { role, ttl, description } => {
                say!("{}", create(&client, &ca_pem, *role, *ttl, description).await?);
            }
            TokenCommand::List => say_part!("{}", render(&list(&client).await?, Timestamp::now())),
            TokenCommand::Delete { tokens } => {
                for token in tokens {
                    delete(&client, token).await?;
                }
            }
        }
        Ok(())
    })
}

/// Makes a token as the administrator of this machine's server.
///
/// # Errors
/// What the server says, or why it is not reached.
pub(super) fn issue(settings: &Settings, role: JoinRole, ttl: Duration, why: &str) -> Result<String, CommandError> {
    let config = Kubeconfig::read(&admin_kubeconfig(&settings.data_dir))?.current()?;
    let ca_pem = config.ca_pem.clone();
    let client = Client::new(Arc::new(HttpTransport::new(config)?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(create(&client, &ca_pem, role, ttl, why))
}

async fn create(
    client: &Client,
    ca_pem: &[u8],
    role: JoinRole,
    ttl: Duration,
    description: &str,
) -> Result<String, CommandError> {
    let authority = CertificateDer::from_pem_slice(ca_pem)?;
    let token = JoinToken::new(&ca_hash_of(&authority)?, BootstrapToken::generate()?)?;
    let expires = Timestamp::now() + ttl;
    let secret = bootstrap_token::secret_value(token.token(), role, expires, description);
    let secret: Secret = serde_json::from_value(secret).map_err(|_| "the token's Secret cannot be made")?;
    client.namespaced::<Secret>(bootstrap_token::NAMESPACE).create(&secret).await?;
    Ok(token.reveal())
}

async fn list(client: &Client) -> Result<Vec<TokenFacts>, CommandError> {
    let field_selector = Some(format!("type={}", bootstrap_token::SECRET_TYPE));
    let options = ListOptions { field_selector, ..ListOptions::default() };
    let found = client.namespaced::<Secret>(bootstrap_token::NAMESPACE).list(options).await?;
    let values = found.items.iter().filter_map(|object| object.to_value().ok());
    Ok(values.filter_map(|secret| bootstrap_token::facts(&secret)).collect())
}

fn render(tokens: &[TokenFacts], now: Timestamp) -> String {
    if tokens.is_empty() {
        return "no tokens\n".to_owned();
    }
    let mut out = format!("{:<8} {:<8} {:<22} {}\n", "ID", "ROLE", "EXPIRES", "DESCRIPTION");
    for token in tokens {
        let expires = match token.expires {
            None => "never".to_owned(),
            Some(end) if end <= now => "expired".to_owned(),
            Some(end) => end.to_string(),
        };
        let role = token.role.map_or("-", JoinRole::as_str);
        let line = format!("{:<8} {role:<8} {expires:<22} {}", token.id, token.description);
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

async fn delete(client: &Client, text: &str) -> Result<(), CommandError> {
    // People have the whole token at hand, or its id.
    let id = match (text.parse::<JoinToken>(), text.parse::<BootstrapToken>()) {
        _ if BootstrapToken::is_id(text) => text.to_owned(),
        (Ok(token), _) => token.token().id().to_owned(),
        (_, Ok(token)) => token.id().to_owned(),
        (Err(error), _) => return Err(format!("neither a token nor the id of one: {error}").into()),
    };
    let name = bootstrap_token::name_of(&id);
    client.namespaced::<Secret>(bootstrap_token::NAMESPACE).delete(&name, &DeleteOptions::default()).await?;
    say!("deleted token {id}");
    Ok(())
}

/// A time such as `2h`, `90m`, `1d12h`.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_ttl(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a time such as 2h, 90m or 1d12h".to_owned();
    let seconds = navarch_config::parse_seconds(text).ok_or_else(wrong)?;
    match seconds {
        0 => Err("must be longer than nothing: join tokens expire".to_owned()),
        1..=TTL_SECONDS_MAX => Ok(Duration::from_secs(seconds)),
        _ => Err("must be at most ten years".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, seconds) in [("30s", 30), ("90m", 5_400), ("2h", 7_200), ("1d12h", 129_600), ("1h30m5s", 5_405)] {
            assert_eq!(parse_ttl(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "0s", "0", "2", "h", "2x", "-1h", "2h3", "2 h", "1é", "99999999999999999999h", "9999999d"] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_shows_no_secret_and_what_is_over() {
        let facts = |id: &str, role, seconds: Option<i64>| TokenFacts {
            id: id.to_owned(),
            role,
            expires: seconds.and_then(|s| Timestamp::from_second(s).ok()),
            description: String::new(),
        };
        let now = Timestamp::from_second(1_000).unwrap_or_default();
        let all = [
            facts("aaaaaa", Some(JoinRole::Node), Some(2_000)),
            facts("bbbbbb", None, Some(999)),
            facts("cccccc", Some(JoinRole::Server), None),
        ];
        let text = render(&all, now);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "aaaaaa   node     1970-01-01T00:33:20Z");
        assert_eq!(lines[2], "bbbbbb   -        expired");
        assert_eq!(lines[3], "cccccc   server   never");
        assert_eq!(render(&[], now), "no tokens\n");
    }
}
