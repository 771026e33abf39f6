//! Calling a webhook: HTTPS to a Service or a URL, under the bundle that it was registered with.
//!
//! In comes a review, out goes the webhook's. A certificate that the bundle does not vouch for, or one for another
//! name, is a failure, as is everything that takes longer than the webhook's time limit.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::ByteString;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::kubernetes::server::Server;

/// Where a webhook is.
struct Place {
    address: SocketAddr,
    /// The name in its certificate.
    name: String,
    path: String,
}

/// Calls a webhook.
pub(super) async fn call(server: &Server, hook: &Value, review: &Value) -> anyhow::Result<Value> {
    let seconds = hook["timeoutSeconds"].as_u64().unwrap_or(10);
    let place = place_of(server, &hook["clientConfig"])?;
    let asked = ask(&place, &hook["clientConfig"]["caBundle"], review, seconds);
    timeout(Duration::from_secs(seconds), asked)
        .await
        .map_err(|_| anyhow!("context deadline exceeded: no answer within {seconds} s"))?
}

fn place_of(server: &Server, client: &Value) -> anyhow::Result<Place> {
    if let Some(url) = client["url"].as_str() {
        let uri: Uri = url.parse().context("the url")?;
        let host = uri.host().context("the url names no host")?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(443);
        let address = host.parse().map_or_else(
            |_| std::net::ToSocketAddrs::to_socket_addrs(&(host, port)).ok()?.next(),
            |address| Some(SocketAddr::new(address, port)),
        );
        let address = address.with_context(|| format!("dial tcp: lookup {host}: no such host"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        return Ok(Place { address, name: host.to_owned(), path });
    }
    let service = &client["service"];
    let text = |field: &str| service[field].as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text("namespace"), text("name"));
    let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
    let address = server.services.get(&namespace, &name, port).with_context(|| {
        format!("service \"{name}\" not found in namespace \"{namespace}\", port {port}")
    })?;
    Ok(Place { address, name: format!("{name}.{namespace}.svc"), path: text("path") })
}

async fn ask(place: &Place, bundle: &Value, review: &Value, seconds: u64) -> anyhow::Result<Value> {
    let config = ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()?
    .with_root_certificates(roots(bundle)?)
    .with_no_client_auth();
    let stream = TcpStream::connect(place.address)
        .await
        .with_context(|| format!("dial tcp {}", place.address))?;
    let name = ServerName::try_from(place.name.clone())?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .context("tls: failed to verify certificate")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let path = match place.path.as_str() {
        "" => "/",
        path => path,
    };
    let mark = if path.contains('?') { '&' } else { '?' };
    let request = Request::post(format!("{path}{mark}timeout={seconds}s"))
        .header(header::HOST, &place.name)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .body(Full::new(Bytes::from(review.to_string())))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    connection.abort();
    ensure!(
        status.is_success(),
        "an error on the server ({}) has prevented the request from succeeding: {status}",
        String::from_utf8_lossy(&body)
    );
    let answer: Value = serde_json::from_slice(&body).context("the answer is no JSON")?;
    ensure!(
        answer["kind"] == "AdmissionReview" && answer["apiVersion"] == "admission.k8s.io/v1",
        "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {}, Kind={}",
        answer["apiVersion"],
        answer["kind"]
    );
    Ok(answer)
}

/// Whether it is base64 of at least one certificate in PEM.
pub(super) fn is_bundle(bundle: &Value) -> bool {
    roots(bundle).is_ok_and(|roots| !roots.is_empty())
}

fn roots(bundle: &Value) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if bundle.is_null() {
        return Ok(roots);
    }
    let pem: ByteString = serde_json::from_value(bundle.clone())?;
    for certificate in CertificateDer::pem_slice_iter(&pem.0) {
        roots.add(certificate?)?;
    }
    Ok(roots)
}
