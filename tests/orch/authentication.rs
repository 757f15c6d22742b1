//! Who is believed and what is allowed, where other servers know it: OpenID Connect and webhooks.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use orch::api::UserInfo;
use orch::apiserver::authn::bearer::Tokens;
use orch::apiserver::authn::oidc::{self, Oidc};
use orch::apiserver::authn::token_webhook::TokenWebhook;
use orch::apiserver::authz::webhook::Webhook;
use orch::apiserver::authz::{Attributes, Authorizer, Decision, ResourceAttributes};
use orch::apiserver::webhook::{Client, Target};
use orch::net::tls;
use orch::storage::SqliteStorage;
use parking_lot::Mutex;
use rcgen::PublicKeyData;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

type Answer = dyn Fn(&str, &str, &Value) -> Value + Send + Sync;

/// A server over TLS: what it was asked, and what it says to base URL, path and document.
struct Other {
    url: String,
    /// PEM
    bundle: String,
    asked: Arc<Mutex<Vec<Value>>>,
    _tasks: JoinSet<()>,
}

impl Other {
    async fn start(answer: impl Fn(&str, &str, &Value) -> Value + Send + Sync + 'static) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let names = vec!["127.0.0.1".to_owned()];
        let certificate =
            rcgen::CertificateParams::new(names).expect("parameters").self_signed(&key).expect("a certificate");
        let bundle = certificate.pem();
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a configuration");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://127.0.0.1:{}", listener.local_addr().expect("an address").port());
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let answer: Arc<Answer> = Arc::new(answer);
        let mut tasks = JoinSet::new();
        let (seen, base) = (asked.clone(), url.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer, seen, base) = (acceptor.clone(), answer.clone(), seen.clone(), base.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let (answer, seen, base) = (answer.clone(), seen.clone(), base.clone());
                        async move {
                            let path = request.uri().path().to_owned();
                            let body = request.into_body().collect().await.expect("a body").to_bytes();
                            let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
                            seen.lock().push(asked.clone());
                            let reply = answer(&base, &path, &asked).to_string();
                            Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(reply))))
                        }
                    });
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // The client closes when it has its answer.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, bundle, asked, _tasks: tasks }
    }

    fn target(&self) -> Target {
        Target::of_url(&format!("{}/ask", self.url), &self.bundle).expect("a URL")
    }
}

async fn client() -> Arc<Client> {
    Client::direct(SqliteStorage::in_memory().await)
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

fn sign(key: &rcgen::KeyPair, claims: &Value) -> String {
    let random = ring::rand::SystemRandom::new();
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der(), &random).expect("P-256");
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "alg": "ES256", "kid": "one" })), part(claims));
    let signature = pair.sign(&random, signed.as_bytes()).expect("signed");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

#[tokio::test]
async fn tokens_of_an_issuer_name_users() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let point = key.der_bytes().to_vec();
    let keys = json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "kid": "one", "alg": "ES256",
        "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
    }]});
    let issuer = Other::start(move |base, path, _| match path {
        "/.well-known/openid-configuration" => json!({ "issuer": base, "jwks_uri": format!("{base}/keys") }),
        _ => keys.clone(),
    })
    .await;
    let options = oidc::Options {
        issuer_url: issuer.url.clone(),
        client_id: "orch".to_owned(),
        groups_claim: "groups".to_owned(),
        groups_prefix: "oidc:".to_owned(),
        required_claims: vec![("tenant".to_owned(), "a".to_owned())],
        ca_pem: issuer.bundle.clone(),
        signing_algorithms: vec!["ES256".to_owned()],
        ..oidc::Options::default()
    };
    let of = |options: oidc::Options, client: Arc<Client>| {
        Tokens::new(Vec::new(), vec![Arc::new(Oidc::new(options, client, Arc::new(SystemTime::now)))])
    };
    let tokens = of(options.clone(), client().await);
    let claims = json!({
        "iss": issuer.url, "aud": ["other", "orch"], "sub": "ann", "exp": now() + 600,
        "groups": ["team"], "tenant": "a", "email": "ann@example.com", "email_verified": true,
    });
    let found = tokens.authenticate(&sign(&key, &claims), &[]).await.expect("good").user;
    assert_eq!(found.name, format!("{}#ann", issuer.url));
    assert_eq!(found.groups, ["oidc:team", "system:authenticated"]);
    // The keys are asked for once.
    tokens.authenticate(&sign(&key, &claims), &[]).await.expect("good");
    assert_eq!(issuer.asked.lock().len(), 2);

    let with = |field: &str, value: Value| {
        let mut claims = claims.clone();
        claims[field] = value;
        claims
    };
    for (claims, reason) in [
        (with("aud", json!("other")), "expected audience"),
        (with("exp", json!(now() - 600)), "token is expired"),
        (with("nbf", json!(now() + 6000)), "not before"),
        (with("tenant", json!("b")), "required claim \"tenant\" value does not match"),
        (with("sub", json!(7)), "claim not present"),
        (with("groups", json!([1])), "parse groups claim"),
    ] {
        let error = tokens.authenticate(&sign(&key, &claims), &[]).await.expect_err(reason);
        assert!(error.contains(reason), "{error}");
    }
    let forged = sign(&rcgen::KeyPair::generate().expect("a key"), &claims);
    let error = tokens.authenticate(&forged, &[]).await.expect_err("forged");
    assert!(error.contains("failed to verify"), "{error}");
    // Of another issuer: not looked at.
    let other = sign(&key, &with("iss", json!("https://other.example.com")));
    assert_eq!(tokens.authenticate(&other, &[]).await, Err("invalid bearer token".to_owned()));
    // For another audience, it proves nothing.
    assert!(tokens.authenticate(&sign(&key, &claims), &["vault".to_owned()]).await.is_err());

    let email = oidc::Options { username_claim: "email".to_owned(), ..options.clone() };
    let tokens = of(email, client().await);
    let user = tokens.authenticate(&sign(&key, &claims), &[]).await.expect("good").user;
    assert_eq!(user.name, "ann@example.com");
    let error =
        tokens.authenticate(&sign(&key, &with("email_verified", json!(false))), &[]).await.expect_err("unproven");
    assert!(error.contains("oidc: email not verified"), "{error}");
    let rsa = oidc::Options { signing_algorithms: vec!["RS256".to_owned()], ..options };
    let error = of(rsa, client().await).authenticate(&sign(&key, &claims), &[]).await.expect_err("another algorithm");
    assert!(error.contains("unsupported algorithm"), "{error}");
}

