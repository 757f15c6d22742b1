//! From a container of the spec to what the runtime is asked for.

use super::state::Shared;
use crate::api::cri::{ContainerConfig, Image, Mount, MountPropagation};
use crate::kubelet::env::{self, expand};
use crate::kubelet::pod::{self, Role};
use crate::kubelet::view::{
    ANNOTATION_HASH, ANNOTATION_TERMINATION_MESSAGE_FILE, ANNOTATION_TERMINATION_MESSAGE_PATH,
    ANNOTATION_TERMINATION_MESSAGE_POLICY, LABEL_CONTAINER_NAME, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID,
    container_hash,
};
use crate::kubelet::{names, resources, security, volumes};
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const DEFAULT_TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

/// What is known besides the spec when a container is made.
pub struct Inputs<'a> {
    pub pod: &'a Pod,
    pub role: Role,
    pub container: &'a Container,
    pub image: &'a Image,
    pub attempt: u32,
    /// Image volumes by volume name: the image's id.
    pub image_volumes: &'a HashMap<String, String>,
    /// The container whose processes an ephemeral container sees.
    pub target: Option<String>,
}

pub fn labels(pod: &Pod, container: &str) -> BTreeMap<String, String> {
    let metadata = &pod.metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut labels = BTreeMap::from([
        (LABEL_POD_NAME.to_owned(), text(&metadata.name)),
        (LABEL_POD_NAMESPACE.to_owned(), text(&metadata.namespace)),
        (LABEL_POD_UID.to_owned(), text(&metadata.uid)),
    ]);
    if !container.is_empty() {
        labels.insert(LABEL_CONTAINER_NAME.to_owned(), container.to_owned());
    }
    labels
}

/// The error is shown with the reason `CreateContainerConfigError`.
pub fn container_config(shared: &Shared, inputs: &Inputs) -> Result<ContainerConfig, String> {
    let Inputs { pod, container, .. } = *inputs;
    let context = &shared.context;
    security::verify_non_root(pod, container, inputs.image)?;
    let addresses = shared.addresses();
    let services = context.services_for(&shared.key.namespace);
    let lookup = context.objects.lookup(&shared.key.namespace);
    let allocatable = context.allocatable.load();
    let sources =
        env::Sources { lookup: &lookup, addresses: &addresses, allocatable: &allocatable, services: &services };
    let variables = env::environment(pod, container, &sources)?;
    let in_command = |text: &String| expand(text, |name| variables.get(name).cloned());
    let command: Vec<String> = container.command.iter().flatten().map(in_command).collect();
    let args: Vec<String> = container.args.iter().flatten().map(in_command).collect();

    let image_name = container.image.as_deref().unwrap_or_default();
    let mut annotations = BTreeMap::from([(ANNOTATION_HASH.to_owned(), container_hash(&container.name, image_name))]);
    let mut mounts = volume_mounts(shared, inputs, &variables)?;
    mounts.extend(hosts_mount(shared, pod, &addresses.pod, &mounts)?);
    mounts.extend(termination_mount(shared, container, &mut annotations)?);

    let mut security = security::effective(pod, container, &[], &context.config.root_directory.join("seccomp"))?;
    security.target_container = inputs.target.clone();
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt: inputs.attempt,
        image: image_name.to_owned(),
        image_id: inputs.image.id.clone(),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        env: variables.into_iter().collect(),
        mounts,
        devices: Vec::new(),
        labels: labels(pod, &container.name),
        annotations,
        log_path: PathBuf::from(&container.name).join(format!("{}.log", inputs.attempt)),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        resources: resources::container_cgroup(pod, inputs.role, container, context.memory_capacity),
        security,
        stop_signal: container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.stop_signal.clone())
            .unwrap_or_default(),
    })
}

