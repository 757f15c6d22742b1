//! The node's network below the components: the machine's addresses, pod links, address
//! allocation, VXLAN, rule writers, streaming protocols, TLS.

pub mod addresses;
pub mod ipam;
pub mod link;
pub mod overlay;
pub mod probe;
pub mod resolver;
pub mod streaming;
pub mod tls;
