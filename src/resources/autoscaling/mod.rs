//! `autoscaling/v2` and `autoscaling/v1`.

mod annotations;
pub mod horizontal_pod_autoscaler;
pub mod horizontal_pod_autoscaler_v1;
mod metrics;
