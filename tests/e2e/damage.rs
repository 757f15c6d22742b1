//! A damaged database: it is named with the mend, nothing of it is served wrong, and the mend works.

use crate::cluster::{Machine, ORCH, both, wait};
use crate::need_machine;
use serde_json::json;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

/// No snapshots but those that are asked for.
const FLAGS: &[&str] = &["--disable-agent", "--disable-snapshots"];

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/default/configmaps/{name}")
}

/// What an object holds: long enough to find it in the file.
fn text(name: &str) -> String {
    format!("the text of {name}, ").repeat(30)
}

fn create(machine: &Machine, name: &str) {
    let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "text": text(name) } });
    let file = machine.path("object.json");
    fs::write(&file, object.to_string()).expect("written");
    let data = format!("@{}", file.display());
    let flags = ["-H", "Content-Type: application/json", "--data-binary", &data];
    let (code, said) = machine.api("POST", &path(""), &flags);
    assert_eq!(code, 201, "{name}: {said}");
}

fn orch(machine: &Machine, arguments: &[&str]) -> Output {
    machine.inside(ORCH).args(arguments).output().expect("orch starts")
}

fn must(machine: &Machine, arguments: &[&str]) -> String {
    let output = orch(machine, arguments);
    assert!(output.status.success(), "orch {arguments:?}: {}", both(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A start on damaged data: it ends by itself, with one error.
fn refused(machine: &Machine) -> String {
    let mut command = machine.server_command(FLAGS);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    wait("it ends by itself", || child.try_wait().expect("it can be waited for").is_some());
    let output = child.wait_with_output().expect("it ended");
    let said = both(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("orch: ")).collect();
    assert_eq!(errors.len(), 1, "one error: {said}");
    errors[0].to_owned()
}

/// The command that an error tells after these words.
fn told<'a>(error: &'a str, words: &str) -> Vec<&'a str> {
    let command = error.split(words).nth(1).unwrap_or_else(|| panic!("{words:?} is not in: {error}"));
    command.split(';').next().expect("a first part").split_whitespace().skip(1).collect()
}

fn store(machine: &Machine) -> PathBuf {
    machine.path("data/server/db")
}

/// Change a byte in the middle of an object's row.
fn flip(file: &Path, name: &str) {
    let bytes = fs::read(file).expect("the database");
    let text = text(name);
    let at = bytes.windows(text.len() / 2).position(|part| part == &text.as_bytes()[..text.len() / 2]);
    let at = at.expect("the object is in the file") as u64 + 20;
    let opened = fs::OpenOptions::new().write(true).open(file).expect("the database");
    opened.write_all_at(&[bytes[at as usize] ^ 1], at).expect("written");
}

#[test]
fn a_damaged_database_is_named_with_the_mend() {
    need_machine!();
    let mut machine = Machine::new();
    let data = format!("--data-dir={}", machine.path("data").display());
    machine.start(FLAGS);
    machine.wait_answer();
    for number in 0..20 {
        create(&machine, &format!("object-{number}"));
    }
    let saved =
        must(&machine, &["snapshot", "save", &format!("--kubeconfig={}", machine.path("kubeconfig").display())]);
    create(&machine, "late");
    assert_eq!(machine.stop(), Some(0), "{}", machine.log());
    let database = store(&machine).join("orch.db");
    let whole = fs::read(&database).expect("the database");

    // A flipped byte: the object is named, and the snapshot to go back to.
    flip(&database, "object-7");
    let error = refused(&machine);
    for part in [
        &format!("database {} is damaged: object \"core/configmaps/default/object-7\"", database.display()),
        "does not match its checksum",
        "restore a snapshot",
        saved.split_once(": ").expect("a path").0,
    ] {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
    assert_eq!(refused(&machine), error, "nothing has changed");
    // To go on with the rest is the other mend.
    let salvage = told(&error, "to go on with the objects that are whole: ");
    let said = must(&machine, &salvage);
    assert!(said.contains("object-7") && said.contains("what was there before is kept in"), "{said}");
    machine.start(FLAGS);
    machine.wait_answer();
    assert_eq!(machine.api("GET", &path("object-7"), &[]).0, 404);
    for name in ["object-6", "object-8", "late"] {
        assert_eq!(machine.get(&path(name))["data"]["text"], text(name), "{name}");
    }
    create(&machine, "object-7");
    assert_eq!(machine.stop(), Some(0));

    // A file cut short, and one of other bytes; the mend is followed as it is told.
    let sidecar = store(&machine).join("orch.db-sequence");
    let middle = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    for (what, bytes) in
        [("cut short", middle(&whole)), ("of other bytes", vec![0x5a; whole.len()]), ("of nothing", Vec::new())]
    {
        fs::write(&database, bytes).expect("written");
        let error = refused(&machine);
        assert!(error.contains(&database.display().to_string()), "{what}: {error}");
        assert!(error.contains("is damaged") || error.contains("is gone"), "{what}: {error}");
        let restored = must(&machine, &told(&error, "to go back to a snapshot: "));
        assert!(restored.contains("what was there before is kept in"), "{what}: {restored}");
        machine.start(FLAGS);
        machine.wait_answer();
        for number in 0..20 {
            let name = format!("object-{number}");
            assert_eq!(machine.get(&path(&name))["data"]["text"], text(&name), "{what}: {name}");
        }
        assert_eq!(machine.api("GET", &path("late"), &[]).0, 404, "{what}: the snapshot is older");
        create(&machine, "later");
        assert_eq!(machine.stop(), Some(0));
    }
    assert!(sidecar.exists());

    // A WAL of garbage: what was acknowledged is missing, which is not passed over.
    machine.start(FLAGS);
    machine.wait_answer();
    create(&machine, "acknowledged");
    machine.kill();
    let wal = store(&machine).join("orch.db-wal");
    let length = fs::metadata(&wal).expect("the WAL").len();
    assert!(length > 0);
    fs::write(&wal, vec![0xa5; usize::try_from(length).expect("it fits")]).expect("written");
    let error = refused(&machine);
    assert!(error.contains("commits are missing") || error.contains("does not"), "{error}");
    let restore = told(&error, "to go back to a snapshot: ").join(" ");
    assert!(restore.contains("snapshot restore"), "{restore}");
    let said = must(&machine, &["snapshot", "restore", &data, saved.split_once(": ").expect("a path").0]);
    assert!(said.contains("start orch to go on from there"), "{said}");
    machine.start(FLAGS);
    machine.wait_answer();
    assert_eq!(machine.get(&path("object-7"))["data"]["text"], text("object-7"));
    assert_eq!(machine.stop(), Some(0));
}

#[test]
fn a_server_goes_back_to_its_own_snapshot() {
    need_machine!();
    let mut machine = Machine::new();
    let elsewhere = machine.path("snapshots");
    let directory = format!("--snapshot-dir={}", elsewhere.display());
    let flags = ["--disable-agent", "--snapshot-interval=1s", "--snapshot-retention=2", &directory];
    machine.start(&flags);
    machine.wait_answer();
    create(&machine, "one");
    let listed = |machine: &Machine| -> Vec<serde_json::Value> {
        let said = must(machine, &["snapshot", "list", "--dir", &elsewhere.display().to_string(), "-o", "json"]);
        serde_json::from_str::<Vec<_>>(&said).expect("JSON")
    };
    let wait_for = |machine: &Machine, name: &str| {
        let object = machine.get(&path(name));
        let revision: u64 = object["metadata"]["resourceVersion"].as_str().expect("one").parse().expect("a number");
        wait("a snapshot has it", || {
            listed(machine).first().is_some_and(|newest| newest["manifest"]["revision"].as_u64() >= Some(revision))
        });
    };
    wait_for(&machine, "one");
    // The old ones go; between a new one and that there is one more.
    let mut seen = std::collections::BTreeSet::new();
    wait("there were five", || {
        let there = listed(&machine);
        assert!(there.len() <= 3, "{there:?}");
        seen.extend(there.iter().map(|one| one["path"].to_string()));
        seen.len() >= 5
    });
    assert_eq!(machine.stop(), Some(0));
    flip(&store(&machine).join("orch.db"), "one");
    let before = machine.log().len();
    // By a schedule, as users of k3s write it.
    machine.start(&[
        "--disable-agent",
        "--etcd-snapshot-schedule-cron=@every 1s",
        "--snapshot-retention=2",
        &directory,
    ]);
    machine.wait_answer();
    let log = machine.log()[before..].to_owned();
    for part in ["the database was damaged", "default/one", "starts from the snapshot", "is kept in"] {
        assert!(log.contains(part), "{part:?} is not in: {log}");
    }
    assert_eq!(machine.get(&path("one"))["data"]["text"], text("one"));
    create(&machine, "two");
    wait_for(&machine, "two");
    assert_eq!(machine.stop(), Some(0));
}
