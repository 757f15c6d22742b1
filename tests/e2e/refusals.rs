//! Bad input: each gives one clear error that names the thing and the mend, and nothing is lost or opened.

use crate::cluster::{Machine, ORCH, both, wait};
use crate::need_machine;
use crate::world::within;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// What a kernel may lack, how that looks, and what is said of it.
const LACKS: &[(&str, &str, &[&str])] = &[
    ("no overlay file system", "mount --bind /dev/null /proc/filesystems", &["overlay", "modprobe overlay"]),
    (
        "no control groups of memory",
        "mount -t tmpfs none /sys/fs/cgroup; mkdir /sys/fs/cgroup/cpu /sys/fs/cgroup/pids",
        &["lacks memory", "cgroup_enable=memory"],
    ),
    ("no control groups", "mount -t tmpfs none /sys/fs/cgroup", &["no cgroups are mounted", "mount -t cgroup2"]),
    (
        "no filters of system calls",
        "mount --bind /dev/null /proc/sys/kernel/seccomp/actions_avail",
        &["seccomp", "CONFIG_SECCOMP_FILTER"],
    ),
    (
        "no connection tracking",
        "[ -d /proc/sys/net/netfilter ] || modprobe nf_conntrack; mount -t tmpfs none /proc/sys/net/netfilter",
        &["tracks no connections", "modprobe nf_conntrack"],
    ),
];

/// Run a command that is to end by itself, and soon.
fn ended(mut command: Command) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    wait("it ends by itself", || child.try_wait().expect("it can be waited for").is_some());
    child.wait_with_output().expect("it ended")
}

