//! Composition root: options, component supervisor, PKI, join. The only place where components
//! meet.
//!
//! [`server`] composes the control plane and hands its components to a [`supervisor`].

pub mod files;
pub mod join;
pub mod node;
pub mod options;
pub mod pki;
pub mod preflight;
pub mod process;
pub mod server;
pub mod supervisor;
pub mod token;
