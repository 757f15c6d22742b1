//! Values as Kubernetes's errors show them: its internal structs as Go's JSON encoder writes them, with
//! Go's names, in Go's order, what is absent as zero or null. Structs of apimachinery are written as
//! they are sent. [`Schema::shown`] is the entry.

use super::table::{Field, Schema, Shape, StructId, TypeId, TypeTable};
use serde_json::Value;

/// Names that Go spells otherwise than with a capital: JSON's and Go's, in turns.
const NAMES: &str = "apiGroup APIGroup apiGroups APIGroups apiVersion APIVersion apiVersions APIVersions \
    awsElasticBlockStore AWSElasticBlockStore bool BoolValue bools BoolValues caBundle CABundle cel CEL cephfs CephFS \
    chapAuthDiscovery DiscoveryCHAPAuth chapAuthSession SessionCHAPAuth cidr CIDR cidrs CIDRs csi CSI diskURI \
    DataDiskURI dnsConfig DNSConfig dnsPolicy DNSPolicy externalID DoNotUseExternalID fc FC fsGroup FSGroup \
    fsGroupChangePolicy FSGroupChangePolicy fsGroupPolicy FSGroupPolicy fsType FSType gcePersistentDisk \
    GCEPersistentDisk gid GID gmsaCredentialSpec GMSACredentialSpec gmsaCredentialSpecName GMSACredentialSpecName grpc \
    GRPC http HTTP httpGet HTTPGet httpHeaders HTTPHeaders id ID int IntValue ints IntValues ip IP ipBlock IPBlock \
    ipFamilies IPFamilies ipFamilyPolicy IPFamilyPolicy ipMode IPMode ips IPs iqn IQN iscsi ISCSI iscsiInterface \
    ISCSIInterface jsonPatch JSONPatch jsonPath JSONPath lastState LastTerminationState nfs NFS os OS osImage OSImage \
    pdName PDName qosClass QOSClass rbd RBD reportingComponent ReportingController seLinuxChangePolicy \
    SELinuxChangePolicy seLinuxMount SELinuxMount seLinuxOptions SELinuxOptions sslEnabled SSLEnabled storageos \
    StorageOS string StringValue strings StringValues tcpSocket TCPSocket tls TLS ttlSecondsAfterFinished \
    TTLSecondsAfterFinished tty TTY uid UID url URL version VersionValue wwids WWIDs endpoints EndpointsName monitors \
    CephMonitors";

