//! Host name, `/etc/hosts` and `/etc/resolv.conf` of a pod: pure texts.

use super::pod;
use crate::api::cri::DnsConfig;
use k8s_openapi::api::core::v1::{HostAlias, Pod};
use std::fmt::Write as _;

const HOSTNAME_MAX: usize = 63;
const FQDN_MAX: usize = 64;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;
const MAX_NAMESERVERS: usize = 3;

/// The pod's short name and its domain: both empty domain where it has no subdomain.
pub fn hostname_and_domain(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = pod.spec.as_ref();
    if let Some(given) = spec.and_then(|spec| spec.hostname_override.as_deref()).filter(|name| !name.is_empty()) {
        return (given.to_owned(), String::new());
    }
    let given = spec.and_then(|spec| spec.hostname.as_deref()).filter(|name| !name.is_empty());
    let hostname = match given {
        Some(name) => name.to_owned(),
        None => truncate(pod.metadata.name.as_deref().unwrap_or_default()),
    };
    let subdomain = spec.and_then(|spec| spec.subdomain.as_deref()).filter(|name| !name.is_empty());
    let domain = subdomain.map_or_else(String::new, |subdomain| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        format!("{subdomain}.{namespace}.svc.{cluster_domain}")
    });
    (hostname, domain)
}

/// Names of pods may be longer than host names; what is left must not end in a separator.
fn truncate(name: &str) -> String {
    let end = name.char_indices().map(|(at, _)| at).find(|&at| at >= HOSTNAME_MAX).unwrap_or(name.len());
    name[..end].trim_end_matches(['-', '.']).to_owned()
}

/// What `hostname` prints in the pod.
pub fn node_hostname(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let (hostname, domain) = hostname_and_domain(pod, cluster_domain);
    let qualified = pod.spec.as_ref().and_then(|spec| spec.set_hostname_as_fqdn).unwrap_or(false);
    if !qualified || domain.is_empty() {
        return Ok(hostname);
    }
    let fqdn = format!("{hostname}.{domain}");
    if fqdn.len() > FQDN_MAX {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long \
             (maximum is {FQDN_MAX} characters), hostname is {hostname}"
        ));
    }
    Ok(fqdn)
}

/// The pod's `/etc/hosts`. `host_file`: the node's, for pods in its network.
pub fn hosts_file(pod: &Pod, addresses: &[String], cluster_domain: &str, host_file: Option<&str>) -> String {
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    let mut out = String::new();
    if let Some(host_file) = host_file {
        out.push_str("# Kubernetes-managed hosts file (host network).\n");
        out.push_str(host_file);
        add_aliases(aliases, &mut out);
        return out;
    }
    out.push_str(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\nfe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let (hostname, domain) = hostname_and_domain(pod, cluster_domain);
    for address in addresses {
        if domain.is_empty() {
            let _ = writeln!(out, "{address}\t{hostname}");
        } else {
            let _ = writeln!(out, "{address}\t{hostname}.{domain}\t{hostname}");
        }
    }
    add_aliases(aliases, &mut out);
    out
}

fn add_aliases(aliases: &[HostAlias], out: &mut String) {
    if aliases.is_empty() {
        return;
    }
    out.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        let _ = writeln!(out, "{}\t{names}", alias.ip);
    }
}

/// What the node gives to pods.
#[derive(Clone, Debug, Default)]
pub struct ClusterDns {
    pub servers: Vec<String>,
    pub domain: String,
    /// The node's own resolver, for `dnsPolicy: Default`.
    pub host: DnsConfig,
}

/// The pod's resolver by `dnsPolicy` and `dnsConfig`; the second value tells what was left out.
pub fn resolver(pod: &Pod, cluster: &ClusterDns) -> (DnsConfig, Option<String>) {
    let spec = pod::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let host_network = pod::uses_host_network(pod);
    let mut config = match policy {
        "None" => DnsConfig::default(),
        "ClusterFirstWithHostNet" => cluster_first(pod, cluster),
        "ClusterFirst" if !host_network && !cluster.servers.is_empty() => cluster_first(pod, cluster),
        _ => cluster.host.clone(),
    };
    if let Some(own) = &spec.dns_config {
        append_new(&mut config.servers, own.nameservers.as_deref().unwrap_or_default());
        append_new(&mut config.searches, own.searches.as_deref().unwrap_or_default());
        for option in own.options.as_deref().unwrap_or_default() {
            let Some(name) = option.name.as_deref() else { continue };
            let text = match option.value.as_deref() {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            };
            config.options.retain(|existing| existing.split(':').next() != Some(name));
            config.options.push(text);
        }
    }
    let warning = limit(&mut config);
    (config, warning)
}

