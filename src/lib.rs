//! orch: a whole Kubernetes in one static binary.
//!
//! The modules in reading order, top to bottom; imports go down only, and components (the middle
//! block) never import each other: they meet in [`cluster`].
//!
//! ```text
//!   main -> cli -> cluster                                        commands, composition root
//!   apiserver controllers scheduler kubelet container proxy dns   components
//!   runtime  resources  cel  schema  storage  client  net  api    shared below the components
//! ```
//!
//! `tests/orch/tidy.rs` holds the tree to this.

pub mod cli;
pub mod cluster;

pub mod apiserver;
pub mod container;
pub mod controllers;
pub mod dns;
pub mod kubelet;
pub mod proxy;
pub mod scheduler;

pub mod runtime;

pub mod resources;

pub mod cel;

pub mod schema;

pub mod storage;

pub mod client;

pub mod net;

pub mod api;
