//! How a node joins: with a token, over TLS that it verified by the token's hash of the CA.
//!
//! The node fetches `/cacerts` (public), compares the hash, and only then, over TLS verified with
//! that CA, sends its token and certificate requests to `/v1-orch/join`. Keys never leave the node.
//! [`server`] answers, [`client`] asks; certificates are renewed by joining again.

pub mod client;
pub mod server;

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Where anybody gets the CA of the server.
pub const AUTHORITIES_PATH: &str = "/cacerts";
/// Where a holder of a token gets certificates.
pub const JOIN_PATH: &str = "/v1-orch/join";

/// Requests and replies are no bigger than this: bytes.
const LIMIT: usize = 256 * 1024;

/// What a node asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinRequest {
    pub node_name: String,
    /// `/etc/machine-id`, or another id that stays with the machine.
    pub machine_id: String,
    /// Names and addresses for the kubelet's serving certificate.
    pub serving_names: Vec<String>,
    /// Certificate requests, PEM.
    pub kubelet_client: String,
    pub kubelet_serving: String,
    pub proxy_client: String,
}

/// What it gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinReply {
    /// Certificate chains, PEM.
    pub kubelet_client: String,
    pub kubelet_serving: String,
    pub proxy_client: String,
    /// Of the API server's client certificate, which the kubelet's server lets in.
    pub client_authorities: String,
    pub network: ClusterNetwork,
}

/// What a node must know of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNetwork {
    pub cluster_cidr: String,
    pub service_cidr: String,
    pub cluster_dns: Ipv4Addr,
    pub cluster_domain: String,
    /// The API server's port on the servers.
    pub api_port: u16,
    /// Components that the server runs without (`dns`, `proxy`).
    pub disabled: Vec<String>,
}
