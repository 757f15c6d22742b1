//! Encryption at rest: forms, keys that come and go, configurations.

use super::*;
use crate::storage::Revision;
use serde_json::{Value, json};

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const OTHER: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn configuration(resources: &[&str], providers: &Value) -> String {
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{ "resources": resources, "providers": providers }],
    })
    .to_string()
}

fn encryption(providers: &Value) -> Encryption {
    Encryption::parse(&configuration(&["secrets"], providers)).expect("a configuration")
}

fn keys(provider: &str, keys: &[(&str, &str)]) -> Value {
    let keys: Vec<Value> = keys.iter().map(|(name, secret)| json!({ "name": name, "secret": secret })).collect();
    json!({ provider: { "keys": keys } })
}

fn key(resource: &str) -> Key {
    Key::new(&GroupResource::new("", resource), "default", "x")
}

fn body() -> Body {
    Body::from_value(
        &json!({ "kind": "Secret", "metadata": { "name": "x" }, "data": { "a": "cGFzc3dvcmQ=" } }),
        7,
        None,
    )
}

fn entry(key: &Key, body: Body) -> Entry {
    Entry { key: key.clone(), revision: Revision(1), created: Revision(1), body }
}

#[test]
fn what_is_on_disk_has_the_form_of_kubernetes_and_reads_back() {
    for provider in ["aescbc", "aesgcm", "secretbox"] {
        let encryption = encryption(&json!([keys(provider, &[("one", KEY)]), { "identity": {} }]));
        let sealed = encryption.seal(&key("secrets"), &body());
        assert!(sealed.at_rest().starts_with(format!("k8s:enc:{provider}:v1:one:").as_bytes()));
        assert!(!sealed.at_rest().windows(12).any(|part| part == b"cGFzc3dvcmQ="));
        let opened = encryption.open(&key("secrets"), sealed.at_rest().clone(), 7).expect("an object");
        assert_eq!((opened.parse(), opened.unreadable()), (body().parse(), None));
        assert_eq!(opened.at_rest(), sealed.at_rest(), "what is on disk is what its checksum is of");
        assert!(encryption.is_current(&entry(&key("secrets"), opened)));
        // Plain ones are still read, but are not as they would be written.
        let plain = encryption.open(&key("secrets"), body().at_rest().clone(), 7).expect("an object");
        assert!(plain.unreadable().is_none() && !encryption.is_current(&entry(&key("secrets"), plain)));
        let other = encryption.seal(&key("configmaps"), &body());
        assert_eq!(other.at_rest(), other.stored());
    }
}

#[test]
fn keys_are_exchanged_one_behind_the_other() {
    let old = encryption(&json!([keys("aescbc", &[("one", KEY)])])).seal(&key("secrets"), &body());
    let both = encryption(&json!([keys("aescbc", &[("two", OTHER), ("one", KEY)])]));
    let opened = both.open(&key("secrets"), old.at_rest().clone(), 7).expect("an object");
    assert!(opened.unreadable().is_none() && !both.is_current(&entry(&key("secrets"), opened.clone())));
    assert!(both.seal(&key("secrets"), &opened).at_rest().starts_with(b"k8s:enc:aescbc:v1:two:"));
    // Encryption is given up: identity first.
    let off = encryption(&json!([{ "identity": {} }, keys("aescbc", &[("one", KEY)])]));
    let opened = off.open(&key("secrets"), old.at_rest().clone(), 7).expect("an object");
    assert!(opened.unreadable().is_none() && !off.is_current(&entry(&key("secrets"), opened.clone())));
    assert_eq!(off.seal(&key("secrets"), &opened).at_rest(), body().at_rest());
}

