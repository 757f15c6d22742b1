//! The container runtime with real containers, made from Debian's busybox-static.
//!
//! Each test has namespaces, directories and an instance id of its own, and removes what it made. They
//! need root; without it they say so and pass.

mod exec;
mod images;
mod lifecycle;
mod security;

use orch::api::cri::{
    ContainerConfig, ContainerRuntime, ContainerState, ContainerStatus, ExecOutput, NamespaceMode, PodSandboxConfig,
    PodSandboxStatus, SecurityContext,
};
use orch::container::{Config, Runtime, kill_all};
use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const BUSYBOX: &str = "/bin/busybox";
const IMAGE: &str = "docker.io/library/busybox:test";

/// A node for one test.
struct Node {
    config: Config,
    directory: tempfile::TempDir,
    runtime: Arc<Runtime>,
}

/// Run a test in namespaces of its own, as root.
fn on_a_node<F, T>(test: T)
where
    T: FnOnce(Node) -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    assert!(Path::new(BUSYBOX).exists(), "install Debian's busybox-static: apt-get install busybox-static");
    let thread = std::thread::spawn(move || {
        // SAFETY: concerns this thread and those that it starts.
        let left = unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWNET) };
        assert_eq!(left, 0, "leave the namespaces: {}", std::io::Error::last_os_error());
        let flags = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", flags).expect("private mounts");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let directory = tempfile::tempdir().expect("a directory");
            let config = config(directory.path());
            let runtime = Runtime::open(config.clone()).await.expect("the runtime opens");
            let (keep, path) = (config.clone(), directory.path().to_owned());
            let node = Node { config, directory, runtime };
            let outcome = tokio::task::spawn_local(test(node)).await;
            let errors = kill_all(&keep);
            assert!(!path.exists() || fs::remove_dir_all(&path).is_ok(), "the test's directory is removed");
            if let Err(panic) = outcome {
                std::panic::resume_unwind(panic.into_panic());
            }
            assert!(errors.is_empty(), "clear up: {errors:?}");
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn config(directory: &Path) -> Config {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    Config {
        data_dir: directory.join("data"),
        run_dir: directory.join("run"),
        instance: format!("t{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)),
        pod_cidr: Some("10.42.7.0/24".parse().expect("a network")),
        mtu: 0,
        registries: directory.join("registries.yaml"),
        helper: Some(env!("CARGO_BIN_EXE_orch").into()),
    }
}

impl Node {
    /// What a restart of orch does: everything in its memory is gone.
    async fn restart(&mut self) {
        let placeholder = Arc::clone(&self.runtime);
        drop(placeholder);
        self.runtime = Runtime::open(self.config.clone()).await.expect("the runtime opens again");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn busybox(&self) -> String {
        let archive = self.path("busybox.tar");
        images::write_archive(
            &archive,
            IMAGE,
            &[images::busybox_layer()],
            &serde_json::json!({
                "Env": ["PATH=/bin", "FROM=image"], "Cmd": ["/bin/sh"],
            }),
        );
        let imported = self.runtime.images().import(&archive, Arc::new(|_| {})).await.expect("imported");
        assert_eq!(imported[0].names, [IMAGE]);
        imported[0].image.id.clone()
    }

    fn pod(&self, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            name: name.into(),
            namespace: "default".into(),
            uid: format!("uid-{name}"),
            hostname: name.into(),
            log_directory: self.path("logs"),
            pid: NamespaceMode::Container,
            cgroup_parent: format!("pod{name}"),
            ..PodSandboxConfig::default()
        }
    }

    async fn start_pod(&self, name: &str) -> PodSandboxStatus {
        self.runtime.run_pod_sandbox(&self.pod(name)).await.expect("the pod starts")
    }

    fn shell(&self, image: &str, name: &str, script: &str) -> ContainerConfig {
        ContainerConfig {
            name: name.into(),
            image: IMAGE.into(),
            image_id: image.into(),
            command: vec!["/bin/sh".into(), "-c".into(), script.into()],
            log_path: format!("{name}/0.log").into(),
            labels: BTreeMap::from([("io.kubernetes.container.name".into(), name.into())]),
            security: SecurityContext { pid: NamespaceMode::Container, ..SecurityContext::default() },
            ..ContainerConfig::default()
        }
    }

    async fn start(&self, sandbox: &str, config: &ContainerConfig) -> String {
        let id = self.runtime.create_container(sandbox, config).await.expect("created");
        self.runtime.start_container(&id).await.expect("started");
        id
    }

    /// Wait for the end; the status says how it was.
    async fn ended(&self, id: &str) -> ContainerStatus {
        self.until(id, |status| status.state == ContainerState::Exited).await
    }

    async fn until(&self, id: &str, done: impl Fn(&ContainerStatus) -> bool) -> ContainerStatus {
        let mut events = self.runtime.events();
        let wait = async {
            loop {
                let status = self.runtime.container_status(id).await.expect("it exists");
                if done(&status) {
                    return status;
                }
                events.recv().await.expect("an event");
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it happens within a minute")
    }

    async fn exec(&self, id: &str, script: &str) -> ExecOutput {
        let command = ["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
        self.runtime.exec_sync(id, &command, Duration::from_secs(30)).await.expect("executed")
    }

    /// What a script prints in a container that lives.
    async fn prints(&self, id: &str, script: &str) -> String {
        let output = self.exec(id, script).await;
        assert_eq!(output.exit_code, 0, "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The lines of a log without their times: `stdout F text`.
    fn log(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path("logs").join(name).join("0.log")).unwrap_or_default();
        text.lines().map(|line| line.split_once(' ').expect("a time").1.to_owned()).collect()
    }

    /// Wait until a log holds a line.
    async fn logged(&self, name: &str, line: &str) {
        let path = self.path("logs").join(name).join("0.log");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !self.log(name).iter().any(|other| other == line) {
            assert!(tokio::time::Instant::now() < deadline, "{line:?} does not come: {:?}", fs::read_to_string(&path));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
