//! Containers of a sandbox: made as a record, started by the pod's shim, stopped, removed.

use super::image::LocalImage;
use super::process::now;
use super::record::{self, ContainerRecord};
use super::rootfs::MountSource;
use super::runtime::{Container, Runtime};
use super::sandbox::{HOSTNAME, RESOLV_CONF, SHM, new_id};
use super::shim::protocol::{Reply, Request, StartContainer};
use super::shim::{DOCUMENT, FILTER, RootMount, StagedMount, StartDocument, UserRequest};
use super::shim_client;
use super::spec::{self, ImageConfig, Surroundings};
use crate::api::cri::{
    ContainerConfig, ContainerState, ContainerStatus, CriError, LinuxResources, Mount, NamespaceMode, Result,
};
use anyhow::Context;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

/// In the bundle: the configuration with its environment, which is not in the record.
const CONFIG: &str = "container-config.json";
/// How long a killed process may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(15);

/// An error of ours as the kubelet sees it.
pub(super) fn internal(error: anyhow::Error) -> CriError {
    match error.downcast::<CriError>() {
        Ok(error) => error,
        Err(error) => CriError::Internal(format!("{error:#}")),
    }
}

impl Runtime {
    pub(super) async fn make_container(&self, sandbox: &str, config: &ContainerConfig) -> Result<String> {
        let log_directory = self.sandbox_field(sandbox, |sandbox| match sandbox.ready {
            true => Ok(sandbox.record.config.log_directory.clone()),
            false => Err(CriError::Internal(format!("pod sandbox {} is not running", sandbox.record.id))),
        })??;
        let image = self.images.local(&config.image_id).await.map_err(internal)?;
        let image =
            image.ok_or_else(|| CriError::NotFound(format!("image {} is not here: pull it", config.image_id)))?;
        let id = new_id();
        let log_path = match config.log_path.as_os_str().is_empty() {
            true => PathBuf::new(),
            false => log_directory.join(&config.log_path),
        };
        let mut layers = image.layers.clone();
        for mount in &config.mounts {
            if let Some(volume) = &mount.image_id {
                let volume = self.images.local(volume).await.map_err(internal)?;
                let volume = volume
                    .ok_or_else(|| CriError::NotFound(format!("image volume {:?} is not here", mount.image_id)))?;
                layers.extend(volume.layers);
            }
        }
        let record = ContainerRecord {
            id: id.clone(),
            sandbox_id: sandbox.to_owned(),
            name: config.name.clone(),
            attempt: config.attempt,
            image: config.image.clone(),
            image_id: config.image_id.clone(),
            layers,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            log_path,
            created_at: now(),
            stop_signal: stop_signal(&config.stop_signal, &image.config).map_err(internal)?,
            tty: config.tty,
            resources: config.resources.clone(),
            running: None,
        };
        let data = self.container_data(sandbox, &id);
        let bundle = self.bundle(sandbox, &id);
        let (written, config) = (record.clone(), config.clone());
        let made = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
            record::private_directory(&data)?;
            record::write(&data.join(record::CONTAINER), &written)?;
            record::private_directory(&bundle)?;
            record::write(&bundle.join(CONFIG), &config)
        });
        made.await.map_err(anyhow::Error::from).and_then(|made| made).map_err(internal)?;
        let container =
            Container { record, state: ContainerState::Created, exit: None, ended: watch::Sender::new(false) };
        self.state.lock().containers.insert(id.clone(), container);
        self.emit(sandbox, Some(&id));
        Ok(id)
    }

    pub(super) async fn run_container(&self, id: &str) -> Result<()> {
        let (record, state) = self.container_field(id, |container| (container.record.clone(), container.state))?;
        if state != ContainerState::Created {
            return Err(CriError::Internal(format!("container {id} is {state:?}, not created")));
        }
        let prepared = self.prepare_start(&record).await;
        let started = match prepared {
            Ok(request) => {
                shim_client::call(&self.sandbox_run(&record.sandbox_id), &Request::Start(request), &[]).await
            }
            Err(error) => Err(internal(error)),
        };
        match started {
            Ok((Reply::Started(running), _)) => {
                let mut started = record.clone();
                started.running = Some(running);
                {
                    let mut state = self.state.lock();
                    let Some(container) = state.containers.get_mut(id) else { return Ok(()) };
                    container.record = started.clone();
                    // It may have ended already, and the event been here.
                    if container.exit.is_none() {
                        container.state = ContainerState::Running;
                    }
                }
                self.emit(&record.sandbox_id, Some(id));
                let path = self.container_data(&record.sandbox_id, id).join(record::CONTAINER);
                let written = tokio::task::spawn_blocking(move || record::write(&path, &started)).await;
                if let Ok(Err(error)) = written {
                    tracing::warn!("container {id}: {error:#}");
                }
                Ok(())
            }
            Ok((other, _)) => Err(CriError::Internal(format!("the shim answered {other:?} to a start"))),
            Err(error) => {
                let error = match error {
                    CriError::StartFailed { .. } => error,
                    other => CriError::StartFailed { exit_code: 128, message: other.to_string() },
                };
                self.start_failed(&record, &error).await;
                Err(error)
            }
        }
    }

    /// A container that did not start has ended, and its status says why.
    async fn start_failed(&self, record: &ContainerRecord, error: &CriError) {
        let exit_code = match error {
            CriError::StartFailed { exit_code, .. } => *exit_code,
            _ => 128,
        };
        let exit = super::shim::protocol::Exit {
            exit_code,
            finished_at: now(),
            reason: "StartError".into(),
            message: error.to_string(),
            ..Default::default()
        };
        let path = self.container_data(&record.sandbox_id, &record.id).join(record::EXIT);
        let written = exit.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || record::write(&path, &written)).await {
            tracing::warn!("container {}: {error:#}", record.id);
        }
        self.container_ended(&record.id, exit).await;
    }

    /// Everything that the shim needs, in the bundle.
    async fn prepare_start(&self, record: &ContainerRecord) -> anyhow::Result<StartContainer> {
        let runtime = self.own.upgrade().context("the runtime is closing")?;
        let (sandbox, pause) = self.sandbox_field(&record.sandbox_id, |sandbox| {
            (sandbox.record.config.clone(), sandbox.record.pause.clone())
        })?;
        let pause = pause.context("the pod sandbox has no process")?;
        let bundle = self.bundle(&record.sandbox_id, &record.id);
        let config: ContainerConfig =
            record::read(&bundle.join(CONFIG))?.context("the container's configuration is gone")?;
        let image =
            self.images.local(&record.image_id).await?.with_context(|| format!("image {} is gone", record.image_id))?;
        let mut volumes = Vec::new();
        for mount in &config.mounts {
            volumes.push(match &mount.image_id {
                None => None,
                Some(volume) => {
                    Some(self.images.local(volume).await?.with_context(|| format!("image volume {volume} is gone"))?)
                }
            });
        }
        let target = match &config.security.target_container {
            None => None,
            Some(target) => {
                let running = self.container_field(target, |container| container.record.running.clone())?;
                Some(running.context("the target container is not running")?.process.pid)
            }
        };
        let record = record.clone();
        tokio::task::spawn_blocking(move || -> anyhow::Result<StartContainer> {
            let group = runtime.cgroups.group(&format!("{}/{}", sandbox.cgroup_parent, record.id));
            group.create()?;
            group.apply(&config.resources).with_context(|| format!("limits of the cgroup {}", group.path()))?;
            let around = Surroundings {
                image: &image.config,
                sandbox: &sandbox,
                pause: pause.pid,
                target,
                cgroup: group.path(),
                cgroup_v2: runtime.cgroups.version() == super::cgroup::Version::V2,
                cgroup_v1: &group.controllers(),
                available: &runtime.capabilities,
                open_files: runtime.open_files,
            };
            let spec::Built { spec, devices, seccomp } = spec::build(&config, &around)?;
            group.restrict_devices(&devices)?;
            if let Some(profile) = &seccomp {
                record::write_bytes(&bundle.join(FILTER), &runtime.filter(profile)?)?;
            }
            let user_namespace_of = sandbox.user_namespace.map(|_| pause.pid);
            let data = runtime.container_data(&record.sandbox_id, &record.id);
            let document = StartDocument {
                spec,
                root: RootMount {
                    layers: runtime.images.layer_paths(&image),
                    upper: data.join("upper"),
                    work: data.join("work"),
                    user_namespace_of,
                },
                mounts: runtime.staged_mounts(&record, &sandbox, &config, &volumes, user_namespace_of),
                user: UserRequest {
                    uid: config.security.run_as_user,
                    gid: config.security.run_as_group,
                    image_user: image.config.user.clone(),
                    supplemental_groups: config.security.supplemental_groups.clone(),
                    strict: config.security.strict_supplemental_groups,
                },
                user_namespace: sandbox.user_namespace.map(|map| (map.host_id, map.length)),
            };
            record::write(&bundle.join(DOCUMENT), &document)?;
            if sandbox.user_namespace.is_some() {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(&bundle, fs::Permissions::from_mode(0o711))?;
            }
            if let Some(directory) = record.log_path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
                fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
            }
            Ok(StartContainer {
                container: record.id.clone(),
                bundle,
                tty: config.tty,
                stdin: config.stdin,
                stdin_once: config.stdin_once,
                log: record.log_path.clone(),
                oom_files: group.oom_files(),
                kill_file: group.kill_file(),
            })
        })
        .await?
    }

    fn staged_mounts(
        &self,
        record: &ContainerRecord,
        sandbox: &crate::api::cri::PodSandboxConfig,
        config: &ContainerConfig,
        volumes: &[Option<LocalImage>],
        user_namespace_of: Option<i32>,
    ) -> Vec<StagedMount> {
        let run = self.sandbox_run(&record.sandbox_id);
        let file = |inside: &str, name: &str, readonly| Mount {
            container_path: inside.into(),
            host_path: run.join(name),
            readonly,
            ..Mount::default()
        };
        let readonly = config.security.readonly_rootfs;
        let mut own = vec![file("/etc/resolv.conf", RESOLV_CONF, readonly), file("/etc/hostname", HOSTNAME, readonly)];
        own.push(match sandbox.ipc {
            NamespaceMode::Node => Mount { host_path: "/dev/shm".into(), ..file("/dev/shm", SHM, false) },
            _ => file("/dev/shm", SHM, false),
        });
        let images: Vec<(PathBuf, &LocalImage)> = config
            .mounts
            .iter()
            .zip(volumes)
            .filter_map(|(mount, image)| Some((mount.container_path.clone(), image.as_ref()?)))
            .collect();
        spec::ordered_mounts(own, &config.mounts)
            .into_iter()
            .map(|mount| {
                let image = images.iter().find(|(path, _)| *path == mount.container_path);
                let is_own = mount.host_path.starts_with(&run);
                StagedMount {
                    source: match image {
                        Some((_, image)) => MountSource::Image {
                            layers: self.images.layer_paths(image),
                            sub_path: PathBuf::from(&mount.image_sub_path),
                        },
                        None => MountSource::Host(mount.host_path),
                    },
                    destination: mount.container_path,
                    readonly: mount.readonly,
                    recursive_readonly: mount.recursive_readonly,
                    propagation: mount.propagation,
                    // What the runtime makes for the pod is owned by the pod's root already, or for all to read.
                    user_namespace_of: user_namespace_of.filter(|_| !is_own),
                }
            })
            .collect()
    }

    pub(super) async fn end_container(&self, id: &str, grace: Duration) -> Result<()> {
        let Ok((record, state, mut ended)) = self
            .container_field(id, |container| (container.record.clone(), container.state, container.ended.subscribe()))
        else {
            return Ok(());
        };
        if state == ContainerState::Created {
            // Never started: it ends as a killed one.
            let exit = super::shim::protocol::Exit { exit_code: 137, finished_at: now(), ..Default::default() };
            self.container_ended(id, exit).await;
            return Ok(());
        }
        if state != ContainerState::Running {
            return Ok(());
        }
        let directory = self.sandbox_run(&record.sandbox_id);
        let signal = |signal: i32| {
            let request = Request::Signal { container: id.to_owned(), signal };
            let directory = directory.clone();
            async move { shim_client::call(&directory, &request, &[]).await }
        };
        if !grace.is_zero() {
            // A refusal means that it has just ended.
            let _ = signal(record.stop_signal).await;
            if tokio::time::timeout(grace, ended.wait_for(|ended| *ended)).await.is_ok() {
                return Ok(());
            }
        }
        let _ = signal(libc::SIGKILL).await;
        match tokio::time::timeout(KILL_PATIENCE, ended.wait_for(|ended| *ended)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(CriError::DeadlineExceeded(format!("container {id} does not end after SIGKILL"))),
        }
    }

    pub(super) async fn forget_container(&self, id: &str) -> Result<()> {
        let Ok(record) = self.container_field(id, |container| container.record.clone()) else { return Ok(()) };
        self.end_container(id, Duration::ZERO).await?;
        let data = self.container_data(&record.sandbox_id, id);
        let bundle = self.bundle(&record.sandbox_id, id);
        let removed = tokio::task::spawn_blocking(move || {
            record::remove_directory(&bundle)?;
            record::remove_directory(&data)
        });
        removed.await.map_err(anyhow::Error::from).and_then(|removed| removed).map_err(internal)?;
        self.state.lock().containers.remove(id);
        Ok(())
    }

    pub(super) async fn limit_container(&self, id: &str, resources: &LinuxResources) -> Result<()> {
        let mut record = self.container_field(id, |container| container.record.clone())?;
        let parent = self.sandbox_field(&record.sandbox_id, |sandbox| sandbox.record.config.cgroup_parent.clone())?;
        let group = self.cgroups.group(&format!("{parent}/{id}"));
        record.resources = resources.clone();
        let path = self.container_data(&record.sandbox_id, id).join(record::CONTAINER);
        let (limits, written) = (resources.clone(), record);
        let updated = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
            group.apply(&limits)?;
            record::write(&path, &written)
        });
        updated.await.map_err(anyhow::Error::from).and_then(|updated| updated).map_err(internal)?;
        if let Some(container) = self.state.lock().containers.get_mut(id) {
            container.record.resources = resources.clone();
        }
        Ok(())
    }

    pub(super) fn status_of(&self, id: &str) -> Result<ContainerStatus> {
        let mut status = self.container_field(id, status)?;
        if status.state == ContainerState::Running {
            let parent =
                self.sandbox_field(&status.sandbox_id, |sandbox| sandbox.record.config.cgroup_parent.clone())?;
            status.resources = self.cgroups.group(&format!("{parent}/{id}")).resources();
        }
        Ok(status)
    }
}

