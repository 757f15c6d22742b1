//! `resource.k8s.io/v1`: devices that pods claim.

mod allocation;
mod capacity;
mod device;
pub mod device_class;
mod limits;
mod requests;
pub mod resource_claim;
pub mod resource_claim_template;
pub mod resource_slice;
mod selectors;
mod taints;
