//! net

pub mod streaming;
pub mod tls;
