//! net

pub mod streaming;
