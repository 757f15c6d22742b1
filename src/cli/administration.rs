//! What the administrator's commands share: which cluster, whose data, and how an answer's error reads.

use super::kubectl::{Failure, Session, Streams};
use anyhow::{Context, Result, anyhow};
use std::path::PathBuf;
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct ClusterArguments {
    /// Kubeconfig of the administrator
    #[arg(long, env = "KUBECONFIG", value_name = "FILE", default_value = "/etc/orch/orch.yaml", global = true)]
    kubeconfig: PathBuf,
}

#[derive(clap::Args)]
pub(super) struct DataArguments {
    /// Directory of the server's state
    #[arg(
        long,
        short = 'd',
        env = "ORCH_DATA_DIR",
        value_name = "DIR",
        default_value = "/var/lib/orch",
        global = true
    )]
    pub(super) data_dir: PathBuf,
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

/// `24h`, `30m`; `0` for none.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is not a duration such as 24h or 30m"))?;
    Duration::try_from(span).map_err(|_| "must not be negative".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86400)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("-1h").is_err() && duration("soon").is_err());
    }
}
