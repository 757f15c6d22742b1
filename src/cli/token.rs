//! `orch token`: the tokens that nodes join with.
//!
//! Those made here are bootstrap token Secrets in kube-system: they expire, and can be deleted one
//! by one. The token that the server keeps in its data directory is another one: it does not expire.

use super::administration::{ClusterArguments, DataArguments, duration};
use super::kubectl::Session;
use crate::api::{Fields, Status, time};
use crate::client::kinds;
use crate::cluster::token::{Role, Token};
use anyhow::{Context, Result};
use base64::Engine;
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

const NAMESPACE: &str = "kube-system";
const PREFIX: &str = "bootstrap-token-";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const JSON: &str = "application/json";

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    data: DataArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make a token and print it
    Create {
        /// How long it is good for: 24h, 30m; 0: for ever
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
        ttl: Duration,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
    },
    /// Delete tokens, by their id or by the whole of them
    Delete {
        #[arg(required = true, value_name = "TOKEN")]
        tokens: Vec<String>,
    },
    /// List the tokens
    #[command(visible_alias = "ls")]
    List,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::Create { ttl, description } => create(args, *ttl, description)?,
        Command::Delete { tokens } => delete(args, tokens)?,
        Command::List => list(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Small letters and digits that a token is made of.
fn random(length: usize) -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..length).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}

fn create(args: &Args, ttl: Duration, description: &str) -> Result<()> {
    let path = args.data.data_dir.join("server/token");
    let own = std::fs::read_to_string(&path)
        .with_context(|| format!("read {}: run this on the server, or give --data-dir", path.display()))?;
    let own: Token = own.parse().with_context(|| format!("read {}", path.display()))?;
    let authority = own.ca_hash.with_context(|| format!("{} does not name the server's CA", path.display()))?;
    let (id, secret) = (random(6), random(16));
    let mut data = json!({
        "token-id": id,
        "token-secret": secret,
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
    });
    if !description.is_empty() {
        data["description"] = description.into();
    }
    if !ttl.is_zero() {
        let expires = Timestamp::now().checked_add(ttl).context("--ttl is too long")?;
        data["expiration"] = time::seconds(expires).into();
    }
    let object = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": format!("{PREFIX}{id}"), "namespace": NAMESPACE },
        "type": TYPE,
        "stringData": data,
    });
    let path = kinds::SECRETS.path(NAMESPACE);
    args.cluster
        .run(async |session: &Session| session.write(Method::POST, &path, JSON, &object).await)
        .context("make the token")?;
    println!("{}", Token::new(&authority, Role::Bootstrap, &format!("{id}.{secret}")));
    Ok(())
}

/// The six characters before the dot.
fn id_of(token: &str) -> &str {
    let bare = token.rsplit("::").next().unwrap_or(token);
    bare.split('.').next().unwrap_or_default()
}

fn delete(args: &Args, tokens: &[String]) -> Result<()> {
    for token in tokens {
        let id = id_of(token);
        let path = format!("{}/{PREFIX}{id}", kinds::SECRETS.path(NAMESPACE));
        let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions" });
        args.cluster
            .run(async |session: &Session| match session.write(Method::DELETE, &path, JSON, &options).await {
                Err(failure) if failure.is_not_found() => {
                    let text = format!("there is no token {id}: \"orch token list\" shows those that are there");
                    Err(Status::failure(404, "NotFound", text).into())
                }
                other => other,
            })
            .with_context(|| format!("delete token {id}"))?;
        println!("token {id} deleted");
    }
    Ok(())
}

fn list(args: &Args) -> Result<()> {
    let path = format!("{}?fieldSelector=type%3D{}", kinds::SECRETS.path(NAMESPACE), TYPE.replace('/', "%2F"));
    let found =
        args.cluster.run(async |session: &Session| session.get(&path, JSON).await).context("list the tokens")?;
    println!("{:<8} {:<22} DESCRIPTION", "ID", "EXPIRES");
    for secret in found.list_at("items") {
        let expires = match text(secret, "expiration") {
            Some(expires) => expires,
            None => "<never>".to_owned(),
        };
        let (id, description) = (text(secret, "token-id"), text(secret, "description"));
        println!("{:<8} {expires:<22} {}", id.unwrap_or_default(), description.unwrap_or_default());
    }
    Ok(())
}

/// A value of a Secret.
fn text(secret: &Value, key: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(secret.at("data").optional_str(key)?).ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_the_form_that_the_server_takes() {
        let (id, secret) = (random(6), random(16));
        let token = Token::new(&"0".repeat(64), Role::Bootstrap, &format!("{id}.{secret}")).to_string();
        let read: Token = token.parse().expect("it reads back");
        assert_eq!((read.role, read.secret()), (Role::Bootstrap, format!("{id}.{secret}").as_str()));
        for form in [token.as_str(), &format!("{id}.{secret}"), &id] {
            assert_eq!(id_of(form), id);
        }
        assert_ne!(random(16), random(16));
    }
}
