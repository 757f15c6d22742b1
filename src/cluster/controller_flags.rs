//! `--kube-controller-manager-arg name=value`: the controllers' flags that orch has, by the names that
//! they have in Kubernetes.

use super::kubelet_flags::duration;
use crate::controllers::NodeLifecycle;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;

type Set = fn(&mut NodeLifecycle, &str) -> Result<()>;

/// Name of the flag and what it sets.
const FLAGS: &[(&str, Set)] = &[("node-monitor-grace-period", |node_lifecycle, text| {
    node_lifecycle.grace_period = duration(text)?;
    Ok(())
})];

/// The settings they make; an unknown one is an error that names those there are.
pub fn parse(flags: &BTreeMap<String, String>) -> Result<NodeLifecycle> {
    let mut node_lifecycle = NodeLifecycle::default();
    for (name, value) in flags {
        let Some((_, set)) = FLAGS.iter().find(|(known, _)| known == name) else {
            let known: Vec<&str> = FLAGS.iter().map(|(name, _)| *name).collect();
            bail!(
                "--kube-controller-manager-arg {name}: not a setting of these controllers; there are {}",
                known.join(", ")
            );
        };
        set(&mut node_lifecycle, value).with_context(|| format!("--kube-controller-manager-arg {name}={value}"))?;
    }
    Ok(node_lifecycle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn flags_set_and_unknown_ones_name_the_others() {
        let flag = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let set = parse(&flag("node-monitor-grace-period", "20s")).unwrap();
        assert_eq!(set.grace_period, Duration::from_secs(20));
        let error = parse(&flag("node-monitor-grace", "20s")).unwrap_err().to_string();
        assert!(error.ends_with("there are node-monitor-grace-period"), "{error}");
        assert!(parse(&flag("node-monitor-grace-period", "soon")).is_err());
    }
}
