//! Tests of the authenticators.

use super::bearer::TokenAuthenticator;
use super::service_account::{Bound, Keys, Kubernetes, Reference, Tokens};
use super::*;
use crate::api::GroupResource;
use crate::storage::{Body, Durability, Key, SqliteStorage};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NOW: u64 = 1_800_000_000;

fn fixed_clock() -> (Arc<AtomicU64>, Clock) {
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = now.clone();
    (now, Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::Relaxed))))
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn client(&self, name: &str, group: &str, usage: ExtendedKeyUsagePurpose, until: u64) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![usage];
        params.not_after = (SystemTime::UNIX_EPOCH + Duration::from_secs(until)).into();
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().clone()
    }
}

struct Fixture {
    storage: Arc<SqliteStorage>,
    clients: Authority,
    proxies: Authority,
    chain: Chain,
    service_accounts: Arc<Tokens>,
    tokens: Arc<bearer::Tokens>,
    now: Arc<AtomicU64>,
}

async fn fixture() -> Fixture {
    fixture_with(Anonymous::Everywhere).await
}

async fn fixture_with(anonymous: Anonymous) -> Fixture {
    let storage = SqliteStorage::in_memory().await;
    let (now, clock) = fixed_clock();
    let (clients, proxies) = (Authority::new("clients"), Authority::new("proxies"));
    let keys = Keys::new(&KeyPair::generate().unwrap().serialize_pem(), &[]).unwrap();
    let service_accounts = Arc::new(Tokens::new(keys, "https://issuer", storage.clone(), clock.clone()));
    let (chain, tokens) = standard(Options {
        storage: storage.clone(),
        client_ca_pem: clients.pem.clone(),
        request_header_ca_pem: proxies.pem.clone(),
        request_header_names: vec!["front".to_owned()],
        service_accounts: service_accounts.clone(),
        remote_tokens: Vec::new(),
        static_tokens: vec![("s3cret".to_owned(), UserInfo { name: "joiner".into(), ..UserInfo::default() })],
        anonymous,
        clock,
    })
    .unwrap();
    Fixture { storage, clients, proxies, chain, service_accounts, tokens, now }
}

impl Fixture {
    async fn ask(
        &self,
        certificate: Option<CertificateDer<'static>>,
        headers: &[(&str, &str)],
    ) -> Result<UserInfo, u16> {
        let mut request = http::Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let certificates: Vec<_> = certificate.into_iter().collect();
        parts.extensions.insert(ConnectionInfo::new(None, certificates.into()));
        match self.chain.authenticate(&parts).await {
            Ok(user) => Ok(user.expect("the chain decides")),
            Err(status) => Err(status.code),
        }
    }

