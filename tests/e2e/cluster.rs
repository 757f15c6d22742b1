//! A cluster of the real binary in network and mount namespaces of its own, driven by kubectl.
//!
//! The network has no default route unless a test puts a [`super::world`] at the end of the wire: what
//! nobody owns goes nowhere. Images come from `ORCH_TEST_IMAGES` (`target/images`), built by
//! `scripts/make-images`. A machine that goes leaves nothing, or the test fails.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The real binary.
pub const ORCH: &str = env!("CARGO_BIN_EXE_orch");

/// What is waited for longer does not happen.
const PATIENCE: Duration = Duration::from_secs(180);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Why these tests cannot run here; None: they can.
pub fn unavailable() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    for program in ["ip", "nsenter", "unshare", "iptables", "curl", "kubectl"] {
        if !is_there(program) {
            return Some(format!("no {program}: run scripts/test, which installs it"));
        }
    }
    let images = images();
    if !images.join("busybox.tar").exists() {
        return Some(format!("no images in {}: run scripts/make-images", images.display()));
    }
    None
}

/// Whether a program is on PATH.
pub fn is_there(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// Say that a test is skipped, so that nobody takes it for passed.
#[macro_export]
macro_rules! need_machine {
    () => {
        if let Some(reason) = $crate::cluster::unavailable() {
            eprintln!("SKIPPED {}: {reason}", module_path!());
            return;
        }
    };
}

pub fn images() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/images");
    std::env::var_os("ORCH_TEST_IMAGES").map_or_else(default, PathBuf::from)
}

pub fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"))
}

