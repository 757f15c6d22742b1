//! Projected volumes: several sources in one directory.

use super::volumes::{downward_api_file, key_to_path, local_path, mode};
use super::{Options, signer};
use crate::api::names;
use crate::api::{ErrorList, Fields, Path, Report};
use crate::resources::labels;
use serde_json::Value;
use std::collections::BTreeSet;

const CONFLICT: &str = "conflicting duplicate paths";
const TOKEN_SECONDS: (i64, i64) = (600, 1 << 32);
const KEY_TYPES: &[&str] = &["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
const CERTIFICATE_SECONDS: i64 = 3600;
const CERTIFICATE_LIMIT: i64 = 91 * 86400;
const KUBERNETES_CERTIFICATE_LIMIT: i64 = 86400;

pub fn validate(volume: &Value, path: &Path<'_>, options: &Options, errors: &mut ErrorList) {
    mode(volume, "defaultMode", path, errors);
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    let list = path.child("sources");
    for (index, source) in volume.list_at("sources").iter().enumerate() {
        let at_source = list.index(index);
        let mut count = 0;
        for field in ["secret", "configMap"] {
            let Some(reference) = source.get_set(field) else { continue };
            count += 1;
            let at_field = at_source.child(field);
            let name = reference.str_at("name");
            if name.is_empty() {
                errors.required(&at_field.child("name"), "");
            }
            let items = at_field.child("items");
            for (index, item) in reference.list_at("items").iter().enumerate() {
                key_to_path(item, &items.index(index), errors);
                claim(item.str_at("path"), name, &mut taken, path, errors);
            }
        }
        if let Some(api) = source.get_set("downwardAPI") {
            count += 1;
            for file in api.list_at("items") {
                downward_api_file(file, &at_source.child("downwardAPI"), errors);
                claim(file.str_at("path"), file.str_at("path"), &mut taken, path, errors);
            }
        }
        if let Some(token) = source.get_set("serviceAccountToken") {
            count += 1;
            service_account_token(token, &at_source.child("serviceAccountToken"), path, options, errors);
        }
        if let Some(bundle) = source.get_set("clusterTrustBundle") {
            count += 1;
            cluster_trust_bundle(bundle, &at_source.child("clusterTrustBundle"), errors);
            let file = bundle.str_at("path");
            if !taken.insert(file) {
                errors.invalid(path, file, CONFLICT);
            }
        }
        if let Some(certificate) = source.get_set("podCertificate") {
            count += 1;
            pod_certificate(certificate, &mut taken, &at_source.child("podCertificate"), path, errors);
        }
        if count > 1 {
            errors.forbidden(&at_source, "may not specify more than 1 volume type per source");
        }
    }
}

/// Takes a path; `name` is reported when it is taken already.
fn claim<'a>(file: &'a str, name: &str, taken: &mut BTreeSet<&'a str>, path: &Path<'_>, errors: &mut ErrorList) {
    if !file.is_empty() && !taken.insert(file) {
        errors.invalid(path, name, CONFLICT);
    }
}

fn service_account_token(
    token: &Value,
    at_token: &Path<'_>,
    path: &Path<'_>,
    options: &Options,
    errors: &mut ErrorList,
) {
    let seconds = token.int_at("expirationSeconds");
    let at_seconds = at_token.child("expirationSeconds");
    if seconds < TOKEN_SECONDS.0 {
        errors.invalid(&at_seconds, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > TOKEN_SECONDS.1 {
        errors.invalid(&at_seconds, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    match token.str_at("path") {
        "" => errors.required(&path.child("path"), ""),
        file if !options.keep_token_path => local_path(file, &path.child("path"), errors),
        _ => {}
    }
}

fn cluster_trust_bundle(bundle: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match (bundle.optional_str("name"), bundle.optional_str("signerName")) {
        (Some(_), Some(_)) => errors.invalid(path, bundle.clone(), "only one of name and signerName may be used"),
        (Some(name), None) => {
            if name.is_empty() {
                errors.required(&path.child("name"), "must be a valid object name");
            }
            for message in bundle_name(name) {
                errors.invalid(&path.child("name"), name, format!("not a valid clustertrustbundlename: {message}"));
            }
            if bundle.has("labelSelector") {
                let detail = "labelSelector must be unset if name is specified";
                errors.invalid(&path.child("labelSelector"), bundle.at("labelSelector").clone(), detail);
            }
        }
        (None, Some(name)) => {
            if name.is_empty() {
                errors.required(&path.child("signerName"), "must be a valid signer name");
            }
            signer::name(name, &path.child("signerName"), errors);
            labels::selector(bundle.at("labelSelector"), false, &path.child("labelSelector"), errors);
        }
        (None, None) => errors.required(path, "either name or signerName must be specified"),
    }
    let file = bundle.str_at("path");
    if file.is_empty() {
        errors.required(&path.child("path"), "");
    }
    local_path(file, &path.child("path"), errors);
}

/// A name with a colon begins with that of its signer: `example.com:signer:name`.
fn bundle_name(name: &str) -> names::Messages {
    names::dns_subdomain(name.rsplit_once(':').map_or(name, |(_, name)| name))
}

fn pod_certificate<'a>(
    certificate: &'a Value,
    taken: &mut BTreeSet<&'a str>,
    at_certificate: &Path<'_>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let signer_name = certificate.str_at("signerName");
    signer::name(signer_name, &at_certificate.child("signerName"), errors);
    let annotations = at_certificate.child("userAnnotations");
    for key in certificate.map_at("userAnnotations").keys() {
        let key = key.to_lowercase();
        let messages = names::qualified_name(&key);
        if messages.is_empty() && !key.contains('/') {
            errors.invalid(&annotations, key, "must be a domain-prefixed key (such as \"acme.io/foo\")");
        } else {
            errors.check(&annotations, &key, messages);
        }
    }
    errors.one_of(&at_certificate.child("keyType"), certificate.str_at("keyType"), KEY_TYPES);
    if let Some(seconds) = certificate.optional_int("maxExpirationSeconds") {
        let path = at_certificate.child("maxExpirationSeconds");
        if seconds < CERTIFICATE_SECONDS {
            errors.invalid(&path, seconds, "if provided, maxExpirationSeconds must be >= 3600");
        }
        let own = signer::is_kubernetes(signer_name);
        let limit = if own { KUBERNETES_CERTIFICATE_LIMIT } else { CERTIFICATE_LIMIT };
        if seconds > limit {
            errors.invalid(&path, seconds, format!("if provided, maxExpirationSeconds must be <= {limit}"));
        }
    }
    let mut count = 0;
    for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let file = certificate.str_at(field);
        if file.is_empty() {
            continue;
        }
        count += 1;
        local_path(file, &at_certificate.child(field), errors);
        claim(file, file, taken, path, errors);
    }
    if count == 0 {
        let detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.required(at_certificate, detail);
    }
}
