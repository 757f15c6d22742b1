//! One webhook: whether it is to be called, the call, and what its answer means.

use super::super::expressions::{Conditions, Deciding, Subject, objects, request, request_question};
use super::super::matching::{Criteria, Invocation, World};
use super::super::metrics::{Metrics, Outcome, Step};
use super::super::{Attributes, Operation};
use crate::api::field::go_quote;
use crate::api::value::json_kind;
use crate::api::{Fields, Status, names};
use crate::apiserver::audit;
use crate::apiserver::authz::Authorizer;
use crate::apiserver::metrics;
use crate::apiserver::webhook::{Client, Target};
use crate::resources::admission_registration::expressions::Names;
use crate::schema::{self, FieldValidation};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(in crate::apiserver::admission) struct Hook {
    pub name: String,
    pub configuration: String,
    /// Of the configuration, with its place in it: what reinvocation knows it by.
    pub id: String,
    criteria: Criteria,
    conditions: Conditions,
    target: Target,
    timeout: Duration,
    fail_open: bool,
    pub reinvoke: bool,
    /// Dry runs have no side effects through it.
    dry_run: bool,
    review: Option<&'static str>,
}

/// Where a webhook is in the chain, as audit annotations name it.
pub(super) struct Place {
    pub step: Step,
    pub round: u8,
    pub index: usize,
}

impl Place {
    pub fn key(&self, prefix: &str) -> String {
        let kind = match self.step {
            Step::Admit => "mutation",
            Step::Validate => "validating",
        };
        format!("{prefix}{kind}.webhook.admission.k8s.io/round_{}_index_{}", self.round, self.index)
    }
}

/// Why there is no answer to go by.
pub(super) enum Failure {
    /// It could not be called; the failure policy decides.
    Calling {
        reason: String,
        /// What its status would be.
        code: u16,
    },
    Rejected(Status),
}

impl Failure {
    fn calling(reason: String) -> Self {
        Self::Calling { reason, code: 503 }
    }
}

/// A call that was answered with yes.
#[derive(Default)]
pub(super) struct Answer {
    /// The operations of a JSON patch.
    pub patch: Option<Vec<Value>>,
}

/// What calls need.
pub(in crate::apiserver::admission) struct Caller {
    pub world: Arc<World>,
    pub client: Arc<Client>,
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    pub metrics: Arc<Metrics>,
}

/// The webhooks of a configuration.
pub(super) fn hooks(configuration: &Value) -> Vec<Hook> {
    let (name, uid) = (configuration.at("metadata").str_at("name"), configuration.at("metadata").str_at("uid"));
    let webhooks = configuration.list_at("webhooks").iter().enumerate();
    webhooks.map(|(index, webhook)| Hook::new(webhook, name, format!("{name}/{uid}/{index}"))).collect()
}

impl Hook {
    fn new(webhook: &Value, configuration: &str, id: String) -> Self {
        let timeout = webhook.optional_int("timeoutSeconds").and_then(|seconds| u64::try_from(seconds).ok());
        let timeout = Duration::from_secs(timeout.unwrap_or(10));
        let review = webhook.strs_at("admissionReviewVersions").find_map(|version| match version {
            "v1" => Some("admission.k8s.io/v1"),
            "v1beta1" => Some("admission.k8s.io/v1beta1"),
            _ => None,
        });
        let names = Names { authorizer: true, ..Names::default() };
        Self {
            name: webhook.str_at("name").to_owned(),
            configuration: configuration.to_owned(),
            id,
            criteria: Criteria::new(webhook, "rules"),
            conditions: Conditions::new(webhook.list_at("matchConditions"), names),
            target: Target::new(webhook.at("clientConfig"), timeout),
            timeout,
            fail_open: webhook.str_at("failurePolicy") == "Ignore",
            reinvoke: webhook.str_at("reinvocationPolicy") == "IfNeeded",
            dry_run: matches!(webhook.str_at("sideEffects"), "None" | "NoneOnDryRun"),
            review,
        }
    }

    pub fn may_match(&self, operation: Operation, subresource: &str) -> bool {
        self.criteria.may_match(operation, subresource)
    }

