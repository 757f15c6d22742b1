//! `apiextensions.k8s.io/v1`.

pub mod custom_resource;
pub mod custom_resource_definition;
mod defaults;
mod definition;
mod json_schema;
mod structural;
