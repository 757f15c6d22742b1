//! Which fields of which kinds hold names of other objects, or labels that select pods.

/// Kinds with a pod template, and where its spec is.
const POD_SPECS: &[(&str, &str)] = &[
    ("Pod", "spec"),
    ("PodTemplate", "template/spec"),
    ("Deployment", "spec/template/spec"),
    ("ReplicaSet", "spec/template/spec"),
    ("ReplicationController", "spec/template/spec"),
    ("DaemonSet", "spec/template/spec"),
    ("StatefulSet", "spec/template/spec"),
    ("Job", "spec/template/spec"),
    ("CronJob", "spec/jobTemplate/spec/template/spec"),
];

/// Kind of the named object, and the field below a pod's spec.
const IN_PODS: &[(&str, &str)] = &[
    ("ConfigMap", "volumes/configMap/name"),
    ("ConfigMap", "containers/env/valueFrom/configMapKeyRef/name"),
    ("ConfigMap", "initContainers/env/valueFrom/configMapKeyRef/name"),
    ("ConfigMap", "containers/envFrom/configMapRef/name"),
    ("ConfigMap", "initContainers/envFrom/configMapRef/name"),
    ("ConfigMap", "volumes/projected/sources/configMap/name"),
    ("Secret", "volumes/secret/secretName"),
    ("Secret", "containers/env/valueFrom/secretKeyRef/name"),
    ("Secret", "initContainers/env/valueFrom/secretKeyRef/name"),
    ("Secret", "containers/envFrom/secretRef/name"),
    ("Secret", "initContainers/envFrom/secretRef/name"),
    ("Secret", "imagePullSecrets/name"),
    ("Secret", "volumes/projected/sources/secret/name"),
    ("ServiceAccount", "serviceAccountName"),
    ("PersistentVolumeClaim", "volumes/persistentVolumeClaim/claimName"),
    ("PriorityClass", "priorityClassName"),
];

/// Kind of the named object, kind that names it, and the field.
const OTHERS: &[(&str, &str, &str)] = &[
    ("Deployment", "HorizontalPodAutoscaler", "spec/scaleTargetRef/name"),
    ("ReplicationController", "HorizontalPodAutoscaler", "spec/scaleTargetRef/name"),
    ("ReplicaSet", "HorizontalPodAutoscaler", "spec/scaleTargetRef/name"),
    ("StatefulSet", "HorizontalPodAutoscaler", "spec/scaleTargetRef/name"),
    ("ConfigMap", "Node", "spec/configSource/configMap"),
    ("ConfigMap", "Role", "rules/resourceNames"),
    ("ConfigMap", "ClusterRole", "rules/resourceNames"),
    ("ConfigMap", "Ingress", "metadata/annotations/nginx.ingress.kubernetes.io\\/fastcgi-params-configmap"),
    ("Secret", "Ingress", "spec/tls/secretName"),
    ("Secret", "Ingress", "metadata/annotations/ingress.kubernetes.io\\/auth-secret"),
    ("Secret", "Ingress", "metadata/annotations/nginx.ingress.kubernetes.io\\/auth-secret"),
    ("Secret", "Ingress", "metadata/annotations/nginx.ingress.kubernetes.io\\/auth-tls-secret"),
    ("Secret", "ServiceAccount", "imagePullSecrets/name"),
    ("Secret", "StorageClass", "parameters/secretName"),
    ("Secret", "StorageClass", "parameters/adminSecretName"),
    ("Secret", "StorageClass", "parameters/userSecretName"),
    ("Secret", "StorageClass", "parameters/secretRef"),
    ("Secret", "Role", "rules/resourceNames"),
    ("Secret", "ClusterRole", "rules/resourceNames"),
    ("Secret", "PersistentVolume", "spec/azureFile/secretName"),
    ("Service", "StatefulSet", "spec/serviceName"),
    ("Service", "Ingress", "spec/rules/http/paths/backend/service/name"),
    ("Service", "Ingress", "spec/defaultBackend/service/name"),
    ("Service", "APIService", "spec/service/name"),
    ("Service", "ValidatingWebhookConfiguration", "webhooks/clientConfig/service"),
    ("Service", "MutatingWebhookConfiguration", "webhooks/clientConfig/service"),
    ("Role", "RoleBinding", "roleRef/name"),
    ("ClusterRole", "RoleBinding", "roleRef/name"),
    ("ClusterRole", "ClusterRoleBinding", "roleRef/name"),
    ("ServiceAccount", "RoleBinding", "subjects"),
    ("ServiceAccount", "ClusterRoleBinding", "subjects"),
    ("PersistentVolume", "PersistentVolumeClaim", "spec/volumeName"),
    ("PersistentVolume", "ClusterRole", "rules/resourceNames"),
    ("StorageClass", "PersistentVolume", "spec/storageClassName"),
    ("StorageClass", "PersistentVolumeClaim", "spec/storageClassName"),
    ("StorageClass", "StatefulSet", "spec/volumeClaimTemplates/spec/storageClassName"),
    ("IngressClass", "Ingress", "spec/ingressClassName"),
    ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "spec/policyName"),
];

