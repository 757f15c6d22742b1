//! Tests of the admission chain, over a store in memory.

use super::*;
use crate::api::user::SYSTEM_NODES;
use crate::apiserver::authz;
use crate::apiserver::webhook::Client;
use crate::storage::{Body, Durability, Key, SqliteStorage};
use serde_json::json;

struct Fixture {
    storage: Arc<SqliteStorage>,
    chain: Chain,
}

/// One write on its way through the chain.
struct Write {
    user: UserInfo,
    operation: Operation,
    /// `group/plural`
    resource: &'static str,
    subresource: &'static str,
    namespace: &'static str,
    object: Value,
    old: Option<Value>,
}

impl Write {
    fn create(resource: &'static str, object: Value) -> Self {
        Self {
            user: UserInfo::new("jane", &[]),
            operation: Operation::Create,
            resource,
            subresource: "",
            namespace: "a",
            object,
            old: None,
        }
    }

    fn by_node(mut self, name: &str) -> Self {
        self.user = UserInfo::new(&format!("system:node:{name}"), &[SYSTEM_NODES]);
        self
    }
}

fn sources(storage: Arc<dyn Storage>, authorizers: Vec<Arc<dyn Authorizer>>, rbac: Arc<Rbac>) -> Sources {
    let (registry, webhooks) = (Arc::new(Registry::built_in()), Client::direct(storage.clone()));
    Sources {
        storage,
        authorizers,
        rbac,
        registry,
        webhooks,
        configuration: Default::default(),
        metrics: Default::default(),
    }
}

async fn fixture() -> Fixture {
    fixture_with(&[]).await
}

/// With plugins that are off otherwise.
async fn fixture_with(enable: &[&str]) -> Fixture {
    let storage = SqliteStorage::in_memory().await;
    let shared: Arc<dyn Storage> = storage.clone();
    let (authorizers, rbac) = authz::standard(&shared);
    let chain = Chain::new(&sources(shared, authorizers, rbac), &names(enable), &[]).unwrap();
    let fixture = Fixture { storage, chain };
    fixture.put("/namespaces", "", json!({"metadata": {"name": "a"}, "status": {"phase": "Active"}})).await;
    fixture.put("/serviceaccounts", "a", json!({"metadata": {"name": "default"}})).await;
    fixture
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn split(resource: &str) -> GroupResource {
    let (group, plural) = resource.split_once('/').unwrap();
    GroupResource::new(group, plural)
}

impl Fixture {
    async fn put(&self, resource: &str, namespace: &str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        let key = Key::new(&split(resource), namespace, name);
        let body = Body::from_value(&object, 0, None);
        match self.storage.get(&key) {
            Some(entry) => self.storage.update(key, entry.revision, body, Durability::Lazy).await,
            None => self.storage.create(key, body, Durability::Lazy).await,
        }
        .unwrap();
    }

    /// The object as admitted and the warnings, or the message of the refusal.
    async fn run(&self, mut write: Write) -> Result<(Value, Vec<String>), String> {
        let resource = split(write.resource);
        let gvr = GroupVersionResource::new(&resource.group, "v1", &resource.resource);
        let kind = GroupVersionKind::new(&resource.group, "v1", "Kind");
        let mut warnings = Vec::new();
        let name = write.object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let deleting = write.operation == Operation::Delete;
        let mut attributes = Attributes {
            user: &write.user,
            operation: write.operation,
            kind: &kind,
            resource: &gvr,
            subresource: write.subresource,
            namespace: write.namespace,
            name: &name,
            object: (!deleting).then_some(&mut write.object),
            old_object: write.old.as_ref(),
            options: &Value::Null,
            dry_run: false,
            warnings: &mut warnings,
            reinvocation: Default::default(),
        };
        self.chain.admit(&mut attributes).await.map_err(|status| status.message)?;
        self.chain.validate(&mut attributes).await.map_err(|status| status.message)?;
        Ok((write.object, warnings))
    }

    async fn refused(&self, write: Write, message: &str) {
        assert_eq!(self.run(write).await.unwrap_err(), message);
    }
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "web"}, "spec": spec})
}

fn plain() -> Value {
    pod(json!({"containers": [{"name": "c"}]}))
}

