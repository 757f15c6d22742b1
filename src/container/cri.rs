//! The runtime as the kubelet sees it: [`ContainerRuntime`] for [`Runtime`].

use super::container::{internal, status as container_status};
use super::runtime::Runtime;
use super::sandbox::status as sandbox_status;
use super::shim::protocol::Request;
use super::shim_client;
use crate::api::cri::{
    ContainerConfig, ContainerId, ContainerRuntime, ContainerStatus, CriError, ExecOutput, ExecRequest, LinuxResources,
    PodSandboxConfig, PodSandboxStatus, Result, RuntimeEvent, SandboxStats, Session,
};
use async_trait::async_trait;
use std::time::Duration;
use tokio::sync::broadcast;

#[async_trait]
impl ContainerRuntime for Runtime {
    fn version(&self) -> (String, String) {
        ("orch".into(), env!("CARGO_PKG_VERSION").into())
    }

    async fn run_pod_sandbox(&self, config: &PodSandboxConfig) -> Result<PodSandboxStatus> {
        self.start_sandbox(config).await.map_err(internal)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        self.stop_sandbox(id).await.map_err(internal)
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        self.remove_sandbox(id).await.map_err(internal)
    }

    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus> {
        self.sandbox_field(id, sandbox_status)
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>> {
        Ok(self.state.lock().sandboxes.values().map(sandbox_status).collect())
    }

    async fn update_pod_sandbox(&self, id: &str, resources: &LinuxResources) -> Result<()> {
        self.update_sandbox(id, resources).await.map_err(internal)
    }

    async fn create_container(&self, sandbox: &str, config: &ContainerConfig) -> Result<ContainerId> {
        self.make_container(sandbox, config).await
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        self.run_container(id).await
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        self.end_container(id, grace).await
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.forget_container(id).await
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        self.status_of(id)
    }

    async fn list_containers(&self, sandbox: Option<&str>) -> Result<Vec<ContainerStatus>> {
        let state = self.state.lock();
        let wanted = state
            .containers
            .values()
            .filter(|container| sandbox.is_none_or(|sandbox| container.record.sandbox_id == sandbox));
        Ok(wanted.map(container_status).collect())
    }

    async fn update_container(&self, id: &str, resources: &LinuxResources) -> Result<()> {
        self.limit_container(id, resources).await
    }

    async fn reopen_log(&self, id: &str) -> Result<()> {
        let sandbox = self.container_field(id, |container| container.record.sandbox_id.clone())?;
        let request = Request::ReopenLog { container: id.to_owned() };
        shim_client::call(&self.sandbox_run(&sandbox), &request, &[]).await.map(|_| ())
    }

    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecOutput> {
        self.run_exec_sync(id, command, timeout).await
    }

    async fn exec(&self, id: &str, request: &ExecRequest) -> Result<Session> {
        self.begin_session(id, request).await
    }

    async fn attach(&self, id: &str, request: &ExecRequest) -> Result<Session> {
        self.begin_attach(id, request).await
    }

    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<tokio::net::TcpStream> {
        self.connect_port(sandbox, port).await
    }

    async fn sandbox_stats(&self) -> Result<Vec<SandboxStats>> {
        let own = self.own.upgrade().ok_or_else(|| CriError::Internal("the runtime is closing".into()))?;
        tokio::task::spawn_blocking(move || own.read_stats()).await.map_err(|error| internal(error.into()))
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.subscribe()
    }
}
