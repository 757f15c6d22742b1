//! Impersonation: `Impersonate-User` and its sisters, when the requester may.
//!
//! First the constrained modes (as which kind of user, on which verb), then the plain
//! `impersonate` verb. Source: "User impersonation", and `endpoints/filters/impersonation`.

use super::service_account::{groups, split_user_name};
use crate::api::field::{go_list, go_quote};
use crate::api::user::{SYSTEM_ANONYMOUS, SYSTEM_AUTHENTICATED, SYSTEM_MASTERS, SYSTEM_NODES, SYSTEM_UNAUTHENTICATED};
use crate::api::{Status, UserInfo};
use crate::apiserver::authz::{self, Attributes, Authorizer, ResourceAttributes};
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use std::sync::Arc;

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

/// Who makes the request after impersonation, and the constraint it was allowed under; the headers
/// are taken away. `attributes` are those of
/// the request, with the requester as the user.
pub async fn impersonate(
    headers: &mut HeaderMap,
    attributes: &Attributes<'_>,
    authorizers: &[Arc<dyn Authorizer>],
) -> Result<Option<(UserInfo, Option<&'static str>)>, Status> {
    let Some(wanted) = take(headers)? else { return Ok(None) };
    let mut first_error = None;
    for mode in MODES {
        if !(mode.applies)(&wanted, attributes.user) {
            continue;
        }
        match check(mode, &wanted, attributes, authorizers).await {
            Ok(user) => return Ok(Some((user, mode.on.map(|_| mode.verb)))),
            Err(status) => first_error = first_error.or(Some(status)),
        }
    }
    Err(first_error.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

/// What the headers ask for, taken out of them.
fn take(headers: &mut HeaderMap) -> Result<Option<UserInfo>, Status> {
    if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(None);
    }
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut wanted = UserInfo {
        name: headers.get(USER).map(text).unwrap_or_default(),
        uid: headers.get(UID).map(text).unwrap_or_default(),
        groups: headers.get_all(GROUP).iter().map(text).collect(),
        ..UserInfo::default()
    };
    let mut names: Vec<http::HeaderName> = vec![];
    for (name, value) in headers.iter() {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            let key = percent_decode_str(key).decode_utf8().map_or_else(|_| key.to_owned(), |key| key.into_owned());
            wanted.extra.entry(key).or_default().push(text(value));
            names.push(name.clone());
        }
    }
    if wanted.name.is_empty() {
        if wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty() {
            return Ok(None);
        }
        return Err(Status::bad_request(format!(
            "requested &user.DefaultInfo{{Name:\"\", UID:{}, Groups:{}, Extra:{}}} without impersonating a user name",
            go_quote(&wanted.uid),
            go_strings(&wanted.groups),
            go_map(&wanted),
        )));
    }
    for name in [USER, UID, GROUP] {
        headers.remove(name);
    }
    for name in names {
        headers.remove(name);
    }
    Ok(Some(wanted))
}

/// Go's `%#v` of a list of strings.
fn go_strings(items: &[String]) -> String {
    if items.is_empty() {
        return "[]string(nil)".to_owned();
    }
    let quoted: Vec<String> = items.iter().map(|item| go_quote(item)).collect();
    format!("[]string{{{}}}", quoted.join(", "))
}

fn go_map(user: &UserInfo) -> String {
    if user.extra.is_empty() {
        return "map[string][]string(nil)".to_owned();
    }
    let entries: Vec<String> =
        user.extra.iter().map(|(key, values)| format!("{}:{}", go_quote(key), go_strings(values))).collect();
    format!("map[string][]string{{{}}}", entries.join(", "))
}

/// One way to be allowed.
struct Mode {
    /// Of the impersonation itself.
    verb: &'static str,
    /// Prefix of the request's verb, which must be allowed on its resource; None: the plain mode.
    on: Option<&'static str>,
    applies: fn(wanted: &UserInfo, requester: &UserInfo) -> bool,
    /// The name of the node does not matter to the check.
    any_node: bool,
}

const MODES: &[Mode] = &[
    Mode {
        verb: "impersonate:associated-node",
        on: Some("impersonate-on:associated-node:"),
        applies: |wanted, requester| {
            let node = requester.extra.get("authentication.kubernetes.io/node-name").map(Vec::as_slice);
            only_name(wanted)
                && split_user_name(&requester.name).is_some()
                && node_name(&wanted.name).is_some_and(|name| matches!(node, Some([own]) if own == name))
        },
        any_node: true,
    },
    Mode {
        verb: "impersonate:arbitrary-node",
        on: Some("impersonate-on:arbitrary-node:"),
        applies: |wanted, _| only_name(wanted) && node_name(&wanted.name).is_some(),
        any_node: false,
    },
    Mode {
        verb: "impersonate:serviceaccount",
        on: Some("impersonate-on:serviceaccount:"),
        applies: |wanted, _| only_name(wanted) && split_user_name(&wanted.name).is_some(),
        any_node: false,
    },
    Mode {
        verb: "impersonate:user-info",
        on: Some("impersonate-on:user-info:"),
        applies: |wanted, _| node_name(&wanted.name).is_none() && split_user_name(&wanted.name).is_none(),
        any_node: false,
    },
    Mode { verb: "impersonate", on: None, applies: |_, _| true, any_node: false },
];

