//! `networking.k8s.io/v1`.

pub mod ip_address;
pub mod service_cidr;
