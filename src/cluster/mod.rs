//! Composition root: options, component supervisor, PKI, join. The only place where components
//! meet.
//!
//! [`server`] composes the control plane, [`node`] a node, [`agent`] a node that joined; each hands
//! its components to a [`supervisor`].

pub mod agent;
pub mod api_server_flags;
mod controller_flags;
pub mod encryption;
pub mod files;
mod health;
pub mod join;
mod kubelet_access;
mod kubelet_flags;
mod manifests;
pub mod node;
pub mod options;
pub mod pki;
pub mod preflight;
pub mod process;
pub mod server;
pub mod snapshots;
pub mod stop;
pub mod supervisor;
pub mod teardown;
pub mod token;