#[tokio::test]
async fn nothing_is_made_where_there_is_no_namespace_or_it_goes_away() {
    let fixture = fixture().await;
    let map = || Write::create("/configmaps", json!({"metadata": {"name": "m"}}));
    fixture.run(map()).await.unwrap();
    fixture.refused(Write { namespace: "b", ..map() }, "namespaces \"b\" not found").await;
    fixture.put("/namespaces", "", json!({"metadata": {"name": "a"}, "status": {"phase": "Terminating"}})).await;
    fixture
        .refused(
            map(),
            "configmaps \"m\" is forbidden: unable to create new content in namespace a because it is being terminated",
        )
        .await;
    fixture.run(Write { operation: Operation::Update, ..map() }).await.unwrap();
    fixture.run(Write { operation: Operation::Delete, ..map() }).await.unwrap();
    let delete = |name: &str| Write {
        operation: Operation::Delete,
        namespace: "",
        ..Write::create("/namespaces", json!({"metadata": {"name": name}}))
    };
    fixture.run(delete("a")).await.unwrap();
    fixture
        .refused(delete("kube-system"), "namespaces \"kube-system\" is forbidden: this namespace may not be deleted")
        .await;
}

#[tokio::test]
async fn a_pod_gets_its_account_token_tolerations_and_priority() {
    let fixture = fixture().await;
    fixture
        .put("/serviceaccounts", "a", json!({"metadata": {"name": "default"}, "imagePullSecrets": [{"name": "pull"}]}))
        .await;
    let spec = json!({"containers": [{"name": "c"}, {"name": "own", "volumeMounts": [
        {"name": "x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}],
        "tolerations": [{"key": "node.kubernetes.io/unreachable", "operator": "Exists"}]});
    let (admitted, warnings) = fixture.run(Write::create("/pods", pod(spec))).await.unwrap();
    assert!(warnings.is_empty());
    let spec = &admitted["spec"];
    assert_eq!((&spec["serviceAccountName"], &spec["serviceAccount"]), (&json!("default"), &json!("default")));
    assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
    let volume = spec["volumes"][0]["name"].as_str().unwrap();
    assert!(volume.starts_with("kube-api-access-") && volume.len() == "kube-api-access-".len() + 5, "{volume}");
    assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], volume);
    assert_eq!(spec["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1, "it has its own");
    assert_eq!(spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3607);
    assert_eq!(
        spec["tolerations"][1],
        json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    );
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(0), &json!("PreemptLowerPriority")));
    // Again: nothing more.
    assert_eq!(fixture.run(Write::create("/pods", admitted.clone())).await.unwrap().0, admitted);
    let quiet = pod(json!({"containers": [{"name": "c"}], "automountServiceAccountToken": false}));
    assert!(fixture.run(Write::create("/pods", quiet)).await.unwrap().0["spec"].get("volumes").is_none());
    let other = pod(json!({"containers": [{"name": "c"}], "serviceAccountName": "other"}));
    fixture
        .refused(
            Write::create("/pods", other),
            "pods \"web\" is forbidden: error looking up service account a/other: serviceaccount \"other\" not found",
        )
        .await;
}

#[tokio::test]
async fn the_default_account_of_a_fresh_namespace_is_waited_for() {
    let fixture = fixture().await;
    fixture.put("/namespaces", "", json!({"metadata": {"name": "b"}, "status": {"phase": "Active"}})).await;
    let write = Write { namespace: "b", ..Write::create("/pods", plain()) };
    let late = async {
        tokio::task::yield_now().await;
        fixture.put("/serviceaccounts", "b", json!({"metadata": {"name": "default"}})).await;
    };
    let (result, ()) = tokio::join!(fixture.run(write), late);
    assert_eq!(result.unwrap().0["spec"]["serviceAccountName"], "default");
}

#[tokio::test]
async fn a_priority_class_makes_the_number() {
    let fixture = fixture().await;
    let class = |name: &str, value: i64, default: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": default, "preemptionPolicy": "Never"});
    fixture.put("scheduling.k8s.io/priorityclasses", "", class("high", 1000, false)).await;
    let named = |extra: Value| {
        let mut spec = json!({"containers": [{"name": "c"}], "priorityClassName": "high"});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        Write::create("/pods", pod(spec))
    };
    let (admitted, _) = fixture.run(named(json!({}))).await.unwrap();
    assert_eq!((&admitted["spec"]["priority"], &admitted["spec"]["preemptionPolicy"]), (&json!(1000), &json!("Never")));
    fixture
        .refused(
            named(json!({"priority": 5})),
            "pods \"web\" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority \
             admission controller computed 1000 from the given PriorityClass name",
        )
        .await;
    fixture
        .refused(
            named(json!({"priorityClassName": "none"})),
            "pods \"web\" is forbidden: no PriorityClass with name none was found",
        )
        .await;
    fixture.put("scheduling.k8s.io/priorityclasses", "", class("usual", 7, true)).await;
    let (admitted, _) = fixture.run(Write::create("/pods", plain())).await.unwrap();
    assert_eq!((&admitted["spec"]["priority"], &admitted["spec"]["priorityClassName"]), (&json!(7), &json!("usual")));
    let second = Write { namespace: "", ..Write::create("scheduling.k8s.io/priorityclasses", class("more", 1, true)) };
    fixture
        .refused(
            second,
            "priorityclasses.scheduling.k8s.io \"more\" is forbidden: PriorityClass usual is already marked as default. \
             Only one default can exist",
        )
        .await;
}

#[tokio::test]
async fn a_new_node_is_tainted_and_may_not_label_itself_at_will() {
    let fixture = fixture().await;
    let node = |labels: Value| Write {
        namespace: "",
        ..Write::create("/nodes", json!({"metadata": {"name": "n1", "labels": labels}, "spec": {}}))
    };
    let (admitted, _) = fixture.run(node(json!({"kubernetes.io/hostname": "n1"})).by_node("n1")).await.unwrap();
    assert_eq!(admitted["spec"]["taints"], json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]));
    fixture
        .refused(
            node(json!({"node-role.kubernetes.io/control-plane": ""})).by_node("n1"),
            "nodes \"n1\" is forbidden: node \"n1\" is not allowed to set the following labels: \
             node-role.kubernetes.io/control-plane",
        )
        .await;
    fixture
        .refused(
            node(json!({})).by_node("n2"),
            "nodes \"n1\" is forbidden: node \"n2\" is not allowed to modify node \"n1\"",
        )
        .await;
    let untainted =
        Write { operation: Operation::Update, old: Some(admitted), ..node(json!({"kubernetes.io/hostname": "n1"})) };
    fixture
        .refused(untainted.by_node("n1"), "nodes \"n1\" is forbidden: node \"n1\" is not allowed to modify taints")
        .await;
}

