//! A container runtime and image service in memory: containers are records with a clock.
//!
//! What a container does follows from its command: `true`, `false`, `sleep N`, `exit N` (first word
//! or after `sh -c`); anything else runs until it is stopped. Failures are put in by name.

use async_trait::async_trait;
use orch::api::cri::*;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

/// What `exec_sync` answers to a command of a container.
type ExecHandler = Arc<dyn Fn(&str, &[String]) -> (i32, String) + Send + Sync>;

#[derive(Default)]
struct State {
    next: u64,
    sandboxes: BTreeMap<SandboxId, PodSandboxStatus>,
    containers: BTreeMap<ContainerId, Container>,
    images: BTreeMap<String, Image>,
    broken_images: HashMap<String, CriError>,
    broken_starts: HashMap<String, CriError>,
    sandbox_failures: u32,
    calls: Vec<String>,
    exec: Option<ExecHandler>,
    /// Images that are pulled only when asked: others are there at once.
    absent: HashSet<String>,
}

struct Container {
    status: ContainerStatus,
    config: ContainerConfig,
    ended: Arc<Notify>,
}

pub struct FakeRuntime {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<RuntimeEvent>,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        Self { state: Arc::default(), events: broadcast::channel(1024).0 }
    }
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).expect("a time in range")
}

/// How a program ends: after how long, with which code. None: when it is stopped.
fn program(config: &ContainerConfig) -> Option<(Duration, i32)> {
    let line = config.command.iter().chain(&config.args).cloned().collect::<Vec<_>>().join(" ");
    let words: Vec<&str> = line.split_whitespace().filter(|word| !["sh", "/bin/sh", "-c"].contains(word)).collect();
    let number = || words.get(1).and_then(|word| word.parse::<u64>().ok());
    match words.first()? {
        &"true" => Some((Duration::ZERO, 0)),
        &"false" => Some((Duration::ZERO, 1)),
        &"sleep" => Some((Duration::from_secs(number()?), 0)),
        &"exit" => Some((Duration::ZERO, number()? as i32)),
        _ => None,
    }
}

impl FakeRuntime {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Pulling or looking at this image fails.
    pub fn break_image(&self, image: &str, error: CriError) {
        self.state.lock().broken_images.insert(image.to_owned(), error);
    }

    pub fn mend_image(&self, image: &str) {
        self.state.lock().broken_images.remove(image);
    }

    /// Starting a container of this name fails.
    pub fn break_start(&self, container: &str, error: CriError) {
        self.state.lock().broken_starts.insert(container.to_owned(), error);
    }

    /// The next so many sandboxes fail.
    pub fn fail_sandboxes(&self, count: u32) {
        self.state.lock().sandbox_failures = count;
    }

    pub fn on_exec(&self, handler: impl Fn(&str, &[String]) -> (i32, String) + Send + Sync + 'static) {
        self.state.lock().exec = Some(Arc::new(handler));
    }

    /// What was asked, in order: `run web`, `create web/c`, `start web/c`, `stop web/c 30` …
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    /// Configurations of the containers of a name, oldest first.
    pub fn configs(&self, name: &str) -> Vec<ContainerConfig> {
        let state = self.state.lock();
        let mut found: Vec<&Container> =
            state.containers.values().filter(|container| container.config.name == name).collect();
        found.sort_by_key(|container| container.status.attempt);
        found.into_iter().map(|container| container.config.clone()).collect()
    }

    pub fn sandboxes(&self) -> Vec<PodSandboxStatus> {
        self.state.lock().sandboxes.values().cloned().collect()
    }

    /// The running container of that name ends by itself.
    pub fn end(&self, name: &str, exit_code: i32, reason: &str) {
        let id = {
            let state = self.state.lock();
            let running = state
                .containers
                .values()
                .find(|container| container.config.name == name && container.status.state == ContainerState::Running);
            running.map(|container| container.status.id.clone()).unwrap_or_else(|| panic!("{name} runs"))
        };
        finish(&self.state, &self.events, &id, exit_code, reason);
    }