fn volume_mounts(shared: &Shared, inputs: &Inputs, variables: &BTreeMap<String, String>) -> Result<Vec<Mount>, String> {
    let mut out = Vec::new();
    for (index, mount) in inputs.container.volume_mounts.iter().flatten().enumerate() {
        let container_path = Path::new("/").join(&mount.mount_path);
        let readonly = mount.read_only.unwrap_or(false);
        let mut made = Mount {
            container_path,
            readonly,
            recursive_readonly: readonly
                && matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
            propagation: propagation(mount),
            ..Mount::default()
        };
        let sub_path = sub_path(mount, variables)?;
        if let Some(image) = inputs.image_volumes.get(&mount.name) {
            made.image_id = Some(image.clone());
            made.image_sub_path = sub_path;
            made.readonly = true;
            out.push(made);
            continue;
        }
        let root = {
            let state = shared.state.lock();
            state.volumes.get(&mount.name).and_then(|volume| volume.path.clone())
        };
        let root = root.ok_or_else(|| {
            format!("cannot find volume \"{}\" to mount into container \"{}\"", mount.name, inputs.container.name)
        })?;
        made.host_path = if sub_path.is_empty() {
            make_missing(&root)?;
            root
        } else {
            let target = shared.directory().join("volume-subpaths").join(&mount.name);
            let target = target.join(&inputs.container.name).join(index.to_string());
            let place = volumes::SubPathPlace { target: &target, mounter: &*shared.context.config.mounter };
            volumes::prepare_sub_path(&root, &sub_path, &place)?
        };
        out.push(made);
    }
    Ok(out)
}

/// A hostPath of no type that is not there is made as a directory.
fn make_missing(path: &Path) -> Result<(), String> {
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|error| format!("create {}: {error}", path.display()))
}

fn propagation(mount: &VolumeMount) -> MountPropagation {
    match mount.mount_propagation.as_deref() {
        Some("Bidirectional") => MountPropagation::Bidirectional,
        Some("HostToContainer") => MountPropagation::HostToContainer,
        _ => MountPropagation::Private,
    }
}

fn sub_path(mount: &VolumeMount, variables: &BTreeMap<String, String>) -> Result<String, String> {
    let Some(expression) = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(mount.sub_path.clone().unwrap_or_default());
    };
    let missing = std::cell::RefCell::new(None);
    let expanded = expand(expression, |name| {
        let value = variables.get(name).filter(|value| !value.is_empty()).cloned();
        if value.is_none() {
            missing.borrow_mut().get_or_insert_with(|| name.to_owned());
        }
        value
    });
    match missing.into_inner() {
        Some(name) => Err(format!("missing value for {name:?}")),
        None => Ok(expanded),
    }
}

/// `/etc/hosts`, unless the container brings its own.
fn hosts_mount(shared: &Shared, pod: &Pod, addresses: &[String], mounts: &[Mount]) -> Result<Option<Mount>, String> {
    let target = Path::new("/etc/hosts");
    if mounts.iter().any(|mount| mount.container_path == target) {
        return Ok(None);
    }
    let config = &shared.context.config;
    let host_file = pod::uses_host_network(pod)
        .then(|| fs::read_to_string(&config.hosts_file))
        .transpose()
        .map_err(|error| format!("read {}: {error}", config.hosts_file.display()))?;
    let text = names::hosts_file(pod, addresses, &config.cluster_domain, host_file.as_deref());
    let path = shared.directory().join("etc-hosts");
    write_if_changed(&path, text.as_bytes(), 0o644)?;
    Ok(Some(Mount { container_path: target.to_owned(), host_path: path, ..Mount::default() }))
}

fn write_if_changed(path: &Path, content: &[u8], mode: u32) -> Result<(), String> {
    if fs::read(path).is_ok_and(|current| current == content) {
        return Ok(());
    }
    let written = fs::write(path, content).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
    written.map_err(|error| format!("write {}: {error}", path.display()))
}

/// A file of its own for each instance, that any user of the container may write its last words to.
fn termination_mount(
    shared: &Shared,
    container: &Container,
    annotations: &mut BTreeMap<String, String>,
) -> Result<Option<Mount>, String> {
    let target = container.termination_message_path.as_deref().unwrap_or(DEFAULT_TERMINATION_MESSAGE_PATH);
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    annotations.insert(ANNOTATION_TERMINATION_MESSAGE_PATH.to_owned(), target.to_owned());
    annotations.insert(ANNOTATION_TERMINATION_MESSAGE_POLICY.to_owned(), policy.to_owned());
    if target.is_empty() {
        return Ok(None);
    }
    let directory = shared.directory().join("containers").join(&container.name);
    let path = directory.join(format!("{:08x}", rand::random::<u32>()));
    let made = fs::create_dir_all(&directory)
        .and_then(|()| fs::write(&path, b""))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o666)));
    made.map_err(|error| format!("create {}: {error}", path.display()))?;
    annotations.insert(ANNOTATION_TERMINATION_MESSAGE_FILE.to_owned(), path.display().to_string());
    Ok(Some(Mount { container_path: Path::new("/").join(target), host_path: path, ..Mount::default() }))
}
