//! The scheduler: which node a pod runs on.
//!
//! [`run`] feeds one task with what the caches say; that task owns the [`queue`] and the [`cache`],
//! and for each pod runs a [`cycle`]: filter and score nodes by the table of [`plugins`], reserve,
//! and bind in the background. Cycles are pure functions of a snapshot. Pods that name another
//! scheduler are left alone. Source: `pkg/scheduler`.

mod cache;
mod cycle;
mod driver;
mod plugins;
mod preemption;
mod queue;
mod selectors;
#[cfg(test)]
mod tests;

use crate::client::Objects;
use crate::runtime::{Informers, Recorder};
use tokio_util::sync::CancellationToken;

/// The scheduler that pods get unless they name another.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";
const AGENT: &str = "kube-scheduler";

#[derive(Clone)]
pub struct Context {
    /// Shared with the other components of the process.
    pub informers: Informers,
    /// Of the user `system:kube-scheduler`.
    pub client: kube::Client,
}

/// Schedule until `shutdown`.
pub async fn run(context: Context, shutdown: CancellationToken) {
    let objects = Objects::new(context.client.clone(), AGENT);
    let recorder = Recorder::new(objects.clone(), DEFAULT_SCHEDULER, "");
    let driver = driver::Driver::new(&context.informers, objects, recorder);
    tokio::select! {
        () = driver.run() => {}
        () = shutdown.cancelled() => {}
    }
}
