//! client

pub mod dialer;