#[tokio::test]
async fn a_node_writes_its_own_pods_only() {
    let fixture = fixture().await;
    fixture
        .refused(
            Write::create("/pods", plain()).by_node("n1"),
            "pods \"web\" is forbidden: pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can \
             only create mirror pods",
        )
        .await;
    let stored = json!({"metadata": {"name": "web", "uid": "u"}, "spec": {"nodeName": "n1"}});
    fixture.put("/pods", "a", stored.clone()).await;
    let status = |name: &str| {
        Write {
            operation: Operation::Update,
            subresource: "status",
            old: Some(stored.clone()),
            ..Write::create("/pods", stored.clone())
        }
        .by_node(name)
    };
    fixture.run(status("n1")).await.unwrap();
    fixture
        .refused(
            status("n2"),
            "pods \"web\" is forbidden: node \"n2\" can only update pod status for pods with spec.nodeName set to itself",
        )
        .await;
    let delete =
        |name: &str| Write { operation: Operation::Delete, ..Write::create("/pods", stored.clone()) }.by_node(name);
    fixture.run(delete("n1")).await.unwrap();
    fixture
        .refused(
            delete("n2"),
            "pods \"web\" is forbidden: node \"n2\" can only delete pods with spec.nodeName set to itself",
        )
        .await;
    let token = |uid: &str| {
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": uid});
        let request = json!({"metadata": {"name": "default"}, "spec": {"boundObjectRef": bound}});
        Write { subresource: "token", ..Write::create("/serviceaccounts", request) }
    };
    // No volume of the pod wants one.
    fixture
        .refused(
            token("u").by_node("n1"),
            "serviceaccounts \"default\" is forbidden: audience \"\" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience",
        )
        .await;
    fixture
        .refused(
            token("u").by_node("n2"),
            "serviceaccounts \"default\" is forbidden: node requested token bound to a pod scheduled on a different node",
        )
        .await;
    fixture
        .refused(
            token("").by_node("n1"),
            "serviceaccounts \"default\" is forbidden: node requested token with a pod binding without a uid",
        )
        .await;
}

