//! The example, as a user drives it.

use crate::cluster::Machine;
use crate::need_machine;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const URL: &str = "http://192.168.77.1:30080/entries";

fn example() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/guestbook").display().to_string()
}

fn post(machine: &Machine, message: &str) {
    machine
        .wait("an entry is taken", || machine.http("POST", URL, &format!("{{\"message\": \"{message}\"}}")).0 == 201);
}

fn pods(machine: &Machine, app: &str) -> Vec<String> {
    let selector = format!("app={app}");
    let arguments = ["get", "pods", "-l", &selector, "--field-selector=status.phase=Running", "-o", "name"];
    machine.kubectl(&arguments).lines().map(ToOwned::to_owned).collect()
}

/// The ready endpoint addresses of a Service.
fn endpoints(machine: &Machine, service: &str) -> usize {
    let path = "-o=jsonpath={.subsets[*].addresses[*].ip}";
    machine.kubectl(&["get", "endpoints", service, path]).split_whitespace().count()
}

#[test]
fn a_newcomer_runs_the_example() {
    need_machine!();
    let mut machine = Machine::new();
    machine.add_images(&["busybox", "redis", "nginx", "python"]);
    machine.start(&[]);
    machine.wait_ready();
    machine.kubectl(&["apply", "-f", &example()]);
    for deployment in ["redis", "app", "front"] {
        machine.kubectl(&["rollout", "status", "--timeout=180s", &format!("deployment/{deployment}")]);
    }

    // Posted through the node port, read back through every replica.
    post(&machine, "first");
    for pod in pods(&machine, "app") {
        let code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/entries').read().decode())";
        let answer = machine.kubectl(&["exec", &pod, "-c", "app", "--", "python3", "-c", code]);
        assert!(answer.contains("first"), "{pod}: {answer}");
    }

    // The Redis pod dies; another one takes entries.
    machine.kubectl(&["delete", "-l", "app=redis", "pod", "--grace-period=1"]);
    machine.kubectl(&["rollout", "status", "--timeout=180s", "deployment/redis"]);
    post(&machine, "second");

    // A changed ConfigMap is a changed file.
    machine.kubectl(&["patch", "configmap", "guestbook", "-p", r#"{"data":{"title":"Renamed"}}"#]);
    machine.wait("the title changes", || machine.http("GET", URL, "").1.contains("Renamed"));

    // A replica that is not ready gets no requests.
    machine.wait("three endpoints", || endpoints(&machine, "app") == 3);
    let broken = pods(&machine, "app").remove(0);
    machine.kubectl(&["exec", &broken, "-c", "app", "--", "touch", "/tmp/not-ready"]);
    machine.wait("its endpoint leaves", || endpoints(&machine, "app") == 2);
    machine.kubectl(&["exec", &broken, "-c", "app", "--", "rm", "/tmp/not-ready"]);
    machine.wait("it comes back", || endpoints(&machine, "app") == 3);

    roll_out_under_requests(&machine);
}

/// Ends the requests, also when the test fails: it waits for them.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A new version and back again, while requests go on: none is lost.
fn roll_out_under_requests(machine: &Machine) {
    let (stop, sent, lost) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let (code, _) = machine.http("GET", URL, "");
                sent.fetch_add(1, Ordering::Relaxed);
                lost.fetch_add(u32::from(code != 200), Ordering::Relaxed);
            }
        });
        let _end = Ends(&stop);
        machine.kubectl(&["set", "env", "deployment/app", "-c", "app", "APP_VERSION=2"]);
        machine.kubectl(&["rollout", "status", "--timeout=180s", "deployment/app"]);
        machine.wait("version 2 answers", || machine.http("GET", URL, "").1.contains("\"version\": \"2\""));
        machine.kubectl(&["rollout", "undo", "deployment/app"]);
        machine.kubectl(&["rollout", "status", "--timeout=180s", "deployment/app"]);
    });
    let (sent, lost) = (sent.load(Ordering::Relaxed), lost.load(Ordering::Relaxed));
    assert!(sent > 20, "requests went on: {sent}");
    assert_eq!(lost, 0, "of {sent} requests");
    machine.wait("version 1 answers again", || machine.http("GET", URL, "").1.contains("\"version\": \"1\""));
}