/// What a start says that is refused.
fn refused(what: &str, command: Command, code: i32, parts: &[&str]) {
    let output = ended(command);
    let said = both(&output);
    assert_eq!(output.status.code(), Some(code), "{what}: {said}");
    for part in parts {
        assert!(said.contains(part), "{what}: {part:?} is not in:\n{said}");
    }
    let errors: Vec<&str> =
        said.lines().filter(|line| line.starts_with("orch: ") || line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{what}: one error: {said}");
}

#[test]
fn a_start_that_cannot_be_says_why() {
    need_machine!();
    let mut machine = Machine::new();
    let with = |flags: &[&str]| machine.server_command(flags);
    refused("a wrong flag", with(&["--no-such-flag"]), 2, &["unexpected argument '--no-such-flag'"]);
    refused(
        "a wrong value",
        with(&["--cluster-cidr=10.43.0.0/16"]),
        1,
        &["--cluster-cidr", "--service-cidr", "overlap"],
    );
    refused(
        "a wrong flag of the kubelet",
        with(&["--kubelet-arg=no-such-thing=1"]),
        1,
        &["--kubelet-arg no-such-thing", "there are", "max-pods"],
    );
    refused(
        "a wrong flag of the controllers",
        with(&["--kube-controller-manager-arg=nothing=1"]),
        1,
        &["node-monitor-grace-period"],
    );
    let mut missing = machine.inside(ORCH);
    missing.args(["server", "--config=/no/such/file.yaml"]);
    refused("a config file that is not there", missing, 2, &["read config file /no/such/file.yaml", "No such file"]);
    let config = machine.path("config.yaml");
    fs::write(&config, "write-kubeconfig: [\n").expect("written");
    let mut broken = machine.inside(ORCH);
    broken.args(["server", &format!("--config={}", config.display())]);
    refused("a config file that is none", broken, 2, &["config.yaml"]);

    refused(
        "a directory for a config file",
        {
            let mut command = machine.inside(ORCH);
            command.args(["server", "--config=/etc"]);
            command
        },
        2,
        &["read config file /etc", "Is a directory"],
    );
    fs::write(&config, "clutser-cidr: 10.1.0.0/16\n").expect("written");
    let mut unknown = machine.inside(ORCH);
    unknown.args(["server", &format!("--config={}", config.display())]);
    refused(
        "a key of the config file that is none",
        unknown,
        2,
        &["config.yaml", "\"clutser-cidr\"", "orch server --help"],
    );

    fs::write(&config, "write-kubeconfig-mode: rw-r\n").expect("written");
    let mut wrong = machine.inside(ORCH);
    wrong.args(["server", &format!("--config={}", config.display())]);
    let place = format!("--write-kubeconfig-mode is set in {}", config.display());
    refused("a wrong value in the config file", wrong, 2, &["'rw-r'", "not an octal file mode", &place]);
    refused(
        "a schedule that is none",
        with(&["--snapshot-schedule-cron=0 25 * * *"]),
        2,
        &["--snapshot-schedule-cron", "end of range (25) above maximum (23)", "@daily"],
    );

    let file = machine.path("file");
    fs::write(&file, "").expect("written");
    let mut nowhere = machine.inside(ORCH);
    nowhere.args(["server", "--config=/dev/null", "--disable-agent"]);
    nowhere.arg(format!("--data-dir={}", file.join("data").display()));
    refused("a data directory below a file", nowhere, 1, &["file/data", "Not a directory", "--data-dir"]);
    let mut nowhere = machine.inside(ORCH);
    nowhere.args(["server", "--config=/dev/null", "--disable-agent", "--write-kubeconfig=/proc/none/kubeconfig"]);
    nowhere.arg(format!("--data-dir={}", machine.path("other").display()));
    refused("a place for the kubeconfig that is none", nowhere, 1, &["/proc/none", "--write-kubeconfig"]);

    for (flag, parts) in [
        ("--cluster-domain=x y", &["--cluster-domain \"x y\"", "RFC 1123"][..]),
        ("--tls-san=a b", &["--tls-san \"a b\" is no address", "RFC 1123"]),
        ("--advertise-address=127.0.0.1", &["--advertise-address 127.0.0.1", "give an address of this machine"]),
        ("--node-ip=127.0.0.1", &["--node-ip 127.0.0.1", "give an address of this machine"]),
        ("--node-ip=fd00::1", &["--node-ip fd00::1", "IPv4"]),
        ("--cluster-dns=1.2.3.4", &["--cluster-dns 1.2.3.4", "--service-cidr"]),
    ] {
        refused(flag, with(&[flag]), 1, parts);
    }

    // What a node cannot be.
    refused("a label that is none", with(&["--node-label=a b=c"]), 1, &["--node-label a b=c", "alphanumeric"]);
    refused(
        "a label that is not a node's to give",
        with(&["--node-label=node-role.kubernetes.io/worker=true"]),
        1,
        &["kubectl label node n1 node-role.kubernetes.io/worker=true"],
    );
    refused("a taint that is none", with(&["--node-taint=a=b:Never"]), 1, &["--node-taint", "NoSchedule"]);
    refused(
        "a taint's key that is none",
        with(&["--node-taint=a b=c:NoSchedule"]),
        1,
        &["--node-taint a b=c:NoSchedule"],
    );
    refused("no resolv.conf", with(&["--resolv-conf=/no/such/file"]), 1, &["--resolv-conf", "/no/such/file"]);
    fs::write(machine.path("registries.yaml"), "mirors: {}\n").expect("written");
    refused("a typo in the registries' file", with(&[]), 1, &["registries.yaml", "mirors"]);
    fs::remove_file(machine.path("registries.yaml")).expect("removed");
    let taken = within(&machine.name, || TcpListener::bind("0.0.0.0:10250").expect("a port")).join().expect("no panic");
    refused("the kubelet's port in use", with(&[]), 1, &["port 10250 is in use", "ss -ltnp"]);
    drop(taken);

    // Programs and features that are not there.
    let bare = machine.path("bare");
    fs::create_dir(&bare).expect("made");
    let mut command = machine.inside("env");
    command.arg(format!("PATH={}", bare.display())).arg(ORCH).args(with(&[]).get_args().skip(3));
    refused("no iptables", command, 1, &["iptables", "install"]);
    let server: Vec<String> =
        with(&[]).get_args().skip(3).map(|argument| argument.to_string_lossy().into_owned()).collect();
    for (what, hide, parts) in LACKS {
        let without = |arguments: &[String]| {
            let mut command = machine.inside("unshare");
            command.args(["--mount", "sh", "-ec", &format!("{hide}; exec \"$0\" \"$@\""), ORCH]).args(arguments);
            command
        };
        refused(what, without(&server), 1, parts);
        let output = ended(without(&["check-config".to_owned()]));
        let said = both(&output);
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        for part in *parts {
            assert!(said.contains(part), "check-config, {what}: {part:?} is not in:\n{said}");
        }
        assert!(said.contains("\n1 to mend before orch can run\n"), "check-config, {what}: {said}");
    }

    // Not root. The program must be where others may read it.
    let open = tempfile::Builder::new().prefix("orch-e2e-open-").tempdir().expect("a directory");
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o755)).expect("opened");
    let program = open.path().join("orch");
    fs::copy(ORCH, &program).expect("copied");
    let mut command = machine.inside("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(&server);
    refused("not root", command, 1, &["root", "sudo"]);

    // The port is somebody's.
    let taken = within(&machine.name, || TcpListener::bind("0.0.0.0:6443").expect("a port")).join().expect("no panic");
    refused("a port in use", with(&["--disable-agent"]), 1, &["port 6443 is in use", "--https-listen-port"]);
    drop(taken);

    // A second server on the same data, while the first one goes on.
    machine.start(&["--disable-agent"]);
    machine.wait_answer();
    let second = machine.server_command(&["--disable-agent", "--https-listen-port=7443"]);
    refused("a second server on the same data", second, 1, &["is in use by process", "--data-dir"]);
    assert_eq!(machine.api("GET", "/readyz", &[]), (200, "ok".to_owned()));
}

