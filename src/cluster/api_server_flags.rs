//! `--kube-apiserver-arg name=value`: the API server's flags that orch's has, by their names.

use super::options::{ServerOptions, parse_port_range};
use anyhow::{Context, Result, bail};
use std::time::Duration;

type Set = fn(&mut ServerOptions, &str) -> Result<()>;

/// Name of the flag and what it sets.
const FLAGS: &[(&str, Set)] = &[
    ("advertise-address", |options, text| {
        options.advertise_address = Some(text.parse().context("not an address")?);
        Ok(())
    }),
    ("audit-log-maxage", |options, text| {
        let days: u32 = text.parse().context("not a number of days")?;
        options.audit.log.max_age = Duration::from_secs(u64::from(days) * 24 * 3600);
        Ok(())
    }),
    ("audit-log-maxbackup", |options, text| {
        options.audit.log.max_backups = text.parse().context("not a number of files")?;
        Ok(())
    }),
    ("audit-log-maxsize", |options, text| {
        let megabytes: u32 = text.parse().context("not a number of megabytes")?;
        options.audit.log.max_size = u64::from(megabytes) << 20;
        Ok(())
    }),
    ("audit-log-path", |options, text| {
        options.audit.log.path = text.into();
        Ok(())
    }),
    ("audit-policy-file", |options, text| {
        options.audit.policy = Some(text.into());
        Ok(())
    }),
    ("disable-admission-plugins", |options, text| {
        options.disable_admission.extend(names(text));
        Ok(())
    }),
    ("enable-admission-plugins", |options, text| {
        options.enable_admission.extend(names(text));
        Ok(())
    }),
    ("service-node-port-range", |options, text| {
        options.node_port_range = parse_port_range(text)?;
        Ok(())
    }),
];

fn names(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Apply them in their order; an unknown one is an error that names those there are.
pub fn apply(flags: &[(String, String)], options: &mut ServerOptions) -> Result<()> {
    for (name, value) in flags {
        let Some((_, set)) = FLAGS.iter().find(|(known, _)| known == name) else {
            let known: Vec<&str> = FLAGS.iter().map(|(name, _)| *name).collect();
            bail!("--kube-apiserver-arg {name}: not a setting of this API server; there are {}", known.join(", "));
        };
        set(options, value).with_context(|| format!("--kube-apiserver-arg {name}={value}"))?;
    }
    Ok(())
}
