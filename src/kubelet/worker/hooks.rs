//! Lifecycle hooks: postStart and preStop by exec, HTTP, TCP or sleep.

use super::state::Shared;
use crate::kubelet::probes::{http, port_number};
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// An HTTP hook that is not answered fails after so long.
const HTTP_TIMEOUT: Duration = Duration::from_secs(60);

/// Run a hook to its end; cancelling ends the wait, not what it started in the container.
pub async fn run(
    shared: &Shared,
    container: &Container,
    id: &str,
    hook: &LifecycleHandler,
    cancel: &CancellationToken,
) -> Result<(), String> {
    tokio::select! {
        result = handle(shared, container, id, hook) => result,
        () = cancel.cancelled() => Err("the pod is being terminated".to_owned()),
    }
}

async fn handle(shared: &Shared, container: &Container, id: &str, hook: &LifecycleHandler) -> Result<(), String> {
    let pod_ip =
        || shared.addresses().pod.into_iter().next().ok_or_else(|| "failed to find networking container".to_owned());
    if let Some(exec) = &hook.exec {
        let command: Vec<String> = exec.command.iter().flatten().cloned().collect();
        let output = shared.context.runtime.exec_sync(id, &command, Duration::ZERO).await;
        let output = output.map_err(|error| format!("Exec lifecycle hook ({command:?}) failed - error: {error}"))?;
        if output.exit_code == 0 {
            return Ok(());
        }
        let mut text = output.stdout;
        text.extend_from_slice(&output.stderr);
        let text = String::from_utf8_lossy(&text);
        return Err(format!(
            "Exec lifecycle hook ({command:?}) failed - error: command '{}' exited with {}: {text}",
            command.join(" "),
            output.exit_code
        ));
    }
    if let Some(action) = &hook.http_get {
        let host = match action.host.clone().filter(|host| !host.is_empty()) {
            Some(host) => host,
            None => pod_ip()?,
        };
        let port = port_number(&action.port, container)?;
        return http::call(&http::Target::of(action, &host, port), HTTP_TIMEOUT).await;
    }
    if let Some(action) = &hook.tcp_socket {
        let host = match action.host.clone().filter(|host| !host.is_empty()) {
            Some(host) => host,
            None => pod_ip()?,
        };
        let port = port_number(&action.port, container)?;
        return http::connect(&host, port, HTTP_TIMEOUT).await.map(drop);
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    Err("invalid handler: the hook names no action".to_owned())
}
