//! Tests of the PKI: files, renewal, clocks.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};

fn options(clock: Clock) -> Options {
    let mut options = Options::new("10.43.0.1".parse().unwrap(), "cluster.local");
    options.clock = clock;
    options.names.push("box.example".to_owned());
    options
}

fn at(seconds: u64) -> Clock {
    Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

const YEAR: u64 = 365 * 24 * 60 * 60;
const Y2027: u64 = 1_798_761_600;

fn names(pem: &str) -> Vec<String> {
    let chain = tls::certificates(pem).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    names
        .value
        .general_names
        .iter()
        .map(|name| match name {
            x509_parser::extensions::GeneralName::DNSName(name) => (*name).to_owned(),
            x509_parser::extensions::GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => IpAddr::from(<[u8; 4]>::try_from(*bytes).unwrap()).to_string(),
                _ => IpAddr::from(<[u8; 16]>::try_from(*bytes).unwrap()).to_string(),
            },
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn authorities_survive_a_restart_and_are_private() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tls");
    let first = Pki::open_or_create(&path, options(at(Y2027))).unwrap();
    let second = Pki::open_or_create(&path, options(at(Y2027 + 60))).unwrap();
    assert_eq!(first.server_ca_pem(), second.server_ca_pem());
    assert_eq!(first.client_ca_pem(), second.client_ca_pem());
    assert_eq!(first.service_account_key_pem(), second.service_account_key_pem());
    assert_ne!(first.server_ca_pem(), first.client_ca_pem());
    assert_eq!(first.ca_hash().len(), 64);
    let mut files = 0;
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        files += 1;
    }
    assert_eq!(files, 7, "three authorities and one key");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_power_cut_between_key_and_certificate_is_mended() {
    let directory = tempfile::tempdir().unwrap();
    Pki::open_or_create(directory.path(), options(at(Y2027))).unwrap();
    let key = std::fs::read_to_string(directory.path().join("client-ca.key")).unwrap();
    std::fs::remove_file(directory.path().join("client-ca.crt")).unwrap();
    Pki::open_or_create(directory.path(), options(at(Y2027))).unwrap();
    assert_eq!(std::fs::read_to_string(directory.path().join("client-ca.key")).unwrap(), key);
    assert!(directory.path().join("client-ca.crt").exists());
}

#[test]
fn damage_is_named_and_never_overwritten() {
    let cases: &[(&str, Option<&str>, &str)] = &[
        ("server-ca.key", None, "server-ca.key is missing"),
        ("server-ca.key", Some(""), "server-ca.key: damaged"),
        ("server-ca.crt", Some("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"), "server-ca.crt"),
        ("service-account.key", Some("-----BEGIN X-----\n-----END X-----\n"), "service-account.key: not a private key"),
    ];
    for (file, text, wanted) in cases {
        let directory = tempfile::tempdir().unwrap();
        Pki::open_or_create(directory.path(), options(at(Y2027))).unwrap();
        let path = directory.path().join(file);
        match text {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let Err(error) = Pki::open_or_create(directory.path(), options(at(Y2027))) else {
            panic!("{file} with {text:?} was taken");
        };
        assert!(format!("{error:#}").contains(wanted), "{error:#}");
        assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), *text);
    }
    // A certificate of another key.
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Pki::open_or_create(one.path(), options(at(Y2027))).unwrap();
    Pki::open_or_create(other.path(), options(at(Y2027))).unwrap();
    std::fs::copy(other.path().join("server-ca.crt"), one.path().join("server-ca.crt")).unwrap();
    let Err(error) = Pki::open_or_create(one.path(), options(at(Y2027))) else { panic!("a wrong pair was taken") };
    assert!(format!("{error:#}").contains("does not belong to the key"), "{error:#}");
}

#[test]
fn the_serving_certificate_follows_names_time_and_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(0));
    let clock: Clock = {
        let now = now.clone();
        Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(now.load(Ordering::Relaxed)))
    };
    // A machine without a clock starts in 1970.
    let pki = Pki::open_or_create(directory.path(), options(clock)).unwrap();
    let first = pki.serving.credentials().unwrap().certificate_pem;
    assert_eq!(
        names(&first),
        [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "localhost",
            "kubernetes.default.svc.cluster.local",
            "127.0.0.1",
            "::1",
            "10.43.0.1",
            "box.example"
        ]
    );
    let valid = |pem: &str| tls::validity(&tls::certificates(pem).unwrap()[0]).unwrap();
    assert_eq!(valid(&first).0, SystemTime::UNIX_EPOCH);
    assert!(
        valid(&first).1
            > SystemTime::UNIX_EPOCH + Duration::from_secs(crate::api::version::built_at().unsigned_abs() + YEAR - 1)
    );
    assert_eq!(pki.serving.credentials().unwrap().certificate_pem, first, "not due");
    // Then the clock steps.
    now.store(Y2027 + 5 * YEAR, Ordering::Relaxed);
    let second = pki.serving.credentials().unwrap().certificate_pem;
    assert_ne!(second, first);
    assert!(valid(&second).1 > SystemTime::UNIX_EPOCH + Duration::from_secs(Y2027 + 6 * YEAR - 1));
    now.fetch_add(YEAR / 2, Ordering::Relaxed);
    assert_eq!(pki.serving.credentials().unwrap().certificate_pem, second, "half of its life is left");
    now.fetch_add(YEAR / 4, Ordering::Relaxed);
    assert_ne!(pki.serving.credentials().unwrap().certificate_pem, second, "a quarter of its life is left");
    // And the address changes.
    pki.set_addresses(["192.168.7.9".parse().unwrap()]).unwrap();
    assert!(names(&pki.serving.credentials().unwrap().certificate_pem).contains(&"192.168.7.9".to_owned()));
}