    /// None: it is not about this write.
    pub async fn invocation(&self, attributes: &Attributes<'_>, caller: &Caller) -> Result<Option<Invocation>, Status> {
        let Some(invocation) = self.criteria.matches(attributes, &caller.world, false)? else { return Ok(None) };
        if self.conditions.is_empty() {
            return Ok(Some(invocation));
        }
        let subject = Subject::new(attributes, &invocation, &caller.world).await?;
        let deciding = Deciding::new(&caller.authorizers, attributes.user);
        match self.conditions.hold(&subject, None, &deciding, &request_question(attributes)).await {
            Ok(true) => Ok(Some(invocation)),
            Ok(false) => Ok(None),
            Err(error) if self.fail_open => {
                tracing::debug!(webhook = self.name, error, "match conditions cannot be told: not called");
                Ok(None)
            }
            Err(error) => {
                let mut status = attributes.forbidden(&error);
                status.code = 403;
                Err(status)
            }
        }
    }

    /// Call it; `Ok(None)`: it could not be called, and that does not matter. `place`: among the
    /// webhooks, for the audit annotations.
    pub async fn call(
        &self,
        attributes: &mut Attributes<'_>,
        invocation: &Invocation,
        caller: &Caller,
        place: &Place,
    ) -> Result<Option<Answer>, Status> {
        let review = self.review(attributes, invocation, caller).await?;
        let mut warnings = Vec::new();
        let result = self.ask(attributes.operation, attributes.dry_run, review, caller, place, &mut warnings).await;
        attributes.warnings.append(&mut warnings);
        result
    }

