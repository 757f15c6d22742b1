//! `serviceaccounts/token`: a token for a service account, bound to what the request names.

use super::{Handler, answer};
use crate::api::field::go_quote;
use crate::api::{ErrorList, FieldError, GroupResource, GroupVersionKind, Path, Status, time};
use crate::apiserver::admission::{Attributes, Operation};
use crate::apiserver::authn::service_account::{Bound, Kubernetes, Reference, Tokens};
use crate::apiserver::options::WriteKind;
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::verbs::{Call, write};
use crate::resources::pipeline::metadata_str;
use crate::storage::{Key, Storage};
use async_trait::async_trait;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub struct TokenRequest {
    pub tokens: Arc<Tokens>,
}

/// `serviceaccounts/token`
pub fn handler(tokens: Arc<Tokens>) -> (&'static str, Arc<dyn Handler>) {
    ("serviceaccounts/token", Arc::new(TokenRequest { tokens }))
}

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;

/// What the ServiceAccount admission asks for in pods that do not say; clients from before tokens
/// expired read theirs once, so these live for a year (bound to their pod), and say when a client
/// is late.
const PROJECTED_SECONDS: i64 = 3607;
const EXTENDED: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[async_trait]
impl Handler for TokenRequest {
    async fn handle(&self, call: Call<'_>) -> Result<Reply, Status> {
        let (state, info, row, user) = (call.state, call.info, call.row.clone(), call.user);
        let kind = call.kind();
        let mut posted = call.posted(&kind).await?;
        let mut request = std::mem::take(&mut posted.object);
        let issued: Result<Reply, Status> = async {
            let spec = &mut request["spec"];
            if spec["expirationSeconds"].is_null() {
                spec["expirationSeconds"] = DEFAULT_SECONDS.into();
            }
            write::check_namespace(&row, &mut request, &info.namespace)?;
            let named = request["metadata"]["name"].as_str().unwrap_or_default();
            if !named.is_empty() && named != info.name {
                let (field, detail) = (Path::new("metadata"), "must match the service account name if specified");
                let error = FieldError::invalid(&field.child("name"), named, detail);
                return Err(Status::invalid(&kind, &info.name, &vec![error]));
            }
            let options = posted.options.to_value(WriteKind::Create);
            let mut attributes = Attributes {
                user,
                operation: Operation::Create,
                kind: &kind,
                resource: &row.gvr,
                subresource: "token",
                namespace: &info.namespace,
                name: &info.name,
                object: Some(&mut request),
                old_object: None,
                options: &options,
                dry_run: posted.options.dry_run,
                warnings: &mut posted.warnings,
                reinvocation: Default::default(),
            };
            state.admit(&mut attributes).await?;
            state.validate(&mut attributes).await?;

            let place = Place { storage: &*state.storage, namespace: &info.namespace };
            let account = place.get("serviceaccounts", &info.name)?;
            let (uid, own) = (metadata_str(&request, "uid"), metadata_str(&account, "uid"));
            if !uid.is_empty() && uid != own {
                let detail = format!(
                    "the UID in the token request ({uid}) does not match the UID of the service account ({own})"
                );
                let requests = GroupResource::new(&kind.group, &kind.kind);
                return Err(Status::conflict(&requests, &info.name, &detail));
            }
            if request["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
                request["spec"]["audiences"] = json!(self.tokens.audiences());
            }
            let errors = validate(&request["spec"]);
            if !errors.is_empty() {
                return Err(Status::invalid(&kind, "", &errors));
            }
            let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
            let audiences: Vec<String> = texts(&request["spec"]["audiences"])
                .filter(|audience| !audience.is_empty())
                .map(str::to_owned)
                .collect();
            let mut bound = Bound {
                kubernetes: Kubernetes {
                    namespace: info.namespace.clone(),
                    service_account: reference(&info.name, &account),
                    ..Kubernetes::default()
                },
                warn_after: None,
            };
            place.bind(&mut bound.kubernetes, &info.name, &request["spec"]["boundObjectRef"])?;
            let asked = Duration::from_secs(seconds.unsigned_abs());
            let mut lifetime = asked;
            if bound.kubernetes.pod.is_some() && seconds == PROJECTED_SECONDS && audiences == self.tokens.audiences() {
                bound.warn_after = Some(asked);
                lifetime = EXTENDED;
            }
            let (token, expires) = self
                .tokens
                .issue(bound, &audiences, lifetime)
                .map_err(|error| Status::internal(format!("failed to generate token: {error}")))?;
            // The client is told what it asked for.
            let expires = expires - (lifetime - asked);
            let stamp = |moment: std::time::SystemTime| {
                jiff::Timestamp::try_from(moment)
                    .map(time::seconds)
                    .map_err(|error| Status::internal(error.to_string()))
            };
            request["metadata"] = json!({
                "name": info.name,
                "namespace": info.namespace,
                "uid": metadata_str(&account, "uid"),
                "creationTimestamp": stamp(self.tokens.now())?,
            });
            request["status"] = json!({"token": token, "expirationTimestamp": stamp(expires)?});
            Ok(respond::object(StatusCode::CREATED, posted.output, &row, &request))
        }
        .await;
        answer(posted.output, &posted.warnings, issued)
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn reference(name: &str, object: &Value) -> Reference {
    Reference { name: name.to_owned(), uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned() }
}

fn validate(spec: &Value) -> ErrorList {
    let field = Path::new("spec");
    let field = field.child("expirationSeconds");
    match spec["expirationSeconds"].as_i64() {
        Some(seconds) if seconds < MIN_SECONDS => {
            vec![FieldError::invalid(&field, seconds, "may not specify a duration less than 10 minutes")]
        }
        Some(seconds) if seconds > 1 << 32 => {
            vec![FieldError::invalid(&field, seconds, "may not specify a duration larger than 2^32 seconds")]
        }
        _ => ErrorList::new(),
    }
}

/// Where the objects are that a token may be bound to.
struct Place<'a> {
    storage: &'a dyn Storage,
    namespace: &'a str,
}

impl Place<'_> {
    fn get(&self, resource: &str, name: &str) -> Result<Value, Status> {
        let namespace = if resource == "nodes" { "" } else { self.namespace };
        let resource = GroupResource::new("", resource);
        let entry = self.storage.get(&Key::new(&resource, namespace, name));
        Ok(entry.ok_or_else(|| Status::not_found(&resource, name))?.body.parse())
    }

