//! Files that stand at an address, over HTTP, or over TLS with the roots that this machine trusts.
//!
//! As kubectl reads them: three attempts where the server fails, redirections followed; what is larger than
//! any manifest is refused.

use super::failure::{Failure, Outcome};
use super::session::Session;
use crate::api::field::go_quote;
use crate::client;
use anyhow::Context;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use std::time::Duration;

const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);
const REDIRECTIONS: usize = 10;
const LARGEST: usize = 32 << 20;

pub fn is_one(file: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| file.starts_with(scheme))
}

/// The text at the address.
pub async fn read(address: &str, session: &Session) -> Outcome<String> {
    let mut attempt = 1;
    loop {
        let (status, text) = match follow(address).await {
            Ok(answer) => answer,
            Err(Failed::Transport(_)) if attempt < ATTEMPTS => (StatusCode::BAD_GATEWAY, String::new()),
            Err(Failed::Transport(error)) => return Err(session.unreachable(error)),
            Err(Failed::Other(failure)) => return Err(failure),
        };
        if status == StatusCode::OK {
            return Ok(text);
        }
        if !status.is_server_error() || attempt == ATTEMPTS {
            return Err(Failure::local(format!(
                "unable to read URL {}, server reported {status}, status code={}",
                go_quote(address),
                status.as_u16()
            )));
        }
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

enum Failed {
    Transport(kube::Error),
    Other(Failure),
}

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Other(Failure::Local(error.into()))
    }
}

/// What the address, or the one that it leads to, answers.
async fn follow(address: &str) -> Result<(StatusCode, String), Failed> {
    let mut uri: Uri = address.parse().with_context(|| format!("the address {}", go_quote(address)))?;
    for _ in 0..=REDIRECTIONS {
        // A client without credentials, of that server alone.
        let client = client::from_config(kube::Config::new(origin(&uri)?))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path).header(header::USER_AGENT, "orch kubectl").body(Body::empty())?;
        let reply = client.send(request).await.map_err(Failed::Transport)?;
        let status = reply.status();
        if let Some(place) = reply.headers().get(header::LOCATION).filter(|_| status.is_redirection()) {
            let place = place.to_str().context("where the server redirects to")?;
            let next = leads(&uri, place).with_context(|| format!("the server redirects to {}", go_quote(place)))?;
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(anyhow::anyhow!("{uri} redirects to {next}, which is not encrypted").into());
            }
            uri = next;
            continue;
        }
        let body = Limited::new(reply.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("read {}: {error}", go_quote(address)))?.to_bytes();
        let text = String::from_utf8(body.into()).with_context(|| format!("read {}", go_quote(address)))?;
        return Ok((status, text));
    }
    Err(anyhow::anyhow!("Get {}: stopped after {REDIRECTIONS} redirects", go_quote(address)).into())
}

fn origin(uri: &Uri) -> anyhow::Result<Uri> {
    let (scheme, authority) = uri.scheme_str().zip(uri.authority()).context("it names no server")?;
    anyhow::ensure!(!authority.as_str().contains('@'), "credentials in addresses are not sent");
    Uri::builder().scheme(scheme).authority(authority.as_str()).path_and_query("/").build().context("its server")
}

/// An address that a reply of another one names: a whole one, or what is to be put in place of its path.
fn leads(from: &Uri, place: &str) -> anyhow::Result<Uri> {
    let (scheme, authority) = from.scheme_str().zip(from.authority()).context("it names no server")?;
    let whole = if is_one(place) {
        place.to_owned()
    } else if place.starts_with("//") {
        format!("{scheme}:{place}")
    } else if place.starts_with('/') {
        format!("{scheme}://{authority}{place}")
    } else {
        let directory = from.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{place}")
    };
    Ok(whole.split('#').next().unwrap_or_default().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_lead_somewhere() {
        let from: Uri = "https://a.example/x/y?q=1".parse().expect("an address");
        for (place, to) in [
            ("http://b.example/z", "http://b.example/z"),
            ("//b.example/z#part", "https://b.example/z"),
            ("/z?a=b", "https://a.example/z?a=b"),
            ("z", "https://a.example/x/z"),
        ] {
            assert_eq!(leads(&from, place).expect("an address").to_string(), to);
        }
    }
}