/// Structs whose internal order is not the protobuf numbers', or that have other fields: Go's names.
const ORDERS: &[(&str, &str)] = &[
    (
        "PersistentVolumeClaimSpec",
        "AccessModes Selector Resources VolumeName StorageClassName VolumeMode DataSource DataSourceRef VolumeAttributesClassName",
    ),
    (
        "ISCSIVolumeSource",
        "TargetPortal IQN Lun ISCSIInterface FSType ReadOnly Portals DiscoveryCHAPAuth SessionCHAPAuth SecretRef InitiatorName",
    ),
    (
        "ISCSIPersistentVolumeSource",
        "TargetPortal IQN Lun ISCSIInterface FSType ReadOnly Portals DiscoveryCHAPAuth SessionCHAPAuth SecretRef InitiatorName",
    ),
    ("ClusterTrustBundleProjection", "Name SignerName LabelSelector Optional Path"),
    ("VolumeMount", "Name ReadOnly RecursiveReadOnly MountPath SubPath MountPropagation SubPathExpr"),
    ("Container", CONTAINER),
    ("EphemeralContainerCommon", CONTAINER),
    (
        "VolumeSource",
        "HostPath EmptyDir GCEPersistentDisk AWSElasticBlockStore GitRepo Secret NFS ISCSI Glusterfs PersistentVolumeClaim RBD Quobyte FlexVolume Cinder CephFS Flocker DownwardAPI FC AzureFile ConfigMap VsphereVolume AzureDisk PhotonPersistentDisk Projected PortworxVolume ScaleIO StorageOS CSI Ephemeral Image",
    ),
    (
        "PersistentVolumeSource",
        "GCEPersistentDisk AWSElasticBlockStore HostPath Glusterfs NFS RBD Quobyte ISCSI FlexVolume Cinder CephFS FC Flocker AzureFile VsphereVolume AzureDisk PhotonPersistentDisk PortworxVolume ScaleIO Local StorageOS CSI",
    ),
    ("PodCondition", "Type ObservedGeneration Status LastProbeTime LastTransitionTime Reason Message"),
    (
        "PodSpec",
        "Volumes InitContainers Containers EphemeralContainers RestartPolicy TerminationGracePeriodSeconds ActiveDeadlineSeconds DNSPolicy NodeSelector ServiceAccountName AutomountServiceAccountToken NodeName SecurityContext ImagePullSecrets Hostname Subdomain SetHostnameAsFQDN Affinity SchedulerName Tolerations HostAliases PriorityClassName Priority PreemptionPolicy DNSConfig ReadinessGates RuntimeClassName Overhead EnableServiceLinks TopologySpreadConstraints OS SchedulingGates ResourceClaims Resources HostnameOverride SchedulingGroup",
    ),
    (
        "PodSecurityContext",
        "HostNetwork HostPID HostIPC ShareProcessNamespace HostUsers SELinuxOptions WindowsOptions RunAsUser RunAsGroup RunAsNonRoot SupplementalGroups SupplementalGroupsPolicy FSGroup FSGroupChangePolicy Sysctls SeccompProfile AppArmorProfile SELinuxChangePolicy",
    ),
    (
        "SecurityContext",
        "Capabilities Privileged SELinuxOptions WindowsOptions RunAsUser RunAsGroup RunAsNonRoot ReadOnlyRootFilesystem AllowPrivilegeEscalation ProcMount SeccompProfile AppArmorProfile",
    ),
    (
        "ServiceSpec",
        "Type Ports Selector ClusterIP ClusterIPs IPFamilies IPFamilyPolicy ExternalName ExternalIPs LoadBalancerIP SessionAffinity SessionAffinityConfig LoadBalancerSourceRanges ExternalTrafficPolicy HealthCheckNodePort PublishNotReadyAddresses AllocateLoadBalancerNodePorts LoadBalancerClass InternalTrafficPolicy TrafficDistribution",
    ),
    ("ServicePort", "Name Protocol AppProtocol Port TargetPort NodePort"),
    ("EndpointAddress", "IP Hostname NodeName TargetRef"),
    ("NodeSpec", "PodCIDRs ProviderID Unschedulable Taints ConfigSource DoNotUseExternalID"),
    ("ReplicationControllerSpec", "Replicas MinReadySeconds Selector Template"),
    ("ReplicaSetSpec", "Replicas MinReadySeconds Selector Template"),
    (
        "JobSpec",
        "Parallelism Completions PodFailurePolicy SuccessPolicy ActiveDeadlineSeconds BackoffLimit BackoffLimitPerIndex MaxFailedIndexes Selector ManualSelector Template TTLSecondsAfterFinished CompletionMode Suspend PodReplacementPolicy ManagedBy",
    ),
    ("HPAScalingRules", "StabilizationWindowSeconds SelectPolicy Policies Tolerance"),
    ("MetricSpec", "Type Object Pods Resource ContainerResource External"),
    ("ContainerResourceMetricSource", "Name Container Target"),
    ("IngressSpec", "IngressClassName DefaultBackend TLS Rules"),
    ("HTTPIngressPath", "Path PathType Backend"),
    ("IngressBackend", "Service Resource"),
    (
        "CSIDriverSpec",
        "AttachRequired FSGroupPolicy PodInfoOnMount VolumeLifecycleModes StorageCapacity TokenRequests RequiresRepublish SELinuxMount NodeAllocatableUpdatePeriodSeconds ServiceAccountTokenInSecrets PreventPodSchedulingIfMissing",
    ),
    (
        "ValidatingAdmissionPolicySpec",
        "ParamKind MatchConstraints Validations MatchConditions FailurePolicy AuditAnnotations Variables",
    ),
    ("WebhookClientConfig", "URL Service CABundle"),
    ("OwnerReference", "APIVersion Kind Name UID Controller BlockOwnerDeletion"),
    ("AllocatedDeviceStatus", "Driver Pool Device ShareID Conditions Data NetworkData"),
];
const CONTAINER: &str = "Name Image Command Args WorkingDir Ports EnvFrom Env Resources ResizePolicy RestartPolicy RestartPolicyRules VolumeMounts VolumeDevices LivenessProbe ReadinessProbe StartupProbe Lifecycle TerminationMessagePath TerminationMessagePolicy ImagePullPolicy SecurityContext Stdin StdinOnce TTY";

/// Of a PodSpec, in its security context internally.
const OF_HOST: &[&str] = &["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"];

impl Schema {
    /// As [`Schema::shown`], of the fields of a struct that is embedded in a type.
    pub fn shown_embedded(&self, kind: TypeId, name: &str, value: &Value) -> Option<String> {
        let id = self.table.as_struct(kind)?;
        let embedded = self.table.declared(id).iter().find(|field| self.table.name(field.name) == name)?;
        self.shown(embedded.kind, value)
    }

