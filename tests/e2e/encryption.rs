//! `--secrets-encryption` and `orch secrets-encrypt` on a server that runs.

use crate::cluster::{Machine, ORCH, both};
use crate::need_machine;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const FLAGS: &[&str] = &["--disable-agent", "--disable-snapshots"];
/// Base64, so that it is in the store as it is here.
const PLAIN: &str = "cGxhaW4tdGV4dC1wYXNzd29yZA==";

fn create(machine: &Machine, name: &str) {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "data": { "password": PLAIN },
    });
    fs::write(machine.path("object.json"), object.to_string()).expect("written");
    machine.kubectl(&["create", "-f", &machine.path("object.json").display().to_string()]);
}

fn encrypt(machine: &Machine, arguments: &[&str]) -> String {
    let output = machine.command(ORCH).arg("secrets-encrypt").args(arguments).output().expect("orch starts");
    assert!(output.status.success(), "secrets-encrypt {arguments:?}: {}", both(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn status(machine: &Machine) -> Value {
    serde_json::from_str(&encrypt(machine, &["status", "-o", "json"])).expect("JSON")
}

fn password(machine: &Machine, name: &str) -> String {
    machine.kubectl(&["get", "secret", name, "-o", "jsonpath={.data.password}"])
}

/// Whether any file of the store has the text.
fn on_disk(machine: &Machine, text: &str) -> bool {
    let has = |path: &Path| fs::read(path).unwrap_or_default().windows(text.len()).any(|part| part == text.as_bytes());
    let files = fs::read_dir(machine.path("data/server/db")).expect("the store");
    files.flatten().any(|file| has(&file.path()))
}

#[test]
fn secrets_are_encrypted_and_keys_exchanged_while_the_server_runs() {
    need_machine!();
    let mut machine = Machine::new();
    machine.start(FLAGS);
    machine.wait_answer();
    create(&machine, "before");
    assert!(on_disk(&machine, PLAIN));
    assert!(encrypt(&machine, &["status"]).starts_with("Encryption Status: Disabled, no configuration file found\n"));

    encrypt(&machine, &["enable"]);
    create(&machine, "after");
    let said = encrypt(&machine, &["reencrypt", "--force", "--skip"]);
    assert!(said.starts_with("reencryption finished, "), "{said}");
    assert!(!on_disk(&machine, PLAIN) && on_disk(&machine, "k8s:enc:aescbc:v1:aescbckey:"));
    let said = encrypt(&machine, &["rotate-keys"]);
    assert!(said.starts_with("keys rotated, reencryption finished, "), "{said}");
    assert!(!on_disk(&machine, "k8s:enc:aescbc:v1:aescbckey:"));
    let shown = status(&machine);
    assert_eq!((&shown["enabled"], &shown["stage"]), (&json!(true), &json!("reencrypt_finished")));
    assert_eq!(shown["keys"].as_array().map(Vec::len), Some(1), "{shown}");

    // Step by step; a step out of turn is refused and changes nothing.
    let refused = machine.command(ORCH).args(["secrets-encrypt", "rotate"]).output().expect("orch starts");
    assert!(
        !refused.status.success() && both(&refused).contains("the stage is reencrypt_finished"),
        "{}",
        both(&refused)
    );
    for step in ["prepare", "rotate", "reencrypt"] {
        encrypt(&machine, &[step]);
    }
    assert_eq!((password(&machine, "before").as_str(), password(&machine, "after").as_str()), (PLAIN, PLAIN));

    // Without its key the server serves the rest, and makes no new one in its place.
    machine.stop();
    let keys = machine.path("data/server/cred/encryption-config.json");
    fs::rename(&keys, machine.path("keys.json")).expect("the keys");
    machine.start(&[FLAGS, &["--secrets-encryption"]].concat());
    machine.wait_answer();
    let output = machine.try_kubectl(&["get", "secret", "before"]);
    let said = both(&output);
    assert!(said.contains("unable to transform key \"/registry/secrets/default/before\""), "{said}");
    machine.kubectl(&["get", "configmaps", "-A"]);
    assert!(machine.log().contains("encryption-config.json is gone") && !keys.exists());
    machine.stop();
    fs::rename(machine.path("keys.json"), &keys).expect("the keys");
    machine.start(&[FLAGS, &["--secrets-encryption"]].concat());
    machine.wait_answer();
    assert_eq!(password(&machine, "before"), PLAIN);

    // And back to plain text.
    encrypt(&machine, &["disable"]);
    encrypt(&machine, &["reencrypt", "--force", "--skip"]);
    assert!(on_disk(&machine, PLAIN) && !on_disk(&machine, "k8s:enc:"));
}
