//! Composition root: config, component supervisor, PKI, join. The only place where components meet.

pub mod pki;
pub mod token;