fn only_name(user: &UserInfo) -> bool {
    user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty()
}

fn node_name(user: &str) -> Option<&str> {
    user.strip_prefix("system:node:").filter(|name| crate::api::names::dns_subdomain(name).is_empty())
}

const AUTHENTICATION: &str = "authentication.k8s.io";

/// From this many checks on, one for all of them is tried first.
const MANY: usize = 4;

async fn check(
    mode: &Mode,
    wanted: &UserInfo,
    attributes: &Attributes<'_>,
    authorizers: &[Arc<dyn Authorizer>],
) -> Result<UserInfo, Status> {
    let constrained = mode.on.is_some();
    if let Some(prefix) = mode.on {
        let verb = format!("{prefix}{}", attributes.verb);
        authz::check(authorizers, &Attributes { verb: &verb, ..attributes.clone() }).await?;
    }
    let own_group = if constrained { AUTHENTICATION } else { "" };
    let base = ResourceAttributes { version: "v1", ..ResourceAttributes::default() };
    let ask = async |resource: ResourceAttributes<'_>| {
        let asked = Attributes { user: attributes.user, verb: mode.verb, resource: Some(resource), path: "" };
        authz::check(authorizers, &asked).await
    };
    let refuse = |resource: ResourceAttributes<'_>, reason: &str| {
        let asked = Attributes { user: attributes.user, verb: mode.verb, resource: Some(resource), path: "" };
        Err(authz::forbidden(&asked, reason))
    };

    let mut user = wanted.clone();
    let named = ResourceAttributes { group: own_group, resource: "users", name: &wanted.name, ..base };
    let named = match (node_name(&wanted.name), split_user_name(&wanted.name)) {
        (Some(node), _) if constrained => {
            user.groups = vec![SYSTEM_NODES.to_owned()];
            let name = if mode.any_node { "*" } else { node };
            ResourceAttributes { resource: "nodes", name, ..named }
        }
        (_, Some((namespace, name))) => {
            if wanted.groups.is_empty() {
                user.groups = groups(namespace);
            }
            ResourceAttributes { resource: "serviceaccounts", namespace, name, ..named }
        }
        _ => named,
    };
    ask(named).await?;

    if !wanted.uid.is_empty() {
        ask(ResourceAttributes { group: AUTHENTICATION, resource: "uids", name: &wanted.uid, ..base }).await?;
    }

    let group = |name| ResourceAttributes { group: own_group, resource: "groups", name, ..base };
    if constrained && wanted.groups.iter().any(String::is_empty) {
        return refuse(group(""), "impersonating the empty string group is not allowed");
    }
    if constrained && wanted.groups.iter().any(|group| group == SYSTEM_MASTERS) {
        return refuse(group(SYSTEM_MASTERS), "impersonating the system:masters group is not allowed");
    }
    let all = constrained && wanted.groups.len() >= MANY && ask(group("*")).await.is_ok();
    if !all {
        for name in &wanted.groups {
            ask(group(name)).await?;
        }
    }

    let extra = |key, value| ResourceAttributes {
        group: AUTHENTICATION,
        resource: "userextras",
        subresource: key,
        name: value,
        ..base
    };
    if constrained && let Some(reason) = wrong_extra(wanted) {
        return refuse(extra("", ""), &reason);
    }
    let values = wanted.extra.values().map(Vec::len).sum::<usize>();
    let all = constrained && values >= MANY && ask(extra("*", "*")).await.is_ok();
    if !all {
        for (key, values) in &wanted.extra {
            for value in values {
                ask(extra(key, value)).await?;
            }
        }
    }

    let has = |user: &UserInfo, group: &str| user.groups.iter().any(|own| own == group);
    if user.name == SYSTEM_ANONYMOUS {
        if !has(&user, SYSTEM_UNAUTHENTICATED) {
            user.groups.push(SYSTEM_UNAUTHENTICATED.to_owned());
        }
    } else if !has(&user, SYSTEM_UNAUTHENTICATED) && !has(&user, SYSTEM_AUTHENTICATED) {
        user.groups.push(SYSTEM_AUTHENTICATED.to_owned());
    }
    Ok(user)
}

fn wrong_extra(user: &UserInfo) -> Option<String> {
    for (key, values) in &user.extra {
        if key.is_empty() {
            return Some("impersonating the empty string key in extra is not allowed".to_owned());
        }
        let (domain, path) = key.split_once('/').unwrap_or((key, ""));
        if path.is_empty() || !crate::api::names::dns_subdomain(domain).is_empty() {
            return Some(format!(
                "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {}: must be a \
                 domain-prefixed path (such as \"acme.io/foo\")",
                go_quote(key)
            ));
        }
        if *key != key.to_lowercase() {
            return Some(format!("impersonating a non-lowercase key in extra is not allowed: {}", go_quote(key)));
        }
        if values.iter().any(String::is_empty) {
            return Some("impersonating the empty string value in extra is not allowed".to_owned());
        }
    }
    None
}

/// `alice[group1 group2]`, for logs.
pub fn describe(user: &UserInfo) -> String {
    format!("{}{}", user.name, go_list(user.groups.iter().map(String::as_str)))
}