/// The fields of a kind that hold names, with the kind that is named.
pub fn of(kind: &str) -> impl Iterator<Item = (&'static str, String)> + use<'_> {
    let pods = POD_SPECS.iter().filter(move |(name, _)| *name == kind);
    let pods = pods.flat_map(|(_, spec)| IN_PODS.iter().map(move |(named, field)| (*named, format!("{spec}/{field}"))));
    let others = OTHERS.iter().filter(move |(_, name, _)| *name == kind);
    pods.chain(others.map(|(named, _, field)| (*named, (*field).to_owned())))
}

/// Where labels and annotations of a kind's own pods stand.
const TEMPLATES: &[(&str, &str)] = &[
    ("ReplicationController", "spec/template/metadata"),
    ("Deployment", "spec/template/metadata"),
    ("ReplicaSet", "spec/template/metadata"),
    ("DaemonSet", "spec/template/metadata"),
    ("StatefulSet", "spec/template/metadata"),
    ("Job", "spec/template/metadata"),
    ("CronJob", "spec/jobTemplate/metadata"),
    ("CronJob", "spec/jobTemplate/spec/template/metadata"),
];

pub fn templates(kind: &str) -> impl Iterator<Item = &'static str> + use<'_> {
    TEMPLATES.iter().filter(move |(name, _)| *name == kind).map(|(_, path)| *path)
}

/// Below the pod's spec, and only where they are there.
const AFFINITIES: &[&str] = &[
    "affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels",
    "affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels",
    "affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/podAffinityTerm/labelSelector/matchLabels",
    "affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/labelSelector/matchLabels",
    "topologySpreadConstraints/labelSelector/matchLabels",
];

/// Kind, field, and whether it is made where it is not there.
const SELECTORS: &[(&str, &str, bool)] = &[
    ("Service", "spec/selector", true),
    ("ReplicationController", "spec/selector", true),
    ("Deployment", "spec/selector/matchLabels", true),
    ("ReplicaSet", "spec/selector/matchLabels", true),
    ("DaemonSet", "spec/selector/matchLabels", true),
    ("StatefulSet", "spec/selector/matchLabels", true),
    ("StatefulSet", "spec/volumeClaimTemplates/metadata/labels", true),
    ("Job", "spec/selector/matchLabels", false),
    ("CronJob", "spec/jobTemplate/spec/selector/matchLabels", false),
    ("PodDisruptionBudget", "spec/selector/matchLabels", false),
    ("NetworkPolicy", "spec/podSelector/matchLabels", false),
    ("NetworkPolicy", "spec/ingress/from/podSelector/matchLabels", false),
    ("NetworkPolicy", "spec/egress/to/podSelector/matchLabels", false),
];

/// The selectors of a kind.
pub fn selectors(kind: &str) -> Vec<(String, bool)> {
    let own = SELECTORS.iter().filter(|(name, _, _)| *name == kind);
    let mut found: Vec<(String, bool)> = own.map(|(_, path, create)| ((*path).to_owned(), *create)).collect();
    if matches!(kind, "Deployment" | "StatefulSet") {
        found.extend(AFFINITIES.iter().map(|path| (format!("spec/template/spec/{path}"), false)));
    }
    found
}

/// Where images are named.
pub const IMAGES: &[&str] = &[
    "spec/containers/image",
    "spec/initContainers/image",
    "spec/volumes/image/reference",
    "spec/template/spec/containers/image",
    "spec/template/spec/initContainers/image",
    "spec/template/spec/volumes/image/reference",
    "spec/jobTemplate/spec/template/spec/containers/image",
    "spec/jobTemplate/spec/template/spec/initContainers/image",
];
