//! kube-rs as its users have it: a derived custom resource, a controller with a finalizer and owned
//! objects, over TLS.

use crate::cluster;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Config, CustomResource, CustomResourceExt, Resource, ResourceExt};
use orch::apiserver::Limits;
use orch::cluster::pki::{Options, Pki};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "example.com", version = "v1", kind = "Boat", namespaced, status = "BoatStatus", shortname = "bt")]
#[kube(printcolumn = r#"{"name": "Length", "type": "integer", "jsonPath": ".spec.length"}"#)]
struct BoatSpec {
    #[schemars(range(min = 1))]
    length: i32,
    #[serde(default = "red")]
    colour: String,
}

fn red() -> String {
    "red".to_owned()
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
struct BoatStatus {
    built: i32,
}

const FINALIZER: &str = "example.com/sinks";

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Kube(#[from] kube::Error),
    #[error("finalizer: {0}")]
    Finalizer(Box<dyn std::error::Error + Send + Sync>),
}

/// The boat's plan is a ConfigMap of its own, its status tells that it is built.
async fn build(boat: &Boat, client: &Client) -> Result<Action, kube::Error> {
    let namespace = boat.namespace().expect("it has one");
    let owner = boat.controller_owner_ref(&()).expect("it is stored");
    let plan = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": boat.name_any(), "ownerReferences": [owner] },
        "data": { "plan": format!("{} {}", boat.spec.length, boat.spec.colour) },
    });
    let parameters = PatchParams::apply("yard").force();
    let plans: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    plans.patch(&boat.name_any(), &parameters, &Patch::Apply(&plan)).await?;
    let boats: Api<Boat> = Api::namespaced(client.clone(), &namespace);
    let status = json!({ "status": { "built": boat.spec.length } });
    boats.patch_status(&boat.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(Action::await_change())
}

async fn sink(boat: &Boat, client: &Client) -> Result<Action, kube::Error> {
    let wrecks: Api<ConfigMap> = Api::namespaced(client.clone(), &boat.namespace().expect("it has one"));
    let wreck = json!({ "metadata": { "name": format!("wreck-of-{}", boat.name_any()) } });
    let wreck: ConfigMap = serde_json::from_value(wreck).expect("a config map");
    match wrecks.create(&PostParams::default(), &wreck).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        made => drop(made?),
    }
    Ok(Action::await_change())
}

async fn reconcile(boat: Arc<Boat>, client: Arc<Client>) -> Result<Action, Failed> {
    let boats: Api<Boat> = Api::namespaced((*client).clone(), &boat.namespace().expect("it has one"));
    let done = finalizer(&boats, FINALIZER, boat, |event| async {
        match event {
            Event::Apply(boat) => build(&boat, &client).await,
            Event::Cleanup(boat) => sink(&boat, &client).await,
        }
    });
    done.await.map_err(|error| Failed::Finalizer(Box::new(error)))
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..1500 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// A client as a user has it, from a kubeconfig, over a socket.
async fn client(directory: &std::path::Path, shutdown: &CancellationToken) -> Client {
    let options = Options::new([10, 43, 0, 1].into(), "cluster.local");
    let pki = Pki::open_or_create(directory, options).expect("certificates");
    let server = cluster::control_plane_of(&pki, cluster::Composed::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let tls = pki.server_tls_config().expect("a configuration");
    let shutdown = shutdown.clone();
    tokio::spawn(async move { server.serve(listener, tls, Limits::default(), shutdown).await });
    let credentials = pki.issue_client("system:admin", &["system:masters"]).expect("a certificate");
    let kubeconfig = Kubeconfig::from_yaml(&pki.kubeconfig(&url, "default", &credentials)).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a config");
    Client::try_from(config).expect("a client")
}

#[tokio::test]
async fn a_derived_custom_resource_and_its_controller() {
    let directory = tempfile::tempdir().expect("a directory");
    let shutdown = CancellationToken::new();
    let client = client(directory.path(), &shutdown).await;
    let version = client.apiserver_version().await.expect("a version");
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "36"));

    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let parameters = PatchParams::apply("yard").force();
    definitions.patch("boats.example.com", &parameters, &Patch::Apply(Boat::crd())).await.expect("applied");
    let established = await_condition(definitions, "boats.example.com", conditions::is_crd_established());
    tokio::time::timeout(Duration::from_secs(20), established).await.expect("in time").expect("established");

    let boats: Api<Boat> = Api::default_namespaced(client.clone());
    let plans: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let controller = Controller::new(boats.clone(), watcher::Config::default())
        .owns(plans.clone(), watcher::Config::default())
        .graceful_shutdown_on(shutdown.clone().cancelled_owned())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(50)), Arc::new(client.clone()))
        .for_each(|_| std::future::ready(()));
    let controller = tokio::spawn(controller);

    let boat: Boat = serde_json::from_value(json!({
        "apiVersion": "example.com/v1", "kind": "Boat", "metadata": { "name": "a" }, "spec": { "length": 3 },
    }))
    .expect("a boat");
    boats.create(&PostParams::default(), &boat).await.expect("created");
    let built = async |length: i32| {
        let found = boats.get("a").await.expect("it is there");
        (found.status.as_ref()?.built == length).then_some(found)
    };
    let found = until("it is built", async || built(3).await).await;
    assert_eq!((found.spec.colour.as_str(), found.finalizers()), ("red", &[FINALIZER.to_owned()][..]));
    let plan = plans.get("a").await.expect("the plan");
    assert_eq!(plan.data.expect("data")["plan"], "3 red");
    assert_eq!(plan.metadata.owner_references.expect("an owner")[0].uid, found.uid().expect("stored"));

    // A change is seen, a wrong one refused.
    let longer = json!({ "spec": { "length": 5 } });
    boats.patch("a", &PatchParams::default(), &Patch::Merge(&longer)).await.expect("patched");
    until("it is built anew", async || built(5).await).await;
    let error = boats.patch("a", &PatchParams::default(), &Patch::Merge(&json!({ "spec": { "length": 0 } }))).await;
    let Err(kube::Error::Api(status)) = error else { panic!("{error:?}") };
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));

    // What it owns comes back.
    let uid = plans.get("a").await.expect("the plan").uid();
    plans.delete("a", &DeleteParams::default()).await.expect("deleted");
    until("the plan comes back", async || {
        plans.get_opt("a").await.expect("an answer").filter(|plan| plan.uid() != uid)
    })
    .await;

    // It goes when its finalizer has done its work.
    boats.delete("a", &DeleteParams::default()).await.expect("deleted");
    until("it is gone", async || boats.get_opt("a").await.expect("an answer").is_none().then_some(())).await;
    plans.get("wreck-of-a").await.expect("the finalizer's work");
    shutdown.cancel();
    controller.await.expect("no panic");
}