    async fn put(&self, resource: &str, namespace: &str, mut object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = format!("{name}-uid").into();
        }
        let key = Key::new(&GroupResource::new("", resource), namespace, &name);
        let body = Body::from_value(&object, 0, None);
        match self.storage.get(&key) {
            Some(entry) => self.storage.update(key, entry.revision, body, Durability::Lazy).await,
            None => self.storage.create(key, body, Durability::Lazy).await,
        }
        .unwrap();
    }

    async fn remove(&self, resource: &str, namespace: &str, name: &str) {
        let key = Key::new(&GroupResource::new("", resource), namespace, name);
        let revision = self.storage.get(&key).unwrap().revision;
        self.storage.delete(key, revision).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_certificate_names_its_user() {
    let fixture = fixture().await;
    let later = NOW + 3600;
    let client = |usage| fixture.clients.client("jane", "devs", usage, later);
    let user = fixture.ask(Some(client(ExtendedKeyUsagePurpose::ClientAuth)), &[]).await.unwrap();
    assert_eq!(
        (user.name.as_str(), user.groups.as_slice()),
        ("jane", &["devs".to_owned(), "system:authenticated".to_owned()][..])
    );
    let id = &user.extra[x509::CREDENTIAL_ID][0];
    assert!(id.starts_with("X509SHA256=") && id.len() == "X509SHA256=".len() + 64, "{id}");
    // For servers only; expired; of another authority.
    assert_eq!(fixture.ask(Some(client(ExtendedKeyUsagePurpose::ServerAuth)), &[]).await, Err(401));
    let expired = fixture.clients.client("jane", "devs", ExtendedKeyUsagePurpose::ClientAuth, NOW - 1);
    assert_eq!(fixture.ask(Some(expired), &[]).await, Err(401));
    let foreign = Authority::new("foreign").client("jane", "devs", ExtendedKeyUsagePurpose::ClientAuth, later);
    assert_eq!(fixture.ask(Some(foreign), &[]).await.unwrap().name, "system:anonymous");
}

#[tokio::test]
async fn a_certificate_that_expires_on_a_connection_ends_its_rights() {
    let fixture = fixture().await;
    let certificate = fixture.clients.client("jane", "devs", ExtendedKeyUsagePurpose::ClientAuth, NOW + 10);
    let (mut parts, ()) = http::Request::get("/").body(()).unwrap().into_parts();
    parts.extensions.insert(ConnectionInfo::new(None, vec![certificate].into()));
    assert_eq!(fixture.chain.authenticate(&parts).await.unwrap().unwrap().name, "jane");
    fixture.now.store(NOW + 11, Ordering::Relaxed);
    assert_eq!(fixture.chain.authenticate(&parts).await.unwrap_err().code, 401);
}

#[tokio::test]
async fn a_front_proxy_speaks_for_users_and_nobody_else_does() {
    let fixture = fixture().await;
    let headers = [
        ("x-remote-user", "jane"),
        ("x-remote-group", "devs"),
        ("x-remote-group", "ops"),
        ("x-remote-extra-acme.com%2Fproject", "p1"),
    ];
    let proxy =
        |authority: &Authority, name: &str| authority.client(name, "x", ExtendedKeyUsagePurpose::ClientAuth, NOW + 60);
    let user = fixture.ask(Some(proxy(&fixture.proxies, "front")), &headers).await.unwrap();
    assert_eq!(user.name, "jane");
    assert_eq!(user.groups, ["devs", "ops", "system:authenticated"]);
    assert_eq!(user.extra["acme.com/project"], ["p1"]);
    assert_eq!(fixture.ask(Some(proxy(&fixture.proxies, "other")), &headers).await, Err(401));
    assert_eq!(fixture.ask(Some(proxy(&fixture.clients, "front")), &headers).await.unwrap().name, "front");
    assert_eq!(fixture.ask(None, &headers).await.unwrap().name, "system:anonymous");
}

#[tokio::test]
async fn tokens_are_looked_at_and_wrong_ones_refused() {
    let fixture = fixture().await;
    let ask = async |value: &str| fixture.ask(None, &[("authorization", value)]).await.map(|user| user.name);
    assert_eq!(ask("Bearer s3cret").await.as_deref(), Ok("joiner"));
    assert_eq!(ask("bearer s3cret and more").await.as_deref(), Ok("joiner"));
    for wrong in ["Bearer x", "Bearer s3cret2", "Bearer a.b.c", &format!("Bearer {}", "x".repeat(40 << 10))] {
        assert_eq!(ask(wrong).await, Err(401), "{wrong:.40}");
    }
    // More than one space before it, and there is no token.
    for other in ["Basic czNjcmV0", "Bearer", "Bearer ", "bearer  s3cret"] {
        assert_eq!(ask(other).await.as_deref(), Ok("system:anonymous"), "{other}");
    }
    let encoded = "base64url.bearer.authorization.k8s.io.czNjcmV0, v4.channel.k8s.io";
    let user = fixture.ask(None, &[("sec-websocket-protocol", encoded)]).await.unwrap();
    assert_eq!(user.name, "joiner");
    assert_eq!(fixture.tokens.authenticate("x", &[]).await, Err("invalid bearer token".to_owned()));
}

fn bound(pod: Option<&str>, secret: Option<&str>, node: Option<&str>) -> Bound {
    let reference = |name: &str| Reference { name: name.to_owned(), uid: format!("{name}-uid") };
    Bound {
        kubernetes: Kubernetes {
            namespace: "a".to_owned(),
            service_account: reference("builder"),
            pod: pod.map(reference),
            secret: secret.map(reference),
            node: node.map(reference),
            ..Kubernetes::default()
        },
        warn_after: None,
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_service_account_token_names_its_account_and_pod() {
    let fixture = fixture().await;
    for (resource, namespace, name) in
        [("serviceaccounts", "a", "builder"), ("pods", "a", "web"), ("nodes", "", "n1"), ("secrets", "a", "s")]
    {
        fixture.put(resource, namespace, json!({"metadata": {"name": name}})).await;
    }
    let (token, expires) = fixture.service_accounts.issue(bound(Some("web"), None, Some("n1")), &[], HOUR).unwrap();
    assert_eq!(expires, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + 3600));
    let user = fixture.ask(None, &[("authorization", &format!("Bearer {token}"))]).await.unwrap();
    assert_eq!(user.name, "system:serviceaccount:a:builder");
    assert_eq!(user.uid, "builder-uid");
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
    let extra = |key: &str| user.extra[&format!("authentication.kubernetes.io/{key}")][0].clone();
    assert_eq!((extra("pod-name"), extra("pod-uid")), ("web".into(), "web-uid".into()));
    assert_eq!((extra("node-name"), extra("node-uid")), ("n1".into(), "n1-uid".into()));
    assert!(extra("credential-id").starts_with("JTI="));
    // The claims are Kubernetes's.
    let payload = token.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(
        &base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload).unwrap(),
    )
    .unwrap();
    assert_eq!(claims["sub"], "system:serviceaccount:a:builder");
    assert_eq!(claims["aud"], json!(["https://issuer"]));
    assert_eq!(claims["kubernetes.io"]["pod"], json!({"name": "web", "uid": "web-uid"}));
    assert_eq!(claims["exp"], NOW + 3600);
}

#[tokio::test]
async fn tokens_end_with_what_they_are_bound_to() {
    let fixture = fixture().await;
    let judge = |token: &str| fixture.service_accounts.authenticate(token, &[]).map(|found| found.is_some());
    let invalidated = Err("service account token has been invalidated".to_owned());
    fixture.put("serviceaccounts", "a", json!({"metadata": {"name": "builder"}})).await;
    for (resource, namespace, bound) in [
        ("pods", "a", bound(Some("x"), None, None)),
        ("secrets", "a", bound(None, Some("x"), None)),
        ("nodes", "", bound(None, None, Some("x"))),
    ] {
        let (token, _) = fixture.service_accounts.issue(bound, &[], HOUR).unwrap();
        assert_eq!(judge(&token), invalidated, "{resource}: not there yet");
        fixture.put(resource, namespace, json!({"metadata": {"name": "x"}})).await;
        assert_eq!(judge(&token), Ok(true), "{resource}");
        let deleting = |seconds: u64| {
            let time = jiff::Timestamp::from_second((NOW - seconds) as i64).unwrap();
            json!({"metadata": {"name": "x", "deletionTimestamp": time.to_string()}})
        };
        fixture.put(resource, namespace, deleting(30)).await;
        assert_eq!(judge(&token), Ok(true), "{resource}: a moment ago");
        fixture.put(resource, namespace, deleting(90)).await;
        assert_eq!(judge(&token), invalidated, "{resource}: going away");
        fixture.put(resource, namespace, json!({"metadata": {"name": "x", "uid": "new"}})).await;
        let what = resource.trim_end_matches('s');
        assert_eq!(
            judge(&token),
            Err(format!("{what} UID (new) does not match service account {what} ref claim (x-uid)"))
        );
        fixture.remove(resource, namespace, "x").await;
        assert_eq!(judge(&token), invalidated, "{resource}: gone");
    }
    let (token, _) = fixture.service_accounts.issue(bound(None, None, None), &[], HOUR).unwrap();
    assert_eq!(judge(&token), Ok(true));
    fixture.put("serviceaccounts", "a", json!({"metadata": {"name": "builder", "uid": "new"}})).await;
    assert_eq!(judge(&token), Err("service account UID (new) does not match claim (builder-uid)".to_owned()));
    fixture.remove("serviceaccounts", "a", "builder").await;
    assert_eq!(judge(&token), Err("serviceaccounts \"builder\" not found".to_owned()));
}

#[tokio::test]
async fn tokens_have_a_time_an_audience_and_a_signature() {
    let fixture = fixture().await;
    fixture.put("serviceaccounts", "a", json!({"metadata": {"name": "builder"}})).await;
    let tokens = &fixture.service_accounts;
    let (token, _) = tokens.issue(bound(None, None, None), &["vault".to_owned(), "b".to_owned()], HOUR).unwrap();
    assert_eq!(
        tokens.authenticate(&token, &[]),
        Err("token audiences [\"vault\" \"b\"] is invalid for the target audiences [\"https://issuer\"]".to_owned())
    );
    let found = tokens.authenticate(&token, &["c".to_owned(), "vault".to_owned()]).unwrap().unwrap();
    assert_eq!(found.audiences, Some(vec!["vault".to_owned()]));

    let (token, _) = tokens.issue(bound(None, None, None), &[], HOUR).unwrap();
    let judge = |at: u64| {
        fixture.now.store(at, Ordering::Relaxed);
        tokens.authenticate(&token, &[]).map(|found| found.is_some())
    };
    assert_eq!(judge(NOW), Ok(true));
    assert_eq!(judge(NOW + 3600 + 59), Ok(true));
    assert_eq!(judge(NOW + 3600 + 61), Err("service account token has expired".to_owned()));
    assert_eq!(judge(NOW - 59), Ok(true));
    assert_eq!(judge(NOW - 61), Err("service account token is not valid yet".to_owned()));
    fixture.now.store(NOW, Ordering::Relaxed);

    // Every other signature, header or payload is refused; another issuer is another's business.
    let parts: Vec<&str> = token.split('.').collect();
    for at in 0..3 {
        let mut forged: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        let flipped = if forged[at].starts_with('e') { "f" } else { "e" };
        forged[at].replace_range(..1, flipped);
        assert_ne!(
            tokens.authenticate(&forged.join("."), &[]).ok().flatten().map(|found| found.user.name).as_deref(),
            Some("system:serviceaccount:a:builder"),
            "part {at}"
        );
    }
    let other_keys = Keys::new(&KeyPair::generate().unwrap().serialize_pem(), &[]).unwrap();
    let (_, clock) = fixed_clock();
    let other = Tokens::new(other_keys, "https://issuer", fixture.storage.clone(), clock.clone());
    let (forged, _) = other.issue(bound(None, None, None), &[], HOUR).unwrap();
    assert_eq!(tokens.authenticate(&forged, &[]), Err("invalid signature, no keys found".to_owned()));
    let keys = Keys::new(&KeyPair::generate().unwrap().serialize_pem(), &[]).unwrap();
    let foreign = Tokens::new(keys, "https://other", fixture.storage.clone(), clock);
    let (token, _) = foreign.issue(bound(None, None, None), &[], HOUR).unwrap();
    assert_eq!(tokens.authenticate(&token, &[]), Ok(None));
    // The algorithm is not the token's to choose.
    let none = format!("{}.{}.", "eyJhbGciOiJub25lIn0", parts[1]);
    assert!(tokens.authenticate(&none, &[]).is_err());
}

#[tokio::test]
async fn an_older_key_still_verifies_and_the_key_set_names_both() {
    let storage = SqliteStorage::in_memory().await;
    let (_, clock) = fixed_clock();
    let (old, new) = (KeyPair::generate().unwrap().serialize_pem(), KeyPair::generate().unwrap().serialize_pem());
    let before = Tokens::new(Keys::new(&old, &[]).unwrap(), "https://issuer", storage.clone(), clock.clone());
    let (token, _) = before.issue(bound(None, None, None), &[], HOUR).unwrap();
    let after = Tokens::new(Keys::new(&new, &[&old]).unwrap(), "https://issuer", storage, clock);
    // The signature holds; the account is what is missing.
    assert_eq!(after.authenticate(&token, &[]), Err("serviceaccounts \"builder\" not found".to_owned()));
    let keys = after.key_set();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    let header = jsonwebtoken::decode_header(&token).unwrap();
    assert_eq!(keys["keys"][1]["kid"].as_str(), header.kid.as_deref());
    assert_eq!(keys["keys"][0]["alg"], "ES256");
    assert_eq!(after.discovery()["jwks_uri"], "https://issuer/openid/v1/jwks");
    assert!(Keys::new("no key", &[]).is_err());
}

#[tokio::test]
async fn a_bootstrap_token_is_a_secret_in_kube_system() {
    let fixture = fixture().await;
    let encode = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let secret = |change: &dyn Fn(&mut Value)| {
        let mut object = json!({
            "metadata": {"name": "bootstrap-token-abcdef"},
            "type": "bootstrap.kubernetes.io/token",
            "data": {
                "token-id": encode("abcdef"),
                "token-secret": encode("0123456789abcdef"),
                "usage-bootstrap-authentication": encode("true"),
                "auth-extra-groups": encode("system:bootstrappers:x,system:bootstrappers:a:b,system:bootstrappers:x"),
                "expiration": encode("2030-01-01T00:00:00Z"),
            },
        });
        change(&mut object);
        object
    };
    let ask = async || fixture.ask(None, &[("authorization", "Bearer abcdef.0123456789abcdef")]).await;
    assert_eq!(ask().await, Err(401));
    fixture.put("secrets", "kube-system", secret(&|_| {})).await;
    let user = ask().await.unwrap();
    assert_eq!(user.name, "system:bootstrap:abcdef");
    let groups = ["system:bootstrappers", "system:bootstrappers:a:b", "system:bootstrappers:x", "system:authenticated"];
    assert_eq!(user.groups, groups);
    assert_eq!(fixture.ask(None, &[("authorization", "Bearer abcdef.0123456789abcdee")]).await, Err(401));
    let spoilt: [&dyn Fn(&mut Value); 7] = [
        &|object| object["data"]["auth-extra-groups"] = encode("system:bootstrappers:x,system:masters").into(),
        &|object| object["data"]["auth-extra-groups"] = encode("system:bootstrappers:x, system:bootstrappers:y").into(),
        &|object| object["data"]["expiration"] = encode("2020-01-01T00:00:00Z").into(),
        &|object| object["data"]["expiration"] = encode("soon").into(),
        &|object| object["data"]["usage-bootstrap-authentication"] = encode("false").into(),
        &|object| object["type"] = "Opaque".into(),
        &|object| object["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z".into(),
    ];
    for change in spoilt {
        fixture.put("secrets", "kube-system", secret(change)).await;
        assert_eq!(ask().await, Err(401));
    }
}

mod impersonating {
    use super::super::impersonate;
    use super::*;
    use crate::apiserver::authz::{Attributes, Authorizer, Decision, ResourceAttributes};

    /// Allows the listed `verb group/resource[/subresource] [namespace/]name`.
    struct Allowed(&'static [&'static str]);

    #[async_trait]
    impl Authorizer for Allowed {
        async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
            let resource = attributes.resource.unwrap_or_default();
            let sub =
                if resource.subresource.is_empty() { String::new() } else { format!("/{}", resource.subresource) };
            let asked = format!(
                "{} {}/{}{sub} {}/{}",
                attributes.verb, resource.group, resource.resource, resource.namespace, resource.name
            );
            if self.0.contains(&asked.as_str()) {
                Decision::Allow(String::new())
            } else {
                Decision::NoOpinion(String::new())
            }
        }
    }

    async fn run(
        allowed: &'static [&'static str],
        headers: &[(&str, &str)],
        requester: &UserInfo,
    ) -> Result<Option<UserInfo>, Status> {
        let mut map = http::HeaderMap::new();
        for (name, value) in headers {
            map.append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let resource =
            ResourceAttributes { resource: "pods", version: "v1", namespace: "a", ..ResourceAttributes::default() };
        let attributes = Attributes { user: requester, verb: "list", resource: Some(resource), path: "" };
        let authorizers: Vec<Arc<dyn Authorizer>> = vec![Arc::new(Allowed(allowed))];
        let result = impersonate(&mut map, &attributes, &authorizers).await;
        if result.as_ref().is_ok_and(Option::is_some) {
            assert!(map.is_empty(), "the headers are taken away: {map:?}");
        }
        result.map(|found| found.map(|(user, _)| user))
    }

    fn jane() -> UserInfo {
        UserInfo::new("jane", &[])
    }

    #[tokio::test]
    async fn the_plain_verb_allows_each_part() {
        assert_eq!(run(&[], &[("accept", "x")], &jane()).await, Ok(None));
        let headers = [
            ("impersonate-user", "bob"),
            ("impersonate-group", "devs"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-scopes", "view"),
        ];
        let all = &[
            "impersonate /users /bob",
            "impersonate /groups /devs",
            "impersonate authentication.k8s.io/uids /7",
            "impersonate authentication.k8s.io/userextras/scopes /view",
        ];
        let user = run(all, &headers, &jane()).await.unwrap().unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("bob", "7"));
        assert_eq!(user.groups, ["devs", "system:authenticated"]);
        assert_eq!(user.extra["scopes"], ["view"]);
        for missing in 0..all.len() {
            let some: Vec<&'static str> =
                all.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, text)| *text).collect();
            let error = run(Vec::leak(some), &headers, &jane()).await.unwrap_err();
            assert_eq!(error.code, 403, "without {}", all[missing]);
        }
    }

    #[tokio::test]
    async fn refusals_and_nonsense_are_worded() {
        let error = run(&[], &[("impersonate-user", "bob")], &jane()).await.unwrap_err();
        assert_eq!(
            error.message,
            "pods is forbidden: User \"jane\" cannot impersonate-on:user-info:list resource \"pods\" in API group \"\" \
             in the namespace \"a\""
        );
        let error = run(&[], &[("impersonate-group", "devs")], &jane()).await.unwrap_err();
        assert_eq!(error.code, 400);
        assert_eq!(
            error.message,
            "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"devs\"}, Extra:map[string][]string(nil)} \
             without impersonating a user name"
        );
    }

    #[tokio::test]
    async fn service_accounts_nodes_and_nobody_have_their_groups() {
        let groups = async |allowed: &'static [&'static str], user: &str| {
            run(allowed, &[("impersonate-user", user)], &jane()).await.unwrap().unwrap().groups
        };
        assert_eq!(
            groups(&["impersonate /serviceaccounts a/builder"], "system:serviceaccount:a:builder").await,
            ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]
        );
        let node = &[
            "impersonate-on:arbitrary-node:list /pods a/",
            "impersonate:arbitrary-node authentication.k8s.io/nodes /n1",
        ];
        assert_eq!(groups(node, "system:node:n1").await, ["system:nodes", "system:authenticated"]);
        assert_eq!(
            groups(&["impersonate /users /system:anonymous"], "system:anonymous").await,
            ["system:unauthenticated"]
        );
    }

    #[tokio::test]
    async fn a_pod_may_be_let_be_its_own_node_only() {
        let allowed: &'static [&'static str] = &[
            "impersonate-on:associated-node:list /pods a/",
            "impersonate:associated-node authentication.k8s.io/nodes /*",
        ];
        let mut agent = UserInfo::new("system:serviceaccount:a:agent", &[]);
        agent.extra.insert("authentication.kubernetes.io/node-name".into(), vec!["n1".into()]);
        let own = run(allowed, &[("impersonate-user", "system:node:n1")], &agent).await.unwrap().unwrap();
        assert_eq!(own.name, "system:node:n1");
        assert!(run(allowed, &[("impersonate-user", "system:node:n2")], &agent).await.is_err());
        assert!(run(allowed, &[("impersonate-user", "system:node:n1")], &jane()).await.is_err());
    }

    #[tokio::test]
    async fn the_constrained_mode_never_gives_masters() {
        let allowed: &'static [&'static str] = &[
            "impersonate-on:user-info:list /pods a/",
            "impersonate:user-info authentication.k8s.io/users /bob",
            "impersonate:user-info authentication.k8s.io/groups /system:masters",
        ];
        let headers = [("impersonate-user", "bob"), ("impersonate-group", "system:masters")];
        let error = run(allowed, &headers, &jane()).await.unwrap_err();
        assert!(error.message.ends_with("impersonating the system:masters group is not allowed"), "{}", error.message);
        assert_eq!(run(allowed, &headers[..1], &jane()).await.unwrap().unwrap().name, "bob");
    }
}

