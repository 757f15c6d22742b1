//! `orch server`: the control plane, and a node on this machine.

use super::node_arguments::NodeArguments;
use crate::api::cron::Schedule;
use crate::cluster::api_server_flags;
use crate::cluster::encryption;
use crate::cluster::options::{
    AuditOptions, AuthenticationOptions, AuthorizationOptions, Cidr, EncryptionOptions, ServerOptions, parse_key_value,
    parse_mode, parse_port_range,
};
use crate::cluster::snapshots::{self, When};
use anyhow::{Context, Result};
use clap::{ArgAction, ArgMatches};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Config file; its keys are these flags
    #[arg(long, short = 'c', env = "ORCH_CONFIG_FILE", value_name = "FILE", default_value = "/etc/orch/config.yaml")]
    config: PathBuf,
    /// Directory of the cluster's state
    #[arg(long, short = 'd', env = "ORCH_DATA_DIR", value_name = "DIR", default_value = "/var/lib/orch")]
    data_dir: PathBuf,
    /// Address the API server listens on
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// Port the API server listens on
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    https_listen_port: u16,
    /// Address the API server is reached at; the node's when not given
    #[arg(long, value_name = "IP")]
    advertise_address: Option<IpAddr>,
    /// Another name or address in the API server's certificate; may be given several times
    #[arg(long, value_name = "NAME")]
    tls_san: Vec<String>,
    /// Where to write the kubeconfig of the administrator
    #[arg(
        long,
        short = 'o',
        env = "ORCH_KUBECONFIG_OUTPUT",
        value_name = "FILE",
        default_value = "/etc/orch/orch.yaml"
    )]
    write_kubeconfig: PathBuf,
    /// Permissions of that kubeconfig
    #[arg(long, env = "ORCH_KUBECONFIG_MODE", value_name = "MODE", default_value = "600", value_parser = |text: &str| parse_mode(text))]
    write_kubeconfig_mode: u32,
    /// Network of the pods
    #[arg(long, value_name = "CIDR", default_value = "10.42.0.0/16")]
    cluster_cidr: Cidr,
    /// Network of the Services
    #[arg(long, value_name = "CIDR", default_value = "10.43.0.0/16")]
    service_cidr: Cidr,
    /// Ports of NodePort Services
    #[arg(long, value_name = "RANGE", default_value = "30000-32767", value_parser = |text: &str| parse_port_range(text))]
    service_node_port_range: (u16, u16),
    /// Address of the cluster's DNS; the tenth of the Services' when not given
    #[arg(long, value_name = "IP")]
    cluster_dns: Option<Ipv4Addr>,
    /// Domain of the cluster's names
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Secret that agents join with; made at the first start when not given
    #[arg(long, short = 't', env = "ORCH_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File that holds the secret that agents join with
    #[arg(long, env = "ORCH_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Component to leave out (dns, metrics-server, proxy); may be given several times
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',', value_parser = ["dns", "metrics-server", "proxy"])]
    disable: Vec<String>,
    /// Run no node on this machine
    #[arg(long)]
    disable_agent: bool,
    /// Run no scheduler
    #[arg(long)]
    disable_scheduler: bool,
    /// Run no controllers
    #[arg(long)]
    disable_controller_manager: bool,
    /// Setting for the API server, by the name of its flag; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    kube_apiserver_arg: Vec<String>,
    /// Admission plugin to add to the default ones; may be given several times
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    enable_admission_plugins: Vec<String>,
    /// Admission plugin to leave out; may be given several times
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    disable_admission_plugins: Vec<String>,
    /// What every sync of the store takes longer: slow flash, for measurements
    #[arg(long, value_name = "DURATION", default_value = "0s", hide = true)]
    datastore_sync_delay: jiff::SignedDuration,
    /// Where snapshots are kept; <data-dir>/server/db/snapshots when not given
    #[arg(long, alias = "etcd-snapshot-dir", value_name = "DIR")]
    snapshot_dir: Option<PathBuf>,
    /// How often the server saves a snapshot by itself; 0: never
    #[arg(long, value_name = "DURATION", default_value = "12h", value_parser = super::administration::duration)]
    snapshot_interval: Duration,
    /// When the server saves a snapshot by itself, in cron's notation, instead of every so often: "0 */6 * * *"
    #[arg(
        long,
        alias = "etcd-snapshot-schedule-cron",
        value_name = "SCHEDULE",
        conflicts_with = "snapshot_interval",
        value_parser = super::administration::schedule
    )]
    snapshot_schedule_cron: Option<Schedule>,
    /// How many of its own snapshots the server keeps
    #[arg(long, alias = "etcd-snapshot-retention", value_name = "NUMBER", default_value = "5")]
    snapshot_retention: NonZeroUsize,
    /// Save no snapshots but those that are asked for
    #[arg(long, alias = "etcd-disable-snapshots")]
    disable_snapshots: bool,
    /// Encrypt Secrets on disk, with a key in the data directory
    #[arg(long)]
    secrets_encryption: bool,
    /// What new keys for that are for
    #[arg(long, value_name = "PROVIDER", default_value = "aescbc", value_parser = encryption::PROVIDERS)]
    secrets_encryption_provider: String,
    /// Setting for the controllers, by the name of the flag in Kubernetes; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    kube_controller_manager_arg: Vec<String>,
    #[command(flatten)]
    node: NodeArguments,
    #[arg(skip)]
    flags: Vec<(String, String)>,
}

