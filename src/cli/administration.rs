//! What the administrator's commands share: which cluster, and how an answer's error reads.

use super::kubectl::{Failure, Session, Streams};
use anyhow::{Context, Result, anyhow};
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct ClusterArguments {
    /// Kubeconfig of the administrator
    #[arg(long, env = "KUBECONFIG", value_name = "FILE", default_value = "/etc/orch/orch.yaml", global = true)]
    kubeconfig: PathBuf,
}

impl ClusterArguments {
    /// Work with the cluster; what goes wrong is told as any other command's error.
    pub(super) fn run<T>(&self, work: impl AsyncFnOnce(&Session) -> std::result::Result<T, Failure>) -> Result<T> {
        // Fails only where there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
        runtime.block_on(async {
            let client = crate::client::from_kubeconfig(&self.kubeconfig)
                .await
                .context("reach the cluster: run this on the server, or give --kubeconfig")?;
            let session = Session::new(client, "kube-system", Streams::of_process());
            work(&session).await.map_err(plain)
        })
    }
}

/// Without kubectl's `error:`.
fn plain(failure: Failure) -> anyhow::Error {
    match failure {
        Failure::Local(error) => error,
        Failure::Status(status) => anyhow!("the server refuses ({}): {}", status.code, status.message),
        other => anyhow!("{other}"),
    }
}

/// `3.4 MiB`
pub(super) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
