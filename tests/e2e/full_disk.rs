//! A full disk: what was acknowledged stays, what runs goes on, and deleting over the API makes room again.

use crate::cluster::{Machine, ORCH, both, image_archive, wait};
use crate::need_machine;
use crate::space::{Space, pod};
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

/// A file system of its own of so many MiB at a path of the machine; gone with it.
struct SmallDisk {
    path: String,
}

impl SmallDisk {
    fn mount(machine: &Machine, name: &str, size: u32) -> Self {
        let path = machine.path(name).display().to_string();
        shell(machine, &format!("mkdir -p {path} && mount -t tmpfs -o size={size}m,mode=755 none {path}"));
        Self { path }
    }

    fn unmount(self, machine: &Machine) {
        shell(machine, &format!("umount {}", self.path));
    }
}

/// A script in the machine's mounts.
fn shell(machine: &Machine, script: &str) -> String {
    let output = machine.inside("sh").args(["-ec", script]).output().expect("sh starts");
    assert!(output.status.success(), "{script}: {}", both(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/{name}")
}

fn create(machine: &Machine, namespace: &str, name: &str, text: &str) -> (u16, String) {
    let object =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "text": text } });
    let file = machine.path("object.json");
    fs::write(&file, object.to_string()).expect("written");
    let data = format!("@{}", file.display());
    machine.api("POST", &path(namespace, ""), &["-H", "Content-Type: application/json", "--data-binary", &data])
}

/// Large objects until the disk is full; how many, and what the server says then.
fn fill(machine: &Machine, namespace: &str, text: &str) -> (usize, Value) {
    let mut made = 0;
    loop {
        match create(machine, namespace, &format!("big-{made}"), text) {
            (201, _) => made += 1,
            (507, said) => return (made, serde_json::from_str(&said).expect("a Status")),
            (code, said) => panic!("{code}: {said}"),
        }
        assert!(made < 100, "the disk is never full");
    }
}

/// Creates are taken again, and soon.
fn takes_creates_again(machine: &Machine, name: &str) {
    let begin = Instant::now();
    wait("there is room again", || create(machine, "default", name, "small").0 == 201);
    assert!(begin.elapsed() < Duration::from_secs(20), "after {:?}", begin.elapsed());
}

#[test]
fn a_full_store_is_left_by_deleting() {
    need_machine!();
    let mut machine = Machine::new();
    let disk = SmallDisk::mount(&machine, "data/server/db", 64);
    machine.start(&["--disable-agent"]);
    machine.wait_answer();
    let text = "x".repeat(900_000);
    machine.kubectl(&["create", "namespace", "heavy"]);
    let (made, said) = fill(&machine, "heavy", &text);
    assert!(made > 20, "{made}: {said}");
    assert_eq!((&said["kind"], &said["reason"]), (&"Status".into(), &"InsufficientStorage".into()), "{said}");
    let place = machine.path("data/server/db").display().to_string();
    assert_eq!(said["message"], format!("the disk is full: delete objects, or make 32 MiB free on {place}"));

    // Reading goes on, and what was acknowledged is there, after a restart on the full disk as well.
    for restarted in [false, true] {
        if restarted {
            machine.kill();
            machine.start(&["--disable-agent"]);
            machine.wait_answer();
        }
        for number in 0..made {
            let object = machine.get(&path("heavy", &format!("big-{number}")));
            assert_eq!(object["data"]["text"], text.as_str(), "big-{number}, restarted: {restarted}");
        }
        let (code, said) = create(&machine, "default", "refused", &text);
        assert_eq!(code, 507, "{said}");
        assert_eq!(machine.api("GET", "/readyz", &[]).0, 200);
    }

    // One by one but for the last two, which have to be moved.
    for number in 0..made - 2 {
        let (code, said) = machine.api("DELETE", &path("heavy", &format!("big-{number}")), &[]);
        assert_eq!(code, 200, "big-{number}: {said}");
    }
    takes_creates_again(&machine, "after");
    let size: u64 = shell(&machine, &format!("stat -c %s {place}/orch.db")).trim().parse().expect("a number");
    assert!(size < 30 << 20, "the file keeps {size} bytes");
    for number in made - 2..made {
        let object = machine.get(&path("heavy", &format!("big-{number}")));
        assert_eq!(object["data"]["text"], text.as_str(), "big-{number}");
    }

    // As a user does it, who deletes a namespace; the server is stopped in order before that.
    machine.kubectl(&["create", "namespace", "heavier"]);
    let (again, _) = fill(&machine, "heavier", &text);
    assert!(again > made / 2, "{again} instead of {made}");
    assert_eq!(machine.stop(), Some(0), "{}", machine.log());
    machine.start(&["--disable-agent"]);
    machine.wait_answer();
    machine.kubectl(&["delete", "namespace", "heavier", "--timeout=60s"]);
    takes_creates_again(&machine, "at-last");
    assert_eq!(machine.get(&path("default", "after"))["data"]["text"], "small");
    assert_eq!(machine.stop(), Some(0), "{}", machine.log());
    disk.unmount(&machine);
}

