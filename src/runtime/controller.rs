//! The loop around a reconcile function.

use super::queue::WorkQueue;
use crate::client::{is_already_exists, is_conflict, is_namespace_terminating};
use async_trait::async_trait;
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What to do after a reconcile that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Wait for the next change.
    Done,
    /// Look again after this long, change or not.
    After(Duration),
}

impl Action {
    /// The earlier of two.
    pub fn sooner(self, other: Self) -> Self {
        match (self, other) {
            (Self::After(one), Self::After(two)) => Self::After(one.min(two)),
            (Self::After(_), Self::Done) => self,
            (Self::Done, _) => other,
        }
    }
}

/// Level-triggered: it is told which object to look at, never what happened to it. A second run
/// over the same state changes nothing.
#[async_trait]
pub trait Controller: Send + Sync + 'static {
    type Key: Clone + Eq + Hash + Ord + Display + Send + Sync + 'static;

    /// As logs, events and metrics name it.
    fn name(&self) -> &'static str;

    /// An error is a reason to try again, but for that the namespace is being deleted.
    async fn reconcile(&self, key: &Self::Key) -> anyhow::Result<Action>;
}

/// Work the queue off with `workers` tasks, until the future is dropped. A key that fails is tried
/// again with growing delays. A panic in a reconcile ends the process's controllers: it is a bug.
pub async fn run<C: Controller>(controller: Arc<C>, queue: Arc<WorkQueue<C::Key>>, workers: usize) {
    let mut tasks = JoinSet::new();
    queue.measure(controller.name());
    for _ in 0..workers {
        let (controller, queue) = (controller.clone(), queue.clone());
        tasks.spawn(async move {
            loop {
                let key = queue.next().await;
                let since = Instant::now();
                work(&*controller, &queue, &key).await;
                queue.worked(since.elapsed());
                queue.done(&key);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

async fn work<C: Controller>(controller: &C, queue: &WorkQueue<C::Key>, key: &C::Key) {
    match controller.reconcile(key).await {
        Ok(action) => {
            queue.forget(key);
            if let Action::After(delay) = action {
                queue.add_after(key.clone(), delay);
            }
        }
        Err(error) => {
            let says = |what: fn(&kube::Error) -> bool| {
                error.chain().any(|cause| cause.downcast_ref::<kube::Error>().is_some_and(what))
            };
            if says(is_namespace_terminating) {
                // What was to be made ends with the namespace.
                return queue.forget(key);
            }
            // These only say that the cache is behind; it is no news.
            if says(is_conflict) || says(is_already_exists) {
                tracing::debug!(controller = controller.name(), %key, "{error:#}");
            } else {
                tracing::warn!(controller = controller.name(), %key, "{error:#}");
            }
            queue.add_rate_limited(key.clone());
        }
    }
}