#[tokio::test]
async fn pod_security_refuses_pods_and_warns_of_templates() {
    let fixture = fixture().await;
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
    let namespace = json!({"metadata": {"name": "a", "labels": labels}, "status": {"phase": "Active"}});
    fixture.put("/namespaces", "", namespace).await;
    fixture.run(Write::create("/pods", plain())).await.unwrap();
    let spec = json!({"hostNetwork": true, "containers": [{"name": "c"}]});
    fixture
        .refused(
            Write::create("/pods", pod(spec.clone())),
            "pods \"web\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)",
        )
        .await;
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"template": {"metadata": {}, "spec": spec}}});
    let (_, warnings) = fixture.run(Write::create("apps/deployments", deployment)).await.unwrap();
    assert_eq!(warnings, ["would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"]);
}

#[tokio::test]
async fn nobody_asks_for_a_certificate_of_the_masters() {
    let fixture = fixture().await;
    let request = |group: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
        let pem = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
        let spec = json!({"signerName": "kubernetes.io/kube-apiserver-client", "request": encoded});
        Write {
            namespace: "",
            ..Write::create(
                "certificates.k8s.io/certificatesigningrequests",
                json!({"metadata": {"name": "r"}, "spec": spec}),
            )
        }
    };
    fixture.run(request("devs")).await.unwrap();
    fixture
        .refused(
            request("system:masters"),
            "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: use of \
             kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
        )
        .await;
    let approval = Write {
        operation: Operation::Update,
        subresource: "approval",
        old: Some(json!({"spec": {"signerName": "example.com/x"}})),
        ..request("devs")
    };
    fixture
        .refused(
            approval,
            "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to approve requests \
             with signerName \"example.com/x\"",
        )
        .await;
}

#[tokio::test]
async fn every_row_is_switched_by_its_name() {
    // Escalation of rights and access to devices are no rows: nobody switches them off.
    const ALWAYS: usize = 2;
    let storage = SqliteStorage::in_memory().await;
    let shared: Arc<dyn Storage> = storage.clone();
    let (authorizers, rbac) = authz::standard(&shared);
    let sources = sources(shared, authorizers, rbac);
    let made = |enable: &[&str], disable: &[&str]| -> Result<Vec<&'static str>, String> {
        Ok(Chain::new(&sources, &names(enable), &names(disable))?.names().skip(ALWAYS).collect())
    };
    let usual = made(&[], &[]).unwrap();
    assert_eq!(usual, PLUGINS.iter().filter(|row| row.on).map(|row| row.name).collect::<Vec<_>>());
    let all: Vec<&str> = PLUGINS.iter().map(|row| row.name).collect();
    assert_eq!(made(&all, &[]).unwrap(), all);
    assert!(made(&[], &all).unwrap().is_empty());
    assert_eq!(made(GATED, ABSENT).unwrap(), usual);
    let unknown = made(&["EventRateLimit"], &[]).unwrap_err();
    assert!(unknown.starts_with("enable-admission-plugins: EventRateLimit is not known; there are Name"), "{unknown}");
    let unknown = made(&[], &["Nothing"]).unwrap_err();
    assert!(unknown.starts_with("disable-admission-plugins: Nothing is not known; there are Name"), "{unknown}");
    let both = made(&["PodSecurity"], &["PodSecurity"]).unwrap_err();
    assert_eq!(both, "admission plugin PodSecurity is both enabled and disabled");
    // Switching it off is no way to rights.
    assert!(made(&[], &["RoleEscalation"]).is_err());
}

