//! ConfigMaps, Secrets and ServiceAccounts.

use super::Lists;
use super::page::{Page, line};
use crate::api::Fields;
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

pub(super) fn print_service_account(account: &Value, _: &Lists, page: &mut Page) {
    page.head(account);
    let secrets = account.list_at("imagePullSecrets").iter().map(|secret| secret.str_at("name").to_owned());
    page.list("Image pull secrets", secrets.collect());
}
