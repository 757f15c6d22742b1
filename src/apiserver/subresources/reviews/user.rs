//! SelfSubjectReview: who am I.

use super::{Review, user_value};
use crate::api::{Status, time};
use crate::apiserver::respond::Reply;
use crate::apiserver::subresources::object;
use crate::apiserver::verbs::Call;
use async_trait::async_trait;
use http::StatusCode;
use serde_json::json;

pub struct SelfSubjectReview;

#[async_trait]
impl Review for SelfSubjectReview {
    async fn review(&self, call: Call<'_>) -> Result<Reply, Status> {
        let (row, user) = (call.row.clone(), call.user);
        let kind = call.kind();
        let mut posted = call.posted(&kind).await?;
        posted.object["metadata"] = json!({"creationTimestamp": time::seconds(jiff::Timestamp::now())});
        posted.object["status"] = json!({"userInfo": user_value(user)});
        Ok(object(StatusCode::CREATED, posted.output, &row, &posted.object, &posted.warnings))
    }
}
