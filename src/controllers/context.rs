//! What controllers are given: caches, clients under their own identities, facts of the cluster.

use crate::api::ip::Cidr;
use crate::client::Objects;
use crate::runtime::{Controller, Informers, Recorder, WorkQueue};
use futures::future::{BoxFuture, join_all};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How controllers name themselves as clients; the field manager of what they write.
const AGENT: &str = "kube-controller-manager";

#[derive(Clone)]
pub struct Context {
    /// Shared with the other components of the process.
    pub informers: Informers,
    /// A client of the service account `kube-system/<controller>`.
    pub client_of: Arc<dyn Fn(&str) -> kube::Client + Send + Sync>,
    pub config: Arc<Config>,
}

/// Facts of the cluster.
#[derive(Clone)]
pub struct Config {
    /// Node pod ranges are cut from these.
    pub cluster_cidrs: Vec<Cidr>,
    /// Prefix length of a node's pod range: IPv4, IPv6.
    pub node_cidr_masks: (u8, u8),
    /// Service addresses come from these; the first address of the first is the `kubernetes`
    /// Service's.
    pub service_cidrs: Vec<Cidr>,
    /// PEM: what pods trust the API server by.
    pub root_ca: Arc<str>,
    /// Where the API server is reached from pods; never loopback. Empty: not known yet.
    pub advertise: watch::Receiver<Vec<IpAddr>>,
    /// Its port.
    pub secure_port: u16,
    /// None: nobody signs here.
    pub signer: Option<Arc<dyn Signer>>,
    pub node_lifecycle: NodeLifecycle,
    /// The node that this server is, too.
    pub server_node: Option<Arc<str>>,
}

/// How fast a lost node is noticed and given up.
#[derive(Clone, Copy, Debug)]
pub struct NodeLifecycle {
    /// Silence after which a node counts as lost.
    pub grace_period: Duration,
}

impl Default for NodeLifecycle {
    fn default() -> Self {
        Self { grace_period: Duration::from_secs(50) }
    }
}

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub struct SignRequest {
    /// PKCS#10, PEM.
    pub request: Vec<u8>,
    /// `kubernetes.io/kubelet-serving` …
    pub signer_name: String,
    /// `client auth`, `server auth`, `digital signature`, `key encipherment`.
    pub usages: Vec<String>,
    /// What the requester would like.
    pub duration: Option<Duration>,
}

/// Holds the key of the cluster's CA.
pub trait Signer: Send + Sync + 'static {
    /// The chain, PEM.
    fn sign(&self, request: &SignRequest) -> anyhow::Result<Vec<u8>>;
}

/// A started controller.
pub struct Running {
    /// Its loop: ends only when it is dropped.
    pub task: BoxFuture<'static, ()>,
    /// Put everything it looks after on its queue again.
    pub resync: Box<dyn Fn() + Send + Sync>,
    /// Whether anything is on its queue or in work.
    pub is_idle: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Running {
    /// `keys`: of everything it looks after. Work starts when all of `synced` are done: a plan on
    /// half a cache would delete what it does not see.
    pub fn new<C: Controller>(
        controller: C,
        queue: Arc<WorkQueue<C::Key>>,
        workers: usize,
        synced: impl IntoIterator<Item = BoxFuture<'static, ()>>,
        keys: impl Fn() -> Vec<C::Key> + Send + Sync + 'static,
    ) -> Self {
        let (running, resynced) = (queue.clone(), queue.clone());
        let controller = Arc::new(controller);
        let synced = join_all(synced);
        Self {
            task: Box::pin(async move {
                synced.await;
                crate::runtime::run(controller, running, workers).await;
            }),
            resync: Box::new(move || keys().into_iter().for_each(|key| resynced.add(key))),
            is_idle: Box::new(move || queue.is_empty()),
        }
    }
}

impl Context {
    pub fn objects(&self, controller: &str) -> Objects {
        Objects::new((self.client_of)(controller), AGENT)
    }

    /// For a controller whose events name it as its account does: another account may not write them.
    pub fn recorder(&self, controller: &str) -> Recorder {
        Recorder::new(self.objects(controller), controller, "")
    }
}
