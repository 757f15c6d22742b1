//! The parameters of each verb, read and checked as Kubernetes does, with its errors:
//! ListOptions, CreateOptions, UpdateOptions, PatchOptions, DeleteOptions.

use super::continue_token::Token;
use super::request::Query;
use crate::api::selector::{FieldSelector, LabelSelector};
use crate::api::{ErrorList, FieldError, GroupVersionKind, Path, Status};
use crate::resources::pipeline::deletion::DeleteOptions;
use crate::schema::FieldValidation;
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::Duration;

fn invalid(kind: &str, errors: ErrorList) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&GroupVersionKind::new("meta.k8s.io", "v1", kind), "", &errors))
}

/// Go's `strconv.ParseInt(text, 10, 64)`.
fn parse_int(text: &str) -> Result<i64, String> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let what = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {}: {what}", crate::api::field::go_quote(text))
    })
}

/// Go's `strconv.ParseUint` of a resourceVersion.
pub fn version(text: &str) -> Result<u64, String> {
    let number = text.bytes().all(|c| c.is_ascii_digit()) && !text.is_empty();
    text.parse().map_err(|_| {
        let what = if number { "value out of range" } else { "invalid syntax" };
        format!("strconv.ParseUint: parsing {}: {what}", crate::api::field::go_quote(text))
    })
}

pub fn integer(query: &Query, name: &str) -> Result<Option<i64>, Status> {
    query.get(name).map(parse_int).transpose().map_err(Status::bad_request)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// The state that a list or watch asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtVersion {
    /// No resourceVersion: the newest.
    Unset,
    /// 0: whatever there is.
    Any,
    Number(u64),
}

/// `resourceVersion` of a request.
pub fn parse_version(text: &str) -> Result<AtVersion, Status> {
    match text {
        "" => Ok(AtVersion::Unset),
        "0" => Ok(AtVersion::Any),
        text => match version(text) {
            Ok(0) => Ok(AtVersion::Any),
            Ok(number) => Ok(AtVersion::Number(number)),
            Err(error) => Err(Status::bad_request(format!(
                "invalid resource version: resourceVersion: Invalid value: {}: {error}",
                crate::api::field::go_quote(text)
            ))),
        },
    }
}

/// As [`parse_version`], where Kubernetes's cache looks at it first: an error of its own.
pub fn cached_version(text: &str) -> Result<AtVersion, Status> {
    parse_version(text).map_err(|status| {
        let message = status.message.trim_start_matches("invalid resource version: ");
        Status::failure(500, "", message)
    })
}

/// `ListOptions` of list, watch and deletecollection.
#[derive(Clone, Debug)]
pub struct ListOptions {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    pub bookmarks: bool,
    pub at: AtVersion,
    pub version_match: Option<VersionMatch>,
    pub timeout: Option<Duration>,
    /// 0: no limit.
    pub limit: usize,
    pub continue_token: String,
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    pub fn parse(query: &Query, watch: bool) -> Result<Self, Status> {
        let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or_default());
        let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default());
        let timeout = integer(query, "timeoutSeconds")?;
        let limit = integer(query, "limit")?.unwrap_or_default();
        let version = query.get("resourceVersion").unwrap_or_default();
        let matching = query.get("resourceVersionMatch").unwrap_or_default();
        let continue_token = query.get("continue").unwrap_or_default().to_owned();
        let send_initial_events = query.flag("sendInitialEvents");
        let labels = labels.map_err(Status::bad_request)?;
        let fields = fields.map_err(Status::bad_request)?;
        let errors = if watch {
            check_watch(version, matching, send_initial_events, &continue_token)
        } else {
            check_list(version, matching, send_initial_events, &continue_token)
        };
        invalid("ListOptions", errors)?;
        if !watch && !continue_token.is_empty() && !version.is_empty() && version != "0" {
            Token::decode(&continue_token)?;
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        let at = if watch { cached_version(version)? } else { parse_version(version)? };
        Ok(Self {
            labels,
            fields,
            bookmarks: query.flag("allowWatchBookmarks") == Some(true),
            at,
            version_match: match matching {
                "Exact" => Some(VersionMatch::Exact),
                "NotOlderThan" => Some(VersionMatch::NotOlderThan),
                _ => None,
            },
            timeout: timeout
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|&s| s > 0)
                .map(Duration::from_secs),
            // What is at hand is never cut into pages.
            limit: if at == AtVersion::Any { 0 } else { usize::try_from(limit).unwrap_or_default() },
            continue_token,
            send_initial_events,
        })
    }
}

fn check_list(version: &str, matching: &str, send_initial_events: Option<bool>, continue_token: &str) -> ErrorList {
    let path = Path::new("resourceVersionMatch");
    let mut errors = ErrorList::new();
    if !matching.is_empty() {
        if version.is_empty() {
            let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(&path, detail));
        }
        if !continue_token.is_empty() {
            errors.push(FieldError::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported(&path, matching, &["Exact", "NotOlderThan", ""]));
        }
        if matching == "Exact" && version == "0" {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    if send_initial_events.is_some() {
        errors.push(FieldError::forbidden(&Path::new("sendInitialEvents"), "sendInitialEvents is forbidden for list"));
    }
    errors
}

fn check_watch(version: &str, matching: &str, send_initial_events: Option<bool>, continue_token: &str) -> ErrorList {
    let path = Path::new("resourceVersionMatch");
    let mut errors = ErrorList::new();
    if send_initial_events.is_some() && matching != "NotOlderThan" {
        let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(&path, detail));
    }
    if !matching.is_empty() {
        if send_initial_events.is_none() {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(&path, detail));
        }
        if matching != "NotOlderThan" {
            errors.push(FieldError::not_supported(&path, matching, &["NotOlderThan"]));
        }
    }
    // A watch from anywhere is one with the initial events, that are not older than what there is.
    let initial = send_initial_events.is_none() && matches!(version, "" | "0");
    if (!matching.is_empty() || initial) && !continue_token.is_empty() {
        errors.push(FieldError::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided"));
    }
    errors
}

