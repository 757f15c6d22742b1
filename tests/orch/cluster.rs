//! A whole cluster in one process: the real store, API server with RBAC and default objects,
//! controllers and scheduler, and nodes whose kubelets only pretend. No root, no ports.

use orch::api::UserInfo;
use orch::api::ip::Cidr;
use orch::apiserver::{self, Server, admission, authn, authz, bootstrap, services, subresources};
use orch::client::{DeleteOptions, Kind, Objects, Patch, in_process, kinds};
use orch::cluster::pki::{Options as PkiOptions, Pki};
use orch::controllers::{self, CONTROLLERS, NodeLifecycle, SignRequest};
use orch::resources::Registry;
use orch::runtime::views::Pod;
use orch::runtime::{Informer, InformerOptions, Informers};
use orch::scheduler;
use orch::storage::{Prefix, Revision, SqliteStorage, Storage, Watch};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Nothing takes so long; it only bounds a test that fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// The node that the server would be.
pub const SERVER_NODE: &str = "server";

/// How a test's cluster differs.
pub struct Setup {
    pub grace_period: Duration,
    pub addresses: Vec<IpAddr>,
    pub pod_range: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            grace_period: Duration::from_secs(50),
            addresses: vec![[192, 0, 2, 1].into()],
            pod_range: "10.42.0.0/16",
        }
    }
}

/// The API server, counting what the components ask of it.
#[derive(Clone)]
struct Counted {
    server: Server,
    requests: Arc<AtomicU64>,
}

impl tower::Service<http::Request<axum::body::Body>> for Counted {
    type Response = <Server as tower::Service<http::Request<axum::body::Body>>>::Response;
    type Error = <Server as tower::Service<http::Request<axum::body::Body>>>::Error;
    type Future = <Server as tower::Service<http::Request<axum::body::Body>>>::Future;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.server.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<axum::body::Body>) -> Self::Future {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.server.call(request)
    }
}

struct Controller {
    name: &'static str,
    resync: Box<dyn Fn() + Send + Sync>,
    is_idle: Box<dyn Fn() -> bool + Send + Sync>,
}

pub struct TestCluster {
    pub storage: Arc<SqliteStorage>,
    pub server: Server,
    /// As an administrator.
    pub admin: Objects,
    pub advertise: watch::Sender<Vec<IpAddr>>,
    controllers: Vec<Controller>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    addresses: AtomicU32,
    requests: Arc<AtomicU64>,
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.server.shut_down();
    }
}

struct ClusterSigner(Arc<Pki>);

impl controllers::Signer for ClusterSigner {
    fn sign(&self, request: &SignRequest) -> anyhow::Result<Vec<u8>> {
        let pem = std::str::from_utf8(&request.request)?;
        Ok(self.0.sign_for(&request.signer_name, pem, request.duration)?.into_bytes())
    }
}

/// How the API server of a test is composed otherwise.
pub struct Composed {
    /// Admission plugins that are off elsewhere.
    pub plugins: &'static [&'static str],
    pub admission: admission::Configuration,
    pub change: Box<dyn FnOnce(&mut apiserver::Config)>,
}

impl Default for Composed {
    fn default() -> Self {
        Self { plugins: &[], admission: admission::Configuration::default(), change: Box::new(|_| {}) }
    }
}

