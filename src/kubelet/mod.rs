//! The kubelet: runs the pods that are bound to its node and tells the API about them and the node.
//!
//! Entry: [`Kubelet::run`]. It reaches containers only through [`crate::api::cri`] and the API only
//! through a `kube::Client`. [`pods`] hands every pod to a [`worker`]; [`node`] registers the node
//! and keeps its lease; [`server`] answers on 10250. Nothing polls: work follows from watches,
//! runtime events, probes and armed timers. When it stops, containers go on; the next start finds
//! and adopts them.

mod admission;
mod config;
mod context;
mod env;
mod eviction;
mod images;
mod logs;
mod metrics;
mod names;
mod node;
mod objects;
mod orphans;
pub mod pod;
mod pods;
mod probes;
mod resources;
mod security;
pub mod server;
mod static_pods;
mod stats;
mod status;
mod user_ranges;
mod view;
pub mod volumes;
mod wake;
mod worker;

pub use config::{Config, ServerConfig};

use crate::api::cri::{ContainerRuntime, ImageService};
use crate::runtime::clock_steps::ClockSteps;
use anyhow::Context as _;
use context::Context;
use pods::Pods;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// One node's kubelet.
pub struct Kubelet;

impl Kubelet {
    /// Run until `shutdown`; an error is fatal to the node. `client`: as `system:node:<name>`.
    pub async fn run(
        config: Config,
        runtime: Arc<dyn ContainerRuntime>,
        images: Arc<dyn ImageService>,
        client: kube::Client,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        // Its own: a kubelet that fails is to be seen as such, not as one of many that were told to stop.
        let shutdown = shutdown.child_token();
        let machine = node::Machine::read().context("read the machine's facts")?;
        std::fs::create_dir_all(&config.root_directory)
            .with_context(|| format!("create {}", config.root_directory.display()))?;
        let allocatable = node::allocatable(&config, &machine);
        let context = Arc::new(Context::new(
            config,
            runtime,
            images,
            client.clone(),
            i64::try_from(machine.memory_bytes).unwrap_or(i64::MAX),
            allocatable,
        ));
        let pods = Arc::new(Pods::new(context.clone()));
        let node = Arc::new(node::Node::new(context.clone(), machine, pods.clone()));

        let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
        tasks.spawn(node.clone().run(shutdown.clone()));
        tasks.spawn(pods.clone().run(node.registered(), shutdown.clone()));
        tasks.spawn(follow_clock(context.clone(), pods.clone(), shutdown.clone()));
        tasks.spawn(images::Collector::new(context.clone(), pods.clone()).run(shutdown.clone()));
        if let Some(config) = context.config.server.clone() {
            let server = server::Server::new(context.clone(), pods.clone(), config.authorizer.clone());
            tasks.spawn(server.run(config, shutdown.clone()));
        }
        let mut result = Ok(());
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.context("a task of the kubelet panicked").and_then(|ended| ended);
            if let Err(error) = ended {
                shutdown.cancel();
                result = result.and(Err(error));
            }
        }
        pods.stop().await;
        result
    }
}

/// When the wall clock was set, tokens may have ended at once: all are asked for anew.
async fn follow_clock(context: Arc<Context>, pods: Arc<Pods>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut steps = ClockSteps::new().context("follow the clock")?;
    loop {
        let step = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            step = steps.stepped() => step.context("follow the clock")?,
        };
        tracing::info!("the clock was set by {step} s: pods get new tokens");
        context.tokens.forget_all();
        pods.refresh_volumes();
    }
}

/// What the API server says of an error, without the transport's wrapping.
fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
