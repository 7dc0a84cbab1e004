//! What probes and hooks do: ask a port, or run a command. No decision is made here.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use crate::cri::{Cri, CriError};

/// What came of it: `Err` is a failure, in words for an event.
pub type Outcome = Result<(), String>;

/// More of an answer is not read.
const BODY_BYTES_MAX: usize = 10 << 10;

/// A port by number or name.
///
/// # Errors
/// If the container has no port of that name.
pub fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|candidate| candidate.name.as_deref() == Some(name))
            .map(|found| found.container_port)
            .or_else(|| name.parse().ok()),
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| format!("couldn't find port: {port:?}"))
}

/// Runs a command in a container; only exit code 0 is success.
pub async fn exec(cri: &Cri, id: &str, action: &ExecAction, timeout: Duration) -> Outcome {
    let command = action.command.clone().unwrap_or_default();
    match cri.exec_sync(id, command, timeout).await {
        Ok(answer) if answer.exit_code == 0 => Ok(()),
        Ok(answer) => {
            let mut output = answer.stdout;
            output.extend(answer.stderr);
            output.truncate(BODY_BYTES_MAX);
            Err(String::from_utf8_lossy(&output).into_owned())
        }
        Err(CriError::Deadline(_)) => Err(format!("command timed out after {timeout:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Opens a connection and closes it.
pub async fn tcp(action: &TCPSocketAction, container: &Container, pod_ip: &str, timeout: Duration) -> Outcome {
    let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod_ip);
    let port = port(&action.port, container)?;
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("dial tcp {host}:{port}: {error}")),
        Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
    }
}

/// Gets a page; 200 to 399 is success. A redirect is not followed.
pub async fn http_get(
    action: &HTTPGetAction,
    container: &Container,
    pod_ip: &str,
    timeout: Duration,
    agent: &str,
) -> Outcome {
    let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod_ip);
    let port = port(&action.port, container)?;
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_ascii_lowercase();
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let url = format!("{scheme}://{authority}{slash}{path}");
    let asked = async {
        let mut request = http::Request::get(format!("{slash}{path}"));
        let mut headers: BTreeMap<String, String> = BTreeMap::from([
            ("host".to_owned(), authority.clone()),
            ("user-agent".to_owned(), agent.to_owned()),
            ("accept".to_owned(), "*/*".to_owned()),
            ("connection".to_owned(), "close".to_owned()),
        ]);
        for header in action.http_headers.iter().flatten() {
            headers.insert(header.name.to_ascii_lowercase(), header.value.clone());
        }
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let stream =
            TcpStream::connect((host, port)).await.map_err(|error| format!("dial tcp {authority}: {error}"))?;
        let answer =
            if scheme == "https" { over_tls(stream, host, request).await } else { over(stream, request).await };
        answer.map_err(|error| format!("Get {url:?}: {error}"))
    };
    match tokio::time::timeout(timeout, asked).await {
        Ok(Ok(code)) if (200..400).contains(&code) => Ok(()),
        Ok(Ok(code)) => Err(format!("HTTP probe failed with statuscode: {code}")),
        Ok(Err(error)) => Err(error),
        Err(_) => {
            Err(format!("Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"))
        }
    }
}

async fn over<S>(stream: S, request: http::Request<Empty<Bytes>>) -> Result<u16, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let mut connection = std::pin::pin!(connection);
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let code = response.status().as_u16();
        // A page that is too long, or breaks off, has been answered all the same.
        let _ = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        Ok(code)
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        result = &mut answer => result,
        closed = &mut connection => match closed {
            Ok(()) => answer.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

/// Certificates of pods are not checked, as upstream does not: a probe asks whether it works, not who it is.
#[derive(Debug)]
struct AnyCertificate(rustls::crypto::WebPkiSupportedAlgorithms);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_schemes()
    }
}

async fn over_tls(stream: TcpStream, host: &str, request: http::Request<Empty<Bytes>>) -> Result<u16, String> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let verifier = AnyCertificate(provider.signature_verification_algorithms);
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(std::sync::Arc::new(verifier))
        .with_no_client_auth();
    let name = rustls_pki_types::ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    over(stream, request).await
}

/// Asks a gRPC health service.
pub async fn grpc(action: &GRPCAction, pod_ip: &str, timeout: Duration) -> Outcome {
    use crate::cri::health;
    let host = if pod_ip.contains(':') { format!("[{pod_ip}]") } else { pod_ip.to_owned() };
    let asked = async {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{host}:{}", action.port))
            .map_err(|error| error.to_string())?;
        let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
        let service = action.service.clone().unwrap_or_default();
        let mut client = health::health_client::HealthClient::new(channel);
        let answer = client.check(health::HealthCheckRequest { service }).await.map_err(|error| error.to_string())?;
        Ok::<i32, String>(answer.into_inner().status)
    };
    match tokio::time::timeout(timeout, asked).await {
        Ok(Ok(1)) => Ok(()),
        Ok(Ok(_)) => Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned()),
        Ok(Err(error)) => Err(format!("error: health rpc failed: {error}")),
        Err(_) => Err(format!("timeout: failed to connect service \"{host}:{}\" within {timeout:?}", action.port)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn serve(answer: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn pages() {
        let cases = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Ok(())),
            ("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n", Ok(())),
            ("HTTP/1.0 200 OK\r\n\r\nuntil the end", Ok(())),
            ("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", Err("HTTP probe failed with statuscode: 500".to_owned())),
        ];
        for (answer, expected) in cases {
            let port = serve(answer).await;
            let action = HTTPGetAction { port: IntOrString::Int(port.into()), ..HTTPGetAction::default() };
            let got =
                http_get(&action, &Container::default(), "127.0.0.1", Duration::from_secs(5), "kube-probe/1.36").await;
            assert_eq!(got, expected, "{answer}");
        }
    }

    #[tokio::test]
    async fn ports() {
        let port = serve("").await;
        let probe = |port: i32| TCPSocketAction { port: IntOrString::Int(port), host: None };
        let run = |action: TCPSocketAction| async move {
            tcp(&action, &Container::default(), "127.0.0.1", Duration::from_secs(1)).await
        };
        assert_eq!(run(probe(port.into())).await, Ok(()));
        assert!(run(probe(1)).await.is_err());
        assert!(run(probe(0)).await.is_err());
    }
}