fn cluster_first(pod: &Pod, cluster: &ClusterDns) -> DnsConfig {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = &cluster.domain;
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
    append_new(&mut searches, &cluster.host.searches);
    DnsConfig { servers: cluster.servers.clone(), searches, options: vec!["ndots:5".to_owned()] }
}

fn append_new(list: &mut Vec<String>, more: &[String]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// What resolvers can take; the message is the kubelet's DNSConfigForming event.
fn limit(config: &mut DnsConfig) -> Option<String> {
    let mut warnings = Vec::new();
    if config.servers.len() > MAX_NAMESERVERS {
        config.servers.truncate(MAX_NAMESERVERS);
        warnings.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            config.servers.join(" ")
        ));
    }
    let length =
        |searches: &[String]| searches.iter().map(String::len).sum::<usize>() + searches.len().saturating_sub(1);
    let before = config.searches.len();
    config.searches.truncate(MAX_SEARCHES);
    while length(&config.searches) > MAX_SEARCH_CHARACTERS {
        config.searches.pop();
    }
    if config.searches.len() < before {
        warnings.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            config.searches.join(" ")
        ));
    }
    (!warnings.is_empty()).then(|| warnings.join("; "))
}

/// A `resolv.conf`: servers, searches and options; what is malformed is skipped, as resolvers do.
pub fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut fields = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
        match fields.next() {
            Some("nameserver") => config.servers.extend(fields.next().map(str::to_owned)),
            Some("search") => {
                config.searches = fields
                    .map(|search| if search == "." { search } else { search.trim_end_matches('.') })
                    .map(str::to_owned)
                    .collect();
            }
            Some("options") => config.options.extend(fields.map(str::to_owned)),
            _ => {}
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "shop"}, "spec": spec}))
            .expect("a pod")
    }

    #[test]
    fn hosts() {
        let pod = pod(json!({"subdomain": "web", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
        expect_test::expect![[r#"
            # Kubernetes-managed hosts file.
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            fe00::	ip6-localnet
            fe00::	ip6-mcastprefix
            fe00::1	ip6-allnodes
            fe00::2	ip6-allrouters
            10.42.0.3	web-0.web.shop.svc.cluster.local	web-0

            # Entries added by HostAliases.
            1.2.3.4	a	b
        "#]]
        .assert_eq(&hosts_file(&pod, &["10.42.0.3".into()], "cluster.local", None));
        let host = hosts_file(&pod, &[], "cluster.local", Some("127.0.0.1 localhost\n"));
        assert!(host.starts_with("# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"), "{host}");
    }

    #[test]
    fn host_names_are_cut_and_may_be_qualified() {
        let mut long = pod(json!({}));
        long.metadata.name = Some(format!("{}-tail", "a".repeat(62)));
        assert_eq!(hostname_and_domain(&long, "c").0, "a".repeat(62));
        let qualified = pod(json!({"subdomain": "web", "setHostnameAsFQDN": true}));
        assert_eq!(node_hostname(&qualified, "cluster.local").as_deref(), Ok("web-0.web.shop.svc.cluster.local"));
        let too_long = pod(json!({"subdomain": "x".repeat(60), "setHostnameAsFQDN": true}));
        assert!(node_hostname(&too_long, "cluster.local").is_err());
    }

    #[test]
    fn dns_policies() {
        let host = parse_resolv_conf("# c\nnameserver 192.0.2.53\nsearch corp.example. lan\noptions edns0\n");
        let cluster = ClusterDns { servers: vec!["10.43.0.10".into()], domain: "cluster.local".into(), host };
        let text = |spec: Value| {
            let (config, _) = resolver(&pod(spec), &cluster);
            format!("{} | {} | {}", config.servers.join(" "), config.searches.join(" "), config.options.join(" "))
        };
        let first = "10.43.0.10 | shop.svc.cluster.local svc.cluster.local cluster.local corp.example lan | ndots:5";
        assert_eq!(text(json!({})), first);
        assert_eq!(text(json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true})), first);
        let default = "192.0.2.53 | corp.example lan | edns0";
        assert_eq!(text(json!({"dnsPolicy": "Default"})), default);
        assert_eq!(text(json!({"hostNetwork": true})), default);
        let none = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "searches": ["a"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]}});
        assert_eq!(text(none), "9.9.9.9 | a | ndots:2 rotate");
        let changed = json!({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}});
        assert!(text(changed).ends_with("| ndots:2"));
        let many =
            json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]}});
        let (config, warning) = resolver(&pod(many), &cluster);
        assert_eq!(config.servers.len(), 3);
        assert!(warning.is_some_and(|warning| warning.starts_with("Nameserver limits were exceeded")));
    }
}
