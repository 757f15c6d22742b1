//! `orch kubectl` says what kubectl says: the command lines of `kubectl_cases`, each given to both, are
//! answered with the same output, the same errors and the same exit code.
//!
//! Each of the two works in a namespace of its own, with a kubeconfig of its own. A line that begins with `<`
//! is the input of the one behind it; of one with `~` the order of lines does not count. What differs from run
//! to run (times, UIDs, addresses) is made the same.

use crate::cluster::{Machine, ORCH};
use crate::need_machine;
use regex::Regex;
use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::sync::Mutex;

/// Files that cases name.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/kustomization");

const CASES: &[(&str, &str)] = &[
    ("create", include_str!("kubectl_cases/create.txt")),
    ("change", include_str!("kubectl_cases/change.txt")),
    ("get", include_str!("kubectl_cases/get.txt")),
    ("discovery", include_str!("kubectl_cases/discovery.txt")),
    ("config", include_str!("kubectl_cases/config.txt")),
    ("work", include_str!("kubectl_cases/work.txt")),
    ("kustomize", include_str!("kubectl_cases/kustomize.txt")),
];

/// The kubectl that the cases were taken from; others word some of them differently.
const MINOR: &str = "32";

#[test]
fn own_kubectl_says_what_kubectl_says() {
    need_machine!();
    let mut machine = Machine::new();
    machine.add_images(&["busybox", "nginx"]);
    machine.start(&[]);
    machine.wait_ready();
    let text = machine.kubectl(&["version", "--client", "-o", "json"]);
    let version: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let minor = version["clientVersion"]["minor"].as_str().unwrap_or_default();
    if minor.trim_end_matches('+') != MINOR {
        eprintln!(
            "SKIPPED {}: the kubectl on PATH is not 1.{MINOR}: it words some messages differently",
            module_path!()
        );
        return;
    }
    let differences = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (name, cases) in CASES {
            let (machine, differences) = (&machine, &differences);
            scope.spawn(move || {
                let found = compare(machine, name, cases);
                differences.lock().expect("no panic").extend(found);
            });
        }
    });
    let differences = differences.into_inner().expect("no panic");
    assert!(differences.is_empty(), "{} lines differ:\n{}", differences.len(), differences.join("\n"));
}

/// One of the two.
struct Side<'a> {
    machine: &'a Machine,
    program: &'static [&'static str],
    namespace: String,
    kubeconfig: String,
}

/// What a run said, and its exit code.
type Said = (String, String, Option<i32>);

impl<'a> Side<'a> {
    fn new(machine: &'a Machine, name: &str, which: &str, program: &'static [&'static str]) -> Self {
        let namespace = format!("{which}-{name}");
        machine.kubectl(&["create", "namespace", &namespace]);
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
        crate::cluster::wait("the default service account", || machine.api("GET", &path, &[]).0 == 200);
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt");
        crate::cluster::wait("the root certificate", || machine.api("GET", &path, &[]).0 == 200);
        let kubeconfig = machine.path(&format!("{namespace}.kubeconfig"));
        fs::copy(machine.path("kubeconfig"), &kubeconfig).expect("copied");
        Self { machine, program, namespace, kubeconfig: kubeconfig.display().to_string() }
    }

    fn run(&self, line: &str, input: &str) -> Said {
        let mut command = self.machine.command("timeout");
        command.arg("100").args(self.program).env("KUBECONFIG", &self.kubeconfig);
        if !line.starts_with("config") {
            command.args(["-n", &self.namespace]);
        }
        command
            .args(words(&line.replace("FIXTURES", FIXTURES)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        // One that reads nothing may be gone already.
        let _ = child.stdin.take().expect("an input").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        let text = |bytes: &[u8]| self.normal(&String::from_utf8_lossy(bytes));
        (text(&output.stdout), text(&output.stderr), output.status.code())
    }

    fn normal(&self, text: &str) -> String {
        let mut text = text.replace(&self.kubeconfig, "KUBECONFIG").replace(&self.namespace, "NAMESPACE");
        for (pattern, name) in [
            ("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
            ("resourceVersion: \"[0-9]+\"", "VERSION"),
            ("20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "TIME"),
            ("web-[0-9a-f]{8,10}(-[0-9a-z]{5})?", "web-HASH"),
            ("pod-template-hash=[0-9a-f]+", "HASH"),
            ("10\\.4[23]\\.[0-9]+\\.[0-9]+", "ADDRESS"),
            ("nodePort: 3[0-9]+", "PORT"),
            ("\\b([0-9]+[smh])+\\b", "AGE"),
        ] {
            text = Regex::new(pattern).expect("a pattern").replace_all(&text, name).into_owned();
        }
        text
    }
}

/// As a shell parts them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn compare(machine: &Machine, name: &str, cases: &str) -> Vec<String> {
    let stock = Side::new(machine, name, "std", &["kubectl"]);
    let own = Side::new(machine, name, "own", &[ORCH, "kubectl"]);
    let mut differences = Vec::new();
    let mut input = String::new();
    for line in cases.lines() {
        if let Some(text) = line.strip_prefix('<') {
            input = text.replace("\\n", "\n");
            continue;
        }
        // Where kubectl's order is that of a map in Go, which is a new one each time.
        let (line, any_order) = line.strip_prefix('~').map_or((line, false), |line| (line, true));
        let sorted = |text: &str| {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            lines.join("\n")
        };
        let (wanted, is) = (stock.run(line, &input), own.run(line, &input));
        input.clear();
        let same = match any_order {
            true => (sorted(&wanted.0), sorted(&wanted.1), wanted.2) == (sorted(&is.0), sorted(&is.1), is.2),
            false => wanted == is,
        };
        if !same {
            let show = |(out, err, code): &Said| format!("{out}--- errors\n{err}--- code {code:?}\n");
            differences.push(format!("=== {line}\n--- kubectl\n{}--- orch kubectl\n{}", show(&wanted), show(&is)));
        }
    }
    differences
}