/// What a write is made with, whatever its verb.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    /// Empty: the user agent stands in.
    pub field_manager: String,
    pub validation: FieldValidation,
    /// As it was given; empty: it was not.
    pub field_validation: String,
    /// Of an apply patch.
    pub force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    Create,
    Update,
    Patch { apply: bool },
}

impl WriteKind {
    fn options(self) -> &'static str {
        match self {
            Self::Create => "CreateOptions",
            Self::Update => "UpdateOptions",
            Self::Patch { .. } => "PatchOptions",
        }
    }
}

const FIELD_MANAGER_LIMIT: usize = 128;

impl WriteOptions {
    pub fn parse(query: &Query, kind: WriteKind) -> Result<Self, Status> {
        let mut errors = ErrorList::new();
        let manager = query.get("fieldManager").unwrap_or_default();
        let force = query.flag("force");
        if let WriteKind::Patch { apply } = kind {
            if apply && manager.is_empty() {
                errors.push(FieldError::required(&Path::new("fieldManager"), "is required for apply patch"));
            } else if !apply && force.is_some() {
                errors.push(FieldError::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
            }
        }
        let path = Path::new("fieldManager");
        if manager.len() > FIELD_MANAGER_LIMIT {
            errors.push(FieldError::too_long(&path, FIELD_MANAGER_LIMIT as i64));
        }
        for (at, c) in manager.char_indices().filter(|(_, c)| c.is_control()) {
            let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
            errors.push(FieldError::invalid(&path, manager, detail));
        }
        let dry_run: Vec<&str> = query.all("dryRun").collect();
        if dry_run.iter().any(|value| *value != "All") {
            errors.push(FieldError::not_supported(&Path::new("dryRun"), json!(dry_run), &["All"]));
        }
        let validation = query.get("fieldValidation").unwrap_or_default();
        let parsed = FieldValidation::from_query(validation);
        if parsed.is_none() {
            let supported = ["", "Ignore", "Strict", "Warn"];
            errors.push(FieldError::not_supported(&Path::new("fieldValidation"), validation, &supported));
        }
        invalid(kind.options(), errors)?;
        Ok(Self {
            dry_run: !dry_run.is_empty(),
            field_manager: manager.to_owned(),
            validation: parsed.unwrap_or_default(),
            field_validation: validation.to_owned(),
            force: force == Some(true),
        })
    }

    /// As admission plugins and webhooks see them.
    pub fn to_value(&self, kind: WriteKind) -> Value {
        let mut options = json!({ "kind": kind.options(), "apiVersion": "meta.k8s.io/v1" });
        if self.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        if !self.field_manager.is_empty() {
            options["fieldManager"] = json!(self.field_manager);
        }
        if !self.field_validation.is_empty() {
            options["fieldValidation"] = json!(self.field_validation);
        }
        options
    }
}

/// The options of a DELETE: from the query, or from the body where there is one.
pub fn delete_options(query: &Query, body: &Bytes, decoded: Option<Value>) -> Result<DeleteOptions, Status> {
    let options = match decoded {
        Some(options) if !body.is_empty() => {
            let preconditions = options.get("preconditions");
            let precondition = |name: &str| {
                preconditions
                    .and_then(|preconditions| preconditions.get(name))
                    .and_then(Value::as_str)
                    .map(str::to_owned)
            };
            DeleteOptions {
                grace_period_seconds: options.get("gracePeriodSeconds").and_then(Value::as_i64),
                uid: precondition("uid"),
                resource_version: precondition("resourceVersion"),
                orphan_dependents: options.get("orphanDependents").and_then(Value::as_bool),
                propagation_policy: options.get("propagationPolicy").and_then(Value::as_str).map(str::to_owned),
                dry_run: options
                    .get("dryRun")
                    .and_then(Value::as_array)
                    .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                    .unwrap_or_default(),
            }
        }
        _ => DeleteOptions {
            grace_period_seconds: integer(query, "gracePeriodSeconds")?,
            uid: None,
            resource_version: None,
            orphan_dependents: query.flag("orphanDependents"),
            propagation_policy: query.get("propagationPolicy").map(str::to_owned),
            dry_run: query.all("dryRun").map(str::to_owned).collect(),
        },
    };
    options.validate()?;
    Ok(options)
}

/// As admission plugins see the options of a deletion.
pub fn delete_options_value(options: &DeleteOptions) -> Value {
    let mut value = json!({ "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1" });
    if let Some(period) = options.grace_period_seconds {
        value["gracePeriodSeconds"] = json!(period);
    }
    if options.uid.is_some() || options.resource_version.is_some() {
        value["preconditions"] = json!({});
        if let Some(uid) = &options.uid {
            value["preconditions"]["uid"] = json!(uid);
        }
        if let Some(version) = &options.resource_version {
            value["preconditions"]["resourceVersion"] = json!(version);
        }
    }
    if let Some(orphan) = options.orphan_dependents {
        value["orphanDependents"] = json!(orphan);
    }
    if let Some(policy) = &options.propagation_policy {
        value["propagationPolicy"] = json!(policy);
    }
    if !options.dry_run.is_empty() {
        value["dryRun"] = json!(options.dry_run);
    }
    value
}