/// Whoever else writes on the disk takes all of it.
fn exhaust(machine: &Machine, disk: &SmallDisk) {
    let filler = format!("{}/filler", disk.path);
    // The last blocks as well; that there is no more room is what is wanted.
    shell(
        machine,
        &format!(
            "for size in 1M 4k; do dd if=/dev/zero bs=$size oflag=append conv=notrunc of={filler} 2>/dev/null || true; done"
        ),
    );
}

#[test]
fn pods_outlive_a_full_disk() {
    need_machine!();
    let mut machine = Machine::new();
    let disk = SmallDisk::mount(&machine, "disk", 192);
    let root = machine.directory.path().display().to_string();
    let parts = ["data", "kubelet", "log", "run"];
    for part in parts {
        shell(&machine, &format!("cd {root}; mkdir -p {part} disk/{part}; mount --bind disk/{part} {part}"));
    }
    machine.start(&[]);
    machine.wait_ready();
    let run = format!("--run-dir={root}/run");
    let import = |machine: &Machine, name: &str| {
        let archive = image_archive(name).display().to_string();
        machine.inside(ORCH).args(["ctr", &run, "images", "import", &archive]).output().expect("orch starts")
    };
    let imported = import(&machine, "busybox");
    assert!(imported.status.success(), "{}", both(&imported));
    let space = Space::new(&machine, "full");
    let line = "y".repeat(200);
    space.apply(&pod("writer", &format!("i=0; while :; do i=$((i+1)); echo $i {line}; sleep 0.05; done"), ""));
    space.apply(&pod("steady", "exec sleep 1000000", ""));
    let identity = |pod: &Value| {
        let status = &pod["status"]["containerStatuses"][0];
        (status["containerID"].clone(), status["restartCount"].clone())
    };
    let before = [identity(&space.ready("writer")), identity(&space.ready("steady"))];
    assert_eq!(create(&machine, "default", "kept", "kept").0, 201);

    // The ballast gives way at the first write, and is taken as well.
    exhaust(&machine, &disk);
    wait("the disk is full", || create(&machine, "default", "late", &"x".repeat(500_000)).0 == 507);
    exhaust(&machine, &disk);
    let (code, said) = create(&machine, "default", "refused", "x");
    assert!(code == 507 && said.contains("the disk is full: delete objects, or make 32 MiB free on"), "{code}: {said}");
    let nothing = import(&machine, "python");
    let said = both(&nothing);
    assert!(!nothing.status.success() && said.contains("No space left on device"), "{said}");
    assert_eq!(space.exec("steady", "echo here").trim(), "here");

    // Orch goes, and comes back to a disk on which it cannot write.
    machine.kill();
    machine.start(&[]);
    machine.wait_ready();
    assert_eq!(machine.get(&path("default", "kept"))["data"]["text"], "kept");
    assert_eq!(machine.get(&path("default", "refused")), Value::Null);
    let space = Space::again(&machine, "full");
    wait("commands run in the pods", || both(&space.try_exec("steady", "echo here")).trim() == "here");

    // The last page of the log takes some more lines.
    let last = || both(&space.try_kubectl(&["logs", "writer", "--tail=1"]));
    wait("lines of the log are lost", || {
        let before = last();
        std::thread::sleep(Duration::from_millis(300));
        last() == before
    });

    shell(&machine, &format!("rm {}/filler", disk.path));
    takes_creates_again(&machine, "after");
    let after = [identity(&space.ready("writer")), identity(&space.ready("steady"))];
    assert_eq!(after, before, "the containers are the same");
    wait("the log tells what it lacks", || {
        let said = both(&space.try_kubectl(&["logs", "writer"]));
        said.contains(" were dropped: No space left on device")
    });
    let imported = import(&machine, "python");
    assert!(imported.status.success(), "{}", both(&imported));
    space.apply(&pod("next", "exec sleep 1000000", ""));
    space.ready("next");
    space.kubectl(&["delete", "pods", "--all", "--timeout=60s"]);
    assert_eq!(machine.stop(), Some(0), "{}", machine.log());
    let killed = machine.kill_all();
    assert!(killed.status.success(), "{}", both(&killed));
    for part in parts {
        shell(&machine, &format!("umount {root}/{part}"));
    }
    disk.unmount(&machine);
}
