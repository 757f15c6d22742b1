//! Where a kind is served: group, version, kind, plural and scope.

use std::borrow::Cow;
use std::fmt;

type Str = Cow<'static, str>;

/// A served kind in one version, as a client needs it to build paths and object headers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    pub group: Str,
    pub version: Str,
    pub kind: Str,
    pub plural: Str,
    pub namespaced: bool,
}

impl Kind {
    pub const fn namespaced(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
    ) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            kind: Cow::Borrowed(kind),
            plural: Cow::Borrowed(plural),
            namespaced: true,
        }
    }

    pub const fn cluster(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            kind: Cow::Borrowed(kind),
            plural: Cow::Borrowed(plural),
            namespaced: false,
        }
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        crate::api::gvk::join_api_version(&self.group, &self.version)
    }

    /// `/apis/apps/v1/namespaces/default/deployments`; without the namespace where it is empty or
    /// the kind is cluster-scoped.
    pub fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if self.namespaced && !namespace.is_empty() {
            format!("{root}/namespaces/{namespace}/{}", self.plural)
        } else {
            format!("{root}/{}", self.plural)
        }
    }
}

impl fmt::Display for Kind {
    /// `deployments.apps`, or `pods`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.plural) } else { write!(f, "{}.{}", self.plural, self.group) }
    }
}

/// The built-in kinds that components read and write.
pub mod kinds {
    use super::Kind;

    pub const BINDINGS: Kind = Kind::namespaced("", "v1", "Binding", "bindings");
    pub const CONFIG_MAPS: Kind = Kind::namespaced("", "v1", "ConfigMap", "configmaps");
    pub const ENDPOINTS: Kind = Kind::namespaced("", "v1", "Endpoints", "endpoints");
    pub const EVENTS: Kind = Kind::namespaced("", "v1", "Event", "events");
    pub const LIMIT_RANGES: Kind = Kind::namespaced("", "v1", "LimitRange", "limitranges");
    pub const NAMESPACES: Kind = Kind::cluster("", "v1", "Namespace", "namespaces");
    pub const NODES: Kind = Kind::cluster("", "v1", "Node", "nodes");
    pub const VOLUME_ATTRIBUTES_CLASSES: Kind =
        Kind::cluster("storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses");
    pub const PERSISTENT_VOLUMES: Kind = Kind::cluster("", "v1", "PersistentVolume", "persistentvolumes");
    pub const PERSISTENT_VOLUME_CLAIMS: Kind =
        Kind::namespaced("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims");
    pub const PODS: Kind = Kind::namespaced("", "v1", "Pod", "pods");
    pub const REPLICATION_CONTROLLERS: Kind =
        Kind::namespaced("", "v1", "ReplicationController", "replicationcontrollers");
    pub const RESOURCE_QUOTAS: Kind = Kind::namespaced("", "v1", "ResourceQuota", "resourcequotas");
    pub const SECRETS: Kind = Kind::namespaced("", "v1", "Secret", "secrets");
    pub const SERVICES: Kind = Kind::namespaced("", "v1", "Service", "services");
    pub const SERVICE_ACCOUNTS: Kind = Kind::namespaced("", "v1", "ServiceAccount", "serviceaccounts");
    pub const CONTROLLER_REVISIONS: Kind = Kind::namespaced("apps", "v1", "ControllerRevision", "controllerrevisions");
    pub const DAEMON_SETS: Kind = Kind::namespaced("apps", "v1", "DaemonSet", "daemonsets");
    pub const VALIDATING_ADMISSION_POLICIES: Kind =
        Kind::cluster("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies");
    pub const DEPLOYMENTS: Kind = Kind::namespaced("apps", "v1", "Deployment", "deployments");
    pub const REPLICA_SETS: Kind = Kind::namespaced("apps", "v1", "ReplicaSet", "replicasets");
    pub const STATEFUL_SETS: Kind = Kind::namespaced("apps", "v1", "StatefulSet", "statefulsets");
    pub const CRON_JOBS: Kind = Kind::namespaced("batch", "v1", "CronJob", "cronjobs");
    pub const JOBS: Kind = Kind::namespaced("batch", "v1", "Job", "jobs");
    pub const CERTIFICATE_SIGNING_REQUESTS: Kind =
        Kind::cluster("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests");
    pub const LEASES: Kind = Kind::namespaced("coordination.k8s.io", "v1", "Lease", "leases");
    pub const ENDPOINT_SLICES: Kind = Kind::namespaced("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices");
    pub const IP_ADDRESSES: Kind = Kind::cluster("networking.k8s.io", "v1", "IPAddress", "ipaddresses");
    pub const SERVICE_CIDRS: Kind = Kind::cluster("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs");
    pub const POD_DISRUPTION_BUDGETS: Kind =
        Kind::namespaced("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets");
    pub const CLUSTER_ROLES: Kind = Kind::cluster("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles");
    pub const SUBJECT_ACCESS_REVIEWS: Kind =
        Kind::cluster("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews");
}

#[cfg(test)]
mod tests {
    use super::kinds::*;

    #[test]
    fn paths() {
        assert_eq!(PODS.path("default"), "/api/v1/namespaces/default/pods");
        assert_eq!(PODS.path(""), "/api/v1/pods");
        assert_eq!(NODES.path("ignored"), "/api/v1/nodes");
        assert_eq!(DEPLOYMENTS.path("a"), "/apis/apps/v1/namespaces/a/deployments");
        assert_eq!(DEPLOYMENTS.to_string(), "deployments.apps");
    }
}
