//! A cluster of the real binary in network and mount namespaces of its own, driven by kubectl.
//!
//! The network has no default route: what nobody owns goes nowhere. Images come from
//! `ORCH_TEST_IMAGES` (`target/images`), built by `scripts/make-images`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The real binary.
pub const ORCH: &str = env!("CARGO_BIN_EXE_orch");

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Why these tests cannot run here; None: they can.
pub fn unavailable() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    for program in ["ip", "nsenter", "unshare", "iptables", "curl", "kubectl"] {
        if Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return Some(format!("no {program}: run scripts/test, which installs it"));
        }
    }
    let images = images();
    if !images.join("busybox.tar").exists() {
        return Some(format!("no images in {}: run scripts/make-images", images.display()));
    }
    None
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

fn images() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/images");
    std::env::var_os("ORCH_TEST_IMAGES").map_or_else(default, PathBuf::from)
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn must(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A network namespace that is a machine: `eth0` with an address, no way out.
pub struct Machine {
    pub name: String,
    pub address: String,
    pub directory: tempfile::TempDir,
    server: Option<Child>,
}

impl Machine {
    pub fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("orch-e2e-{}-{number}", std::process::id());
        let directory = tempfile::Builder::new().prefix("orch-e2e-").tempdir().expect("a temporary directory");
        must("ip", &["netns", "add", &name]);
        let machine = Self { name, address: "192.168.77.1".to_owned(), directory, server: None };
        machine.ip(&["link", "set", "lo", "up"]);
        machine.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "wire"]);
        machine.ip(&["link", "set", "wire", "up"]);
        machine.ip(&["addr", "add", &format!("{}/24", machine.address), "dev", "eth0"]);
        machine.ip(&["link", "set", "eth0", "up"]);
        machine
    }

    fn ip(&self, arguments: &[&str]) {
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

    /// The same in a mount namespace of its own, whose mounts end with it.
    fn isolated(&self, program: &str) -> Command {
        let mut command = self.command("unshare");
        command.args(["--mount", "--propagation", "private", program]);
        command
    }

    fn directories(&self) -> Vec<String> {
        let flag = |name: &str, path: &str| format!("--{name}={}", self.path(path).display());
        vec![
            flag("data-dir", "data"),
            flag("run-dir", "run"),
            flag("kubelet-dir", "kubelet"),
            flag("pod-log-dir", "log/pods"),
        ]
    }

    /// Start `orch server` with the given further flags.
    pub fn start(&mut self, flags: &[&str]) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("server.log")).expect("a log");
        let mut command = self.isolated(ORCH);
        command.args(["server", "--config=/dev/null", "--node-name=n1"]);
        command.arg(format!("--write-kubeconfig={}", self.path("kubeconfig").display()));
        // How full the disk of the machine is that runs the tests is not their subject.
        command.args(["--kubelet-arg=eviction-hard=memory.available<1Mi", "--kubelet-arg=image-gc-high-threshold=100"]);
        command.args(self.directories()).args(flags);
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.server = Some(command.spawn().expect("orch starts"));
    }

    /// Put the built images where the node imports them.
    pub fn add_images(&self, names: &[&str]) {
        let directory = self.path("data/agent/images");
        fs::create_dir_all(&directory).expect("a directory");
        for name in names {
            let file = format!("{name}.tar");
            fs::copy(images().join(&file), directory.join(&file))
                .unwrap_or_else(|error| panic!("image {name}: {error}"));
        }
    }

    /// kill -9 the server; its containers go on.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("the server can be killed");
            server.wait().expect("the server ends");
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }

    /// kubectl, whatever becomes of it.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        // A hang is a failure, and is to be seen.
        self.command("timeout").args(["120", "kubectl"]).args(arguments).output().expect("kubectl starts")
    }

    /// kubectl, which must succeed; its output.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "kubectl {arguments:?}: {out}{err}");
        out.into_owned()
    }

    /// All that tells why a test failed: what the cluster shows, and what the program logged.
    fn report(&self) {
        const SHOWN: [&[&str]; 3] = [
            &["get", "nodes,pods,services,endpointslices", "-A", "-o", "wide"],
            &["get", "events", "-A", "-o", "wide", "--sort-by=.lastTimestamp"],
            &["describe", "pods", "-A"],
        ];
        let mut text = String::new();
        for arguments in SHOWN {
            text += &format!("\n----- kubectl {}\n", arguments.join(" "));
            // A server that does not answer is part of the report, and does not hold it up.
            let output = self.command("timeout").args(["20", "kubectl"]).args(arguments).output();
            match output {
                Ok(output) => {
                    text += &String::from_utf8_lossy(&output.stdout);
                    text += &String::from_utf8_lossy(&output.stderr);
                }
                Err(error) => text += &error.to_string(),
            }
        }
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(100)..];
        eprintln!("{text}\n----- log of the server\n{}", last.join("\n"));
    }

    /// The answer of an HTTP server: status and body; 0 when there is none.
    pub fn http(&self, method: &str, url: &str, body: &str) -> (u16, String) {
        let mut command = self.command("curl");
        command.args(["-s", "-m", "5", "-w", "\n%{http_code}", "-X", method, url]);
        if !body.is_empty() {
            command.args(["-d", body]);
        }
        let output = command.output().expect("curl starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, code) = text.rsplit_once('\n').unwrap_or(("", "0"));
        (code.parse().unwrap_or(0), body.to_owned())
    }

    /// Wait until something is so; after a minute and a half it is an error.
    pub fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(90);
        while !condition() {
            assert!(Instant::now() < until, "never: {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Wait until the node is ready.
    pub fn wait_ready(&self) {
        self.wait("the node is ready", || {
            let output = self.try_kubectl(&["get", "nodes", "--no-headers"]);
            String::from_utf8_lossy(&output.stdout).contains(" Ready ")
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.report();
        }
        self.kill();
        let output = self.isolated(ORCH).arg("killall").args(self.directories()).output();
        let clean = output.as_ref().is_ok_and(|output| output.status.success());
        let deleted = run("ip", &["netns", "del", &self.name]).status.success();
        if !std::thread::panicking() {
            let said = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
            assert!(clean, "killall leaves something: {said}");
            assert!(deleted, "the network namespace stays");
        }
    }
}
