//! End to end: the real binary with real containers, in throw-away network and mount namespaces.

mod binary;
mod clients;
mod cluster;
mod commands;
mod container;
mod damage;
mod encryption;
mod full_disk;
mod guestbook;
mod network;
mod outlive;
mod own_kubectl;
mod pods;
mod refusals;
mod registry;
mod registry_server;
mod space;
mod two_nodes;
mod usage;
mod verbs;
mod world;
