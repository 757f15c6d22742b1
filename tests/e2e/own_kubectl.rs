//! `orch kubectl` says what kubectl says: the command lines of `kubectl_cases` are answered with the output,
//! the errors and the exit code that stand in the `.expected` file beside them.
//!
//! Those are the answers of a stock kubectl 1.36: `ORCH_RECORD_KUBECTL=/path/to/kubectl` writes them anew. A line
//! that begins with `<` is the input of the one behind it; of one with `~` the order of lines does not count. What
//! differs from run to run (times, UIDs, addresses) is made the same. The first case has the cluster for itself.

use crate::cluster::{Machine, ORCH};
use crate::need_machine;
use regex::Regex;
use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

/// Files that cases name.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/kustomization");

/// A group of command lines, and what is expected of them.
struct Case {
    name: &'static str,
    lines: &'static str,
    expected: &'static str,
}

macro_rules! case {
    ($name:literal) => {
        Case {
            name: $name,
            lines: include_str!(concat!("kubectl_cases/", $name, ".txt")),
            expected: include_str!(concat!("kubectl_cases/", $name, ".expected")),
        }
    };
}

const CASES: &[Case] = &[
    case!("running"),
    case!("create"),
    case!("change"),
    case!("get"),
    case!("discovery"),
    case!("config"),
    case!("work"),
    case!("kustomize"),
    case!("describe"),
];

/// Whose answers become the expected ones.
const RECORD: &str = "ORCH_RECORD_KUBECTL";

#[test]
fn own_kubectl_says_what_kubectl_says() {
    need_machine!();
    let mut machine = Machine::new();
    machine.add_images(&["busybox", "nginx"]);
    machine.start(&[]);
    machine.wait_ready();
    let stock = std::env::var(RECORD).ok();
    let differences = Mutex::new(Vec::new());
    let try_case = |case: &Case| match &stock {
        Some(kubectl) => record(&Side::new(&machine, case.name, &[kubectl]), case),
        None => {
            let found = compare(&Side::new(&machine, case.name, &[ORCH, "kubectl"]), case);
            differences.lock().expect("no panic").extend(found);
        }
    };
    let (alone, beside) = CASES.split_first().expect("cases");
    try_case(alone);
    std::thread::scope(|scope| {
        for case in beside {
            scope.spawn(|| try_case(case));
        }
    });
    let differences = differences.into_inner().expect("no panic");
    assert!(differences.is_empty(), "{} lines differ:\n{}", differences.len(), differences.join("\n"));
}

/// Who answers.
struct Side<'a> {
    machine: &'a Machine,
    program: Vec<String>,
    namespace: String,
    kubeconfig: String,
}

/// What a run said, and its exit code.
type Said = (String, String, Option<i32>);

impl<'a> Side<'a> {
    fn new(machine: &'a Machine, name: &str, program: &[&str]) -> Self {
        let namespace = format!("cases-{name}");
        let program = program.iter().map(|&word| word.to_owned()).collect();
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
        command.arg("100").args(&self.program).env("KUBECONFIG", &self.kubeconfig);
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
            ("(?s)-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", "CERTIFICATE"),
            ("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
            ("resourceVersion\"?: \"[0-9]+\"", "VERSION"),
            ("v1\\.[0-9]+\\.[0-9]+\\+orch[0-9.]+", "VERSION"),
            ("X509SHA256=[0-9a-f]{64}", "CREDENTIAL"),
            ("certificate-authority-data: [A-Za-z0-9+/]+=*", "AUTHORITY"),
            ("[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} 20[0-9]{2} [0-9:]{8} [+-][0-9]{4}", "TIME"),
            ("20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9:]{8} [+-][0-9]{4} [A-Z]+", "TIME"),
            ("20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "TIME"),
            ("((?:Container|Image) ID:\\s+)\\S+", "${1}DIGEST"),
            ("\\b(web|apart)\\.[0-9a-f]{16}\\b", "$1.EVENT"),
            ("kube-api-access-[0-9a-z]{5}", "kube-api-access-HASH"),
            ("web-[0-9a-f]{8,10}(-[0-9a-z]{5})?", "web-HASH"),
            ("\\bweb-[0-9a-z]{5}\\b", "web-HASH"),
            ("pod-template-hash=[0-9a-f]+", "HASH"),
            ("10\\.4[23]\\.[0-9]+\\.[0-9]+", "ADDRESS"),
            ("nodePort: 3[0-9]+", "PORT"),
            ("Resource Version:  +[0-9]+", "VERSION"),
            ("was [0-9]{3,}\\b", "was ANOTHER"),
            ("\\b([0-9]+[smhd])+\\b", "AGE"),
            // Columns are as wide as what was made the same.
            ("(\\S) {2,}", "$1  "),
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

/// The command lines with their inputs; whether the order of what is said counts.
fn lines(case: &Case) -> impl Iterator<Item = (&'static str, String, bool)> {
    let mut input = String::new();
    case.lines.lines().filter_map(move |line| {
        if let Some(text) = line.strip_prefix('<') {
            input = text.replace("\\n", "\n");
            return None;
        }
        // Where kubectl's order is that of a map in Go, which is a new one each time.
        let (line, any_order) = line.strip_prefix('~').map_or((line, false), |line| (line, true));
        Some((line, std::mem::take(&mut input), any_order))
    })
}

const BEGIN: &str = "\n=== ";

fn entry(line: &str, (out, err, code): &Said) -> String {
    let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
    format!("{BEGIN}{line}\n{out}--- errors\n{err}--- code {code}\n")
}

fn record(side: &Side, case: &Case) {
    let text: String = lines(case).map(|(line, input, _)| entry(line, &side.run(line, &input))).collect();
    let path = format!("{}/tests/e2e/kubectl_cases/{}.expected", env!("CARGO_MANIFEST_DIR"), case.name);
    fs::write(path, text).expect("written");
}

fn compare(side: &Side, case: &Case) -> Vec<String> {
    let mut expected = case.expected.split(BEGIN).skip(1);
    let mut differences = Vec::new();
    for (line, input, any_order) in lines(case) {
        let wanted = format!("{BEGIN}{}", expected.next().unwrap_or_default());
        let mut is = entry(line, &side.run(line, &input));
        let sorted = |text: &str| {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.sort_unstable();
            lines.join("\n")
        };
        let same = |is: &str| {
            if any_order { sorted(&wanted) == sorted(is) } else { wanted.trim_end() == is.trim_end() }
        };
        // Events and status come a moment later: what only reads is asked again.
        for _ in 0..if line.starts_with("describe") { 5 } else { 0 } {
            if same(&is) {
                break;
            }
            std::thread::sleep(Duration::from_secs(1));
            is = entry(line, &side.run(line, &input));
        }
        if !same(&is) {
            differences.push(format!("{line}\n--- expected{wanted}--- is{is}"));
        }
    }
    let surplus = expected.map(|entry| format!("no line of {}.txt asks for\n--- expected{BEGIN}{entry}", case.name));
    differences.extend(surplus);
    differences
}
