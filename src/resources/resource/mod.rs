//! `resource.k8s.io/v1`: devices that pods claim.

pub mod device_class;
mod requests;
pub mod resource_claim;
pub mod resource_claim_template;
pub mod resource_slice;
mod selectors;
