//! `--kubelet-arg name=value`: the kubelet's flags that orch's kubelet has, by their names.

use crate::kubelet::Config;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::time::Duration;

type Set = fn(&mut Config, &str) -> Result<()>;

/// Name of the flag and what it sets.
const FLAGS: &[(&str, Set)] = &[
    ("allowed-unsafe-sysctls", |config, text| {
        config.allowed_unsafe_sysctls = text.split(',').map(|name| name.trim().to_owned()).collect();
        Ok(())
    }),
    ("container-log-max-files", |config, text| set(&mut config.container_log_max_files, text)),
    ("container-log-max-size", |config, text| {
        config.container_log_max_size = bytes(text)?;
        Ok(())
    }),
    ("eviction-hard", |config, text| {
        config.eviction_hard = pairs(text, '<')?;
        Ok(())
    }),
    ("eviction-pressure-transition-period", |config, text| {
        config.eviction_pressure_transition = duration(text)?;
        Ok(())
    }),
    ("image-gc-high-threshold", |config, text| set(&mut config.image_gc_high, text)),
    ("image-gc-low-threshold", |config, text| set(&mut config.image_gc_low, text)),
    ("max-pods", |config, text| set(&mut config.max_pods, text)),
    ("node-status-report-frequency", |config, text| {
        config.node_status_report = duration(text)?;
        Ok(())
    }),
    ("pod-manifest-path", |config, text| {
        config.static_pod_directory = Some(text.into());
        Ok(())
    }),
    ("pod-max-pids", |config, text| {
        let limit: i64 = text.parse().context("not a number")?;
        config.pod_pids_limit = (limit > 0).then_some(limit);
        Ok(())
    }),
    ("provider-id", |config, text| {
        config.provider_id = Some(text.to_owned());
        Ok(())
    }),
    ("system-reserved", reserve),
    ("kube-reserved", reserve),
];

/// Apply them; an unknown one is an error that names those there are.
pub fn apply(flags: &BTreeMap<String, String>, config: &mut Config) -> Result<()> {
    for (name, value) in flags {
        let Some((_, set)) = FLAGS.iter().find(|(known, _)| known == name) else {
            let known: Vec<&str> = FLAGS.iter().map(|(name, _)| *name).collect();
            bail!("--kubelet-arg {name}: not a setting of this kubelet; there are {}", known.join(", "));
        };
        set(config, value).with_context(|| format!("--kubelet-arg {name}={value}"))?;
    }
    Ok(())
}

fn set<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(slot: &mut T, text: &str) -> Result<()> {
    *slot = text.parse()?;
    Ok(())
}

/// `10Mi`.
fn bytes(text: &str) -> Result<u64> {
    let quantity: crate::api::quantity::Quantity = text.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    u64::try_from(quantity.value()).context("must not be negative")
}

/// Go's durations of hours, minutes, seconds: `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration> {
    let span: jiff::SignedDuration = text.parse().context("not a duration such as 5m or 30s")?;
    Duration::try_from(span).context("must not be negative")
}

/// `cpu=100m,memory=200Mi`.
fn pairs(text: &str, separator: char) -> Result<BTreeMap<String, String>> {
    let pair = |item: &str| {
        let (name, value) =
            item.split_once(separator).with_context(|| format!("{item:?}: write name{separator}value"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    text.split(',').filter(|item| !item.trim().is_empty()).map(pair).collect()
}

fn reserve(config: &mut Config, text: &str) -> Result<()> {
    config.reserved.extend(pairs(text, '=')?);
    Ok(())
}