impl Args {
    /// Remembers each flag and its value, given or not, but what is secret.
    pub(super) fn remember(&mut self, matches: &ArgMatches) {
        let command = <Self as clap::Args>::augment_args(clap::Command::new("server"));
        let flag = |argument: &clap::Arg| {
            let values = matches.try_get_raw(argument.get_id().as_str()).ok().flatten();
            let values: Vec<_> = values.into_iter().flatten().map(|value| value.to_string_lossy()).collect();
            let value = match (argument.get_action(), values.join(",")) {
                (ArgAction::Append, values) => format!("[{values}]"),
                (_, value) if !value.is_empty() && argument.is_hide_env_values_set() => "<hidden>".to_owned(),
                (_, value) => value,
            };
            Some((argument.get_long()?.to_owned(), value))
        };
        self.flags = command.get_arguments().filter_map(flag).collect();
    }
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let dns = match args.cluster_dns {
        Some(address) => address,
        None => args.service_cidr.nth(10).context("--service-cidr has no tenth address for the cluster's DNS")?,
    };
    let mut options = ServerOptions {
        data_directory: args.data_dir,
        bind_address: args.bind_address,
        port: args.https_listen_port,
        advertise_address: args.advertise_address,
        tls_sans: args.tls_san,
        kubeconfig: args.write_kubeconfig,
        kubeconfig_mode: args.write_kubeconfig_mode,
        cluster_cidr: args.cluster_cidr,
        service_cidr: args.service_cidr,
        node_port_range: args.service_node_port_range,
        cluster_dns: dns,
        cluster_domain: args.cluster_domain,
        token: super::agent::token(args.token, args.token_file.as_deref())?,
        disable: args.disable,
        disable_agent: args.disable_agent,
        disable_scheduler: args.disable_scheduler,
        disable_controllers: args.disable_controller_manager,
        enable_admission: args.enable_admission_plugins,
        disable_admission: args.disable_admission_plugins,
        admission_configuration: None,
        flow_control: crate::apiserver::flow_control::Options::default(),
        authentication: AuthenticationOptions::default(),
        authorization: AuthorizationOptions::default(),
        sync_delay: args.datastore_sync_delay.try_into().context("--datastore-sync-delay is negative")?,
        snapshots: snapshots::Options {
            directory: args.snapshot_dir,
            when: match args.snapshot_schedule_cron {
                _ if args.disable_snapshots => None,
                Some(schedule) => Some(When::At(schedule)),
                None => Some(args.snapshot_interval).filter(|interval| !interval.is_zero()).map(When::Every),
            },
            retention: args.snapshot_retention.get(),
        },
        audit: AuditOptions::default(),
        encryption: EncryptionOptions {
            secrets: args.secrets_encryption,
            provider: args.secrets_encryption_provider,
            file: None,
        },
        tracing: None,
        controllers: args
            .kube_controller_manager_arg
            .iter()
            .map(|text| parse_key_value("kube-controller-manager-arg", text))
            .collect::<Result<_>>()?,
        node: args.node.into_options()?,
        flags: args.flags,
    };
    let flags = args.kube_apiserver_arg.iter().map(|text| parse_key_value("kube-apiserver-arg", text));
    api_server_flags::apply(&flags.collect::<Result<Vec<_>>>()?, &mut options)?;
    options.check()?;
    crate::cluster::server::run(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches};

    #[test]
    fn flags_are_remembered_with_their_values_but_secrets() {
        let command = Args::augment_args(clap::Command::new("server"));
        let given = ["server", "--token", "K10abc", "--tls-san", "a", "--tls-san=b", "--disable-agent", "-d", "/data"];
        let matches = command.try_get_matches_from(given).expect("a command line");
        let mut args = Args::from_arg_matches(&matches).expect("arguments");
        args.remember(&matches);
        let flag = |name: &str| args.flags.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        for (name, value) in [
            ("token", "<hidden>"),
            ("tls-san", "[a,b]"),
            ("disable-agent", "true"),
            ("disable-scheduler", "false"),
            ("data-dir", "/data"),
            ("https-listen-port", "6443"),
            ("advertise-address", ""),
            ("kube-apiserver-arg", "[]"),
        ] {
            assert_eq!(flag(name), Some(value), "{name}");
        }
    }
}