#[tokio::test]
async fn a_webhook_knows_tokens_and_is_asked_once() {
    let other = Other::start(|_, _, review| match review["spec"]["token"].as_str() {
        Some("good") => json!({ "status": {
            "authenticated": true,
            "user": { "username": "ann", "uid": "u1", "groups": ["team"], "extra": { "scope": ["a"] } },
        }}),
        Some("bad") => json!({ "status": { "authenticated": false, "error": "it was revoked" } }),
        _ => json!({ "status": { "authenticated": false } }),
    })
    .await;
    let webhook = TokenWebhook::new(client().await, other.target(), "v1", Duration::from_secs(60));
    let tokens = Tokens::new(Vec::new(), vec![Arc::new(webhook)]);
    for _ in 0..3 {
        let user = tokens.authenticate("good", &[]).await.expect("known").user;
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("ann", "u1"));
        assert_eq!(
            (user.groups, user.extra["scope"].clone()),
            (vec!["team".to_owned(), "system:authenticated".to_owned()], vec!["a".to_owned()])
        );
    }
    assert_eq!(tokens.authenticate("bad", &[]).await, Err("[invalid bearer token, it was revoked]".to_owned()));
    assert_eq!(tokens.authenticate("none", &[]).await, Err("invalid bearer token".to_owned()));
    let asked = other.asked.lock().clone();
    assert_eq!(asked.len(), 3);
    assert_eq!(
        (&asked[0]["kind"], &asked[0]["apiVersion"]),
        (&json!("TokenReview"), &json!("authentication.k8s.io/v1"))
    );
}

#[tokio::test]
async fn a_webhook_decides_and_is_asked_once() {
    let other = Other::start(|_, _, review| match review["spec"]["user"].as_str() {
        Some("ann") => json!({ "status": { "allowed": true, "reason": "she may" } }),
        Some("bob") => json!({ "status": { "allowed": false, "denied": true, "reason": "he may not" } }),
        _ => json!({ "status": { "allowed": false } }),
    })
    .await;
    let remember = (Duration::from_secs(60), Duration::from_secs(60));
    let webhook = Webhook::new(client().await, other.target(), "v1", remember);
    let ask = async |name: &str| {
        let user = UserInfo::new(name, &["team"]);
        let resource = ResourceAttributes { resource: "pods", version: "v1", namespace: "a", ..Default::default() };
        webhook.authorize(&Attributes { user: &user, verb: "list", resource: Some(resource), path: "" }).await
    };
    for _ in 0..2 {
        assert_eq!(ask("ann").await, Decision::Allow("she may".to_owned()));
        assert_eq!(ask("bob").await, Decision::Deny("he may not".to_owned()));
        assert_eq!(ask("eve").await, Decision::NoOpinion(String::new()));
    }
    let asked = other.asked.lock().clone();
    assert_eq!(asked.len(), 3);
    assert_eq!(
        asked[0]["spec"],
        json!({
            "user": "ann",
            "groups": ["team", "system:authenticated"],
            "resourceAttributes": { "verb": "list", "version": "v1", "resource": "pods", "namespace": "a" },
        })
    );
    // Who cannot be asked has no opinion.
    let gone = Target::of_url("https://127.0.0.1:1/ask", "").expect("a URL");
    let webhook = Webhook::new(client().await, gone, "v1", remember);
    let user = UserInfo::new("ann", &[]);
    let attributes = Attributes { user: &user, verb: "get", resource: None, path: "/x" };
    assert_eq!(webhook.authorize(&attributes).await, Decision::NoOpinion(String::new()));
}