    /// The machine went down and up: nothing runs any more.
    pub fn kill_sandbox(&self, pod: &str) {
        let ids: Vec<String> = {
            let mut state = self.state.lock();
            let sandboxes = state.sandboxes.values_mut().filter(|sandbox| sandbox.config.name == pod);
            sandboxes
                .map(|sandbox| {
                    sandbox.ready = false;
                    sandbox.id.clone()
                })
                .collect()
        };
        for id in ids {
            let containers: Vec<String> = {
                let state = self.state.lock();
                state
                    .containers
                    .values()
                    .filter(|container| container.status.sandbox_id == id)
                    .map(|container| container.status.id.clone())
                    .collect()
            };
            for container in containers {
                finish(&self.state, &self.events, &container, 255, "Unknown");
            }
            let uid = self.state.lock().sandboxes[&id].config.uid.clone();
            let _ = self.events.send(RuntimeEvent { pod_uid: uid, sandbox_id: id, container_id: None });
        }
    }

    fn call(&self, what: String) {
        self.state.lock().calls.push(what);
    }
}

fn tell(state: &State, events: &broadcast::Sender<RuntimeEvent>, id: &str) {
    let Some(container) = state.containers.get(id) else { return };
    let sandbox_id = container.status.sandbox_id.clone();
    let Some(sandbox) = state.sandboxes.get(&sandbox_id) else { return };
    // Nobody may be listening yet.
    let _ = events.send(RuntimeEvent {
        pod_uid: sandbox.config.uid.clone(),
        sandbox_id,
        container_id: Some(id.to_owned()),
    });
}

fn finish(state: &Mutex<State>, events: &broadcast::Sender<RuntimeEvent>, id: &str, exit_code: i32, reason: &str) {
    let mut state = state.lock();
    let Some(container) = state.containers.get_mut(id) else { return };
    if container.status.state == ContainerState::Exited {
        return;
    }
    container.status.state = ContainerState::Exited;
    container.status.exit_code = exit_code;
    container.status.reason = reason.to_owned();
    container.status.finished_at = now();
    container.ended.notify_waiters();
    tell(&state, events, id);
}

#[async_trait]
impl ContainerRuntime for FakeRuntime {
    fn version(&self) -> (String, String) {
        ("orch".to_owned(), "0.1.0".to_owned())
    }

