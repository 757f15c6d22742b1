//! How long a Job waits before it replaces pods that failed. Pure.

use crate::runtime::views::Pod;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// The failures since the last success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    pub failures: u32,
    pub last: Option<Timestamp>,
}

impl Backoff {
    /// With pods that have ended since.
    pub fn with(self, succeeded: &[&Arc<Pod>], failed: &[&Arc<Pod>]) -> Self {
        let ends = |pods: &[&Arc<Pod>]| pods.iter().map(|pod| finished(pod)).max();
        let Some(success) = ends(succeeded) else {
            return match ends(failed) {
                None => self,
                Some(last) => Self { failures: self.failures + count(failed.len()), last: Some(last) },
            };
        };
        let after = failed.iter().map(|pod| finished(pod)).filter(|end| *end > success);
        Self { failures: count(after.clone().count()), last: after.max() }
    }

    /// None: not at all.
    pub fn remaining(self, now: Timestamp) -> Option<Duration> {
        let exponent = self.failures.checked_sub(1)?.min(10);
        let delay = (FIRST * 2_u32.pow(exponent)).min(LONGEST);
        let passed = Duration::try_from(now.duration_since(self.last?)).unwrap_or_default();
        delay.checked_sub(passed).filter(|left| !left.is_zero())
    }
}

fn count(pods: usize) -> u32 {
    u32::try_from(pods).unwrap_or(u32::MAX)
}

/// When a pod ended, by its containers, else as near to it as is known.
pub fn finished(pod: &Pod) -> Timestamp {
    let unready = pod.conditions.iter().find(|condition| &*condition.kind == "Ready" && &*condition.status == "False");
    let deleted = pod.meta.deletion_timestamp.map(|time| {
        let grace = jiff::SignedDuration::from_secs(pod.meta.deletion_grace_period_seconds.unwrap_or_default());
        time.checked_sub(grace).unwrap_or(time)
    });
    let known = pod.finished.or_else(|| unready.and_then(|condition| condition.last_transition_time)).or(deleted);
    known.or(pod.meta.creation_timestamp).unwrap_or(Timestamp::UNIX_EPOCH)
}