/// Without the limits in force.
pub(super) fn status(container: &Container) -> ContainerStatus {
    let record = &container.record;
    let exit = container.exit.as_ref();
    let reason = match exit {
        None => String::new(),
        Some(exit) if exit.oom_killed => "OOMKilled".into(),
        Some(exit) if !exit.reason.is_empty() => exit.reason.clone(),
        Some(exit) if exit.exit_code == 0 => "Completed".into(),
        Some(_) => "Error".into(),
    };
    ContainerStatus {
        id: record.id.clone(),
        sandbox_id: record.sandbox_id.clone(),
        name: record.name.clone(),
        attempt: record.attempt,
        state: container.state,
        created_at: record.created_at,
        started_at: record.running.as_ref().map_or(0, |running| running.started_at),
        finished_at: exit.map_or(0, |exit| exit.finished_at),
        exit_code: exit.map_or(0, |exit| exit.exit_code),
        signal: exit.and_then(|exit| exit.signal),
        reason,
        message: exit.map(|exit| exit.message.clone()).unwrap_or_default(),
        image: record.image.clone(),
        image_id: record.image_id.clone(),
        labels: record.labels.clone(),
        annotations: record.annotations.clone(),
        log_path: record.log_path.clone(),
        resources: None,
        user: record.running.as_ref().map(|running| running.user.clone()),
    }
}