    /// The value of a field with this type, where it is or holds a struct. None: it is no such field, and
    /// JSON will do.
    pub fn shown(&self, kind: TypeId, value: &Value) -> Option<String> {
        if !self.holds_struct(kind) || !(value.is_object() || value.is_array()) {
            return None;
        }
        let mut out = String::new();
        Printer { table: &self.table, out: &mut out, sent: false }.value(kind, value);
        Some(out)
    }

    fn holds_struct(&self, kind: TypeId) -> bool {
        match self.table.shape(kind) {
            Shape::Struct { id, .. } => !self.table.package(id).starts_with("apiextensions"),
            Shape::List { element, .. } => self.holds_struct(element),
            Shape::Map { value, .. } => self.holds_struct(value),
            _ => false,
        }
    }
}

/// A struct of a package as Go's JSON encoder writes it: in its order, by JSON's names.
pub fn as_sent(package: &str, name: &str, value: &Value) -> String {
    let table = super::builtin();
    let mut out = String::from("{");
    if let Some(id) = table.struct_named(package, name) {
        Printer { table, out: &mut out, sent: true }.sent(id, value);
    }
    out.push('}');
    out
}

/// JSON as Go writes it: careful with HTML.
pub(crate) fn go_json(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn go_name(json: &str) -> String {
    let mut names = NAMES.split(' ');
    while let (Some(name), Some(go)) = (names.next(), names.next()) {
        if name == json {
            return go.to_owned();
        }
    }
    json[..1].to_uppercase() + &json[1..]
}

struct Printer<'a> {
    table: &'a TypeTable,
    out: &'a mut String,
    /// All structs are written as they are sent.
    sent: bool,
}

impl Printer<'_> {
    fn value(&mut self, kind: TypeId, value: &Value) {
        match (self.table.shape(kind), value) {
            (Shape::Struct { id, .. }, _) if self.sent || self.table.package(id) == "meta/v1" => {
                self.out.push('{');
                self.sent(id, value);
                self.out.push('}');
            }
            (Shape::Struct { id, .. }, _) => self.structure(id, value),
            (Shape::List { element, .. }, Value::Array(items)) => self.many('[', ']', items.iter(), |printer, item| {
                printer.value(element, item);
            }),
            (Shape::Map { value: kind, .. }, Value::Object(entries)) => {
                self.many('{', '}', entries.iter(), |printer, (name, value)| {
                    printer.out.push_str(&go_json(&Value::from(name.as_str())));
                    printer.out.push(':');
                    printer.value(kind, value);
                });
            }
            (shape, Value::Null) => self.out.push_str(match shape {
                Shape::String => "\"\"",
                Shape::Bool => "false",
                Shape::Int32 | Shape::Int64 | Shape::Uint32 | Shape::Uint64 | Shape::Float | Shape::IntOrString => "0",
                Shape::Quantity => "\"0\"",
                _ => "null",
            }),
            (_, value) => self.out.push_str(&go_json(value)),
        }
    }

    fn many<T>(&mut self, open: char, close: char, items: impl Iterator<Item = T>, mut each: impl FnMut(&mut Self, T)) {
        self.out.push(open);
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            each(self, item);
        }
        self.out.push(close);
    }

    /// The fields of a struct of apimachinery, without braces.
    fn sent(&mut self, id: StructId, value: &Value) {
        let mut first = true;
        let mut fields = self.table.declared(id).to_vec();
        if let Some((_, order)) = ORDERS.iter().find(|(name, _)| *name == self.table.struct_name(id)) {
            let place = |field: &Field| {
                let go = go_name(self.table.name(field.name));
                order.split(' ').position(|name| name == go)
            };
            fields.sort_by_key(place);
        }
        for field in fields {
            let name = self.table.name(field.name);
            let always = self.sent && !field.pointer() && !field.omit_empty() && !field.omit_zero();
            let inner = match value.get(name).filter(|inner| !inner.is_null()) {
                None if always => &Value::Null,
                None => continue,
                Some(inner) => inner,
            };
            self.separate(&mut first);
            self.out.push_str(&format!("\"{name}\":"));
            self.value(field.kind, inner);
        }
    }

    fn structure(&mut self, id: StructId, value: &Value) {
        let moved = moved(self.table.struct_name(id), value);
        let value = moved.as_ref().unwrap_or(value);
        let mut fields = Vec::new();
        declared(self.table, id, &mut fields);
        self.out.push('{');
        let mut first = true;
        for (go, field) in fields {
            let Some(field) = field else {
                let inner = value.get(lower_first(&go)).cloned();
                let absent =
                    if go.starts_with("HostU") || go.starts_with("Share") { Value::Null } else { false.into() };
                self.separate(&mut first);
                self.out.push_str(&format!("\"{go}\":{}", inner.unwrap_or(absent)));
                continue;
            };
            let inner = value.get(self.table.name(field.name)).unwrap_or(&Value::Null);
            // The metadata of an object is embedded: its fields stand among the object's.
            if self.table.name(field.name) == "metadata" {
                if let Some(metadata) = self.table.as_struct(field.kind) {
                    let before = self.out.len();
                    self.sent(metadata, inner);
                    first &= self.out.len() == before;
                }
                continue;
            }
            self.separate(&mut first);
            self.out.push_str(&format!("\"{go}\":"));
            if inner.is_null() && field.pointer() {
                self.out.push_str("null");
            } else {
                self.value(field.kind, inner);
            }
        }
        self.out.push('}');
    }

    fn separate(&mut self, first: &mut bool) {
        if !std::mem::take(first) {
            self.out.push(',');
        }
    }
}