#[tokio::test]
async fn nobody_in_particular_asks_about_health_alone() {
    let ask = async |anonymous: Anonymous, path: &str, token: Option<&str>| {
        let fixture = fixture_with(anonymous).await;
        let mut request = http::Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        match fixture.chain.authenticate(&parts).await {
            Ok(user) => Ok(user.unwrap().name),
            Err(status) => Err(status.code),
        }
    };
    let health = || Anonymous::On(HEALTH_PATHS.to_vec());
    for path in ["/livez", "/readyz", "/healthz", "/readyz?verbose"] {
        assert_eq!(ask(health(), path, None).await.as_deref(), Ok("system:anonymous"), "{path}");
        assert_eq!(ask(health(), path, Some("wrong")).await, Err(401), "{path}");
        assert_eq!(ask(Anonymous::Nowhere, path, None).await, Err(401), "{path}");
    }
    for path in ["/", "/version", "/api/v1/nodes", "/livez/", "/livez/ping", "/openid/v1/jwks"] {
        assert_eq!(ask(health(), path, None).await, Err(401), "{path}");
        assert_eq!(ask(health(), path, Some("s3cret")).await.as_deref(), Ok("joiner"), "{path}");
        assert_eq!(ask(Anonymous::Everywhere, path, None).await.as_deref(), Ok("system:anonymous"), "{path}");
    }
}
