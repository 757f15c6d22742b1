//! Runs the components of a process: every task is named and owned; the first that ends early ends
//! all.

use anyhow::{Context, Result, anyhow};
use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// After the shutdown was asked for, components have this long to end.
const DRAIN: Duration = Duration::from_secs(10);

pub struct Supervisor {
    tasks: JoinSet<Result<()>>,
    names: HashMap<Id, &'static str>,
    shutdown: CancellationToken,
}

impl Supervisor {
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), names: HashMap::new(), shutdown }
    }

    /// Cancelled when the process is to end.
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Run a component until the shutdown; that it ends before is an error of the process.
    pub fn spawn(&mut self, name: &'static str, component: impl Future<Output = Result<()>> + Send + 'static) {
        let handle = self.tasks.spawn(component);
        self.names.insert(handle.id(), name);
    }

    /// Until the shutdown or the first component that ends; then all are ended and awaited.
    pub async fn run(mut self) -> Result<()> {
        let first = tokio::select! {
            () = self.shutdown.cancelled() => None,
            ended = self.tasks.join_next_with_id() => ended,
        };
        let result = match first {
            None => Ok(()),
            // Both may be ready: a component that ends because of the shutdown is not early.
            Some(ended) if self.shutdown.is_cancelled() => self.outcome(ended),
            Some(ended) => self.early(ended),
        };
        self.shutdown.cancel();
        let drained = tokio::time::timeout(DRAIN, async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                if let Err(error) = self.outcome(ended) {
                    tracing::error!("{error:#}");
                }
            }
        });
        if drained.await.is_err() {
            let late: Vec<&str> = self.names.values().copied().collect();
            tracing::warn!("did not end within {} s: {}", DRAIN.as_secs(), late.join(", "));
            self.tasks.abort_all();
        }
        result
    }

    /// What a finished task says; it is no longer among the named ones.
    fn outcome(&mut self, ended: std::result::Result<(Id, Result<()>), tokio::task::JoinError>) -> Result<()> {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(anyhow!(error))),
        };
        let name = self.names.remove(&id).unwrap_or("task");
        result.with_context(|| name.to_owned())
    }

    fn early(&mut self, ended: std::result::Result<(Id, Result<()>), tokio::task::JoinError>) -> Result<()> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let name = self.names.get(&id).copied().unwrap_or("task");
        self.outcome(ended)?;
        Err(anyhow!("{name} ended by itself"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_failure_ends_all_and_is_named() {
        let mut supervisor = Supervisor::new(CancellationToken::new());
        let shutdown = supervisor.shutdown();
        supervisor.spawn("waits", async move {
            shutdown.cancelled().await;
            Ok(())
        });
        supervisor.spawn("fails", async { Err(anyhow!("disk on fire")) });
        let error = supervisor.run().await.unwrap_err();
        assert_eq!(format!("{error:#}"), "fails: disk on fire");
    }

    #[tokio::test]
    async fn ending_early_without_error_is_one() {
        let mut supervisor = Supervisor::new(CancellationToken::new());
        supervisor.spawn("short", async { Ok(()) });
        assert_eq!(supervisor.run().await.unwrap_err().to_string(), "short ended by itself");
    }

    #[tokio::test]
    async fn a_shutdown_is_no_error() {
        let shutdown = CancellationToken::new();
        let mut supervisor = Supervisor::new(shutdown.clone());
        let waits = supervisor.shutdown();
        supervisor.spawn("waits", async move {
            waits.cancelled().await;
            Ok(())
        });
        shutdown.cancel();
        supervisor.run().await.unwrap();
    }

    #[tokio::test]
    async fn a_component_that_ends_with_the_shutdown_is_no_error() {
        // Which of the two is seen first is chance.
        for _ in 0..64 {
            let shutdown = CancellationToken::new();
            let mut supervisor = Supervisor::new(shutdown.clone());
            let waits = supervisor.shutdown();
            supervisor.spawn("waits", async move {
                waits.cancelled().await;
                Ok(())
            });
            shutdown.cancel();
            tokio::task::yield_now().await;
            supervisor.run().await.unwrap();
        }
    }
}