/// The API server as `orch server` composes it, but for the way to kubelets.
fn api_server(storage: &Arc<dyn Storage>, pki: &Pki, composed: Composed) -> Server {
    let clock: authn::Clock = Arc::new(SystemTime::now);
    let keys = authn::service_account::Keys::new(pki.service_account_key_pem(), &[]).expect("a key");
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let service_accounts = Arc::new(authn::service_account::Tokens::new(keys, issuer, storage.clone(), clock.clone()));
    let (chain, reviewed) = authn::standard(authn::Options {
        storage: storage.clone(),
        client_ca_pem: pki.client_ca_pem().to_owned(),
        request_header_ca_pem: pki.request_header_ca_pem().to_owned(),
        request_header_names: Vec::new(),
        service_accounts: service_accounts.clone(),
        remote_tokens: Vec::new(),
        static_tokens: Vec::new(),
        anonymous: authn::Anonymous::Everywhere,
        clock,
    })
    .expect("authenticators");
    let (authorizers, rbac) = authz::standard(storage);
    let registry = Arc::new(Registry::built_in());
    let webhooks = apiserver::webhook::Client::direct(storage.clone());
    let sources = admission::Sources {
        storage: storage.clone(),
        authorizers: authorizers.clone(),
        rbac: rbac.clone(),
        registry: registry.clone(),
        webhooks: webhooks.clone(),
        configuration: composed.admission,
        metrics: Arc::default(),
    };
    let mut handlers = subresources::reviews::handlers(reviewed, service_accounts.audiences().to_vec(), rbac);
    handlers.push(subresources::token_request::handler(service_accounts.clone()));
    let plugins: Vec<String> = composed.plugins.iter().map(ToString::to_string).collect();
    let mut config = apiserver::Config {
        storage: storage.clone(),
        registry,
        authenticators: vec![Arc::new(chain)],
        authorizers,
        admission: admission::Chain::new(&sources, &plugins, &[]).expect("the chain"),
        handlers,
        routes: apiserver::routes::openid::routes(&service_accounts),
        services: services::Ranges::default(),
        webhooks,
        aggregation: apiserver::aggregation::Options::default(),
        flow_control: apiserver::flow_control::Options::default(),
        about: Default::default(),
        audit: None,
    };
    (composed.change)(&mut config);
    Server::new(config)
}

/// An API server with its default objects, and nobody else.
pub async fn control_plane() -> Server {
    control_plane_with(Composed::default()).await
}

pub async fn control_plane_with(composed: Composed) -> Server {
    let directory = tempfile::tempdir().expect("a directory");
    let options = PkiOptions::new([10, 43, 0, 1].into(), "cluster.local");
    let pki = Pki::open_or_create(directory.path(), options).expect("certificates");
    control_plane_of(&pki, composed).await
}

/// One that knows those whom the CAs signed.
pub async fn control_plane_of(pki: &Pki, composed: Composed) -> Server {
    let storage: Arc<dyn Storage> = SqliteStorage::in_memory().await;
    let server = api_server(&storage, pki, composed);
    bootstrap::reconcile(server.clone(), &Default::default()).await.expect("the default objects are written");
    server
}

fn controller_identity(name: &str) -> UserInfo {
    let user = format!("system:serviceaccount:kube-system:{name}");
    UserInfo::new(&user, &["system:serviceaccounts", "system:serviceaccounts:kube-system"])
}

impl TestCluster {
    pub async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    pub async fn with_node(name: &str) -> Self {
        let mut cluster = Self::start().await;
        cluster.add_node(name).await;
        cluster
    }

    pub async fn start_with(setup: Setup) -> Self {
        let storage = SqliteStorage::in_memory().await;
        let shared: Arc<dyn Storage> = storage.clone();
        let directory = tempfile::tempdir().expect("a directory");
        let address = [10, 43, 0, 1].into();
        let pki =
            Pki::open_or_create(directory.path(), PkiOptions::new(address, "cluster.local")).expect("certificates");
        let pki = Arc::new(pki);
        let server = api_server(&shared, &pki, Composed::default());
        bootstrap::reconcile(server.clone(), &Default::default()).await.expect("the default objects are written");
        let requests: Arc<AtomicU64> = Arc::default();
        let counted = Counted { server: server.clone(), requests: requests.clone() };
        let masters = |name: &str| in_process(counted.clone(), UserInfo::new(name, &["system:masters"]));
        let informers = Informers::new(masters("system:apiserver"));
        let (advertise, advertised) = watch::channel(setup.addresses);
        let cidr = |text: &str| Cidr::parse_sloppy(text).expect("a range");
        let client_of = {
            let counted = counted.clone();
            move |name: &str| in_process(counted.clone(), controller_identity(name))
        };
        let context = controllers::Context {
            informers: informers.clone(),
            client_of: Arc::new(client_of),
            config: Arc::new(controllers::Config {
                cluster_cidrs: vec![cidr(setup.pod_range)],
                node_cidr_masks: (24, 64),
                service_cidrs: vec![cidr("10.43.0.0/16")],
                root_ca: "the root".into(),
                advertise: advertised,
                secure_port: 6443,
                signer: Some(Arc::new(ClusterSigner(pki))),
                node_lifecycle: NodeLifecycle { grace_period: setup.grace_period },
                server_node: Some(SERVER_NODE.into()),
            }),
        };
        let mut tasks = JoinSet::new();
        let mut all = Vec::new();
        for row in CONTROLLERS {
            let running = (row.start)(&context);
            tasks.spawn(running.task);
            all.push(Controller { name: row.name, resync: running.resync, is_idle: running.is_idle });
        }
        let shutdown = CancellationToken::new();
        let client = in_process(counted.clone(), UserInfo::new("system:kube-scheduler", &[]));
        tasks.spawn(scheduler::run(scheduler::Context { informers, client }, shutdown.clone()));
        let admin = Objects::new(masters("admin"), "kubectl");
        Self {
            storage,
            server,
            admin,
            advertise,
            controllers: all,
            tasks,
            shutdown,
            addresses: AtomicU32::new(1),
            requests,
        }
    }

