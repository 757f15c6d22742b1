//! The binary needs nothing beside itself: it runs in an empty root directory.

use crate::cluster::{Machine, ORCH};
use crate::need_machine;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn it_runs_in_an_empty_root() {
    need_machine!();
    let machine = Machine::new();
    let root = machine.path("root");
    fs::create_dir(&root).expect("a directory");
    fs::write(root.join("config.yaml"), "").expect("an empty file of settings");
    // Not by this process: a file that it writes may be open in a child of another test, and is then busy.
    let copied = Command::new("cp").arg(ORCH).arg(&root).status().expect("cp runs");
    assert!(copied.success(), "a copy of the binary");

    let version = Command::new("chroot").arg(&root).args(["/orch", "--version"]).output().expect("chroot runs");
    let text = String::from_utf8_lossy(&version.stdout);
    assert!(
        version.status.success() && text.starts_with("orch "),
        "{text}{}",
        String::from_utf8_lossy(&version.stderr)
    );

    // The control plane serves from there, too: no libraries, no devices, no /etc, no /proc, no /tmp.
    let mut server = machine
        .command("chroot")
        .arg(&root)
        .args(["/orch", "server", "--disable-agent", "--config=/config.yaml", "--data-dir=/data", "--run-dir=/run"])
        .args(["--node-ip=192.168.77.1", "--node-name=n1", "--write-kubeconfig=/kubeconfig"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("chroot runs");
    let kubeconfig = root.join("kubeconfig");
    let until = Instant::now() + Duration::from_secs(60);
    while !kubeconfig.exists() && server.try_wait().expect("a child").is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let namespaces = machine
        .command("kubectl")
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .args(["get", "namespaces", "-o", "name"])
        .output()
        .expect("kubectl runs");
    server.kill().expect("the server can be killed");
    let said = server.wait_with_output().expect("the server ends");
    let names = String::from_utf8_lossy(&namespaces.stdout);
    let errors = (String::from_utf8_lossy(&namespaces.stderr), String::from_utf8_lossy(&said.stderr));
    assert!(names.contains("namespace/kube-system"), "{names} {errors:?}");
}
