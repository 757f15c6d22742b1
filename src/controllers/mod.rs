//! The controllers: what moves the cluster from its state to what its objects ask for.
//!
//! [`CONTROLLERS`] is the table; a controller is one file and one row. Each has a pure `plan` from
//! desired and observed state to changes, and a thin part that applies them under the controller's
//! own identity. [`run`] starts them all; caches come from the shared informers.

mod certificates;
mod cluster_role_aggregation;
mod context;
mod cron_job;
mod daemon_set;
mod deletion_order;
mod deployment;
mod discovery;
mod disruption;
mod endpoint_slice;
mod endpoint_slice_mirroring;
mod endpoints;
mod event_ttl;
mod garbage_collector;
mod history;
mod job;
mod kubernetes_service;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod node_role;
mod ownership;
mod pod_control;
mod pod_gc;
mod policy_type_check;
mod pv_protection;
mod pvc_protection;
mod replica_set;
mod root_ca;
mod seen;
mod service_account;
mod service_address_repair;
mod service_cidr;
mod service_pods;
mod slices;
mod stateful_set;
mod taint_eviction;
mod template_hash;
mod token_cleaner;
mod ttl_after_finished;
mod vac_protection;

pub use context::{Config, Context, NodeLifecycle, Running, SignRequest, Signer};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// One controller.
pub struct Row {
    /// As `kube-controller-manager --controllers` names it.
    pub name: &'static str,
    pub start: fn(&Context) -> Running,
}

/// All of them, in the order of their start.
pub const CONTROLLERS: &[Row] = &[
    Row { name: "deployment-controller", start: deployment::start },
    Row { name: "replicaset-controller", start: replica_set::start },
    Row { name: "replicationcontroller-controller", start: replica_set::start_replication_controllers },
    Row { name: "daemonset-controller", start: daemon_set::start },
    Row { name: "statefulset-controller", start: stateful_set::start },
    Row { name: "job-controller", start: job::start },
    Row { name: "cronjob-controller", start: cron_job::start },
    Row { name: "ttl-after-finished-controller", start: ttl_after_finished::start },
    Row { name: "endpointslice-controller", start: endpoint_slice::start },
    Row { name: "endpointslice-mirroring-controller", start: endpoint_slice_mirroring::start },
    Row { name: "endpoints-controller", start: endpoints::start },
    Row { name: "disruption-controller", start: disruption::start },
    Row { name: "node-lifecycle-controller", start: node_lifecycle::start },
    Row { name: "taint-eviction-controller", start: taint_eviction::start },
    Row { name: "node-ipam-controller", start: node_ipam::start },
    Row { name: "node-role-controller", start: node_role::start },
    Row { name: "pod-garbage-collector-controller", start: pod_gc::start },
    Row { name: "certificate-controller", start: certificates::start },
    Row { name: "kubernetes-service-controller", start: kubernetes_service::start },
    Row { name: "service-address-repair-controller", start: service_address_repair::start },
    Row { name: "service-cidr-controller", start: service_cidr::start },
    Row { name: "clusterrole-aggregation-controller", start: cluster_role_aggregation::start },
    Row { name: "event-ttl-controller", start: event_ttl::start },
    Row { name: "token-cleaner-controller", start: token_cleaner::start },
    Row { name: "namespace-controller", start: namespace::start },
    Row { name: "garbage-collector-controller", start: garbage_collector::start },
    Row { name: "serviceaccount-controller", start: service_account::start },
    Row { name: "persistentvolumeclaim-protection-controller", start: pvc_protection::start },
    Row { name: "persistentvolume-protection-controller", start: pv_protection::start },
    Row { name: "volumeattributesclass-protection-controller", start: vac_protection::start },
    Row { name: "root-ca-certificate-publisher-controller", start: root_ca::start },
    Row { name: "validatingadmissionpolicy-status-controller", start: policy_type_check::start },
];

/// Run all controllers until `shutdown`. A panic in one of them is passed on.
pub async fn run(context: Context, shutdown: CancellationToken) {
    run_rows(CONTROLLERS, &context, shutdown).await;
}

async fn run_rows(rows: &[Row], context: &Context, shutdown: CancellationToken) {
    let mut tasks = JoinSet::new();
    for row in rows {
        tasks.spawn((row.start)(context).task);
    }
    tokio::select! {
        () = shutdown.cancelled() => {}
        Some(ended) = tasks.join_next() => {
            if let Err(error) = ended && error.is_panic() {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
    tasks.shutdown().await;
}
