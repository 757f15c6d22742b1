//! Service: a stable address before a set of pods.
//!
//! Source: `ValidateService*` of `pkg/apis/core/validation` and `pkg/registry/core/service`. What is
//! allocated (addresses, node ports) is the API server's; here is what may be asked for.

use super::endpoint_address;
use super::pod_spec::handlers::port_number_or_name;
use crate::api::value::same;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report};
use crate::api::{ip, names};
use crate::resources::cells::{self, or_none};
use crate::resources::names::Messages;
use crate::resources::{Column, Context, Resource, Strategy, Subresource, labels, named};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

const METADATA: Path<'static> = Path::new("metadata");
const SPEC: Path<'static> = Path::new("spec");
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameZone", "PreferSameNode"];
const AFFINITY_SECONDS: i64 = 10800;
const AFFINITY_SECONDS_LIMIT: i64 = 86400;
const LOAD_BALANCER_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["svc".into()],
        categories: vec!["all".into()],
        status: true,
        subresources: vec![Subresource::proxy("ServiceProxyOptions"), Subresource::status()],
        columns: Column::strings(&["Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "+Selector"]),
        strategy: Arc::new(Service),
        ..Resource::new("", "v1", "Service", "services")
    }
}

pub struct Service;

/// The type of a service.
pub fn kind(service: &Value) -> &str {
    service.at("spec").str_at("type")
}

/// `clusterIP: None`: names the pods themselves.
pub fn is_headless(service: &Value) -> bool {
    let addresses = service.at("spec").list_at("clusterIPs");
    addresses.len() == 1 && addresses[0].as_str() == Some("None")
}

/// Reachable from outside, one way or another.
pub fn is_external(service: &Value) -> bool {
    match kind(service) {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !service.at("spec").list_at("externalIPs").is_empty(),
        _ => false,
    }
}

/// A load balancer asks each node whether it has a backend.
pub fn needs_health_check(service: &Value) -> bool {
    kind(service) == "LoadBalancer" && service.at("spec").str_at("externalTrafficPolicy") == "Local"
}

fn needs_node_ports(service: &Value) -> bool {
    ["LoadBalancer", "NodePort"].contains(&kind(service))
}

/// One that is known and means nothing.
fn drop_internal_policy(object: &mut Value) {
    let spec = object.object_mut("spec");
    let known = matches!(spec.str_at("internalTrafficPolicy"), "Cluster" | "Local");
    if spec.str_at("type") == "ExternalName" && known {
        spec.clear("internalTrafficPolicy");
    }
}