#[tokio::test]
async fn a_runtime_class_brings_overhead_and_nodes() {
    let fixture = fixture().await;
    let scheduling = json!({"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]});
    let class = json!({"metadata": {"name": "vm"}, "handler": "vm", "overhead": {"podFixed": {"cpu": "250m"}}, "scheduling": scheduling});
    fixture.put("node.k8s.io/runtimeclasses", "", class).await;
    fixture.put("node.k8s.io/runtimeclasses", "", json!({"metadata": {"name": "bare"}, "handler": "bare"})).await;
    let with = |name: &str, more: Value| {
        let mut spec = json!({"containers": [{"name": "c"}], "runtimeClassName": name});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Write::create("/pods", pod(spec))
    };
    // The same amount in other words is no conflict.
    let given = json!({"overhead": {"cpu": "0.25"}, "nodeSelector": {"disk": "ssd"}});
    let (admitted, _) = fixture.run(with("vm", given)).await.unwrap();
    let spec = &admitted["spec"];
    assert_eq!(spec["overhead"], json!({"cpu": "250m"}));
    assert_eq!(spec["nodeSelector"], json!({"disk": "ssd", "vm": "yes"}));
    assert!(items(&spec["tolerations"]).contains(&json!({"key": "vm", "operator": "Exists"})), "{spec}");
    for (write, reason) in [
        (with("none", json!({})), "pod rejected: RuntimeClass \"none\" not found"),
        (
            with("vm", json!({"overhead": {"cpu": "1"}})),
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            with("bare", json!({"overhead": {"cpu": "1"}})),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            with("vm", json!({"nodeSelector": {"vm": "no"}})),
            "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
        ),
    ] {
        fixture.refused(write, &format!("pods \"web\" is forbidden: {reason}")).await;
    }
}

#[tokio::test]
async fn owners_are_set_by_who_may() {
    let fixture = fixture_with(&["OwnerReferencesPermissionEnforcement"]).await;
    let map = |owners: Value| json!({"metadata": {"name": "m", "ownerReferences": owners}});
    let owner = |block: bool| json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u", "blockOwnerDeletion": block});
    fixture.run(Write::create("/configmaps", map(json!([owner(false)])))).await.unwrap();
    let blocking = "configmaps \"m\" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a \
                    resource you can't set finalizers on: , <nil>";
    fixture.refused(Write::create("/configmaps", map(json!([owner(true)]))), blocking).await;
    let nothing = json!([{"apiVersion": "x/v1", "kind": "Y", "name": "d", "uid": "u", "blockOwnerDeletion": true}]);
    fixture
        .refused(
            Write::create("/configmaps", map(nothing)),
            "configmaps \"m\" is forbidden: cannot set blockOwnerDeletion in this case because cannot find RESTMapping \
             for APIVersion x/v1 Kind Y: no matches for kind \"Y\" in version \"x/v1\"",
        )
        .await;
    let update = |old: Value, new: Value| Write {
        operation: Operation::Update,
        old: Some(map(old)),
        ..Write::create("/configmaps", map(new))
    };
    let foreign = "configmaps \"m\" is forbidden: cannot set an ownerRef on a resource you can't delete: , <nil>";
    fixture.refused(update(json!([]), json!([owner(false)])), foreign).await;
    fixture.refused(update(json!([owner(false)]), json!([])), foreign).await;
    fixture.run(update(json!([owner(true)]), json!([owner(true)]))).await.unwrap();

    let role = |name: &str, group: &str, resource: &str, verb: &str| {
        let rules = json!([{"apiGroups": [group], "resources": [resource], "verbs": [verb]}]);
        json!({"metadata": {"name": name}, "rules": rules})
    };
    let bind = |name: &str| {
        let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
        let subjects = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}]);
        json!({"metadata": {"name": name}, "roleRef": reference, "subjects": subjects})
    };
    for (name, group, resource, verb) in
        [("delete", "", "configmaps", "delete"), ("finalize", "apps", "deployments/finalizers", "update")]
    {
        fixture.put("rbac.authorization.k8s.io/clusterroles", "", role(name, group, resource, verb)).await;
        fixture.put("rbac.authorization.k8s.io/clusterrolebindings", "", bind(name)).await;
    }
    // Rights take hold a moment after they are stored.
    for _ in 0..500 {
        if fixture.run(update(json!([]), json!([owner(true)]))).await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("who may is refused");
}

