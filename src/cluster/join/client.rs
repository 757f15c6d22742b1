//! The node's side of a join.

use super::{AUTHORITIES_PATH, JOIN_PATH, JoinReply, JoinRequest, LIMIT};
use crate::cluster::token::Token;
use crate::net::resolver::HostResolver;
use crate::net::tls::{self, Credentials};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use std::sync::Arc;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(15);

/// A server that is not there yet is asked again so often.
const RETRY: Duration = Duration::from_secs(2);

/// What a node has after a join.
pub struct Joined {
    /// The server's CA, PEM.
    pub authorities: String,
    pub reply: JoinReply,
    pub kubelet_client: Credentials,
    pub kubelet_serving: Credentials,
    pub proxy_client: Credentials,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Identity {
    pub node_name: String,
    pub machine_id: String,
    pub serving_names: Vec<String>,
}

/// An answer that will not change by asking again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// `https://host:6443`, checked.
pub fn server_uri(server: &str) -> Result<Uri> {
    let uri: Uri = server.trim_end_matches('/').parse().with_context(|| format!("--server {server:?} is not a URL"))?;
    if uri.scheme_str() != Some("https") || uri.host().is_none() {
        bail!("--server {server:?}: write https://<host>:6443");
    }
    let authority = match uri.port() {
        Some(_) => uri.authority().map(ToString::to_string).unwrap_or_default(),
        None => format!("{}:6443", uri.host().unwrap_or_default()),
    };
    Ok(Uri::builder().scheme("https").authority(authority).path_and_query("/").build()?)
}

/// Join, waiting for the server as long as it cannot be reached; a refusal is final. `known`: the
/// certificate of an earlier join under this name, which is as good as a token that has expired.
pub async fn join(server: &Uri, token: &Token, identity: &Identity, known: Option<&Credentials>) -> Result<Joined> {
    let mut said = String::new();
    loop {
        match attempt(server, token, identity, known).await {
            Ok(joined) => return Ok(joined),
            Err(error) if error.is::<Refused>() || error.is::<crate::cluster::token::TokenError>() => {
                return Err(error);
            }
            Err(error) => {
                let text = format!("{error:#}");
                if text != said {
                    tracing::warn!("join {server}: {text}; asking again every {} s", RETRY.as_secs());
                    said = text;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn attempt(server: &Uri, token: &Token, identity: &Identity, known: Option<&Credentials>) -> Result<Joined> {
    let authorities = fetch_authorities(server).await?;
    token.verify_authority(&authorities)?;
    let [client, serving, proxy] = [request_certificate()?, request_certificate()?, request_certificate()?];
    let body = JoinRequest {
        node_name: identity.node_name.clone(),
        machine_id: identity.machine_id.clone(),
        serving_names: identity.serving_names.clone(),
        kubelet_client: client.1,
        kubelet_serving: serving.1,
        proxy_client: proxy.1,
    };
    let config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(tls::roots(&authorities)?);
    let config = match known {
        None => config.with_no_client_auth(),
        Some(known) => {
            let key = known.certified_key().context("the certificate of the last join")?;
            config.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from((*key).clone())))
        }
    };
    let request = Request::post(at(server, JOIN_PATH)?)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::AUTHORIZATION, format!("Bearer {}", token.secret()))
        .body(Full::new(Bytes::from(serde_json::to_vec(&body)?)))?;
    let (status, bytes) = send(config, request).await?;
    if !status.is_success() {
        let message = serde_json::from_slice::<crate::api::Status>(&bytes).map(|status| status.message);
        let message = message.unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned());
        let text = format!("{server} refuses the join ({}): {message}", status.as_u16());
        return match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Refused(format!("{text}: the token is not one of this cluster, or has expired")).into())
            }
            StatusCode::CONFLICT | StatusCode::BAD_REQUEST => Err(Refused(text).into()),
            _ => bail!(text),
        };
    }
    let reply: JoinReply = serde_json::from_slice(&bytes).with_context(|| format!("read the reply of {server}"))?;
    let credentials = |key: String, chain: &str| Credentials { certificate_pem: chain.to_owned(), key_pem: key };
    Ok(Joined {
        kubelet_client: credentials(client.0, &reply.kubelet_client),
        kubelet_serving: credentials(serving.0, &reply.kubelet_serving),
        proxy_client: credentials(proxy.0, &reply.proxy_client),
        authorities,
        reply,
    })
}

/// A fresh key and the request to certify it, PEM; the server decides on the subject.
fn request_certificate() -> Result<(String, String)> {
    let key = KeyPair::generate().context("make a key")?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    let request = parameters.serialize_request(&key).context("make a certificate request")?;
    Ok((key.serialize_pem(), request.pem().context("print a certificate request")?))
}

fn at(server: &Uri, path: &str) -> Result<Uri> {
    let mut parts = server.clone().into_parts();
    parts.path_and_query = Some(path.parse()?);
    Ok(Uri::from_parts(parts)?)
}

/// The CA bundle, fetched without trust: the caller compares its hash. Nothing secret is sent.
async fn fetch_authorities(server: &Uri) -> Result<String> {
    let config = tls::any_server()?;
    let request = Request::get(at(server, AUTHORITIES_PATH)?).body(Full::new(Bytes::new()))?;
    let (status, bytes) = send(config, request).await?;
    if !status.is_success() {
        bail!("{server} has no {AUTHORITIES_PATH} ({status}): is it an orch server?");
    }
    String::from_utf8(bytes.to_vec()).with_context(|| format!("read the CA of {server}"))
}

async fn send(config: rustls::ClientConfig, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
    let mut http = HttpConnector::new_with_resolver(HostResolver);
    http.enforce_http(false);
    http.set_connect_timeout(Some(TIMEOUT));
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().wrap_connector(http);
    let uri = request.uri().clone();
    let exchange = async {
        let response = Client::builder(TokioExecutor::new()).build(connector).request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LIMIT).collect().await.map_err(|error| anyhow::anyhow!(error))?;
        anyhow::Ok((status, body.to_bytes()))
    };
    match tokio::time::timeout(TIMEOUT, exchange).await {
        Ok(result) => result.with_context(|| format!("reach {uri}")),
        Err(_) => bail!("reach {uri}: no answer within {} s", TIMEOUT.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_urls() {
        assert_eq!(server_uri("https://edge:7000").unwrap().to_string(), "https://edge:7000/");
        assert_eq!(server_uri("https://10.0.0.1").unwrap().to_string(), "https://10.0.0.1:6443/");
        assert!(server_uri("edge:6443").is_err());
        assert!(server_uri("http://edge:6443").is_err());
    }
}
