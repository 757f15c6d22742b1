//! Projections that several components read: what the controllers and the scheduler keep of pods,
//! nodes, Services and workloads.

mod cron_job;
mod daemon_set;
mod disruption_budget;
mod endpoint_slice;
mod job;
mod lease;
mod namespace;
mod node;
mod pod;
mod resources;
mod service;
mod stateful_set;
mod storage;
mod workload;

pub use cron_job::{CronJob, CronJobStatus};
pub use daemon_set::{ControllerRevision, DaemonSet, DaemonSetStatus};
pub use disruption_budget::{DisruptionBudgetStatus, PodDisruptionBudget};
pub use endpoint_slice::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice, TargetReference};
pub use job::{ExitCodes, FailureRule, Job, JobStatus, SuccessRule, Uncounted};
pub use lease::Lease;
pub use namespace::{Namespace, ServiceAccount};
pub use node::{Image, Node, Taint};
pub use pod::{Container, Pod, Port, Toleration};
pub use resources::Resources;
pub use service::{Service, ServicePort};
pub use stateful_set::{StatefulSet, StatefulSetStatus};
pub use storage::{PersistentVolume, PersistentVolumeClaim, VolumeAttributesClass};
pub use workload::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetStatus, ReplicationController, UpdateStrategy};

use crate::runtime::{LabelSelector, Projection};
use serde::{Deserialize, Deserializer};

/// A kind whose objects own what their selector matches.
pub trait Selecting: Projection {
    fn selector(&self) -> &LabelSelector;
}

macro_rules! selecting {
    ($($kind:ident: $($field:tt).+;)+) => {
        $(impl Selecting for $kind {
            fn selector(&self) -> &LabelSelector {
                &self.$($field).+
            }
        })+
    };
}

selecting! {
    Deployment: spec.selector;
    ReplicaSet: spec.selector;
    ReplicationController: 0.spec.selector;
    DaemonSet: spec.selector;
    StatefulSet: spec.selector;
    Job: spec.selector;
}

/// A string or a number (`intstr.IntOrString`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    Number(i32),
    Text(String),
}

impl IntOrString {
    /// A number, or a percentage of `total`. None: neither.
    pub fn scaled(&self, total: i32, round_up: bool) -> Option<i32> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => {
                let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
                let product = percent * i64::from(total);
                let value = if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
                i32::try_from(value).ok()
            }
        }
    }
}

/// null is the default, as Go reads it.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let text = IntOrString::Text("25%".into());
        assert_eq!(text.scaled(10, true), Some(3));
        assert_eq!(text.scaled(10, false), Some(2));
        assert_eq!(IntOrString::Number(7).scaled(10, true), Some(7));
        assert_eq!(IntOrString::Text("x".into()).scaled(10, true), None);
    }
}