    fn bind(&self, claims: &mut Kubernetes, account: &str, bound: &Value) -> Result<(), Status> {
        if bound.is_null() {
            return Ok(());
        }
        let text = |field: &str| bound[field].as_str().unwrap_or_default();
        let (api_version, kind, name, uid) = (text("apiVersion"), text("kind"), text("name"), text("uid"));
        let of = GroupVersionKind::from_api_version(api_version, kind);
        if of.group.is_empty() && matches!(kind, "Pod" | "Secret" | "Node") && name.is_empty() {
            return Err(Status::bad_request("Name parameter required."));
        }
        let object = match (of.group.as_str(), kind) {
            ("", "Pod") => {
                let pod = self.get("pods", name)?;
                if pod["spec"]["serviceAccountName"].as_str().unwrap_or_default() != account {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount {} to pod running with different serviceaccount name.",
                        go_quote(account)
                    )));
                }
                claims.pod = Some(reference(name, &pod));
                let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
                if !node.is_empty() {
                    // A node that is gone is named all the same, without a UID.
                    let object = self.get("nodes", node).unwrap_or_default();
                    claims.node = Some(reference(node, &object));
                }
                pod
            }
            ("", "Secret") => {
                let secret = self.get("secrets", name)?;
                claims.secret = Some(reference(name, &secret));
                secret
            }
            ("", "Node") => {
                let node = self.get("nodes", name)?;
                claims.node = Some(reference(name, &node));
                node
            }
            _ => return Err(Status::bad_request(format!("cannot bind token to object of type {of}"))),
        };
        let own = object["metadata"]["uid"].as_str().unwrap_or_default();
        if !uid.is_empty() && uid != own {
            let detail = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            );
            return Err(Status::conflict(&GroupResource::new("", kind), name, &detail));
        }
        Ok(())
    }
}
