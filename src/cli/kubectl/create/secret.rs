//! `kubectl create secret generic | tls | docker-registry`.

use super::{FLAGS, made, object, sources};
use crate::api::field::go_quote;
use crate::api::{Fields, FieldsMut};
use crate::cli::kubectl::content_hash;
use crate::cli::kubectl::failure::{Failure, Outcome};
use crate::cli::kubectl::flags::{Arguments, Flag, Run, Verb, slice, switch, text};
use crate::cli::kubectl::output::escape_html;
use crate::cli::kubectl::session::Session;
use crate::client::kinds::SECRETS;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::path::Path;

pub const VERB: Verb = Verb {
    name: "secret",
    about: "Create a Secret",
    usage: "kubectl create secret (docker-registry | generic | tls)",
    verbs: &[&DOCKER_REGISTRY, &GENERIC, &TLS],
    ..Verb::DEFAULT
};

const GENERIC: Verb = Verb {
    name: "generic",
    about: "Create a Secret of files, directories or literal values",
    usage: "kubectl create secret generic NAME [--type=string] [--from-file=[key=]source] [--from-literal=key1=value1]",
    flags: &[FLAGS[0], FLAGS[1], sources::FLAGS, &[text("type", "TYPE", "Type of the Secret")]],
    run: Run::Cluster(|arguments, session| Box::pin(generic(arguments, session))),
    ..Verb::DEFAULT
};

const HASH: Flag = switch("append-hash", "Append a hash of the content to the name");

const DOCKER_REGISTRY: Verb = Verb {
    name: "docker-registry",
    about: "Create a Secret that images are pulled with",
    usage: "kubectl create secret docker-registry NAME --docker-username=user --docker-password=password [--docker-server=string]",
    flags: &[
        FLAGS[0],
        FLAGS[1],
        &[
            HASH,
            text("docker-username", "NAME", "Name to log in with"),
            text("docker-password", "PASSWORD", "Password to log in with"),
            text("docker-email", "ADDRESS", "Mail address"),
            text("docker-server", "URL", "Registry to log in to").default("https://index.docker.io/v1/"),
            slice("from-file", "[KEY=]FILE", "File with the credentials"),
        ],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(docker_registry(arguments, session))),
    ..Verb::DEFAULT
};

const TLS: Verb = Verb {
    name: "tls",
    about: "Create a Secret of a certificate and its key",
    usage: "kubectl create secret tls NAME --cert=path/to/cert/file --key=path/to/key/file",
    flags: &[
        FLAGS[0],
        FLAGS[1],
        &[HASH, text("cert", "FILE", "Certificate, PEM"), text("key", "FILE", "Key of the certificate, PEM")],
    ],
    run: Run::Cluster(|arguments, session| Box::pin(tls(arguments, session))),
    ..Verb::DEFAULT
};

async fn generic(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let name = arguments.name()?;
    let mut secret = object(&SECRETS, &name);
    fill(&mut secret, sources::read(arguments)?)?;
    if let Some(kind) = arguments.text("type").filter(|kind| !kind.is_empty()) {
        secret.set("type", kind);
    }
    send(arguments, session, secret).await
}

/// All values in base64.
pub fn fill(secret: &mut Value, entries: Vec<sources::Entry>) -> Outcome<()> {
    for (key, value) in entries {
        if let Some(wrong) = sources::wrong_key(&key) {
            let text = format!("{} is not valid key name for a Secret {}", go_quote(&key), wrong.join(";"));
            return Err(Failure::local(text));
        }
        if secret.at("data").has(&key) {
            return Err(Failure::local(format!("cannot add key {key}, another key by that name already exists")));
        }
        secret.object_mut("data").set(&key, STANDARD.encode(value));
    }
    Ok(())
}

async fn docker_registry(arguments: &Arguments, session: &Session) -> Outcome<()> {
    const KEY: &str = ".dockerconfigjson";
    let name = arguments.name()?;
    let mut secret = object(&SECRETS, &name);
    secret.set("type", "kubernetes.io/dockerconfigjson");
    let mut entries = Vec::new();
    for file in arguments.list("from-file") {
        // Without a key it is this one, whatever the file is called.
        let named = if file.contains('=') { file } else { format!("{KEY}={file}") };
        sources::from_file(&named, Path::new(""), &mut entries)?;
    }
    let [user, password, server] =
        ["docker-username", "docker-password", "docker-server"].map(|flag| arguments.text_or_empty(flag));
    if entries.is_empty() {
        if user.is_empty() || password.is_empty() || server.is_empty() {
            return Err(Failure::local(
                "either --from-file or the combination of --docker-username, --docker-password and --docker-server is required",
            ));
        }
        let content = docker_config(user, password, arguments.text_or_empty("docker-email"), server);
        entries.push((KEY.to_owned(), content.into_bytes()));
    }
    fill(&mut secret, entries)?;
    send(arguments, session, secret).await
}

/// In the order in which Kubernetes writes it, so that the bytes are the same.
fn docker_config(user: &str, password: &str, email: &str, server: &str) -> String {
    let quoted = |text: &str| escape_html(&Value::from(text).to_string());
    let email = if email.is_empty() { String::new() } else { format!(",\"email\":{}", quoted(email)) };
    format!(
        "{{\"auths\":{{{}:{{\"username\":{},\"password\":{}{email},\"auth\":\"{}\"}}}}}}",
        quoted(server),
        quoted(user),
        quoted(password),
        STANDARD.encode(format!("{user}:{password}"))
    )
}

async fn tls(arguments: &Arguments, session: &Session) -> Outcome<()> {
    let name = arguments.name()?;
    let [certificate, key] = ["cert", "key"].map(|flag| arguments.text_or_empty(flag));
    if certificate.is_empty() || key.is_empty() {
        return Err(Failure::local("key and cert must be specified"));
    }
    let read = |path: &str| {
        std::fs::read(path).map_err(|error| {
            Failure::local(format!("Cannot read file {path}, open {path}: {}", sources::reason(&error)))
        })
    };
    let (certificate, key) = (read(certificate)?, read(key)?);
    check_pair(&certificate, &key).map_err(Failure::local)?;
    let mut secret = object(&SECRETS, &name);
    secret.set("type", "kubernetes.io/tls");
    secret.set("data", json!({ "tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(key) }));
    send(arguments, session, secret).await
}

/// The key is that of the certificate.
fn check_pair(certificate: &[u8], key: &[u8]) -> Result<(), String> {
    let chain: Vec<CertificateDer> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("tls: failed to parse the certificate: {error}"))?;
    if chain.is_empty() {
        return Err("tls: failed to find any PEM data in certificate input".to_owned());
    }
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|_| "tls: failed to find any PEM data in key input".to_owned())?;
    match rustls::sign::CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err("tls: private key does not match public key".to_owned()),
        Err(error) => Err(format!("tls: {error}")),
    }
}

async fn send(arguments: &Arguments, session: &Session, mut secret: Value) -> Outcome<()> {
    if arguments.on("append-hash") {
        let name = format!("{}-{}", secret.at("metadata").str_at("name"), content_hash::of_secret(&secret));
        secret.object_mut("metadata").set("name", name);
    }
    made(arguments, session, &SECRETS, secret, "failed to create secret").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_written_as_kubernetes_does() {
        assert_eq!(
            docker_config("u", "p<", "", "https://r/"),
            r#"{"auths":{"https://r/":{"username":"u","password":"p\u003c","auth":"dTpwPA=="}}}"#
        );
    }
}