impl Strategy for Service {
    fn default(&self, object: &mut Value) {
        let external = |service: &Value| is_external(service);
        let spec = object.object_mut("spec");
        spec.set_default_str("sessionAffinity", "None");
        match spec.str_at("sessionAffinity") {
            "None" => spec.clear("sessionAffinityConfig"),
            "ClientIP" if !spec.at("sessionAffinityConfig").at("clientIP").has("timeoutSeconds") => {
                spec.set("sessionAffinityConfig", json!({ "clientIP": { "timeoutSeconds": AFFINITY_SECONDS } }));
            }
            _ => {}
        }
        spec.set_default_str("type", "ClusterIP");
        for port in spec.items_mut("ports") {
            port.set_default_str("protocol", "TCP");
            let target = port.at("targetPort");
            if target.is_null() || target.as_i64() == Some(0) || target.as_str() == Some("") {
                let number = port.int_at("port");
                port.set("targetPort", number);
            }
        }
        if external(object) {
            object.object_mut("spec").set_default_str("externalTrafficPolicy", "Cluster");
        }
        let spec = object.object_mut("spec");
        let kind = spec.str_at("type").to_owned();
        if ["NodePort", "LoadBalancer", "ClusterIP"].contains(&kind.as_str()) {
            spec.set_default("internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            spec.set_default("allocateLoadBalancerNodePorts", true);
            if let Some(balancer) = object.set_mut("status").and_then(|status| status.set_mut("loadBalancer")) {
                for ingress in balancer.items_mut("ingress").filter(|ingress| !ingress.str_at("ip").is_empty()) {
                    ingress.set_default("ipMode", "VIP");
                }
            }
        }
    }

    fn prepare_create(&self, object: &mut Value, _: &Context) {
        object.set("status", json!({ "loadBalancer": {} }));
        drop_internal_policy(object);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("status", old);
        drop_fields_of_old_type(object, old);
        drop_internal_policy(object);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object, None, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        super::service_addresses::validate_change(object, old, &mut errors);
        let (spec, before) = (object.at("spec"), old.at("spec"));
        if kind(object) == "LoadBalancer"
            && kind(old) == "LoadBalancer"
            && spec.at("loadBalancerClass") != before.at("loadBalancerClass")
        {
            let class = spec.at("loadBalancerClass").clone();
            errors.invalid(&SPEC.child("loadBalancerClass"), class, "may not change once set");
        }
        load_balancer_class(object, &mut errors);
        let port = "healthCheckNodePort";
        if needs_health_check(old) && needs_health_check(object) && spec.int_at(port) != before.int_at(port) {
            errors.forbidden(&SPEC.child(port), "field is immutable");
        }
        validate(object, Some(old), &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Messages {
        named(names::dns_label, name, prefix)
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        warnings(object)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn selectable_fields(&self) -> &'static [(&'static str, fn(&Value) -> String)] {
        &[
            ("spec.clusterIP", |service| service.at("spec").str_at("clusterIP").to_owned()),
            ("spec.type", |service| kind(service).to_owned()),
        ]
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let spec = object.at("spec");
        let address = spec.list_at("clusterIPs").first().and_then(Value::as_str).unwrap_or(cells::NONE);
        let ports: Vec<String> = spec.list_at("ports").iter().map(port_cell).collect();
        Some(vec![
            cells::name(object),
            kind(object).into(),
            address.into(),
            external_cell(object).into(),
            or_none(&ports.join(",")).into(),
            cells::age(object, now),
            cells::labels(spec.at("selector")).into(),
        ])
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }
}

struct Status;

impl Strategy for Status {
    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("status");
        let path = path.child("loadBalancer.ingress");
        load_balancer_ingress(object, old, &path, &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        let ingress = object.at("status").at("loadBalancer").list_at("ingress");
        let warning = |(index, ingress): (usize, &Value)| {
            ip::ip_warning(&format!("status.loadBalancer.ingress[{index}]"), ingress.str_at("ip"))
        };
        ingress.iter().enumerate().filter_map(warning).collect()
    }
}

fn port_cell(port: &Value) -> String {
    let (number, node, protocol) = (port.int_at("port"), port.int_at("nodePort"), port.str_at("protocol"));
    if node > 0 { format!("{number}:{node}/{protocol}") } else { format!("{number}/{protocol}") }
}

fn external_cell(service: &Value) -> String {
    let spec = service.at("spec");
    let external: Vec<&str> = spec.strs_at("externalIPs").collect();
    match kind(service) {
        "ClusterIP" | "NodePort" => or_none(&external.join(",")).to_owned(),
        "LoadBalancer" => {
            let ingress = service.at("status").at("loadBalancer").list_at("ingress").iter();
            let balancers: BTreeSet<&str> = ingress
                .map(|ingress| [ingress.str_at("ip"), ingress.str_at("hostname")])
                .filter_map(|names| names.into_iter().find(|name| !name.is_empty()))
                .collect();
            let all: Vec<&str> = balancers.into_iter().chain(external).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => spec.str_at("externalName").to_owned(),
        _ => cells::UNKNOWN.to_owned(),
    }
}

/// A service of another type does without what only its old one has, unless the client changed it.
fn drop_fields_of_old_type(object: &mut Value, old: &Value) {
    let addressed = |service: &Value| kind(service) != "ExternalName";
    let before = old.at("spec");
    let unchanged = |object: &Value, field: &str| same(object.at("spec").at(field), before.at(field));
    if addressed(old) && !addressed(object) {
        if unchanged(object, "clusterIP") && unchanged(object, "clusterIPs") {
            object["spec"].clear("clusterIP");
            object["spec"].clear("clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if unchanged(object, field) {
                object["spec"].clear(field);
            }
        }
    }
    let ports = |service: &Value| -> BTreeSet<i64> {
        let ports = service.at("spec").list_at("ports").iter().map(|port| port.int_at("nodePort"));
        ports.filter(|port| *port != 0).collect()
    };
    if needs_node_ports(old) && !needs_node_ports(object) && ports(old).is_superset(&ports(object)) {
        object["spec"].items_mut("ports").for_each(|port| port.clear("nodePort"));
    }
    if needs_health_check(old) && !needs_health_check(object) && unchanged(object, "healthCheckNodePort") {
        object["spec"].clear("healthCheckNodePort");
    }
    if kind(old) == "LoadBalancer" && kind(object) != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if unchanged(object, field) {
                object["spec"].clear(field);
            }
        }
    }
    if is_external(old) && !is_external(object) && unchanged(object, "externalTrafficPolicy") {
        object["spec"].clear("externalTrafficPolicy");
    }
    if kind(object) != "LoadBalancer" {
        object.object_mut("status").set("loadBalancer", json!({}));
    }
}

fn validate(object: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let (spec, annotations) = (object.at("spec"), object.at("metadata").at("annotations"));
    let at_annotations = METADATA.child("annotations");
    if let (Some(mode), Some(hints)) =
        (annotations.optional_str(TOPOLOGY_MODE), annotations.optional_str(TOPOLOGY_HINTS))
        && mode != hints
    {
        let detail = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        errors.invalid(&at_annotations.key(TOPOLOGY_MODE), mode, detail);
    }
    if spec.list_at("ports").is_empty() && !is_headless(object) && kind(object) != "ExternalName" {
        errors.required(&SPEC.child("ports"), "");
    }
    of_type(object, errors);
    let list = SPEC.child("ports");
    let ports = spec.list_at("ports");
    let mut port_names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = list.index(index);
        match port.str_at("name") {
            "" if ports.len() > 1 => errors.required(&path.child("name"), ""),
            "" => {}
            name => {
                errors.check(&path.child("name"), name, names::dns_label(name));
                if !port_names.insert(name) {
                    errors.duplicate(&path.child("name"), name);
                }
            }
        }
        self::port(port, &path, errors);
    }
    labels::labels(spec.at("selector"), &SPEC.child("selector"), errors);
    session_affinity(spec, errors);
    super::service_addresses::validate(object, old, errors);
    external_addresses(spec, old, errors);
    match kind(object) {
        "" => errors.required(&SPEC.child("type"), ""),
        kind => errors.one_of(&SPEC.child("type"), kind, TYPES),
    }
    repeated_ports(object, errors);
    source_ranges(object, old, errors);
    let allocates = spec.has("allocateLoadBalancerNodePorts");
    if allocates && kind(object) != "LoadBalancer" {
        errors.forbidden(&SPEC.child("allocateLoadBalancerNodePorts"), LOAD_BALANCER_ONLY);
    }
    if !allocates && kind(object) == "LoadBalancer" {
        errors.required(&Path::new("allocateLoadBalancerNodePorts"), "");
    }
    load_balancer_class(object, errors);
    traffic_policies(object, errors);
}

