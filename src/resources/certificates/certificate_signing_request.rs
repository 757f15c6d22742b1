//! CertificateSigningRequest: asks a signer for a certificate.
//!
//! Source: `pkg/apis/certificates/validation` and `pkg/registry/certificates`.

use crate::api::names::{self, Messages};
use crate::api::value::same;
use crate::api::{ErrorList, Fields, FieldsMut, Path, Report, time};
use crate::resources::core::pod_spec::signer;
use crate::resources::{Column, Context, Resource, Strategy, Subresource, Verb, cells};
use base64::Engine;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

pub fn resource() -> Resource {
    Resource {
        short_names: vec!["csr".into()],
        namespaced: false,
        status: true,
        subresources: vec![
            Subresource::custom("approval", &[Verb::Get, Verb::Patch, Verb::Update]),
            Subresource::status(),
        ],
        columns: Column::strings(&["Age", "SignerName", "Requestor", "RequestedDuration", "Condition"]),
        strategy: Arc::new(CertificateSigningRequest),
        ..Resource::new("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests")
    }
}

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const DECISIONS: &[&str] = &["Approved", "Denied"];
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const SECONDS: i64 = 600;
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

struct CertificateSigningRequest;

impl Strategy for CertificateSigningRequest {
    fn metadata_checks_on_update(&self) -> usize {
        1
    }

    /// A request is made once; nobody owns what it asks for.
    fn reset_fields(&self) -> Option<&'static [&'static str]> {
        Some(&["spec", "status"])
    }

    fn prepare_create(&self, object: &mut Value, context: &Context) {
        let spec = object.object_mut("spec");
        for field in ["username", "uid", "groups", "extra"] {
            spec.clear(field);
        }
        let user = context.user;
        if !user.name.is_empty() {
            spec.set("username", user.name.as_str());
        }
        if !user.uid.is_empty() {
            spec.set("uid", user.uid.as_str());
        }
        if !user.groups.is_empty() {
            spec.set("groups", user.groups.clone());
        }
        if !user.extra.is_empty() {
            spec.set("extra", json!(user.extra));
        }
        object.set("status", json!({}));
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _: &Context) {
        object.copy("spec", old);
        object.copy("status", old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate(object, None, &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        validate_update(object, old, false, false)
    }

    fn validate_name(&self, name: &str, _: bool) -> Messages {
        names::path_segment(name)
    }

    fn subresource(&self, name: &str) -> Option<&dyn Strategy> {
        match name {
            "approval" => Some(&Approval),
            "status" => self.status(),
            _ => None,
        }
    }

    fn status(&self) -> Option<&dyn Strategy> {
        Some(&Status)
    }

    fn selectable_fields(&self) -> &'static [(&'static str, fn(&Value) -> String)] {
        &[("spec.signerName", |request| request.at("spec").str_at("signerName").to_owned())]
    }

    fn cells(&self, object: &Value, now: &cells::Clock) -> Option<Vec<Value>> {
        let spec = object.at("spec");
        let duration = spec.optional_int("expirationSeconds").map(cells::duration);
        Some(vec![
            cells::name(object),
            cells::age(object, now),
            cells::or_none(spec.str_at("signerName")).into(),
            spec.str_at("username").into(),
            duration.unwrap_or_else(|| cells::NONE.to_owned()).into(),
            state(object).into(),
        ])
    }
}

fn state(object: &Value) -> String {
    let status = object.at("status");
    let has = |kind: &str| !conditions(object, kind).is_empty();
    let mut state = if has("Denied") {
        "Denied".to_owned()
    } else if has("Approved") {
        "Approved".to_owned()
    } else {
        "Pending".to_owned()
    };
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !status.str_at("certificate").is_empty() {
        state.push_str(",Issued");
    }
    state
}

struct Status;

