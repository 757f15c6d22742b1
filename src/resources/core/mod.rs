//! The core group, `v1`.

pub mod binding;
pub mod component_status;
pub mod config_map;
pub mod endpoint_address;
pub mod endpoints;
pub mod event;
mod go_diff;
pub mod limit_range;
pub mod namespace;
pub mod node;
pub mod persistent_volume;
pub mod persistent_volume_claim;
pub mod pod;
pub mod pod_cells;
pub mod pod_metadata;
pub mod pod_spec;
pub mod pod_status;
pub mod pod_template;
pub mod pod_update;
pub mod replication_controller;
pub mod resource_quota;
pub mod secret;
pub mod service;
pub mod service_account;
pub mod service_addresses;
pub mod template;
