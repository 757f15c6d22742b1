//! What the administrator's commands share: which cluster, whose data, and how an answer's error reads.

use super::kubectl::{Failure, Session, Streams};
use crate::api::cron::Schedule;
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

/// `0 */6 * * *`, `@daily`.
pub(super) fn schedule(text: &str) -> Result<Schedule, String> {
    let schedule =
        Schedule::parse(text).map_err(|error| format!("{error}; a schedule is like \"0 */6 * * *\" or @daily"))?;
    match schedule.next(jiff::Timestamp::now(), &jiff::tz::TimeZone::system()) {
        Some(_) => Ok(schedule),
        None => Err("there is no such day".to_owned()),
    }
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

    #[test]
    fn schedules() {
        assert!(schedule("0 */12 * * *").is_ok() && schedule("@daily").is_ok());
        let error = schedule("0 */12 * *").unwrap_err();
        assert!(error.contains("expected exactly 5 fields, found 4") && error.contains("0 */6 * * *"), "{error}");
        assert_eq!(schedule("0 0 30 2 *").unwrap_err(), "there is no such day");
    }
}