    async fn run_pod_sandbox(&self, config: &PodSandboxConfig) -> Result<PodSandboxStatus> {
        self.call(format!("run {}", config.name));
        let mut state = self.state.lock();
        if state.sandbox_failures > 0 {
            state.sandbox_failures -= 1;
            return Err(CriError::Internal("no address is free".to_owned()));
        }
        state.next += 1;
        let id = format!("{:064x}", state.next);
        let last = u8::try_from(state.next % 250 + 2).expect("below 252");
        let ips = match config.network {
            NamespaceMode::Node => Vec::new(),
            _ => vec![IpAddr::V4(Ipv4Addr::new(10, 42, 0, last))],
        };
        let status = PodSandboxStatus { id: id.clone(), config: config.clone(), ready: true, created_at: now(), ips };
        state.sandboxes.insert(id, status.clone());
        Ok(status)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        let containers: Vec<String> = {
            let state = self.state.lock();
            let own = state.containers.values().filter(|container| container.status.sandbox_id == id);
            own.map(|container| container.status.id.clone()).collect()
        };
        for container in containers {
            finish(&self.state, &self.events, &container, 137, "Error");
        }
        if let Some(sandbox) = self.state.lock().sandboxes.get_mut(id) {
            sandbox.ready = false;
        }
        Ok(())
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        self.stop_pod_sandbox(id).await?;
        let mut state = self.state.lock();
        if let Some(sandbox) = state.sandboxes.remove(id) {
            state.calls.push(format!("remove {}", sandbox.config.name));
        }
        state.containers.retain(|_, container| container.status.sandbox_id != id);
        Ok(())
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus> {
        let state = self.state.lock();
        state.sandboxes.get(id).cloned().ok_or_else(|| CriError::NotFound(format!("sandbox {id}")))
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>> {
        Ok(self.sandboxes())
    }

    async fn update_pod_sandbox(&self, id: &str, resources: &LinuxResources) -> Result<()> {
        if let Some(sandbox) = self.state.lock().sandboxes.get_mut(id) {
            sandbox.config.resources = resources.clone();
        }
        Ok(())
    }

    async fn create_container(&self, sandbox: &str, config: &ContainerConfig) -> Result<ContainerId> {
        let mut state = self.state.lock();
        let pod = state.sandboxes.get(sandbox).map(|sandbox| sandbox.config.name.clone());
        let pod = pod.ok_or_else(|| CriError::NotFound(format!("sandbox {sandbox}")))?;
        state.calls.push(format!("create {pod}/{}", config.name));
        state.next += 1;
        let id = format!("{:064x}", state.next);
        let status = ContainerStatus {
            id: id.clone(),
            sandbox_id: sandbox.to_owned(),
            name: config.name.clone(),
            attempt: config.attempt,
            state: ContainerState::Created,
            created_at: now(),
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            signal: None,
            reason: String::new(),
            message: String::new(),
            image: config.image.clone(),
            image_id: config.image_id.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            log_path: config.log_path.clone(),
            resources: Some(config.resources.clone()),
            user: Some((0, 0, Vec::new())),
        };
        let container = Container { status, config: config.clone(), ended: Arc::default() };
        state.containers.insert(id.clone(), container);
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let ends = {
            let mut state = self.state.lock();
            let Some(container) = state.containers.get(id) else {
                return Err(CriError::NotFound(format!("container {id}")));
            };
            let config = container.config.clone();
            let pod = state.sandboxes[&container.status.sandbox_id].config.name.clone();
            state.calls.push(format!("start {pod}/{}", config.name));
            if let Some(error) = state.broken_starts.get(&config.name).cloned() {
                let container = state.containers.get_mut(id).expect("it was there");
                container.status.state = ContainerState::Exited;
                container.status.exit_code = 128;
                container.status.reason = "StartError".to_owned();
                container.status.message = error.to_string();
                container.status.started_at = now();
                container.status.finished_at = now();
                return Err(error);
            }
            let container = state.containers.get_mut(id).expect("it was there");
            container.status.state = ContainerState::Running;
            container.status.started_at = now();
            let text = format!("{} stdout F started {}\n", jiff::Timestamp::now(), config.name);
            let directory = state.sandboxes[&state.containers[id].status.sandbox_id].config.log_directory.clone();
            let path = directory.join(&config.log_path);
            if let Err(error) = std::fs::write(&path, text) {
                return Err(CriError::Internal(format!("write {}: {error}", path.display())));
            }
            tell(&state, &self.events, id);
            program(&config)
        };
        if let Some((after, code)) = ends {
            let (state, events, id) = (self.state.clone(), self.events.clone(), id.to_owned());
            let reason = if code == 0 { "Completed" } else { "Error" };
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                finish(&state, &events, &id, code, reason);
            });
        }
        Ok(())
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let ended = {
            let mut state = self.state.lock();
            let Some(container) = state.containers.get(id) else { return Ok(()) };
            if container.status.state == ContainerState::Exited {
                return Ok(());
            }
            let what = format!("stop {} {}", container.config.name, grace.as_secs());
            let stubborn = container.config.env.iter().any(|(name, _)| name == "IGNORE_TERM");
            let ended = container.ended.clone();
            state.calls.push(what);
            stubborn.then_some(ended)
        };
        if let Some(ended) = ended {
            // It ignores the signal: only the end of the grace period helps.
            if tokio::time::timeout(grace, ended.notified()).await.is_ok() {
                return Ok(());
            }
            finish(&self.state, &self.events, id, 137, "Error");
            return Ok(());
        }
        finish(&self.state, &self.events, id, 143, "Error");
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.state.lock().containers.remove(id);
        Ok(())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        let state = self.state.lock();
        let container = state.containers.get(id).ok_or_else(|| CriError::NotFound(format!("container {id}")))?;
        Ok(container.status.clone())
    }

    async fn list_containers(&self, sandbox: Option<&str>) -> Result<Vec<ContainerStatus>> {
        let state = self.state.lock();
        let wanted =
            state.containers.values().filter(|container| sandbox.is_none_or(|id| container.status.sandbox_id == id));
        Ok(wanted.map(|container| container.status.clone()).collect())
    }

