//! `--kube-apiserver-arg name=value`: the API server's flags that orch's has, by their names.

use super::kubelet_flags::duration;
use super::options::{ServerOptions, parse_port_range};
use crate::apiserver::audit;
use crate::apiserver::authn::oidc;
use crate::apiserver::authz::Mode;
use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;

type Set = fn(&mut ServerOptions, &str) -> Result<()>;

/// Name of the flag and what it sets.
const FLAGS: &[(&str, Set)] = &[
    ("admission-control-config-file", |options, text| {
        options.admission_configuration = Some(text.into());
        Ok(())
    }),
    ("advertise-address", |options, text| {
        options.advertise_address = Some(text.parse().context("not an address")?);
        Ok(())
    }),
    ("anonymous-auth", |options, text| {
        options.authentication.anonymous = Some(text.parse().context("neither true nor false")?);
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
    ("audit-log-format", |_, text| {
        ensure!(text == "json", "only json: a line of JSON for each event");
        Ok(())
    }),
    ("audit-log-mode", |options, text| {
        options.audit.log.mode = audit_mode(text)?;
        Ok(())
    }),
    ("audit-log-path", |options, text| {
        options.audit.log.path = text.into();
        Ok(())
    }),
    ("audit-log-version", |_, text| audit_version(text)),
    ("audit-policy-file", |options, text| {
        options.audit.policy = Some(text.into());
        Ok(())
    }),
    ("audit-webhook-batch-buffer-size", |options, text| {
        options.audit.webhook.buffer = text.parse().context("not a number of events")?;
        Ok(())
    }),
    ("audit-webhook-batch-max-size", |options, text| {
        options.audit.webhook.max_size = text.parse().context("not a number of events")?;
        Ok(())
    }),
    ("audit-webhook-batch-max-wait", |options, text| {
        options.audit.webhook.max_wait = duration(text)?;
        Ok(())
    }),
    ("audit-webhook-config-file", |options, text| {
        options.audit.webhook.config = Some(text.into());
        Ok(())
    }),
    ("audit-webhook-initial-backoff", |options, text| {
        options.audit.webhook.initial_backoff = duration(text)?;
        Ok(())
    }),
    ("audit-webhook-mode", |options, text| {
        options.audit.webhook.mode = audit_mode(text)?;
        Ok(())
    }),
    ("audit-webhook-version", |_, text| audit_version(text)),
    ("authentication-token-webhook-cache-ttl", |options, text| {
        options.authentication.token_webhook_remember = duration(text)?;
        Ok(())
    }),
    ("authentication-token-webhook-config-file", |options, text| {
        options.authentication.token_webhook = Some(text.into());
        Ok(())
    }),
    ("authentication-token-webhook-version", |options, text| {
        options.authentication.token_webhook_version = review_version(text)?;
        Ok(())
    }),
    ("authorization-mode", |options, text| {
        options.authorization.modes = names(text).map(|name| mode(&name)).collect::<Result<_>>()?;
        Ok(())
    }),
    ("authorization-webhook-cache-authorized-ttl", |options, text| {
        options.authorization.remember.0 = duration(text)?;
        Ok(())
    }),
    ("authorization-webhook-cache-unauthorized-ttl", |options, text| {
        options.authorization.remember.1 = duration(text)?;
        Ok(())
    }),
    ("authorization-webhook-config-file", |options, text| {
        options.authorization.webhook = Some(text.into());
        Ok(())
    }),
    ("authorization-webhook-version", |options, text| {
        options.authorization.webhook_version = review_version(text)?;
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
    ("encryption-provider-config", |options, text| {
        options.encryption.file = Some(text.into());
        Ok(())
    }),
    ("max-mutating-requests-inflight", |options, text| {
        options.flow_control.max_mutating = text.parse().context("not a number")?;
        Ok(())
    }),
    ("max-requests-inflight", |options, text| {
        options.flow_control.max_requests = text.parse().context("not a number")?;
        Ok(())
    }),
    ("oidc-ca-file", |options, text| {
        options.authentication.oidc.ca_pem = std::fs::read_to_string(text).with_context(|| format!("read {text}"))?;
        Ok(())
    }),
    ("oidc-client-id", |options, text| {
        text.clone_into(&mut options.authentication.oidc.client_id);
        Ok(())
    }),
    ("oidc-groups-claim", |options, text| {
        text.clone_into(&mut options.authentication.oidc.groups_claim);
        Ok(())
    }),
    ("oidc-groups-prefix", |options, text| {
        text.clone_into(&mut options.authentication.oidc.groups_prefix);
        Ok(())
    }),
    ("oidc-issuer-url", |options, text| {
        ensure!(text.starts_with("https://"), "an issuer's URL starts with https://");
        text.clone_into(&mut options.authentication.oidc.issuer_url);
        Ok(())
    }),
    ("oidc-required-claim", |options, text| {
        let (claim, value) = text.split_once('=').context("not of the form claim=value")?;
        options.authentication.oidc.required_claims.push((claim.to_owned(), value.to_owned()));
        Ok(())
    }),
    ("oidc-signing-algs", |options, text| {
        let algorithms: Vec<String> = names(text).collect();
        if let Some(unknown) = algorithms.iter().find(|name| !oidc::ALGORITHMS.contains(&name.as_str())) {
            bail!("{unknown} is not one of {}", oidc::ALGORITHMS.join(", "));
        }
        options.authentication.oidc.signing_algorithms = algorithms;
        Ok(())
    }),
    ("oidc-username-claim", |options, text| {
        text.clone_into(&mut options.authentication.oidc.username_claim);
        Ok(())
    }),
    ("oidc-username-prefix", |options, text| {
        options.authentication.oidc.username_prefix = Some(text.to_owned());
        Ok(())
    }),
    ("service-node-port-range", |options, text| {
        options.node_port_range = parse_port_range(text)?;
        Ok(())
    }),
    ("tracing-config-file", |options, text| {
        options.tracing = Some(text.into());
        Ok(())
    }),
];

fn names(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
}

fn mode(name: &str) -> Result<Mode> {
    let known = Mode::ALL.iter().find(|(known, _)| *known == name).map(|(_, mode)| *mode);
    known.with_context(|| {
        let all: Vec<&str> = Mode::ALL.iter().map(|(name, _)| *name).collect();
        format!("{name} is not one of {}", all.join(", "))
    })
}

fn audit_mode(name: &str) -> Result<audit::Mode> {
    let known = audit::Mode::ALL.iter().find(|(known, _)| *known == name).map(|(_, mode)| *mode);
    known.with_context(|| {
        let all: Vec<&str> = audit::Mode::ALL.iter().map(|(name, _)| *name).collect();
        format!("{name} is not one of {}", all.join(", "))
    })
}

fn audit_version(text: &str) -> Result<()> {
    ensure!(text == "audit.k8s.io/v1", "not audit.k8s.io/v1, which is all there is");
    Ok(())
}

fn review_version(text: &str) -> Result<String> {
    ensure!(matches!(text, "v1" | "v1beta1"), "neither v1 nor v1beta1");
    Ok(text.to_owned())
}

/// What does not fit together.
fn check(options: &ServerOptions) -> Result<()> {
    let oidc = &options.authentication.oidc;
    ensure!(
        oidc.issuer_url.is_empty() == oidc.client_id.is_empty(),
        "--kube-apiserver-arg oidc-issuer-url and oidc-client-id belong together: give both"
    );
    ensure!(
        options.authorization.modes.contains(&Mode::Webhook) == options.authorization.webhook.is_some(),
        "--kube-apiserver-arg authorization-mode with Webhook and authorization-webhook-config-file belong together"
    );
    Ok(())
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
    check(options)
}
