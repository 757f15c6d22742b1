//! ConfigMaps, Secrets and ServiceAccounts.

use super::page::{Page, line};
use super::{Lists, Related, Select};
use crate::api::Fields;
use crate::client::kinds;
use base64::Engine;
use serde_json::Value;

/// Bytes of a base64 value.
fn size(value: &Value) -> usize {
    base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default()).map_or(0, |bytes| bytes.len())
}

pub(super) fn print_config_map(map: &Value, _: &Lists, page: &mut Page) {
    page.head(map);
    line!(page, 0, "\nData\n====");
    for (key, value) in map.map_at("data") {
        line!(page, 0, "{key}:\n----\n{}\n", value.as_str().unwrap_or_default());
    }
    line!(page, 0, "\nBinaryData\n====");
    for (key, value) in map.map_at("binaryData") {
        line!(page, 0, "{key}: {} bytes", size(value));
    }
    line!(page, 0, "");
}

pub(super) fn print_secret(secret: &Value, _: &Lists, page: &mut Page) {
    page.head(secret);
    line!(page, 0, "\nType:\t{}\n\nData\n====", secret.str_at("type"));
    for (key, value) in secret.map_at("data") {
        if key == "token" && secret.str_at("type") == "kubernetes.io/service-account-token" {
            let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default());
            line!(page, 0, "{key}:\t{}", String::from_utf8_lossy(&bytes.unwrap_or_default()));
        } else {
            line!(page, 0, "{key}:\t{} bytes", size(value));
        }
    }
}

pub(super) const SERVICE_ACCOUNT_RELATED: &[Related] = &[Related {
    name: "secrets",
    kind: kinds::SECRETS,
    select: |account| Select { namespace: account.at("metadata").str_at("namespace").to_owned(), ..Select::default() },
}];

pub(super) fn print_service_account(account: &Value, lists: &Lists, page: &mut Page) {
    page.head(account);
    let metadata = account.at("metadata");
    let known: Vec<&str> = lists.items("secrets").iter().map(|secret| secret.at("metadata").str_at("name")).collect();
    let tokens = lists.items("secrets").iter().filter(|secret| {
        let annotations = secret.at("metadata").at("annotations");
        secret.str_at("type") == "kubernetes.io/service-account-token"
            && annotations.str_at("kubernetes.io/service-account.name") == metadata.str_at("name")
            && annotations.str_at("kubernetes.io/service-account.uid") == metadata.str_at("uid")
    });
    let tokens: Vec<&str> = tokens.map(|secret| secret.at("metadata").str_at("name")).collect();
    let named = |field: &str| account.list_at(field).iter().map(|one| one.str_at("name")).collect::<Vec<_>>();
    for (title, names) in [
        ("Image pull secrets:", named("imagePullSecrets")),
        ("Mountable secrets: ", named("secrets")),
        ("Tokens:            ", tokens),
    ] {
        if names.is_empty() {
            line!(page, 0, "{title}\t<none>");
        }
        for (at, name) in names.iter().enumerate() {
            let title = if at == 0 { title } else { "                   " };
            let missing = if lists.get("secrets").is_some() && !known.contains(name) { " (not found)" } else { "" };
            line!(page, 0, "{title}\t{name}{missing}");
        }
    }
}