    async fn update_container(&self, id: &str, resources: &LinuxResources) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(container) = state.containers.get_mut(id) {
            container.status.resources = Some(resources.clone());
            let what = format!("resize {}", container.config.name);
            state.calls.push(what);
        }
        tell(&state, &self.events, id);
        Ok(())
    }

    async fn reopen_log(&self, _id: &str) -> Result<()> {
        Ok(())
    }

    async fn exec_sync(&self, id: &str, command: &[String], _timeout: Duration) -> Result<ExecOutput> {
        let (name, handler) = {
            let mut state = self.state.lock();
            let Some(container) = state.containers.get(id) else {
                return Err(CriError::NotFound(format!("container {id}")));
            };
            let name = container.config.name.clone();
            state.calls.push(format!("exec {name} {}", command.join(" ")));
            (name, state.exec.clone())
        };
        let (exit_code, text) = handler.map_or((0, String::new()), |handler| handler(&name, command));
        Ok(ExecOutput { exit_code, stdout: text.into_bytes(), stderr: Vec::new() })
    }

    async fn exec(&self, id: &str, request: &ExecRequest) -> Result<Session> {
        let output = self.exec_sync(id, &request.command, Duration::ZERO).await?;
        let (resize, _) = mpsc::channel(1);
        let (sender, exit) = oneshot::channel();
        let _ = sender.send(Ok(output.exit_code));
        let stdout: Output = Box::new(std::io::Cursor::new(output.stdout));
        Ok(Session { stdin: None, stdout: request.stdout.then_some(stdout), stderr: None, resize, exit })
    }

    async fn attach(&self, id: &str, request: &ExecRequest) -> Result<Session> {
        self.exec(id, request).await
    }

    async fn port_forward(&self, _sandbox: &str, port: u16) -> Result<tokio::net::TcpStream> {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        stream.map_err(|error| CriError::Internal(error.to_string()))
    }

    async fn sandbox_stats(&self) -> Result<Vec<SandboxStats>> {
        let state = self.state.lock();
        let stats = state.sandboxes.values().filter(|sandbox| sandbox.ready).map(|sandbox| SandboxStats {
            id: sandbox.id.clone(),
            cgroup: CgroupStats { timestamp: now(), memory_working_set_bytes: 1 << 20, ..CgroupStats::default() },
            containers: state
                .containers
                .values()
                .filter(|container| container.status.sandbox_id == sandbox.id)
                .map(|container| ContainerStats { id: container.status.id.clone(), ..ContainerStats::default() })
                .collect(),
            ..SandboxStats::default()
        });
        Ok(stats.collect())
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }
}

fn image(name: &str) -> Image {
    let tag = if name.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        name.to_owned()
    } else {
        format!("{name}:latest")
    };
    Image { id: format!("sha256:{:0>64}", name.len()), repo_tags: vec![tag], size: 1000, ..Image::default() }
}

impl FakeRuntime {
    /// This image has to be pulled.
    pub fn forget_image(&self, name: &str) {
        let mut state = self.state.lock();
        state.absent.insert(name.to_owned());
        state.images.remove(name);
    }
}

#[async_trait]
impl ImageService for FakeRuntime {
    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(self.state.lock().images.values().cloned().collect())
    }

    async fn image_status(&self, name: &str) -> Result<Option<Image>> {
        let state = self.state.lock();
        if let Some(error @ CriError::InvalidImageName(_)) = state.broken_images.get(name) {
            return Err(error.clone());
        }
        if state.broken_images.contains_key(name) || state.absent.contains(name) {
            return Ok(state.images.get(name).cloned());
        }
        Ok(Some(image(name)))
    }

    async fn pull_image(&self, name: &str, _auth: &[RegistryAuth]) -> Result<Image> {
        self.call(format!("pull {name}"));
        let mut state = self.state.lock();
        if let Some(error) = state.broken_images.get(name) {
            return Err(error.clone());
        }
        let image = image(name);
        state.images.insert(name.to_owned(), image.clone());
        Ok(image)
    }

    async fn remove_image(&self, name: &str) -> Result<()> {
        self.state.lock().images.retain(|reference, image| reference != name && image.id != name);
        Ok(())
    }

    async fn filesystem(&self) -> Result<FilesystemUsage> {
        Ok(FilesystemUsage {
            mountpoint: PathBuf::from("/"),
            used_bytes: 1 << 30,
            inodes_used: 1,
            capacity_bytes: 100 << 30,
            available_bytes: 90 << 30,
            inodes: 1 << 20,
            inodes_free: 1 << 19,
        })
    }
}
