//! `navarch tree`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use navarch_auth::Pki;
use navarch_config::Settings;
use navarch_supervision::{NodeState, TreeSnapshot};
use rustls_pki_types::ServerName;

use super::CommandError;
use crate::cli::TreeArgs;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the running process for its tree, as the administrator.
pub fn run(settings: &Settings, args: &TreeArgs) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(async {
        tokio::time::timeout(TIMEOUT, fetch(settings, "/navarch/tree")).await.map_err(|_| "no answer within 5 s")?
    })?;
    if args.json {
        say!("{text}");
        return Ok(());
    }
    match serde_json::from_str::<Option<TreeSnapshot>>(&text)? {
        Some(snapshot) => say_part!("{}", render(&snapshot)),
        None => say!("the tree is starting"),
    }
    Ok(())
}

/// Whether the running process answers. It has made its keys: none are made here.
pub(super) fn answers(settings: &Settings) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.is_ok_and(|runtime| {
        let asked = async { tokio::time::timeout(TIMEOUT, fetch(settings, "/navarch/tree")).await };
        matches!(runtime.block_on(asked), Ok(Ok(_)))
    })
}

async fn fetch(settings: &Settings, path: &str) -> Result<String, CommandError> {
    let pki = Pki::open(&settings.data_dir.join("pki"))?;
    let tls = tokio_rustls::TlsConnector::from(Arc::new(pki.client_config(&pki.admin()?)?));
    let bind = settings.server.bind_address;
    let address = if bind.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { bind };
    let stream = tokio::net::TcpStream::connect((address, settings.server.port))
        .await
        .map_err(|error| format!("{address}:{}: {error}; is navarch running?", settings.server.port))?;
    let stream = tls.connect(ServerName::try_from("kubernetes")?, stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::get(path).header("host", "kubernetes").body(Empty::<bytes::Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() { Ok(text) } else { Err::<_, CommandError>(format!("{status}: {text}").into()) }
    };
    tokio::select! {
        done = exchange => done,
        ended = connection => Err(ended.err().map_or("the connection ended".into(), Into::into)),
    }
}

fn render(snapshot: &TreeSnapshot) -> String {
    let mut out = format!("{:<52} {:<11} {:>8}  {}\n", "NAME", "STATE", "RESTARTS", "LAST FAILURE");
    render_below(snapshot, "", "", &mut out);
    out
}

fn render_below(node: &TreeSnapshot, branch: &str, indent: &str, out: &mut String) {
    let name = match &node.strategy {
        Some(strategy) => format!("{branch}{} ({strategy})", node.name),
        None => format!("{branch}{}", node.name),
    };
    let state = match node.state {
        NodeState::Running => "running".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    let failure = node.last_failure.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
    // Writing to a String does not fail.
    let _ = writeln!(out, "{name:<52} {state:<11} {:>8}  {failure}", node.restarts);
    for (number, child) in node.children.iter().enumerate() {
        let last = number + 1 == node.children.len();
        let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        render_below(child, &format!("{indent}{branch}"), &format!("{indent}{below}"), out);
    }
}