impl Strategy for Status {
    fn reset_fields(&self) -> Option<&'static [&'static str]> {
        Some(&["spec", "status.conditions"])
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, context: &Context) {
        object.copy("spec", old);
        for kind in DECISIONS {
            let known: Vec<Value> = conditions(old, kind).into_iter().cloned().collect();
            if known.len() == conditions(object, kind).len() {
                let own = object.object_mut("status").items_mut("conditions");
                let own = own.filter(|condition| condition.str_at("type") == *kind);
                own.zip(known).for_each(|(condition, known)| *condition = known);
            }
        }
        condition_times(object, old, context.now);
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        validate_update(object, old, true, false)
    }
}

/// The strategy of `certificatesigningrequests/approval`.
pub struct Approval;

impl Strategy for Approval {
    fn reset_fields(&self) -> Option<&'static [&'static str]> {
        Some(&["spec", "status.certificate"])
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, context: &Context) {
        condition_times(object, old, context.now);
        let conditions = object.at("status").at("conditions").clone();
        object.copy("spec", old);
        object.copy("status", old);
        let status = object.object_mut("status");
        match conditions.is_null() {
            true => status.clear("conditions"),
            false => status.set("conditions", conditions),
        }
    }

    fn validate_update(&self, object: &Value, old: &Value) -> ErrorList {
        validate_update(object, old, false, true)
    }
}

fn conditions<'a>(object: &'a Value, kind: &str) -> Vec<&'a Value> {
    let conditions = object.at("status").list_at("conditions").iter();
    conditions.filter(|condition| condition.str_at("type") == kind).collect()
}

fn condition_times(object: &mut Value, old: &Value, now: jiff::Timestamp) {
    let now = time::seconds(now);
    for condition in object.object_mut("status").items_mut("conditions") {
        condition.set_default("lastUpdateTime", now.as_str());
        let known = conditions(old, condition.str_at("type"));
        let known = known.iter().find(|known| known.str_at("status") == condition.str_at("status"));
        let since = known.and_then(|known| known.optional_str("lastTransitionTime")).unwrap_or(&now).to_owned();
        condition.set_default("lastTransitionTime", since);
    }
}

/// What the old object breaks already the new one may break too.
fn validate(object: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let spec = object.at("spec");
    if let Err(problem) = check_request(spec.str_at("request")) {
        errors.invalid(&SPEC.child("request"), spec.at("request").clone(), problem);
    }
    let path = SPEC.child("usages");
    let usages: Vec<&str> = spec.strs_at("usages").collect();
    let before: Option<Vec<&str>> = old.map(|old| old.at("spec").strs_at("usages").collect());
    if usages.is_empty() {
        errors.required(&path, "");
    }
    if !before.as_ref().is_some_and(|before| before.iter().any(|usage| !USAGES.contains(usage))) {
        for (index, usage) in usages.iter().enumerate() {
            errors.one_of(&path.index(index), usage, USAGES);
        }
    }
    let repeats = |usages: &[&str]| usages.iter().collect::<BTreeSet<_>>().len() < usages.len();
    if !before.as_deref().is_some_and(repeats) {
        for (index, usage) in usages.iter().enumerate() {
            if usages[..index].contains(usage) {
                errors.duplicate(&path.index(index), *usage);
            }
        }
    }
    let (path, name) = (SPEC.child("signerName"), spec.str_at("signerName"));
    let legacy = old.is_some_and(|old| old.at("spec").str_at("signerName") == LEGACY_SIGNER);
    if name == LEGACY_SIGNER && !legacy {
        errors.invalid(&path, name, "the legacy signerName is not allowed via this API version");
    } else {
        signer::name(name, &path, errors);
    }
    if let Some(seconds) = spec.optional_int("expirationSeconds").filter(|seconds| *seconds < SECONDS) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(&SPEC.child("expirationSeconds"), seconds, detail);
    }
    validate_conditions(object, old, errors);
    let certificate = object.at("status").str_at("certificate");
    let kept = old.is_some_and(|old| {
        let before = old.at("status").str_at("certificate");
        before == certificate && check_certificate(before).is_err()
    });
    if let (false, Err(problem)) = (kept, check_certificate(certificate)) {
        errors.invalid(&STATUS.child("certificate"), "<certificate data>", problem);
    }
}