#[tokio::test]
async fn images_are_always_pulled() {
    let fixture = fixture_with(&["AlwaysPullImages"]).await;
    let spec = |policy: &str, image: &str| {
        json!({
            "initContainers": [{"name": "i", "image": "a", "imagePullPolicy": policy}],
            "containers": [{"name": "c", "image": image, "imagePullPolicy": policy}],
            "volumes": [{"name": "v", "image": {"reference": "b", "pullPolicy": policy}}],
        })
    };
    let (admitted, _) = fixture.run(Write::create("/pods", pod(spec("Never", "a")))).await.unwrap();
    let spec_of = &admitted["spec"];
    assert_eq!(spec_of["initContainers"][0]["imagePullPolicy"], "Always");
    assert_eq!(spec_of["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(spec_of["volumes"][0]["image"]["pullPolicy"], "Always");
    let update = |image: &str| Write {
        operation: Operation::Update,
        old: Some(pod(spec("Never", "a"))),
        ..Write::create("/pods", pod(spec("Never", image)))
    };
    assert_eq!(fixture.run(update("a")).await.unwrap().0["spec"]["containers"][0]["imagePullPolicy"], "Never");
    assert_eq!(fixture.run(update("b")).await.unwrap().0["spec"]["containers"][0]["imagePullPolicy"], "Always");
}

#[tokio::test]
async fn external_addresses_are_kept_but_not_taken() {
    let fixture = fixture_with(&["DenyServiceExternalIPs"]).await;
    let service = |addresses: Value| json!({"metadata": {"name": "s"}, "spec": {"externalIPs": addresses}});
    let refusal = "services \"s\" is forbidden: Use of external IPs is denied by admission control";
    fixture.run(Write::create("/services", service(json!([])))).await.unwrap();
    fixture.refused(Write::create("/services", service(json!(["1.2.3.4"]))), refusal).await;
    let update = |old: Value, new: Value| Write {
        operation: Operation::Update,
        old: Some(service(old)),
        ..Write::create("/services", service(new))
    };
    fixture.run(update(json!(["1.2.3.4", "1.2.3.5"]), json!(["1.2.3.5"]))).await.unwrap();
    fixture.refused(update(json!(["1.2.3.4"]), json!(["1.2.3.5"])), refusal).await;
}

#[tokio::test]
async fn a_pod_grows_no_larger_than_its_node() {
    let fixture = fixture().await;
    let node = |system: &str| json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/os": system}}, "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}}});
    fixture.put("/nodes", "", node("linux")).await;
    let sized = |generation: i64, cpu: &str, memory: &str| {
        let requests = json!({"requests": {"cpu": cpu, "memory": memory}});
        let spec = json!({"nodeName": "n1", "containers": [{"name": "c", "resources": requests}]});
        json!({"metadata": {"name": "web", "generation": generation}, "spec": spec})
    };
    let resize = |cpu: &str, memory: &str| Write {
        operation: Operation::Update,
        subresource: "resize",
        old: Some(sized(1, "1", "1Mi")),
        ..Write::create("/pods", sized(2, cpu, memory))
    };
    fixture.run(resize("2", "1Gi")).await.unwrap();
    fixture
        .refused(
            resize("2100m", "2Gi"),
            "pods \"web\" is forbidden: node didn't have enough allocatable resources: cpu, requested: 2100, \
             allocatable: 2000; memory, requested: 2147483648, allocatable: 1073741824",
        )
        .await;
    fixture.put("/nodes", "", node("windows")).await;
    fixture
        .refused(
            resize("1", "1Mi"),
            "pods \"web\" is forbidden: pod resize is only supported on linux nodes, node \"n1\" is \"windows\"",
        )
        .await;
}

#[tokio::test]
async fn who_asks_for_a_device_tolerates_its_taint() {
    let fixture = fixture_with(&["ExtendedResourceToleration"]).await;
    let resources = json!({"requests": {"cpu": "1", "example.com/b": "1", "example.com/a": "1"}});
    let spec = json!({"containers": [{"name": "c", "resources": resources}], "initContainers": [{"name": "i", "resources": resources}]});
    let (admitted, _) = fixture.run(Write::create("/pods", pod(spec))).await.unwrap();
    let toleration = |name: &str| json!({"key": name, "operator": "Exists", "effect": "NoSchedule"});
    let given = items(&admitted["spec"]["tolerations"]);
    assert_eq!(given[given.len() - 2..], [toleration("example.com/a"), toleration("example.com/b")]);
}
