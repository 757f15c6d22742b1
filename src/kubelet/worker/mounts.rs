//! The volumes of one pod: made ready before its containers start, kept fresh while they run.

use super::state::{Shared, VolumeState};
use crate::kubelet::objects::references;
use crate::kubelet::pod;
use crate::kubelet::volumes::{self, Ready, Setup};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, Volume};
use std::time::Duration;
use tokio::time::Instant;

const RETRY_BASE: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(122);
/// So long a start waits for the first list of Services.
const SERVICES_TIMEOUT: Duration = Duration::from_secs(10);

/// Make every volume ready that is not; true: all are. What fails is told by events and put off.
pub async fn set_up(shared: &Shared, pod: &Pod) -> Result<bool, String> {
    let directory = shared.directory();
    if let Err(error) = make_directories(&directory) {
        let message = format!("error making pod data directories: {error}");
        shared.context.warning(&pod::subject(pod), "Failed", message.clone());
        return Err(message);
    }
    shared.context.objects.synced(&references(pod)).await;
    let services = shared.context.services.store().synced();
    // Without Services the environment would lack them for the container's whole life; but a pod
    // that needs none must not wait for ever.
    if tokio::time::timeout(SERVICES_TIMEOUT, services).await.is_err() {
        tracing::warn!(pod = %shared.key, "services have not yet been read at least once");
    }
    let spec = pod::spec(pod);
    let due: Vec<&Volume> = {
        let state = shared.state.lock();
        let now = Instant::now();
        spec.volumes
            .iter()
            .flatten()
            .filter(|volume| match state.volumes.get(&volume.name) {
                None => true,
                Some(known) => known.path.is_none() && known.retry_at.is_none_or(|at| at <= now),
            })
            .collect()
    };
    run(shared, pod, &due).await;
    Ok(shared.state.lock().volumes_ready())
}

/// Set up again what follows from changed objects, changed metadata or aged tokens. `all`: every
/// live volume; else those whose time has come.
pub async fn refresh(shared: &Shared, pod: &Pod, all: bool) {
    let spec = pod::spec(pod);
    let due: Vec<&Volume> = {
        let state = shared.state.lock();
        let now = Instant::now();
        spec.volumes
            .iter()
            .flatten()
            .filter(|volume| volumes::is_live(volume))
            .filter(|volume| {
                state
                    .volumes
                    .get(&volume.name)
                    .is_some_and(|known| known.path.is_some() && (all || known.refresh_at.is_some_and(|at| at <= now)))
            })
            .collect()
    };
    run(shared, pod, &due).await;
}

fn make_directories(directory: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(directory.join("volumes"))
}

async fn run(shared: &Shared, pod: &Pod, due: &[&Volume]) {
    if due.is_empty() {
        return;
    }
    let context = &shared.context;
    let directory = shared.directory();
    let addresses = shared.addresses();
    let lookup = context.objects.lookup(&shared.key.namespace);
    let allocatable = context.allocatable.load();
    let results = join_all(due.iter().map(|volume| {
        let setup = Setup {
            pod,
            volume,
            pod_directory: &directory,
            mounter: &context.config.mounter,
            lookup: &lookup,
            tokens: &context.tokens,
            addresses: &addresses,
            allocatable: &allocatable,
        };
        async move { volumes::set_up(&setup).await }
    }))
    .await;
    for (volume, result) in due.iter().zip(results) {
        note(shared, pod, &volume.name, result);
    }
}

fn note(shared: &Shared, pod: &Pod, name: &str, result: Result<Ready, String>) {
    let mut state = shared.state.lock();
    let known = state.volumes.entry(name.to_owned()).or_default();
    match result {
        Ok(ready) => {
            *known = VolumeState { path: Some(ready.path), refresh_at: ready.refresh_at, ..VolumeState::default() };
        }
        Err(error) => {
            let delay = (RETRY_BASE * 2u32.pow(known.failures.min(8))).min(RETRY_MAX);
            known.failures += 1;
            let at = Instant::now() + delay;
            known.retry_at = Some(at);
            // A volume that was ready stays in use as it is.
            known.refresh_at = known.path.is_some().then_some(at);
            known.error.clone_from(&error);
            drop(state);
            shared.context.warning(&pod::subject(pod), "FailedMount", error);
        }
    }
}