/// The pod's, else the image's, else SIGTERM; by name or number.
fn stop_signal(wanted: &str, image: &ImageConfig) -> anyhow::Result<i32> {
    let name = [wanted, &image.stop_signal, "SIGTERM"].into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    signal_number(name).with_context(|| format!("stop signal {name:?} does not exist"))
}

fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = name.to_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    // The C library keeps the first two real-time signals for itself.
    let (minimum, maximum) = (34, 64);
    if let Some(offset) = name.strip_prefix("SIGRTMIN") {
        let offset = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse::<i32>().ok()? };
        return (minimum + offset <= maximum).then_some(minimum + offset);
    }
    if let Some(offset) = name.strip_prefix("SIGRTMAX") {
        let offset = if offset.is_empty() { 0 } else { offset.strip_prefix('-')?.parse::<i32>().ok()? };
        return (maximum - offset >= minimum).then_some(maximum - offset);
    }
    name.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (name, number) in
            [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("SIGRTMIN", 34)]
        {
            assert_eq!(signal_number(name), Some(number), "{name}");
        }
        for name in ["SIGNONE", "0", "65", "SIGRTMIN+99", "RTMAX+1"] {
            assert_eq!(signal_number(name), None, "{name}");
        }
        let image = ImageConfig { stop_signal: "SIGQUIT".into(), ..ImageConfig::default() };
        assert_eq!(stop_signal("", &image).expect("known"), 3);
        assert_eq!(stop_signal("SIGINT", &image).expect("known"), 2);
        assert_eq!(stop_signal("", &ImageConfig::default()).expect("known"), 15);
    }
}
