//! A node's name and addresses.

use super::options::NodeOptions;
use crate::net::addresses::MachineAddresses;
use anyhow::{Context, Result};
use std::net::{IpAddr, Ipv4Addr};
use tokio::sync::watch;

/// The node's name: as given, else the host's, in lower case.
pub fn name(options: &NodeOptions) -> Result<String> {
    let name = match &options.name {
        Some(name) => name.clone(),
        None => nix::unistd::gethostname().context("read the host name")?.to_string_lossy().to_ascii_lowercase(),
    };
    if let Some(wrong) = crate::api::names::dns_subdomain(&name).first() {
        anyhow::bail!("node name {name:?}: {wrong}; choose one with --node-name");
    }
    Ok(name)
}

/// The node's addresses as the flags say, else the machine's as they change, else `fallback`.
pub fn node_addresses(
    options: &NodeOptions,
    mut machine: watch::Receiver<MachineAddresses>,
    fallback: Ipv4Addr,
) -> watch::Receiver<Vec<IpAddr>> {
    let given = options.ip;
    let current =
        move |machine: &MachineAddresses| vec![given.unwrap_or_else(|| machine.primary.unwrap_or(fallback).into())];
    let (sender, receiver) = watch::channel(current(&machine.borrow_and_update()));
    tokio::spawn(async move {
        while machine.changed().await.is_ok() {
            let now = current(&machine.borrow_and_update());
            sender.send_if_modified(|list| std::mem::replace(list, now.clone()) != now);
        }
    });
    receiver
}