#[test]
fn requests_are_signed_under_the_decided_subject() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open_or_create(directory.path(), options(at(Y2027))).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "admin");
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:masters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    let pem = pki.sign_client(&request, "system:node:n1", &["system:nodes"]).unwrap();
    let chain = tls::certificates(&pem).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    assert_eq!(parsed.subject().to_string(), "CN=system:node:n1, O=system:nodes");
    assert!(!parsed.is_ca());
    check_pair(&pem, &key).unwrap();
    let signed = pki.sign_for("kubernetes.io/kube-apiserver-client", &request, None).unwrap();
    let chain = tls::certificates(&signed).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    assert_eq!(parsed.subject().to_string(), "CN=admin, O=system:masters");
    assert!(!parsed.is_ca());
    for bad in ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"] {
        assert!(pki.sign_client(bad, "x", &[]).is_err(), "{bad:?}");
    }
    assert!(pki.sign_for("example.com/other", &request, None).is_err());
}

#[tokio::test]
async fn a_client_connects_and_is_known_by_its_certificate() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open_or_create(directory.path(), options(Arc::new(SystemTime::now))).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(pki.server_tls_config().unwrap());
    let config = pki.client_config("system:node:n1", &["system:nodes"], b"http/1.1").unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let (near, far) = tokio::io::duplex(4096);
    let server = async {
        let mut stream = acceptor.accept(near).await.unwrap();
        let peer = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        peer
    };
    let client = async {
        let mut stream = connector.connect("kubernetes.default.svc".try_into().unwrap(), far).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    let (peer, text) = tokio::join!(server, client);
    assert_eq!(text, "hello");
    let (_, parsed) = x509_parser::parse_x509_certificate(&peer).unwrap();
    assert_eq!(parsed.subject().to_string(), "CN=system:node:n1, O=system:nodes");
}

#[test]
fn a_kubeconfig_is_yaml_that_clients_read() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open_or_create(directory.path(), options(at(Y2027))).unwrap();
    let credentials = pki.issue_client("admin", &["system:masters"]).unwrap();
    let text = pki.kubeconfig("https://127.0.0.1:6443", "admin", &credentials);
    let config = crate::client::kubeconfig::parse(&text, std::path::Path::new("/")).unwrap();
    assert_eq!(config.current_context.as_deref(), Some("default"));
    assert_eq!(config.clusters[0].cluster.as_ref().unwrap().server.as_deref(), Some("https://127.0.0.1:6443"));
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(Y2027);
    assert!(!due_for_renewal(&credentials.certificate_pem, now).unwrap());
    assert!(due_for_renewal(&credentials.certificate_pem, now + LEAF_LIFETIME * 3 / 4).unwrap());
}
