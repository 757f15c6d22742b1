//! Clients of the Kubernetes API: `kube::Client` straight into the in-process server, or over TLS.
//!
//! [`in_process`] calls the API server as a tower service under a given identity: no socket, no
//! TLS, no token. [`over_tls`] is an agent's client, whose certificate can be renewed under way.
//! [`Objects`] reads and writes objects as JSON values, so that no field is lost on the way;
//! [`Kind`] says where a kind is served. [`dialer`] is the API server's one way to nodes and pods.

pub mod dialer;
mod in_process;
mod kind;
pub mod kubeconfig;
pub mod metrics;
mod objects;
mod tls;

pub use in_process::in_process;
pub use kind::{Kind, kinds};
pub use objects::{
    DeleteOptions, Objects, Patch, Propagation, error_of, is_already_exists, is_conflict, is_forbidden, is_gone,
    is_invalid, is_namespace_terminating, is_not_found, send, status_code, typed,
};
pub use tls::{ClientCertificate, TlsOptions, from_config, from_kubeconfig, over_tls};