    /// What components and the administrator asked of the API server so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Wait until `condition` gives something; it is asked again after each change in the store.
    pub async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, condition: impl Fn() -> F) -> T {
        let wait = async {
            loop {
                let mut changes = self.changes();
                if let Some(found) = condition().await {
                    return found;
                }
                // A watch that fell behind saw changes.
                let _ = changes.next().await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => panic!("waited {PATIENCE:?} for: {what}"),
        }
    }

    fn changes(&self) -> Box<dyn Watch> {
        self.storage.watch(Prefix::all(), self.storage.revision()).expect("from now on")
    }

    /// Wait until an object is as it should be.
    pub async fn until_object(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        what: &str,
        is_right: impl Fn(&Value) -> bool,
    ) -> Value {
        let what = format!("{kind} {namespace}/{name}: {what}");
        self.until(&what, || async { self.find(kind, namespace, name).await.filter(|object| is_right(object)) }).await
    }

    pub async fn until_gone(&self, kind: &Kind, namespace: &str, name: &str) {
        let what = format!("{kind} {namespace}/{name} is gone");
        self.until(&what, || async { self.find(kind, namespace, name).await.is_none().then_some(()) }).await;
    }

    pub async fn find(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Value> {
        self.admin.find(kind, namespace, name).await.expect("readable")
    }

    pub async fn create(&self, kind: &Kind, namespace: &str, object: Value) -> Value {
        self.admin.create(kind, namespace, object).await.expect("created")
    }

    pub async fn patch(&self, kind: &Kind, namespace: &str, name: &str, patch: Value) -> Value {
        self.admin.patch(kind, namespace, name, "", Patch::Merge, &patch).await.expect("patched")
    }

    pub async fn patch_status(&self, kind: &Kind, namespace: &str, name: &str, status: Value) {
        let patch = json!({ "status": status });
        self.admin.patch(kind, namespace, name, "status", Patch::Strategic, &patch).await.expect("patched");
    }

    pub async fn delete(&self, kind: &Kind, namespace: &str, name: &str, options: DeleteOptions) {
        self.admin.delete(kind, namespace, name, &options).await.expect("deleted");
    }

    pub async fn list(&self, kind: &Kind, namespace: &str, selector: &str) -> Vec<Value> {
        let mut parameters = kube::api::ListParams::default();
        if !selector.is_empty() {
            parameters = parameters.labels(selector);
        }
        let mut list = self.admin.list(kind, namespace, &parameters).await.expect("listed");
        match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        }
    }

    /// Messages of the events about an object, by reason.
    pub async fn event(&self, namespace: &str, name: &str, reason: &str) -> String {
        let what = format!("event {reason} of {namespace}/{name}");
        self.until(&what, || async {
            let events = self.list(&kinds::EVENTS, namespace, "").await;
            let event = events
                .into_iter()
                .find(|event| event["reason"] == reason && event["involvedObject"]["name"] == name)?;
            event["message"].as_str().map(str::to_owned)
        })
        .await
    }

    /// Wait until nobody has anything to do: queues are empty and nothing is written any more.
    pub async fn settle(&self) -> Revision {
        let settled = async {
            let mut before = None;
            loop {
                let revision = self.storage.revision();
                let idle = self.controllers.iter().all(|controller| (controller.is_idle)());
                if idle && before == Some(revision) {
                    return revision;
                }
                before = idle.then_some(revision);
                // What is under way (a watch event, an event record) shows within this.
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, settled).await {
            Ok(revision) => revision,
            Err(_) => {
                let busy = self.controllers.iter().filter(|controller| !(controller.is_idle)());
                let busy: Vec<&str> = busy.map(|controller| controller.name).collect();
                panic!("does not come to rest; busy: {busy:?}");
            }
        }
    }

    /// Let every controller look at everything again; the names of those that then wrote.
    pub async fn reconcile_again(&self) -> Vec<&'static str> {
        let mut restless = Vec::new();
        for controller in &self.controllers {
            let before = self.settle().await;
            (controller.resync)();
            if self.settle().await != before {
                restless.push(controller.name);
            }
        }
        restless
    }

    /// A node with a kubelet that runs whatever is bound to it.
    pub async fn add_node(&mut self, name: &str) -> FakeNode {
        self.add_node_with(name, roomy()).await
    }

    pub async fn add_node_with(&mut self, name: &str, allocatable: Value) -> FakeNode {
        let number = self.addresses.fetch_add(1, Ordering::Relaxed);
        let node = json!({ "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } } });
        self.create(&kinds::NODES, "", node).await;
        let fake = FakeNode {
            name: name.to_owned(),
            number,
            objects: Objects::new(
                in_process(self.server.clone(), UserInfo::new("kubelet", &["system:masters"])),
                "kubelet",
            ),
            stop: CancellationToken::new(),
        };
        fake.post_status(&allocatable).await;
        fake.renew().await;
        self.tasks.spawn(fake.clone().run());
        fake
    }
}

/// What a node has unless a test wants another.
fn roomy() -> Value {
    json!({ "cpu": "4", "memory": "8Gi", "pods": "110" })
}

/// A node whose kubelet only writes status.
#[derive(Clone)]
pub struct FakeNode {
    name: String,
    number: u32,
    objects: Objects,
    stop: CancellationToken,
}

impl FakeNode {
    /// Pull the plug.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    async fn post_status(&self, allocatable: &Value) {
        let now = orch::api::time::seconds(jiff::Timestamp::now());
        let condition = |kind: &str, status: &str, reason: &str| {
            json!({ "type": kind, "status": status, "reason": reason, "message": reason,
                    "lastHeartbeatTime": now, "lastTransitionTime": now })
        };
        let status = json!({ "status": {
            "capacity": allocatable, "allocatable": allocatable,
            "conditions": [condition("Ready", "True", "KubeletReady"),
                           condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                           condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                           condition("PIDPressure", "False", "KubeletHasSufficientPID")],
            "addresses": [{ "type": "InternalIP", "address": format!("192.0.2.{}", self.number + 10) },
                          { "type": "Hostname", "address": self.name }],
        } });
        self.objects
            .patch(&kinds::NODES, "", &self.name, "status", Patch::Merge, &status)
            .await
            .expect("node status is written");
    }

    /// One heartbeat.
    async fn renew(&self) {
        let now = orch::api::time::micros(jiff::Timestamp::now());
        let spec = json!({ "holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": now });
        let lease = json!({ "metadata": { "name": self.name, "namespace": "kube-node-lease" }, "spec": spec });
        let patched = self
            .objects
            .patch(&kinds::LEASES, "kube-node-lease", &self.name, "", Patch::Merge, &json!({ "spec": spec }))
            .await;
        if let Err(error) = patched {
            assert!(orch::client::is_not_found(&error), "{error}");
            self.objects.create(&kinds::LEASES, "kube-node-lease", lease).await.expect("a lease");
        }
    }

    /// Heartbeats until it stops. As a kubelet does, it says again how it and its pods are where it was taken for lost.
    pub fn beat(&self, cluster: &mut TestCluster, interval: Duration) {
        let node = self.clone();
        cluster.tasks.spawn(async move {
            let beats = async {
                loop {
                    node.renew().await;
                    node.contradict().await;
                    tokio::time::sleep(interval).await;
                }
            };
            tokio::select! {
                () = node.stop.cancelled() => {}
                () = beats => {}
            }
        });
    }

    /// Put right what the node lifecycle controller wrote of a silent node.
    async fn contradict(&self) {
        let live = self.objects.find(&kinds::NODES, "", &self.name).await.expect("readable");
        if live.is_some_and(|live| condition(&live, "Ready")["status"] == "Unknown") {
            self.post_status(&roomy()).await;
        }
        let own = kube::api::ListParams::default().fields(&format!("spec.nodeName={}", self.name));
        let pods = self.objects.list(&kinds::PODS, "", &own).await.expect("readable");
        for pod in pods["items"].as_array().into_iter().flatten() {
            if pod["status"]["phase"] == "Running" && condition(pod, "Ready")["status"] == "False" {
                let (namespace, name) = (&pod["metadata"]["namespace"], &pod["metadata"]["name"]);
                let (namespace, name) = (namespace.as_str().expect("a namespace"), name.as_str().expect("a name"));
                let ready = json!({ "metadata": { "uid": pod["metadata"]["uid"] },
                                    "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
                accept_gone(
                    self.objects.patch(&kinds::PODS, namespace, name, "status", Patch::Strategic, &ready).await,
                );
            }
        }
    }

    /// A lost node's kubelet starts again.
    pub fn come_back(&mut self, cluster: &mut TestCluster, interval: Duration) {
        self.stop = CancellationToken::new();
        cluster.tasks.spawn(self.clone().run());
        self.beat(cluster, interval);
    }

    async fn run(self) {
        let options = InformerOptions {
            field_selector: Some(format!("spec.nodeName={}", self.name)),
            ..InformerOptions::default()
        };
        let pods = Informer::<Pod>::start(self.objects.client().clone(), options);
        let mut changes = pods.store().changes();
        // An event may be of before the status was written: a pod keeps its address.
        let mut numbers: HashMap<Arc<str>, u32> = HashMap::new();
        loop {
            let change = tokio::select! {
                () = self.stop.cancelled() => return,
                change = changes.recv() => change,
            };
            let Some((_, new)) = change else { return };
            let Some(pod) = new else { continue };
            if pod.meta.is_deleting() {
                let options = DeleteOptions::of(&pod.meta.uid).grace_period(0);
                let result = self.objects.delete(&kinds::PODS, &pod.meta.namespace, &pod.meta.name, &options).await;
                accept_gone(result);
            } else if matches!(&*pod.phase, "" | "Pending") {
                let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX) + 2;
                let number = *numbers.entry(pod.meta.uid.clone()).or_insert(next);
                self.run_pod(&pod, number).await;
            }
        }
    }

    async fn run_pod(&self, pod: &Pod, number: u32) {
        let now = orch::api::time::seconds(jiff::Timestamp::now());
        let ready = if pod.meta.label("test/unready").is_some() { "False" } else { "True" };
        let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status, "lastTransitionTime": now });
        let address = format!("10.42.{}.{}", self.number, number % 250);
        let statuses: Vec<Value> = pod
            .containers
            .iter()
            .map(|container| {
                json!({ "name": &*container.name, "image": &*container.image, "imageID": "", "ready": ready == "True",
                        "restartCount": 0, "state": { "running": { "startedAt": now } } })
            })
            .collect();
        let status = json!({ "metadata": { "uid": &*pod.meta.uid }, "status": {
            "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
            "hostIP": format!("192.0.2.{}", self.number + 10), "startTime": now,
            "containerStatuses": statuses,
            "conditions": [condition("Initialized", "True"), condition("Ready", ready),
                           condition("ContainersReady", ready), condition("PodScheduled", "True")],
        } });
        let (namespace, name) = (&pod.meta.namespace, &pod.meta.name);
        let result = self.objects.patch(&kinds::PODS, namespace, name, "status", Patch::Strategic, &status).await;
        accept_gone(result);
    }
}

fn accept_gone(result: Result<Value, kube::Error>) {
    if let Err(error) = result {
        assert!(orch::client::is_not_found(&error) || orch::client::is_conflict(&error), "{error}");
    }
}

/// A Deployment of one container.
pub fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": "registry.example/app:1",
                                           "ports": [{ "name": "http", "containerPort": 8080 }] }] },
            },
        },
    })
}

pub fn service(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": { "selector": { "app": name }, "ports": [{ "name": "http", "port": 80, "targetPort": "http" }] },
    })
}

/// A condition in an object's status; Null: it has none of the kind.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// All replicas are of the newest version and available.
pub fn is_rolled_out(deployment: &Value) -> bool {
    let (wanted, status) = (&deployment["spec"]["replicas"], &deployment["status"]);
    let count = |field: &str| status[field].as_i64().unwrap_or_default();
    let wanted = wanted.as_i64().unwrap_or_default();
    status["observedGeneration"] == deployment["metadata"]["generation"]
        && count("updatedReplicas") == wanted
        && count("replicas") == wanted
        && count("availableReplicas") == wanted
}
