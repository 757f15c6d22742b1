//! Reviews: questions about users and rights, answered and never stored.

mod access;
mod rules;
mod token;
mod user;

use super::{Handler, Posted, object};
use crate::api::{Status, UserInfo};
use crate::apiserver::authn::bearer::Tokens;
use crate::apiserver::authz::Rbac;
use crate::apiserver::codec;
use crate::apiserver::respond::{self, Reply};
use crate::apiserver::verbs::Call;
use crate::resources::Row;
use async_trait::async_trait;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

/// All of them. `audiences`: what the API server is called.
pub fn handlers(tokens: Arc<Tokens>, audiences: Vec<String>, rbac: Arc<Rbac>) -> Vec<(&'static str, Arc<dyn Handler>)> {
    vec![
        ("tokenreviews", Arc::new(token::TokenReview { tokens, audiences })),
        ("selfsubjectreviews", Arc::new(user::SelfSubjectReview)),
        ("subjectaccessreviews", Arc::new(access::AccessReview { subject: access::Subject::Named })),
        ("localsubjectaccessreviews", Arc::new(access::AccessReview { subject: access::Subject::NamedHere })),
        ("selfsubjectaccessreviews", Arc::new(access::AccessReview { subject: access::Subject::Requester })),
        ("selfsubjectrulesreviews", Arc::new(rules::SelfSubjectRulesReview { rbac })),
    ]
}

/// The posted review with its status, as the reply.
fn answer(row: &Row, mut posted: Posted, status: Value) -> Result<Reply, Status> {
    posted.object["status"] = Value::Null;
    codec::track(row, None, &mut posted.object, &crate::schema::Write::new(&posted.manager, "", &["status"]))?;
    posted.object["status"] = status;
    Ok(object(StatusCode::CREATED, posted.output, row, &posted.object, &posted.warnings))
}

/// The refusal of a review: what the decoder warned of is said with it.
fn refused(status: &Status, posted: &Posted) -> Reply {
    let mut reply = respond::status(status);
    respond::warn(&mut reply, &posted.warnings);
    reply
}

fn user_value(user: &UserInfo) -> Value {
    json!(user)
}

/// A handler of a resource that is only created.
#[async_trait]
trait Review: Send + Sync + 'static {
    async fn review(&self, call: Call<'_>) -> Result<Reply, Status>;
}

#[async_trait]
impl<T: Review> Handler for T {
    async fn handle(&self, call: Call<'_>) -> Result<Reply, Status> {
        if call.row.namespaced == call.info.namespace.is_empty() {
            return Err(crate::apiserver::no_such_resource());
        }
        if !call.info.name.is_empty() {
            return Err(crate::apiserver::no_such_verb());
        }
        self.review(call).await
    }
}
