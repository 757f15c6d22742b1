//! net

pub mod ipam;
pub mod link;
pub mod streaming;
pub mod tls;