const THINGS: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.com}\n\
    spec:\n  group: example.com\n  scope: Namespaced\n  names: {plural: things, singular: thing, kind: Thing}\n  versions:\n  \
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}\n";

#[test]
fn a_manifest_with_a_typo_is_named_and_the_others_apply() {
    need_machine!();
    let mut machine = Machine::new();
    let directory = machine.path("data/server/manifests");
    fs::create_dir_all(&directory).expect("made");
    let write = |name: &str, text: &str| fs::write(directory.join(name), text).expect("written");
    let good = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: b}}\n");
    let bad = [
        ("a-field.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: typo}\ndatta: {a: b}\n", "datta"),
        (
            "b-kind.yaml",
            "apiVersion: v1\nkind: ConfigMop\nmetadata: {name: typo}\n",
            "kind ConfigMop of v1 is not served",
        ),
        ("c-name.yaml", "apiVersion: v1\nkind: ConfigMap\n", "metadata.name"),
        ("d-yaml.yaml", "apiVersion: v1\nkind: [ConfigMap\n", "line 2"),
        (
            "e-value.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: typo}\nspec: {ports: [{port: 99999}]}\n",
            "99999",
        ),
    ];
    for (name, text, _) in bad {
        write(name, text);
    }
    write("z-good.yaml", &good("good"));
    // The others of a file apply as well, those of a list, and those of a kind that comes with them.
    write(
        "f-others.yaml",
        &format!(
            "{}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: bad_name}}\n---\n{}---\n# nothing\n---\n\
             apiVersion: v1\nkind: List\nitems:\n- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: listed}}}}\n",
            "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: one}\n", THINGS
        ),
    );
    machine.start(&["--disable-agent"]);
    machine.wait_answer();
    let is_there =
        |name: &str| machine.api("GET", &format!("/api/v1/namespaces/default/configmaps/{name}"), &[]).0 == 200;
    wait("the good one is applied", || is_there("good"));
    let log = machine.log();
    for (name, _, part) in bad {
        let line = log.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name} is not in: {log}"));
        assert!(line.contains("ERROR") && line.contains(part), "{part:?} is not in: {line}");
    }
    assert!(!is_there("typo"));
    wait("the list is applied", || is_there("listed"));
    let thing = || machine.api("GET", "/apis/example.com/v1/namespaces/default/things/one", &[]).0;
    wait("what came before its kind is applied", || thing() == 200);
    let log = machine.log();
    let told = log.lines().filter(|line| line.contains("f-others.yaml") && line.contains("bad_name")).count();
    assert_eq!(told, 1, "{log}");
    // It is mended while the server runs.
    write("a-field.yaml", &good("typo"));
    wait("the mended one is applied", || is_there("typo"));
    assert_eq!(machine.stop(), Some(0), "{}", machine.log());
}

#[test]
fn a_server_survives_its_clients() {
    need_machine!();
    let mut machine = Machine::new();
    machine.start(&["--disable-agent"]);
    machine.wait_answer();
    hostile_requests(&machine);
    assert_eq!(machine.stop(), Some(0), "{}", machine.log());
}

