//! The API server: router, request info, one handler per verb, authentication, authorization,
//! admission, subresources, discovery, OpenAPI, Tables, watch.

pub mod admission;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod follow;