/// Go's names of a struct's fields in its order, those of embedded structs in their place. None: a
/// field that the versioned struct does not have.
fn declared(table: &TypeTable, id: StructId, out: &mut Vec<(String, Option<Field>)>) {
    let mut own = Vec::new();
    for field in table.declared(id) {
        match table.shape(field.kind) {
            Shape::Struct { id, .. } if field.inline() => {
                if table.struct_name(id) != "TypeMeta" {
                    declared(table, id, &mut own);
                }
            }
            _ => own.push((go_name(table.name(field.name)), Some(*field))),
        }
    }
    match ORDERS.iter().find(|(name, _)| *name == table.struct_name(id)) {
        None => out.extend(own),
        Some((_, order)) => out.extend(order.split(' ').map(|go| {
            let field = own.iter().find(|(name, _)| name == go).and_then(|(_, field)| *field);
            (go.to_owned(), field)
        })),
    }
}

fn lower_first(name: &str) -> String {
    name[..1].to_lowercase() + &name[1..]
}

/// What stands elsewhere internally.
fn moved(name: &str, value: &Value) -> Option<Value> {
    if name != "PodSpec" {
        return None;
    }
    let mut value = value.clone();
    let fields = value.as_object_mut()?;
    for name in OF_HOST {
        if let Some(inner) = fields.remove(*name) {
            fields.entry("securityContext").or_insert_with(|| serde_json::json!({}))[*name] = inner;
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use crate::api::GroupVersionKind;
    use serde_json::json;

    fn check(api_version: &str, kind: &str, path: &str, value: serde_json::Value, shown: &str) {
        let gvk = GroupVersionKind::from_api_version(api_version, kind);
        let schema = crate::schema::builtin_schema(&gvk).expect("a built-in kind");
        let field = schema.at_steps(path.split('.')).expect("a field");
        assert_eq!(schema.shown(field, &value).as_deref(), Some(shown));
    }

    #[test]
    fn structs_have_all_their_fields_in_go_s_order() {
        let profile = json!({"type": "Unconfined", "localhostProfile": "<x>"});
        let shown = r#"{"Type":"Unconfined","LocalhostProfile":"\u003cx\u003e"}"#;
        check("v1", "Pod", "spec.securityContext.seccompProfile", profile, shown);
        let shown = r#"[{"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}]"#;
        check("v1", "Service", "spec.ports", json!([{"port": 80, "protocol": "TCP"}]), shown);
        let shown = r#"{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"k","operator":"Exists"}]}"#;
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "Exists"}]});
        check("apps/v1", "Deployment", "spec.selector", selector, shown);
    }

    #[test]
    fn metadata_is_embedded_and_host_fields_are_of_the_security_context() {
        let template =
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"hostNetwork": true, "securityContext": {}}});
        let gvk = GroupVersionKind::from_api_version("batch/v1", "Job");
        let schema = crate::schema::builtin_schema(&gvk).expect("a built-in kind");
        let field = schema.at_steps(["spec", "template"].into_iter()).expect("a field");
        let shown = schema.shown(field, &template).expect("a struct");
        assert!(shown.starts_with(r#"{"labels":{"a":"b"},"Spec":{"Volumes":null,"#), "{shown}");
        let context =
            r#""SecurityContext":{"HostNetwork":true,"HostPID":false,"HostIPC":false,"ShareProcessNamespace":null,"#;
        assert!(shown.contains(context), "{shown}");
    }
}