fn of_type(object: &Value, errors: &mut ErrorList) {
    let spec = object.at("spec");
    let kind = kind(object);
    if ["LoadBalancer", "NodePort"].contains(&kind) && is_headless(object) {
        let path = SPEC.child("clusterIPs");
        errors.invalid(&path.index(0), "None", format!("may not be set to 'None' for {kind} services"));
    }
    if kind != "ExternalName" {
        return;
    }
    for field in ["clusterIPs", "ipFamilies"] {
        if !spec.list_at(field).is_empty() {
            errors.forbidden(&SPEC.child(field), "may not be set for ExternalName services");
        }
    }
    if spec.has("ipFamilyPolicy") {
        errors.forbidden(&SPEC.child("ipFamilyPolicy"), "may not be set for ExternalName services");
    }
    let name = spec.str_at("externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.required(&SPEC.child("externalName"), ""),
        name => errors.check(&SPEC.child("externalName"), name, names::dns_subdomain(name)),
    }
}

fn port(port: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let number = port.int_at("port");
    errors.check_number(&path.child("port"), number, names::port_number(number));
    super::pod_spec::one_of_required(port, "protocol", PROTOCOLS, path, errors);
    port_number_or_name(port.at("targetPort"), &path.child("targetPort"), errors);
    if let Some(protocol) = port.optional_str("appProtocol") {
        errors.check(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
    }
}

fn session_affinity(spec: &Value, errors: &mut ErrorList) {
    let affinity = spec.str_at("sessionAffinity");
    super::pod_spec::one_of_required(spec, "sessionAffinity", &["ClientIP", "None"], &SPEC, errors);
    let path = SPEC.child("sessionAffinityConfig");
    let config = spec.at("sessionAffinityConfig");
    match affinity {
        "ClientIP" => {
            const NEEDED: &str = "when session affinity type is ClientIP";
            let at_client = path.child("clientIP");
            if config.is_null() {
                return errors.required(&path, NEEDED);
            }
            let Some(client) = config.get_set("clientIP") else { return errors.required(&at_client, NEEDED) };
            match client.optional_int("timeoutSeconds") {
                None => errors.required(&at_client.child("timeoutSeconds"), NEEDED),
                Some(seconds) if !(1..=AFFINITY_SECONDS_LIMIT).contains(&seconds) => {
                    let detail = format!("must be greater than 0 and less than {AFFINITY_SECONDS_LIMIT}");
                    errors.invalid(&at_client.child("timeoutSeconds"), seconds, detail);
                }
                Some(_) => {}
            }
        }
        "None" if !config.is_null() => {
            errors.forbidden(&path, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn external_addresses(spec: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let list = SPEC.child("externalIPs");
    for (index, address) in spec.strs_at("externalIPs").enumerate() {
        let path = list.index(index);
        let known = old.is_some_and(|old| old.at("spec").strs_at("externalIPs").any(|known| known == address));
        let messages = if known { Vec::new() } else { ip::legacy_ip(address) };
        if messages.is_empty() {
            errors.check(&path, address, endpoint_address::check(address));
        } else {
            errors.check(&path, address, messages);
        }
    }
}

fn repeated_ports(object: &Value, errors: &mut ErrorList) {
    let ports = object.at("spec").list_at("ports");
    let list = SPEC.child("ports");
    if kind(object) == "ClusterIP" {
        for (index, port) in ports.iter().enumerate() {
            if port.int_at("nodePort") != 0 {
                let detail = "may not be used when `type` is 'ClusterIP'";
                errors.forbidden(&list.index(index).child("nodePort"), detail);
            }
        }
    }
    let mut taken = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let number = port.int_at("nodePort");
        if number != 0 && !taken.insert((port.str_at("protocol"), number)) {
            errors.duplicate(&list.index(index).child("nodePort"), number);
        }
    }
    let mut taken = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let (protocol, number) = (port.str_at("protocol"), port.int_at("port"));
        if !taken.insert((protocol, number)) {
            // Of the port only these are compared, and shown.
            let key = serde_json::json!({ "protocol": protocol, "port": number });
            errors.duplicate(&list.index(index), key);
        }
    }
}

fn source_ranges(object: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let spec = object.at("spec");
    if !spec.list_at("loadBalancerSourceRanges").is_empty() {
        let path = SPEC.child("LoadBalancerSourceRanges");
        if kind(object) != "LoadBalancer" {
            errors.forbidden(&path, LOAD_BALANCER_ONLY);
        }
        for (index, range) in spec.strs_at("loadBalancerSourceRanges").enumerate() {
            let range = range.trim();
            let mut known = old.map(|old| old.at("spec")).unwrap_or(&Value::Null).strs_at("loadBalancerSourceRanges");
            if !known.any(|known| known.trim() == range) {
                errors.check(&path.index(index), range, ip::legacy_cidr(range));
            }
        }
        return;
    }
    let annotation =
        |object: &Value| object.at("metadata").at("annotations").optional_str(SOURCE_RANGES).map(str::to_owned);
    let Some(ranges) = annotation(object) else { return };
    let path = METADATA.child("annotations");
    let path = path.key(SOURCE_RANGES);
    if kind(object) != "LoadBalancer" {
        errors.forbidden(&path, LOAD_BALANCER_ONLY);
    }
    let unchanged = old.and_then(annotation).is_some_and(|old| old == ranges);
    if !unchanged && !ranges.trim().is_empty() {
        for range in ranges.trim().split(',').map(str::trim) {
            errors.check(&path, range, ip::legacy_cidr(range));
        }
    }
}

fn load_balancer_class(object: &Value, errors: &mut ErrorList) {
    let Some(class) = object.at("spec").optional_str("loadBalancerClass") else { return };
    let path = SPEC.child("loadBalancerClass");
    if kind(object) == "LoadBalancer" {
        errors.check(&path, class, names::qualified_name(class));
    } else {
        errors.forbidden(&path, LOAD_BALANCER_ONLY);
    }
}

fn traffic_policies(object: &Value, errors: &mut ErrorList) {
    let spec = object.at("spec");
    let policies = &["Cluster", "Local"];
    let external = spec.str_at("externalTrafficPolicy");
    if is_external(object) {
        super::pod_spec::one_of_required(spec, "externalTrafficPolicy", policies, &SPEC, errors);
    } else if !external.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.invalid(&SPEC.child("externalTrafficPolicy"), external, detail);
    }
    let path = SPEC.child("healthCheckNodePort");
    match (needs_health_check(object), spec.int_at("healthCheckNodePort")) {
        (true, 0) => errors.required(&path, ""),
        (true, port) => errors.check_number(&path, port, names::port_number(port)),
        (false, 0) => {}
        (false, port) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(&path, port, detail);
        }
    }
    match spec.optional_str("internalTrafficPolicy") {
        None if ["NodePort", "LoadBalancer", "ClusterIP"].contains(&kind(object)) => {
            errors.required(&SPEC.child("internalTrafficPolicy"), "");
        }
        None => {}
        Some(policy) => errors.one_of(&SPEC.child("internalTrafficPolicy"), policy, policies),
    }
    if let Some(distribution) = spec.optional_str("trafficDistribution") {
        errors.one_of(&SPEC.child("trafficDistribution"), distribution, DISTRIBUTIONS);
    }
}

fn load_balancer_ingress(object: &Value, old: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let of = |service: &Value| service.at("status").at("loadBalancer").list_at("ingress").to_vec();
    let ingress = of(object);
    if kind(object) != "LoadBalancer" && !ingress.is_empty() {
        return errors.forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'");
    }
    let known = of(old);
    for (index, ingress) in ingress.iter().enumerate() {
        let path = path.index(index);
        let (address, hostname) = (ingress.str_at("ip"), ingress.str_at("hostname"));
        if !address.is_empty() && !known.iter().any(|known| known.str_at("ip") == address) {
            errors.check(&path.child("ip"), address, ip::legacy_ip(address));
        }
        match ingress.optional_str("ipMode") {
            None if !address.is_empty() => errors.required(&path.child("ipMode"), "must be specified when `ip` is set"),
            None => {}
            Some(_) if address.is_empty() => {
                errors.forbidden(&path.child("ipMode"), "may not be specified when `ip` is not set");
            }
            Some(mode) => errors.one_of(&path.child("ipMode"), mode, &["Proxy", "VIP"]),
        }
        if !hostname.is_empty() {
            errors.check(&path.child("hostname"), hostname, names::dns_subdomain(hostname));
            if ip::parse_sloppy(hostname).is_some() {
                errors.invalid(&path.child("hostname"), hostname, "must be a DNS name, not an IP address");
            }
        }
    }
}

fn warnings(object: &Value) -> Vec<String> {
    let spec = object.at("spec");
    let mut out = Vec::new();
    if object.at("metadata").at("annotations").has(TOPOLOGY_HINTS) {
        out.push(format!("annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"));
    }
    let address = spec.str_at("clusterIP");
    if !address.is_empty() && address != "None" {
        for (index, address) in spec.strs_at("clusterIPs").enumerate() {
            out.extend(ip::ip_warning(&format!("spec.clusterIPs[{index}]"), address));
        }
    }
    let headless = kind(object) == "ClusterIP" && address == "None";
    let external = !spec.list_at("externalIPs").is_empty();
    if headless {
        if !spec.str_at("loadBalancerIP").is_empty() {
            out.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if external {
            out.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if spec.str_at("sessionAffinity") != "None" {
            out.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    for (index, address) in spec.strs_at("externalIPs").enumerate() {
        out.extend(ip::ip_warning(&format!("spec.externalIPs[{index}]"), address));
    }
    let named = kind(object) == "ExternalName";
    if external && !headless && !named {
        out.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    out.extend(ip::ip_warning("spec.loadBalancerIP", spec.str_at("loadBalancerIP")));
    for (index, range) in spec.strs_at("loadBalancerSourceRanges").enumerate() {
        out.extend(ip::cidr_warnings(&format!("spec.loadBalancerSourceRanges[{index}]"), range));
    }
    if named && external {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !named && !spec.str_at("externalName").is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.str_at("trafficDistribution") == "PreferClose" {
        out.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned());
    }
    out
}