pub fn must(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {}", both(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a program said on both outputs.
pub fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Wait until something is so.
pub fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A network namespace that is a machine: `eth0` with an address, no way out.
pub struct Machine {
    /// Of the network namespace.
    pub name: String,
    /// Of the node.
    pub node: &'static str,
    pub address: String,
    pub directory: tempfile::TempDir,
    /// The program it runs, which an upgrade replaces.
    pub binary: PathBuf,
    server: Option<Child>,
    /// Holds the mount namespace: what orch mounts outlives it, as on a real machine.
    holder: Child,
}

impl Machine {
    pub fn new() -> Self {
        let machine = Self::bare("n1", "192.168.77.1");
        machine.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "wire"]);
        machine.ip(&["link", "set", "wire", "up"]);
        machine.connect();
        machine
    }

    /// A second machine, at the other end of the wire.
    pub fn beside(&self) -> Self {
        let second = Self::bare("n2", "192.168.77.2");
        self.ip(&["link", "set", "wire", "netns", &second.name]);
        second.ip(&["link", "set", "wire", "name", "eth0"]);
        second.connect();
        second
    }

    fn bare(node: &'static str, address: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("orch-e2e-{}-{number}", std::process::id());
        let directory = tempfile::Builder::new().prefix("orch-e2e-").tempdir().expect("a temporary directory");
        must("ip", &["netns", "add", &name]);
        // It ends with its input: even a test that is killed leaves no namespace behind.
        let holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare starts");
        let own = fs::read_link("/proc/self/ns/mnt").expect("the own namespace");
        let others = format!("/proc/{}/ns/mnt", holder.id());
        wait("the mount namespace is there", || fs::read_link(&others).expect("it lives") != own);
        let address = address.to_owned();
        let machine = Self { name, node, address, directory, binary: ORCH.into(), server: None, holder };
        machine.ip(&["link", "set", "lo", "up"]);
        machine
    }

    fn connect(&self) {
        self.ip(&["addr", "add", &format!("{}/24", self.address), "dev", "eth0"]);
        self.ip(&["link", "set", "eth0", "up"]);
    }

    pub fn ip(&self, arguments: &[&str]) {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(arguments);
        must("ip", &all);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A command in the machine's network.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/var/run/netns/{}", self.name)).arg(program).stdin(Stdio::null());
        command.env("KUBECONFIG", self.path("kubeconfig"));
        command
    }

    /// The same with the machine's mounts.
    pub fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/var/run/netns/{}", self.name));
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).arg(program).stdin(Stdio::null());
        command
    }

    pub fn directories(&self) -> Vec<String> {
        let flag = |name: &str, path: &str| format!("--{name}={}", self.path(path).display());
        vec![
            flag("data-dir", "data"),
            flag("run-dir", "run"),
            flag("kubelet-dir", "kubelet"),
            flag("pod-log-dir", "log/pods"),
        ]
    }

    fn registries(&self) -> String {
        format!("--private-registry={}", self.path("registries.yaml").display())
    }

    /// How full the disk of the machine is that runs the tests is not their subject.
    const ROOMY: [&str; 2] =
        ["--kubelet-arg=eviction-hard=memory.available<1Mi", "--kubelet-arg=image-gc-high-threshold=100"];

    /// What `orch server` is started with.
    pub fn server_command(&self, flags: &[&str]) -> Command {
        let mut command = self.inside(&self.binary);
        command.args(["server", "--config=/dev/null"]).arg(format!("--node-name={}", self.node));
        command.arg(format!("--write-kubeconfig={}", self.path("kubeconfig").display()));
        command.args(Self::ROOMY).args(self.directories()).arg(self.registries()).args(flags);
        command
    }

    /// Start `orch server` with the given further flags.
    pub fn start(&mut self, flags: &[&str]) {
        self.spawn(self.server_command(flags));
    }

    /// Where its API server is reached from other machines.
    pub fn url(&self) -> String {
        format!("https://{}:6443", self.address)
    }

    /// What `orch agent` is started with to join a server.
    pub fn agent_command(&self, server: &str, token: &str) -> Command {
        let mut command = self.inside(&self.binary);
        command.args(["agent", "--config=/dev/null"]).arg(format!("--node-name={}", self.node));
        command.arg(format!("--server={server}")).arg(format!("--token={token}"));
        command.args(Self::ROOMY).args(self.directories()).arg(self.registries());
        command
    }

    /// Start `orch agent`.
    pub fn join(&mut self, server: &Self, token: &str) {
        self.spawn(self.agent_command(&server.url(), token));
    }

    fn spawn(&mut self, mut command: Command) {
        assert!(self.server.is_none(), "it runs already");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("orch.log")).expect("a log");
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.server = Some(command.spawn().expect("orch starts"));
    }

    /// Put the built images where the node imports them.
    pub fn add_images(&self, names: &[&str]) {
        let directory = self.path("data/agent/images");
        fs::create_dir_all(&directory).expect("a directory");
        for name in names {
            let file = format!("{name}.tar");
            fs::copy(image_archive(name), directory.join(&file))
                .unwrap_or_else(|error| panic!("image {name}: {error}"));
        }
    }

    /// kill -9 orch; its containers go on.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("orch can be killed");
            server.wait().expect("orch ends");
        }
    }

    /// SIGTERM and its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let mut server = self.server.take()?;
        let pid = nix::unistd::Pid::from_raw(server.id().try_into().expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a signal");
        server.wait().expect("orch ends").code()
    }

    /// The exit code of an orch that ended by itself.
    pub fn ended(&mut self) -> Option<i32> {
        self.server.take()?.wait().expect("orch ends").code()
    }

    /// The end of all pods, as `orch killall` has it; what it says.
    pub fn kill_all(&self) -> Output {
        self.inside(ORCH).arg("killall").args(self.directories()).output().expect("orch starts")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("orch.log")).unwrap_or_default()
    }

    /// kubectl, whatever becomes of it.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        self.try_program("kubectl", arguments)
    }

    /// A kubectl of a certain kind.
    pub fn try_program(&self, program: &str, arguments: &[&str]) -> Output {
        // A hang is a failure, and is to be seen.
        self.command("timeout").args(["200", program]).args(arguments).output().expect("kubectl starts")
    }

    /// kubectl, which must succeed; its output.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        assert!(output.status.success(), "kubectl {arguments:?}: {}", both(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A kubectl with something on its input.
    pub fn pipe(&self, program: &str, arguments: &[&str], input: &str) -> Output {
        use std::io::Write;
        let mut command = self.command("timeout");
        command.args(["200", program]).args(arguments);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().expect("kubectl starts");
        child.stdin.take().expect("an input").write_all(input.as_bytes()).expect("it reads");
        child.wait_with_output().expect("kubectl ends")
    }

    /// What the API server answers to the administrator: status and body.
    pub fn api(&self, method: &str, path: &str, flags: &[&str]) -> (u16, String) {
        let file = |name: &str| self.path(name).display().to_string();
        if !self.path("client.key").exists() {
            self.write_credentials();
        }
        let mut command = self.command("curl");
        command.args(["-s", "-m", "20", "-w", "\n%{http_code}", "-X", method, "--cacert", &file("ca.crt")]);
        command.args(["--cert", &file("client.crt"), "--key", &file("client.key")]).args(flags);
        split(&command.arg(format!("https://127.0.0.1:6443{path}")).output().expect("curl starts"))
    }

    /// An object or a list; Null when there is none, or nobody answers.
    pub fn get(&self, path: &str) -> Value {
        let (code, body) = self.api("GET", path, &[]);
        if code == 200 { serde_json::from_str(&body).expect("an object") } else { Value::Null }
    }

    /// The administrator's certificate out of the kubeconfig, for curl.
    fn write_credentials(&self) {
        use base64::Engine;
        let text = fs::read_to_string(self.path("kubeconfig")).expect("a kubeconfig");
        let fields = [
            ("certificate-authority-data:", "ca.crt"),
            ("client-certificate-data:", "client.crt"),
            ("client-key-data:", "client.key"),
        ];
        for (field, name) in fields {
            let data = text.lines().find_map(|line| line.trim().strip_prefix(field)).expect("it is there");
            let bytes = base64::engine::general_purpose::STANDARD.decode(data.trim().trim_matches('"'));
            fs::write(self.path(name), bytes.expect("base64")).expect("written");
        }
    }

    /// The answer of an HTTP server: status and body; 0 when there is none.
    pub fn http(&self, method: &str, url: &str, body: &str) -> (u16, String) {
        let mut command = self.command("curl");
        command.args(["-s", "-m", "5", "-w", "\n%{http_code}", "-X", method, url]);
        if !body.is_empty() {
            command.args(["-d", body]);
        }
        split(&command.output().expect("curl starts"))
    }

    /// Wait until something is so; after a minute and a half it is an error.
    pub fn wait(&self, what: &str, condition: impl FnMut() -> bool) {
        wait(what, condition);
    }

    /// Wait until the kubeconfig is there and the API answers.
    pub fn wait_answer(&mut self) {
        self.wait_alive("the API answers", |machine| {
            machine.path("kubeconfig").exists() && machine.api("GET", "/readyz", &[]).0 == 200
        });
    }

    /// Wait until the node is ready.
    pub fn wait_ready(&mut self) {
        self.wait_answer();
        let node = self.node;
        self.wait_alive("the node is ready", |machine| machine.is_ready(node));
    }

    /// Wait, and notice when orch ends meanwhile.
    fn wait_alive(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !condition(self) {
            let ended = self.server.as_mut().and_then(|server| server.try_wait().expect("it can be waited for"));
            assert!(ended.is_none(), "{what}: orch ended: {ended:?}");
            assert!(Instant::now() < until, "never: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether the API says that a node is ready.
    pub fn is_ready(&self, node: &str) -> bool {
        condition(&self.get(&format!("/api/v1/nodes/{node}")), "Ready") == "True"
    }

    /// All that tells why a test failed: what the cluster shows, and what the program logged.
    fn report(&self) {
        const SHOWN: [&[&str]; 3] = [
            &["get", "nodes,pods,services,endpointslices", "-A", "-o", "wide"],
            &["get", "events", "-A", "-o", "wide", "--sort-by=.lastTimestamp"],
            &["describe", "pods", "-A"],
        ];
        let mut text = String::new();
        // An agent has no kubeconfig: its server tells.
        let shown: &[&[&str]] = if self.path("kubeconfig").exists() { &SHOWN } else { &[] };
        for arguments in shown {
            text += &format!("\n----- kubectl {}\n", arguments.join(" "));
            // A server that does not answer is part of the report, and does not hold it up.
            let output = self.command("timeout").args(["20", "kubectl"]).args(*arguments).output();
            text += &output.map_or_else(|error| error.to_string(), |output| both(&output));
        }
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(150)..];
        eprintln!("{text}\n----- log of orch on {}\n{}", self.node, last.join("\n"));
    }

    /// What is left of this machine after its end: mounts, processes, control groups.
    pub fn left(&self) -> Vec<String> {
        let own = self.directory.path().display().to_string();
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.holder.id())).unwrap_or_default();
        let mut left: Vec<String> =
            mounts.lines().filter(|line| line.contains(&own)).map(|line| format!("mount: {line}")).collect();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if command.contains(&own) {
                left.push(format!("process {}: {command}", entry.file_name().display()));
            }
        }
        left
    }
}

/// The archive of a built image.
pub fn image_archive(name: &str) -> PathBuf {
    images().join(format!("{name}.tar"))
}

/// The status of a condition of an object; empty: it has none.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let found = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == kind));
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default()
}

/// Body and status of curl's output.
fn split(output: &Output) -> (u16, String) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').unwrap_or(("", "0"));
    (code.parse().unwrap_or(0), body.to_owned())
}

impl Drop for Machine {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            self.report();
        }
        self.kill();
        let output = self.kill_all();
        let mut left = self.left();
        if !output.status.success() {
            left.push(format!("killall: {}", both(&output)));
        }
        // Its input ends, and so does it.
        drop(self.holder.stdin.take());
        let held = self.holder.wait();
        let deleted = run("ip", &["netns", "del", &self.name]);
        if !failed {
            assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
            assert!(held.is_ok() && deleted.status.success(), "the namespaces stay: {}", both(&deleted));
        }
    }
}