#[test]
fn what_no_key_opens_is_named_and_kept() {
    let old = encryption(&json!([keys("aescbc", &[("one", KEY)])])).seal(&key("secrets"), &body());
    let boxed = encryption(&json!([keys("secretbox", &[("one", KEY)])])).seal(&key("secrets"), &body());
    let reason = |encryption: &Encryption, body: &Body| {
        let opened = encryption.open(&key("secrets"), body.at_rest().clone(), 7).expect("it stands for one");
        assert_eq!(opened.at_rest(), body.at_rest());
        assert_eq!(opened.parse(), json!({ "metadata": { "name": "x", "namespace": "default" } }));
        opened.unreadable().expect("it is unreadable").to_owned()
    };
    let two = encryption(&json!([keys("aescbc", &[("two", OTHER)])]));
    assert_eq!(
        reason(&two, &old),
        "no matching key was found for the provided AES transformer: it was encrypted with key \"one\" of aescbc"
    );
    assert_eq!(reason(&two, &boxed), "no matching prefix found");
    assert_eq!(reason(&two, &body()), "no matching prefix found", "identity is not among the providers");
    let wrong = encryption(&json!([keys("secretbox", &[("one", OTHER)])]));
    assert_eq!(reason(&wrong, &boxed), "key \"one\" of secretbox: message authentication failed");
    let none = Encryption::default();
    assert_eq!(reason(&none, &old), "identity transformer tried to read encrypted data");
    // The key comes back.
    let lost = none.open(&key("secrets"), old.at_rest().clone(), 7).expect("it stands for one");
    let back = encryption(&json!([keys("aescbc", &[("one", KEY)])]));
    let found = back.reopened(&entry(&key("secrets"), lost)).expect("it changes");
    assert_eq!(found.body.parse(), body().parse());
    assert!(back.reopened(&found).is_none());
}

#[test]
fn resources_are_named_alone_by_group_and_all() {
    let covers =
        |name: &str, group: &str, resource: &str| Resources::parse(name).covers(&GroupResource::new(group, resource));
    assert!(covers("secrets", "", "secrets") && !covers("secrets", "apps", "secrets"));
    assert!(covers("deployments.apps", "apps", "deployments") && !covers("deployments.apps", "", "deployments"));
    assert!(covers("*.apps", "apps", "deployments") && !covers("*.apps", "", "pods"));
    assert!(covers("*.", "", "pods") && !covers("*.", "apps", "deployments"));
    assert!(covers("*.*", "example.com", "things") && covers("*.*", "", "pods"));
    // The first list that names it counts.
    let text = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [
            { "resources": ["secrets"], "providers": [keys("secretbox", &[("one", KEY)])] },
            { "resources": ["*.*"], "providers": [{ "identity": {} }] },
        ],
    });
    let encryption = Encryption::parse(&text.to_string()).expect("a configuration");
    assert!(encryption.seal(&key("secrets"), &body()).at_rest().starts_with(b"k8s:enc:secretbox:v1:one:"));
    assert_eq!(encryption.seal(&key("pods"), &body()).at_rest(), body().at_rest());
}

#[test]
fn a_configuration_is_checked_and_shows_no_key() {
    let check = |resources: &[&str], providers: Value, expected: &str| {
        let error = Encryption::parse(&configuration(resources, &providers)).err().expect("refused");
        assert_eq!(error, expected);
    };
    let identity = || json!([{ "identity": {} }]);
    check(
        &["secrets"],
        json!([keys("aescbc", &[("one", "c2hvcnQ=")])]),
        "resources[0].providers[0].aescbc.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 5, expected one of [16, 24, 32]",
    );
    check(
        &["secrets"],
        json!([keys("secretbox", &[("", "%")])]),
        "resources[0].providers[0].secretbox.keys[0].name: Required value: name is a mandatory field for a key; resources[0].providers[0].secretbox.keys[0].secret: Invalid value: \"REDACTED\": secrets must be base64 encoded",
    );
    check(
        &["secrets", "*."],
        identity(),
        "resources[0].resources[0]: Invalid value: \"secrets\": using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked",
    );
    check(
        &["*"],
        identity(),
        "resources[0].resources[0]: Invalid value: \"*\": use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources",
    );
    check(&["secrets"], json!([]), "resources[0].providers: Required value: at least one providers is required");
    let other = Encryption::parse("kind: Pod\napiVersion: v1\n").err().expect("refused");
    assert!(other.contains("no kind \"Pod\""), "{other}");
    assert!(Encryption::parse(&configuration(&["secrets"], &json!([{ "vault": {} }]))).is_err());
}
