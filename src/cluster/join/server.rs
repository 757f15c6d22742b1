//! The server's side of a join.

use super::{AUTHORITIES_PATH, ClusterNetwork, JOIN_PATH, JoinReply, JoinRequest, LIMIT};
use crate::api::{GroupResource, Status, UserInfo, names};
use crate::apiserver::authz::{Attributes, Authorizer, Decision};
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::routes::Route;
use crate::cluster::pki::Pki;
use crate::storage::{Key, Storage};
use async_trait::async_trait;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// Who holds a token that joins nodes is of this group.
pub const JOINERS: &str = "system:bootstrappers";

/// Nodes that have joined: they join again under their own name, when their certificates get old.
const NODES: &str = "system:nodes";

/// A node whose lease is younger than this is alive.
const ALIVE: Duration = Duration::from_secs(40);

/// The routes, for the API server's table.
pub fn routes(
    pki: Arc<Pki>,
    storage: Arc<dyn Storage>,
    network: ClusterNetwork,
) -> Vec<(&'static str, Arc<dyn Route>)> {
    vec![
        (AUTHORITIES_PATH, Arc::new(Authorities { pki: pki.clone() })),
        (JOIN_PATH, Arc::new(Join { pki, storage, network })),
    ]
}

/// Lets everybody fetch the CA and holders of a token join; no opinion on anything else.
pub struct JoinAuthorizer;

#[async_trait]
impl Authorizer for JoinAuthorizer {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let joiner = || attributes.user.groups.iter().any(|group| group == JOINERS || group == NODES);
        match (attributes.resource.is_some(), attributes.path, attributes.verb) {
            (false, AUTHORITIES_PATH, "get") => Decision::Allow(String::new()),
            (false, JOIN_PATH, "post") if joiner() => Decision::Allow(String::new()),
            _ => Decision::NoOpinion(String::new()),
        }
    }
}

struct Authorities {
    pki: Arc<Pki>,
}

#[async_trait]
impl Route for Authorities {
    async fn serve(&self, _user: &UserInfo, _request: Request<Body>) -> Result<Reply, Status> {
        Ok(respond::text(StatusCode::OK, self.pki.server_ca_pem()))
    }
}

struct Join {
    pki: Arc<Pki>,
    storage: Arc<dyn Storage>,
    network: ClusterNetwork,
}

#[async_trait]
impl Route for Join {
    async fn serve(&self, user: &UserInfo, request: Request<Body>) -> Result<Reply, Status> {
        if request.method() != Method::POST {
            return Err(Status::failure(405, "MethodNotAllowed", "send a POST"));
        }
        let bytes = axum::body::to_bytes(request.into_body(), LIMIT)
            .await
            .map_err(|_| Status::request_entity_too_large(format!("a join request has at most {LIMIT} bytes")))?;
        let request: JoinRequest =
            serde_json::from_slice(&bytes).map_err(|error| Status::bad_request(format!("join request: {error}")))?;
        if user.groups.iter().any(|group| group == NODES) && user.name != format!("system:node:{}", request.node_name) {
            let text = format!(
                "{} may not join as node {:?}: remove its certificate, or keep its name",
                user.name, request.node_name
            );
            return Err(Status::failure(403, "Forbidden", text));
        }
        let reply = self.join(&request)?;
        tracing::info!(node = request.node_name, by = user.name, "node joins");
        Ok(respond::json(StatusCode::OK, &reply))
    }
}

impl Join {
    fn join(&self, request: &JoinRequest) -> Result<JoinReply, Status> {
        let node = &request.node_name;
        if let Some(wrong) = names::dns_subdomain(node).first() {
            return Err(Status::bad_request(format!("node name {node:?}: {wrong}")));
        }
        self.check_free(node, &request.machine_id)?;
        let refused =
            |error: anyhow::Error| Status::bad_request(format!("certificate request of node {node}: {error:#}"));
        let user = format!("system:node:{node}");
        Ok(JoinReply {
            kubelet_client: self.pki.sign_client(&request.kubelet_client, &user, &["system:nodes"]).map_err(refused)?,
            kubelet_serving: self
                .pki
                .sign_kubelet_serving(&request.kubelet_serving, node, &request.serving_names)
                .map_err(refused)?,
            proxy_client: self
                .pki
                .sign_client(&request.proxy_client, "system:kube-proxy", &["system:node-proxier"])
                .map_err(refused)?,
            client_authorities: self.pki.client_ca_pem().to_owned(),
            network: self.network.clone(),
        })
    }

    /// A name belongs to the machine that has it for as long as that is alive: a token does not let
    /// one machine take the place of another. A machine that is gone, or was set up anew, may come
    /// back under its name.
    fn check_free(&self, node: &str, machine_id: &str) -> Result<(), Status> {
        let Some(entry) = self.storage.get(&Key::new(&GroupResource::new("", "nodes"), "", node)) else {
            return Ok(());
        };
        let object = entry.body.parse();
        let owner = object.pointer("/status/nodeInfo/machineID").and_then(|id| id.as_str()).unwrap_or_default();
        if owner.is_empty() || owner == machine_id || !self.alive(node) {
            return Ok(());
        }
        let mend = "choose another with --node-name, or delete the node: kubectl delete node";
        Err(Status::failure(
            409,
            "Conflict",
            format!("node name {node:?} is that of another machine, which is alive: {mend} {node}"),
        ))
    }

    fn alive(&self, node: &str) -> bool {
        let leases = GroupResource::new("coordination.k8s.io", "leases");
        let Some(lease) = self.storage.get(&Key::new(&leases, "kube-node-lease", node)) else { return false };
        let lease = lease.body.parse();
        let renewed = lease.pointer("/spec/renewTime").and_then(|time| time.as_str()?.parse::<jiff::Timestamp>().ok());
        renewed.is_some_and(|renewed| {
            let age = jiff::Timestamp::now().duration_since(renewed);
            age.unsigned_abs() < ALIVE
        })
    }
}
