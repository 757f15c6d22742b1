//! `--admission-control-config-file`: what administrators set of single plugins.
//!
//! An `AdmissionConfiguration` names plugins and has the configuration of each, in place or in a file
//! beside it. Source: "Apply Pod Security Standards by Configuring the Built-in Admission Controller".

use super::pod_security::Settings;
use crate::api::Fields;
use crate::schema::yaml;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The plugins that can be configured.
#[derive(Clone, Default)]
pub struct Configuration {
    pub(super) pod_security: Settings,
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    yaml::parse(&text).map_err(|error| anyhow!("{}: {error}", path.display()))
}

impl Configuration {
    pub fn read(path: &Path) -> Result<Self> {
        let object = read(path)?;
        let (api_version, kind) = (object.str_at("apiVersion"), object.str_at("kind"));
        ensure!(
            kind == "AdmissionConfiguration" && api_version.starts_with("apiserver.config.k8s.io/"),
            "{}: not an AdmissionConfiguration of apiserver.config.k8s.io/v1 but {kind} of {api_version}",
            path.display()
        );
        let mut configuration = Self::default();
        for plugin in object.list_at("plugins") {
            let name = plugin.str_at("name");
            let own = match (plugin.get_set("configuration"), plugin.str_at("path")) {
                (Some(own), "") => own.clone(),
                (None, file) if !file.is_empty() => read(&path.parent().unwrap_or(Path::new("")).join(file))?,
                (None, _) => continue,
                (Some(_), _) => bail!("{}: plugin {name} has a path and a configuration: give one", path.display()),
            };
            ensure!(name == "PodSecurity", "{}: plugin {name} has no configuration here", path.display());
            configuration.pod_security =
                Settings::parse(&own).map_err(|error| anyhow!("{}: plugin {name}: {error}", path.display()))?;
        }
        Ok(configuration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(plugins: &str) -> Result<Configuration, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("admission.yaml");
        let other = "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n\
                     exemptions: {namespaces: [elsewhere]}";
        fs::write(directory.path().join("other.yaml"), other).expect("a file");
        let text = format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins: {plugins}");
        fs::write(&path, text).expect("a file");
        Configuration::read(&path).map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
    }

    fn refused(plugins: &str) -> String {
        parse(plugins).err().expect("a refusal")
    }

    #[test]
    fn plugins_are_configured_in_place_or_in_a_file() {
        assert!(parse("[]").is_ok());
        let beside = parse("[{name: PodSecurity, path: other.yaml}]").expect("a configuration");
        assert!(beside.pod_security.exempts_namespace("elsewhere"));
        let head = "apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration";
        let place = |rest: &str| format!("[{{name: PodSecurity, configuration: {{{head}, {rest}}}}}]");
        assert!(parse(&place("defaults: {enforce: baseline, enforce-version: v1.30}")).is_ok());
        assert_eq!(
            refused(&place("defaults: {enforce: loose}")),
            "FILE: plugin PodSecurity: defaults.enforce: Invalid value: \"loose\": must be one of privileged, baseline, \
             restricted"
        );
        assert_eq!(
            refused(&place("exemptions: {usernames: [a, a]}")),
            "FILE: plugin PodSecurity: exemptions.usernames[1]: Duplicate value: \"a\""
        );
        assert_eq!(
            refused("[{name: LimitRanger, configuration: {}}]"),
            "FILE: plugin LimitRanger has no configuration here"
        );
    }
}