fn validate_conditions(object: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let list = STATUS.child("conditions");
    let all = object.at("status").list_at("conditions");
    let had = |check: fn(&[&str]) -> bool| {
        let kinds = |old: &Value| {
            let conditions = old.at("status").list_at("conditions").iter();
            check(&conditions.map(|condition| condition.str_at("type")).collect::<Vec<_>>())
        };
        old.is_some_and(kinds)
    };
    let had_both = had(|kinds| DECISIONS.iter().all(|decision| kinds.contains(decision)));
    let had_repeated = had(|kinds| kinds.iter().collect::<BTreeSet<_>>().len() < kinds.len());
    let had_empty = had(|kinds| kinds.contains(&""));
    let mut seen: Vec<&str> = Vec::new();
    for (index, condition) in all.iter().enumerate() {
        let path = list.index(index);
        let (kind, status) = (condition.str_at("type"), condition.str_at("status"));
        if kind.is_empty() && !had_empty {
            errors.required(&path.child("type"), "");
        }
        let decided = DECISIONS.contains(&kind) || kind == "Failed";
        let statuses: &[&str] = if decided { &["True"] } else { &["False", "True", "Unknown"] };
        match status {
            "" => errors.required(&path.child("status"), ""),
            status => errors.one_of(&path.child("status"), status, statuses),
        }
        let opposite = DECISIONS.iter().any(|other| *other != kind && seen.contains(other));
        if DECISIONS.contains(&kind) && opposite && !had_both {
            errors.invalid(&list, kind, "Approved and Denied conditions are mutually exclusive");
        }
        if seen.contains(&kind) && !had_repeated {
            errors.duplicate(&path.child("type"), kind);
        }
        seen.push(kind);
    }
}

fn validate_update(object: &Value, old: &Value, may_issue: bool, may_decide: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    validate(object, Some(old), &mut errors);
    let path = STATUS.child("conditions");
    for kind in ["Approved", "Denied", "Failed"] {
        if conditions(object, kind).len() < conditions(old, kind).len() {
            errors.forbidden(&path, format!("updates may not remove a condition of type \"{kind}\""));
        }
    }
    for kind in DECISIONS.iter().filter(|_| !may_decide) {
        let (new, before) = (conditions(object, kind), conditions(old, kind));
        if new.len() > before.len() {
            errors.forbidden(&path, format!("updates may not add a condition of type \"{kind}\""));
        } else if new.len() == before.len() && new.iter().zip(&before).any(|(new, before)| !same(new, before)) {
            errors.forbidden(&path, format!("updates may not modify a condition of type \"{kind}\""));
        }
    }
    let (certificate, before) = (object.at("status").str_at("certificate"), old.at("status").str_at("certificate"));
    if certificate != before {
        let path = STATUS.child("certificate");
        if !may_issue {
            errors.forbidden(&path, "updates may not set certificate content");
        } else if !before.is_empty() {
            errors.forbidden(&path, "updates may not modify existing certificate content");
        }
    }
    errors
}

fn pem_blocks(text: &str) -> Result<Vec<Pem>, String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).map_err(|error| error.to_string())?;
    Ok(Pem::iter_from_buffer(&bytes).filter_map(Result::ok).collect())
}

/// One PEM block with a PKCS#10 request whose signature holds.
fn check_request(text: &str) -> Result<(), String> {
    const TYPE: &str = "PEM block type must be CERTIFICATE REQUEST";
    let blocks = pem_blocks(text)?;
    let block = blocks.first().filter(|block| block.label == "CERTIFICATE REQUEST").ok_or(TYPE)?;
    let (_, request) =
        X509CertificationRequest::from_der(&block.contents).map_err(|error| format!("malformed request: {error}"))?;
    request.verify_signature().map_err(|_| "x509: signature of the request does not hold".to_owned())
}

/// Nothing, or certificates in PEM.
fn check_certificate(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let blocks = pem_blocks(text)?;
    for block in &blocks {
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found \"{}\"", block.label));
        }
        block.parse_x509().map_err(|error| format!("x509: malformed certificate: {error}"))?;
    }
    if blocks.is_empty() { Err("must contain at least one CERTIFICATE PEM block".to_owned()) } else { Ok(()) }
}