fn hostile_requests(machine: &Machine) {
    let stranger = |arguments: &[&str]| {
        let mut command = machine.command("curl");
        command.args(["-sk", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}"]).args(arguments);
        let output = command.output().expect("curl starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let at = |path: &str| format!("https://127.0.0.1:6443{path}");
    assert_eq!(stranger(&[&at("/api/v1/secrets")]), "401", "nobody in particular");
    assert_eq!(stranger(&[&at("/version")]), "401", "nobody in particular");
    for path in ["/livez", "/readyz", "/healthz", "/cacerts"] {
        assert_eq!(stranger(&[&at(path)]), "200", "{path} is for everybody");
    }
    assert_eq!(stranger(&[&at("/api/v1/secrets"), "-H", "Authorization: Bearer wrong"]), "401");
    assert_eq!(stranger(&[&at("/v1-orch/join"), "-X", "POST", "-d", "{}"]), "401", "without a token nobody joins");
    assert_eq!(stranger(&[&at("/api/v1/secrets"), "-H", "Impersonate-User: system:admin"]), "401");
    assert_eq!(
        stranger(&[
            &at("/api/v1/secrets"),
            "-H",
            "X-Remote-User: system:admin",
            "-H",
            "X-Remote-Group: system:masters"
        ]),
        "401"
    );
    for path in ["/../../etc/passwd", "/api/v1/namespaces/..%2f..%2fetc/pods", "/%00", "/api/v1/%ff%fe", "//api//v1"] {
        let code = stranger(&["--path-as-is", &at(path)]);
        assert!(matches!(code.as_str(), "401" | "404" | "400" | "301"), "{path}: {code}");
    }

    let path = "/api/v1/namespaces/default/configmaps";
    let file = |name: &str, text: &[u8]| {
        fs::write(machine.path(name), text).expect("written");
        format!("@{}", machine.path(name).display())
    };
    let json = ["-H", "Content-Type: application/json"];
    let yaml = ["-H", "Content-Type: application/yaml"];
    let huge = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"huge"}},"data":{{"x":"{}"}}}}"#,
        "x".repeat(4 << 20)
    );
    let deep = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"deep"}},"data":{}{}}}"#,
        "[".repeat(200_000),
        "]".repeat(200_000)
    );
    let aliases: String =
        (1..30).map(|level| format!("a{level}: &a{level} [*a{0},*a{0},*a{0},*a{0}]\n", level - 1)).collect();
    let bomb = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: bomb}}\na0: &a0 [x,x,x,x]\n{aliases}");
    for (what, body, kind, codes) in [
        ("huge", huge.as_bytes(), json, &[413][..]),
        ("deep", deep.as_bytes(), json, &[400]),
        ("not JSON", b"{\"apiVersion\": ", json, &[400]),
        ("no UTF-8", b"{\"apiVersion\": \"\xff\xfe\"}", json, &[400]),
        ("a list", b"[]", json, &[400]),
        ("empty", b"", json, &[400]),
        ("a YAML bomb", bomb.as_bytes(), yaml, &[400, 413]),
        (
            "protobuf that is none",
            b"k8s\0\xff\xff\xff\xff",
            ["-H", "Content-Type: application/vnd.kubernetes.protobuf"],
            &[400],
        ),
        ("an unknown type", b"x", ["-H", "Content-Type: text/x-nothing"], &[415]),
    ] {
        let (code, said) = machine.api("POST", path, &[kind[0], kind[1], "--data-binary", &file("body", body)]);
        assert!(codes.contains(&code), "{what}: {code}: {said}");
        let status: serde_json::Value =
            serde_json::from_str(&said).unwrap_or_else(|error| panic!("{what}: {error}: {said}"));
        assert!(status["kind"] == "Status" && status["message"].is_string(), "{what}: {said}");
    }
    let head = file("head", format!("X-Long: {}", "x".repeat(2 << 20)).as_bytes());
    let (code, _) = machine.api("GET", "/api/v1/pods", &["-H", &head, "--http1.1"]);
    assert!(matches!(code, 431 | 400 | 0), "a head of two megabytes: {code}");
    for query in [
        "limit=-1",
        "limit=x",
        "continue=nonsense",
        "resourceVersion=x",
        "labelSelector=%3D%3D",
        "fieldSelector=nothing%3Dx",
    ] {
        let (code, said) = machine.api("GET", &format!("/api/v1/pods?{query}"), &[]);
        assert!(code == 400 || (code == 200 && query.starts_with("limit=-")), "{query}: {code} {said}");
    }
    // Who says nothing, or only half of it, holds up nobody.
    let held = within(&machine.name, || {
        let address: SocketAddr = "127.0.0.1:6443".parse().expect("an address");
        let mut held = Vec::new();
        for number in 0..300 {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("a connection");
            if number % 2 == 0 {
                stream.write_all(b"\x16\x03\x01\x02\x00\x01").expect("written");
            }
            held.push(stream);
        }
        let mut plain = TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("a connection");
        plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
        plain.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let mut said = Vec::new();
        // It is told off or hung up on, but not served.
        let _ = plain.read_to_end(&mut said);
        assert!(!String::from_utf8_lossy(&said).contains("200 OK"));
        held
    });
    let held = held.join().expect("no panic");
    assert_eq!(machine.api("GET", "/readyz", &[]), (200, "ok".to_owned()));
    drop(held);
    let made = machine.get(path);
    let names: Vec<_> =
        made["items"].as_array().expect("a list").iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!(names, ["kube-root-ca.crt"], "nothing of it was stored");
}
