//! Objects as JSON values: get, list, create, update, patch, delete.
//!
//! Typed structs drop fields they do not know; a value that is read, changed and written back
//! keeps them. Errors are `kube::Error::Api` with the server's Status.

use super::kind::Kind;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};

/// A client that names itself: its agent becomes the field manager of what it writes.
#[derive(Clone)]
pub struct Objects {
    client: kube::Client,
    agent: &'static str,
}

/// How to read the body of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    Merge,
    Strategic,
    Json,
}

impl Patch {
    fn content_type(self) -> &'static str {
        match self {
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Json => "application/json-patch+json",
        }
    }
}

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// Preconditions and manner of a deletion. A controller sets at least `uid`.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub propagation: Option<Propagation>,
    /// Seconds.
    pub grace_period: Option<i64>,
}

impl DeleteOptions {
    /// Only this very object.
    pub fn of(uid: &str) -> Self {
        Self { uid: Some(uid.to_owned()), ..Self::default() }
    }

    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = Some(propagation);
        self
    }

    pub fn grace_period(mut self, seconds: i64) -> Self {
        self.grace_period = Some(seconds);
        self
    }

    pub fn resource_version(mut self, resource_version: &str) -> Self {
        self.resource_version = Some(resource_version.to_owned());
        self
    }

    fn body(&self) -> Value {
        let mut body = json!({ "apiVersion": "v1", "kind": "DeleteOptions" });
        if let Some(seconds) = self.grace_period {
            body["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(propagation) = self.propagation {
            body["propagationPolicy"] = format!("{propagation:?}").into();
        }
        if let Some(uid) = &self.uid {
            body["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(resource_version) = &self.resource_version {
            body["preconditions"]["resourceVersion"] = resource_version.as_str().into();
        }
        body
    }
}

impl Objects {
    /// `agent`: `kube-controller-manager`, `kube-scheduler`, `kubelet` …
    pub fn new(client: kube::Client, agent: &'static str) -> Self {
        Self { client, agent }
    }

    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, kube::Error> {
        let mut request = Request::builder().method(method).uri(path).header(header::USER_AGENT, self.agent);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(kube::Error::SerdeError)?,
            None => Vec::new(),
        };
        let bytes = send(&self.client, request.body(body).map_err(kube::Error::HttpError)?).await?;
        serde_json::from_slice(&bytes).map_err(kube::Error::SerdeError)
    }

    pub async fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Value, kube::Error> {
        self.call(Method::GET, &format!("{}/{name}", kind.path(namespace)), "", None).await
    }

    /// None: there is no such object.
    pub async fn find(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Option<Value>, kube::Error> {
        match self.get(kind, namespace, name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A whole collection, or a page of it: `parameters` as kube has them.
    pub async fn list(
        &self,
        kind: &Kind,
        namespace: &str,
        parameters: &kube::api::ListParams,
    ) -> Result<Value, kube::Error> {
        let mut request =
            kube::core::Request::new(kind.path(namespace)).list(parameters).map_err(kube::Error::BuildRequest)?;
        request.headers_mut().insert(header::USER_AGENT, header::HeaderValue::from_static(self.agent));
        let bytes = send(&self.client, request).await?;
        serde_json::from_slice(&bytes).map_err(kube::Error::SerdeError)
    }

    /// Sets `apiVersion` and `kind`.
    pub async fn create(&self, kind: &Kind, namespace: &str, mut object: Value) -> Result<Value, kube::Error> {
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.as_ref().into();
        self.call(Method::POST, &kind.path(namespace), "application/json", Some(&object)).await
    }

    /// POST to `bindings`, `eviction`, `token` … of an object.
    pub async fn create_subresource(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &Value,
    ) -> Result<Value, kube::Error> {
        let path = format!("{}/{name}/{subresource}", kind.path(namespace));
        self.call(Method::POST, &path, "application/json", Some(body)).await
    }

    /// PUT; with `metadata.resourceVersion` in it, only over that state. `subresource`: `status`,
    /// `finalize` …, or empty.
    pub async fn update(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        subresource: &str,
        object: &Value,
    ) -> Result<Value, kube::Error> {
        let path = object_path(kind, namespace, name, subresource);
        self.call(Method::PUT, &path, "application/json", Some(object)).await
    }

    pub async fn patch(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: Patch,
        body: &Value,
    ) -> Result<Value, kube::Error> {
        let path = object_path(kind, namespace, name, subresource);
        self.call(Method::PATCH, &path, patch.content_type(), Some(body)).await
    }

    /// The reply: the object (still there under a grace period or finalizers) or a Status.
    pub async fn delete(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Value, kube::Error> {
        let path = object_path(kind, namespace, name, "");
        self.call(Method::DELETE, &path, "application/json", Some(&options.body())).await
    }

    /// The same where nobody waits for it: an object that is gone, or that is not what the preconditions say, is
    /// left alone; whoever watches it comes again. Whether it was deleted.
    pub async fn delete_as_seen(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<bool, kube::Error> {
        match self.delete(kind, namespace, name, options).await {
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(false),
            deleted => deleted.map(|_| true),
        }
    }

    /// Every object of a namespace.
    pub async fn delete_collection(
        &self,
        kind: &Kind,
        namespace: &str,
        options: &DeleteOptions,
    ) -> Result<Value, kube::Error> {
        self.call(Method::DELETE, &kind.path(namespace), "application/json", Some(&options.body())).await
    }

    /// Read, change and write back, again upon a conflict. `change` returns false when there is
    /// nothing to do; then nothing is written. None: there is no such object.
    pub async fn modify(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        subresource: &str,
        mut change: impl FnMut(&mut Value) -> bool,
    ) -> Result<Option<Value>, kube::Error> {
        const ATTEMPTS: usize = 5;
        let mut attempt = 1;
        loop {
            let Some(mut object) = self.find(kind, namespace, name).await? else { return Ok(None) };
            if !change(&mut object) {
                return Ok(Some(object));
            }
            match self.update(kind, namespace, name, subresource, &object).await {
                Ok(object) => return Ok(Some(object)),
                Err(error) if is_conflict(&error) && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

fn object_path(kind: &Kind, namespace: &str, name: &str, subresource: &str) -> String {
    let slash = if subresource.is_empty() { "" } else { "/" };
    format!("{}/{name}{slash}{subresource}", kind.path(namespace))
}

/// Send a request and read the whole reply; a reply that is not a success becomes
/// `kube::Error::Api`.
pub async fn send(client: &kube::Client, request: Request<Vec<u8>>) -> Result<Bytes, kube::Error> {
    let response = client.send(request.map(Body::from)).await?;
    let code = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    if code.is_success() { Ok(bytes) } else { Err(error_of(code, &bytes)) }
}

/// The error of a reply: its Status, or one made of its text.
pub fn error_of(code: http::StatusCode, bytes: &[u8]) -> kube::Error {
    let status = serde_json::from_slice::<kube::core::Status>(bytes).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(bytes);
        kube::core::Status::failure(text.trim(), code.canonical_reason().unwrap_or("Unknown")).with_code(code.as_u16())
    });
    kube::Error::Api(Box::new(status))
}

/// The HTTP status of an API error; None: the request did not get that far.
pub fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

fn has_reason(error: &kube::Error, reason: &str) -> bool {
    matches!(error, kube::Error::Api(status) if status.reason == reason)
}

pub fn is_not_found(error: &kube::Error) -> bool {
    status_code(error) == Some(404)
}

/// A stale resourceVersion or a failed precondition.
pub fn is_conflict(error: &kube::Error) -> bool {
    has_reason(error, "Conflict")
}

pub fn is_already_exists(error: &kube::Error) -> bool {
    has_reason(error, "AlreadyExists")
}

pub fn is_forbidden(error: &kube::Error) -> bool {
    status_code(error) == Some(403)
}

pub fn is_invalid(error: &kube::Error) -> bool {
    status_code(error) == Some(422)
}

/// The revision or the continue token is too old.
pub fn is_gone(error: &kube::Error) -> bool {
    status_code(error) == Some(410)
}

/// A create that was refused since its namespace is on its way out: no retry helps.
pub fn is_namespace_terminating(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status
            .details
            .as_ref()
            .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating")),
        _ => false,
    }
}

/// A value as a typed object, by way of its text: a second reader for each type would weigh more than the detour.
pub fn typed<T: serde::de::DeserializeOwned>(value: &serde_json::Value) -> serde_json::Result<T> {
    serde_json::from_str(&value.to_string())
}
