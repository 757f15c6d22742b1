//! Objects from one version to another, by the definition's webhook: a ConversionReview with all of
//! them, whose answer is checked as Kubernetes checks it.

use crate::api::field::go_quote;
use crate::api::value::go_type;
use crate::api::{Fields, FieldsMut, GroupVersionKind};
use crate::apiserver::State;
use crate::apiserver::webhook::{Client, Target};
use crate::resources::Conversion;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);
const REVIEW_GROUP: &str = "apiextensions.k8s.io";

/// The webhook of one definition.
pub struct Webhook {
    client: Arc<Client>,
    target: Target,
    /// Of the review that it understands; the first that is known here.
    review: String,
    /// Versions of the definition.
    versions: Vec<String>,
}

/// None: its versions differ by name alone.
pub fn of(state: &State, definition: &Value) -> Option<Webhook> {
    let spec = definition.at("spec");
    let conversion = spec.at("conversion");
    if conversion.str_at("strategy") != "Webhook" {
        return None;
    }
    let webhook = conversion.at("webhook");
    let review = webhook.strs_at("conversionReviewVersions").find(|version| ["v1", "v1beta1"].contains(version));
    let group = spec.str_at("group");
    Some(Webhook {
        client: state.webhooks.clone(),
        target: Target::new(webhook.at("clientConfig"), TIMEOUT),
        review: review.unwrap_or_default().to_owned(),
        versions: spec.list_at("versions").iter().map(|one| format!("{group}/{}", one.str_at("name"))).collect(),
    })
}

#[async_trait]
impl Conversion for Webhook {
    async fn convert(&self, objects: Vec<Value>, api_version: &str) -> Result<Vec<Value>, String> {
        let Some(first) = objects.first() else { return Ok(objects) };
        let from = GroupVersionKind::from_api_version(first.str_at("apiVersion"), first.str_at("kind"));
        let failed = |what: String| format!("conversion webhook for {from} {what}");
        if let Some(other) =
            objects.iter().find(|object| !self.versions.iter().any(|known| *known == object.str_at("apiVersion")))
        {
            let version = other.str_at("apiVersion");
            return Err(format!("request to convert CR from an invalid group/version: {version}"));
        }
        if self.review.is_empty() {
            return Err("no supported conversion review versions".to_owned());
        }
        let uid = uuid::Uuid::new_v4().to_string();
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": format!("{REVIEW_GROUP}/{}", self.review),
            "request": { "uid": uid, "desiredAPIVersion": api_version, "objects": objects },
        });
        let reply = self.client.post(&self.target, TIMEOUT, &review).await;
        let reply = reply.map_err(|error| failed(format!("failed: {error}")))?;
        let converted = self.objects_of(&reply, &uid).map_err(|error| failed(format!("failed: {error}")))?;
        if converted.len() != objects.len() {
            let (got, expected) = (converted.len(), objects.len());
            return Err(failed(format!("returned {got} objects, expected {expected}")));
        }
        let one = objects.len() == 1;
        objects
            .iter()
            .zip(converted)
            .enumerate()
            .map(|(index, (original, converted))| {
                restored(original, converted, api_version).map_err(|(what, error)| match (one, what) {
                    (true, Fault::Type) => failed(format!("returned invalid object at index 0: {error}")),
                    (true, Fault::Object) => failed(format!("returned invalid object: {error}")),
                    (true, Fault::Metadata) => failed(format!("returned invalid metadata: {error}")),
                    (false, Fault::Metadata) => {
                        failed(format!("returned invalid metadata in object at index {index}: {error}"))
                    }
                    (false, _) => failed(format!("returned invalid converted object at index {index}: {error}")),
                })
            })
            .collect()
    }
}

enum Fault {
    Type,
    Object,
    Metadata,
}

impl Webhook {
    /// What a review answers.
    fn objects_of(&self, reply: &Value, uid: &str) -> Result<Vec<Value>, String> {
        let response = reply.at("response");
        if self.review == "v1" {
            let got = GroupVersionKind::from_api_version(reply.str_at("apiVersion"), reply.str_at("kind"));
            let wanted = GroupVersionKind::new(REVIEW_GROUP, "v1", "ConversionReview");
            if got != wanted {
                return Err(format!("expected webhook response of {wanted}, got {got}"));
            }
            if response.is_null() {
                return Err("no response provided".to_owned());
            }
            if response.str_at("uid") != uid {
                let got = go_quote(response.str_at("uid"));
                return Err(format!("expected response.uid={}, got {got}", go_quote(uid)));
            }
        } else if response.is_null() {
            return Err("no response provided".to_owned());
        }
        let result = response.at("result");
        if result.str_at("status") != "Success" {
            return Err(match result.str_at("message") {
                "" => format!("response.result.status was '{}', not 'Success'", result.str_at("status")),
                message => message.to_owned(),
            });
        }
        Ok(response.list_at("convertedObjects").to_vec())
    }
}

/// The converted object with the metadata of the original: a webhook changes labels and annotations
/// only.
fn restored(original: &Value, mut converted: Value, api_version: &str) -> Result<Value, (Fault, String)> {
    let got = converted.str_at("apiVersion");
    if got != api_version {
        return Err((Fault::Type, format!("invalid groupVersion (expected {api_version}, received {got})")));
    }
    let (kind, got) = (original.str_at("kind"), converted.str_at("kind"));
    if kind != got {
        return Err((Fault::Type, format!("invalid kind (expected {kind}, received {got})")));
    }
    for (field, shown) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (wanted, got) = (original.at("metadata").str_at(field), converted.at("metadata").str_at(field));
        if wanted != got {
            return Err((Fault::Object, format!("must have the same {shown}: {wanted} != {got}")));
        }
    }
    let told = match converted.get("metadata") {
        None => return Err((Fault::Metadata, "missing metadata in converted object".to_owned())),
        Some(told @ Value::Object(_)) => told.clone(),
        Some(other) => {
            let found = go_type(other);
            return Err((Fault::Metadata, format!("invalid metadata of type {found} in converted object")));
        }
    };
    let mut metadata = original.at("metadata").clone();
    for field in ["labels", "annotations"] {
        match told.get_set(field) {
            None => metadata.clear(field),
            Some(Value::Object(map)) => {
                if let Some((key, value)) = map.iter().find(|(_, value)| !value.is_string()) {
                    let found = go_type(value);
                    let error = format!("metadata.{field}[{key}] must be a string, but is {found} in converted object");
                    return Err((Fault::Metadata, error));
                }
                metadata.set(field, map.clone());
            }
            Some(other) => {
                let found = go_type(other);
                let error = format!("invalid metadata.{field} of type {found} in converted object");
                return Err((Fault::Metadata, error));
            }
        }
    }
    let errors = crate::resources::pipeline::metadata::labels_and_annotations(&metadata);
    if !errors.is_empty() {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let text = if let [one] = texts.as_slice() { one.clone() } else { format!("[{}]", texts.join(", ")) };
        return Err((Fault::Metadata, text));
    }
    converted.set("metadata", metadata);
    Ok(converted)
}
