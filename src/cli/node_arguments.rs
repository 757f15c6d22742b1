//! The flags that `server` and `agent` share: those of the node, and of its directories, which others need, too.

use crate::cluster::options::{NodeDirectories, NodeOptions, parse_key_value, parse_taint};
use anyhow::Result;
use std::net::IpAddr;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(next_help_heading = "Node")]
pub(super) struct NodeArguments {
    /// Name of this node; the host name when not given
    #[arg(long, env = "ORCH_NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
    /// Address of this node; the one of the default route when not given
    #[arg(long, short = 'i', value_name = "IP")]
    node_ip: Option<IpAddr>,
    /// Address other nodes and clients reach this node at, when it differs
    #[arg(long, value_name = "IP")]
    node_external_ip: Option<IpAddr>,
    /// Label to register the node with; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    node_label: Vec<String>,
    /// Taint to register the node with; may be given several times
    #[arg(long, value_name = "KEY=VALUE:EFFECT")]
    node_taint: Vec<String>,
    /// resolv.conf whose servers answer names outside the cluster
    #[arg(long, env = "ORCH_RESOLV_CONF", value_name = "FILE")]
    resolv_conf: Option<PathBuf>,
    /// Most pods on this node
    #[arg(long, value_name = "N", default_value_t = 110)]
    max_pods: u32,
    /// Setting for the kubelet, by the name of its flag; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    kubelet_arg: Vec<String>,
    /// Registry mirrors and credentials
    #[arg(long, value_name = "FILE", default_value = "/etc/orch/registries.yaml")]
    private_registry: PathBuf,
    #[command(flatten)]
    directories: DirectoryArguments,
}

/// Where a node is that a command works on.
#[derive(clap::Args)]
#[command(next_help_heading = "Node")]
pub(super) struct DirectoryArguments {
    /// Directory of pod logs
    #[arg(long, value_name = "DIR", default_value = "/var/log/pods")]
    pod_log_dir: PathBuf,
    /// Directory of pod volumes
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    kubelet_dir: PathBuf,
    /// Directory of sockets, namespaces and pids; gone at a reboot
    #[arg(long, value_name = "DIR", default_value = "/run/orch")]
    run_dir: PathBuf,
}

impl NodeArguments {
    pub(super) fn into_options(self) -> Result<NodeOptions> {
        Ok(NodeOptions {
            name: self.node_name,
            ip: self.node_ip,
            external_ip: self.node_external_ip,
            labels: self.node_label.iter().map(|text| parse_key_value("node-label", text)).collect::<Result<_>>()?,
            taints: self.node_taint.iter().map(|text| parse_taint(text)).collect::<Result<_>>()?,
            resolv_conf: self.resolv_conf,
            max_pods: self.max_pods,
            kubelet: self.kubelet_arg.iter().map(|text| parse_key_value("kubelet-arg", text)).collect::<Result<_>>()?,
            registries: self.private_registry,
            directories: self.directories.into_options(),
        })
    }
}

impl DirectoryArguments {
    pub(super) fn into_options(self) -> NodeDirectories {
        NodeDirectories { pod_logs: self.pod_log_dir, kubelet: self.kubelet_dir, run: self.run_dir }
    }
}
