//! `apiextensions.k8s.io/v1`.

mod completeness;
pub mod custom_resource;
pub mod custom_resource_definition;
mod defaults;
mod definition;
mod json_schema;
mod ratchet;
pub mod rules;
mod structural;