    /// Send a review; what comes of it is as the failure policy has it.
    pub async fn ask(
        &self,
        operation: Operation,
        dry_run: bool,
        review: Value,
        caller: &Caller,
        place: &Place,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Answer>, Status> {
        let started = Instant::now();
        let mutating = place.step == Step::Admit;
        let result = self.exchange(dry_run, review, caller, mutating, warnings).await;
        let outcome = match &result {
            Ok(_) => Outcome::Allowed,
            Err(Failure::Rejected(status)) => Outcome::Rejected(status),
            Err(Failure::Calling { code, .. }) => Outcome::Failed { code: *code, fail_open: self.fail_open },
        };
        caller.metrics.webhook(&self.name, place.step, operation, started, &outcome);
        // Those that validate run side by side: who runs them knows how long all took.
        if mutating {
            metrics::waited(started.elapsed());
        }
        match result {
            Ok(answer) => Ok(Some(answer)),
            Err(Failure::Rejected(status)) => Err(status),
            Err(Failure::Calling { reason, .. }) => {
                let text = format!("failed calling webhook {}: {reason}", go_quote(&self.name));
                if self.fail_open {
                    tracing::warn!(webhook = self.name, "{text}: ignored");
                    audit::annotate(&place.key("failed-open."), self.name.as_str());
                    return Ok(None);
                }
                Err(Status::internal(text))
            }
        }
    }

    /// The document that it is sent.
    pub async fn review(
        &self,
        attributes: &Attributes<'_>,
        invocation: &Invocation,
        caller: &Caller,
    ) -> Result<Value, Status> {
        let (object, old_object) = objects(attributes, invocation, &caller.world).await?;
        let mut request = request(attributes, invocation);
        request["uid"] = json!(uuid::Uuid::new_v4().to_string());
        request["object"] = object;
        request["oldObject"] = old_object;
        let version = self.review.unwrap_or("admission.k8s.io/v1");
        Ok(json!({ "kind": "AdmissionReview", "apiVersion": version, "request": request }))
    }

    async fn exchange(
        &self,
        dry_run: bool,
        review: Value,
        caller: &Caller,
        mutating: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, Failure> {
        if dry_run && !self.dry_run {
            let text = format!("admission webhook {} does not support dry run", go_quote(&self.name));
            return Err(Failure::Rejected(Status::bad_request(text)));
        }
        let posted = caller.client.post(&self.target, self.timeout, &review).await;
        let reply = posted.map_err(|error| Failure::calling(format!("failed to call webhook: {error}")))?;
        decodes(&review, &reply).map_err(|error| Failure::calling(format!("failed to call webhook: {error}")))?;
        let invalid = |reason: String| Failure::calling(format!("received invalid webhook response: {reason}"));
        let response = verify(&review, &reply, mutating).map_err(invalid)?;
        for (name, value) in response.map_at("auditAnnotations") {
            let key = format!("{}/{name}", self.name);
            if names::qualified_name(&key).is_empty() {
                audit::annotate(&key, value.as_str().unwrap_or_default());
            }
        }
        warnings.extend(response.strs_at("warnings").map(str::to_owned));
        if response["allowed"] != true {
            return Err(Failure::Rejected(self.denial(&response["status"])));
        }
        let patch = response.str_at("patch");
        if !mutating || patch.is_empty() {
            return Ok(Answer::default());
        }
        let undecodable =
            |error: String| Failure::calling(format!("received undecodable patch in webhook response: {error}"));
        let bytes = crate::schema::scalars::decode_base64(patch).map_err(undecodable)?;
        let (patch, _) = schema::read_operations(&bytes, FieldValidation::Ignore).map_err(undecodable)?;
        Ok(Answer { patch: (!patch.is_empty()).then_some(patch) })
    }

    /// What the client is told of a no.
    fn denial(&self, given: &Value) -> Status {
        let denied = format!("admission webhook {} denied the request", go_quote(&self.name));
        let message = match (given.str_at("message"), given.str_at("reason")) {
            ("", "") => format!("{denied} without explanation"),
            ("", reason) => format!("{denied}: {reason}"),
            (message, _) => format!("{denied}: {message}"),
        };
        let code = given.optional_int("code").and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
        let mut status = Status::failure(code.max(400), given.str_at("reason"), message);
        if let Some(details) = given.get_set("details") {
            status.details = serde_json::from_value(details.clone()).ok();
        }
        status
    }
}

/// Whether an answer is a review at all. Err: as Kubernetes's decoder says it.
fn decodes(review: &Value, reply: &Value) -> Result<(), String> {
    if !reply.is_object() {
        return Err(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            json_kind(reply)
        ));
    }
    let (version, kind) = (reply.str_at("apiVersion"), reply.str_at("kind"));
    let known = matches!(version, "" | "admission.k8s.io/v1" | "admission.k8s.io/v1beta1");
    if !known || !matches!(kind, "" | "AdmissionReview") {
        return Err(format!(
            "no kind {} is registered for version {} in scheme \"k8s.io/apiserver/pkg/util/webhook/client.go:71\"",
            go_quote(kind),
            go_quote(version)
        ));
    }
    let short = |version: &str| version.rsplit('/').next().unwrap_or_default().to_owned();
    let (wanted, got) = (short(review.str_at("apiVersion")), short(version));
    if !got.is_empty() && wanted != got {
        return Err(format!("converting ({got}.AdmissionReview) to ({wanted}.AdmissionReview): unknown conversion"));
    }
    let response = reply.at("response");
    if let Some(allowed) = response.get("allowed").filter(|allowed| !allowed.is_boolean() && !allowed.is_null()) {
        return Err(format!(
            "json: cannot unmarshal {} into Go struct field AdmissionResponse.response.allowed of type bool",
            json_kind(allowed)
        ));
    }
    crate::schema::scalars::decode_base64(response.str_at("patch")).map(|_| ())
}

/// The response in an answer, when it is one to this request.
fn verify<'r>(review: &Value, reply: &'r Value, mutating: bool) -> Result<&'r Value, String> {
    let Some(response) = reply.get_set("response") else { return Err("webhook response was absent".to_owned()) };
    if review["apiVersion"] == "admission.k8s.io/v1beta1" {
        return Ok(response);
    }
    let (wanted, got) = (review["request"].str_at("uid"), response.str_at("uid"));
    if wanted != got {
        return Err(format!("expected response.uid={}, got {}", go_quote(wanted), go_quote(got)));
    }
    let (version, kind) = (reply.str_at("apiVersion"), reply.str_at("kind"));
    if (version, kind) != ("admission.k8s.io/v1", "AdmissionReview") {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {}{version}, Kind={kind}",
            if version.contains('/') { "" } else { "/" }
        ));
    }
    let (patch, patch_type) = (response.str_at("patch"), response.optional_str("patchType"));
    match (mutating, patch.is_empty(), patch_type) {
        (false, false, _) => Err("validating webhook may not return response.patch".to_owned()),
        (false, true, Some(_)) => Err("validating webhook may not return response.patchType".to_owned()),
        (true, false, None) => Err("webhook returned response.patch but not response.patchType".to_owned()),
        (true, true, Some(_)) => Err("webhook returned response.patchType but not response.patch".to_owned()),
        (true, false, Some(kind)) if kind != "JSONPatch" => {
            Err(format!("webhook returned invalid response.patchType of {}", go_quote(kind)))
        }
        _ => Ok(response),
    }
}
