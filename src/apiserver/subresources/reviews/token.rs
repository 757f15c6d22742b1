//! TokenReview: whose token is this.

use super::{Review, answer, refused, user_value};
use crate::api::Status;
use crate::apiserver::authn::bearer::Tokens;
use crate::apiserver::respond::Reply;
use crate::apiserver::verbs::Call;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;

pub struct TokenReview {
    pub tokens: Arc<Tokens>,
    pub audiences: Vec<String>,
}

#[async_trait]
impl Review for TokenReview {
    async fn review(&self, call: Call<'_>) -> Result<Reply, Status> {
        let row = call.row.clone();
        let kind = call.kind();
        let posted = call.posted(&kind).await?;
        let spec = &posted.object["spec"];
        let token = spec["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Ok(refused(&Status::bad_request("token is required for TokenReview in authentication"), &posted));
        }
        let asked: Vec<String> =
            spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let status = self.status(token, &asked).await;
        answer(&row, posted, status)
    }
}

impl TokenReview {
    async fn status(&self, token: &str, asked: &[String]) -> Value {
        match self.tokens.authenticate(token, asked).await {
            Ok(found) => {
                // A token that is bound to no audience is one for the API server.
                let audiences = found.audiences.unwrap_or_else(|| {
                    let meant = |audience: &&String| asked.is_empty() || asked.contains(audience);
                    self.audiences.iter().filter(meant).cloned().collect()
                });
                if audiences.is_empty() {
                    return json!({"user": {}, "error": "invalid bearer token"});
                }
                json!({"authenticated": true, "user": user_value(&found.user), "audiences": audiences})
            }
            Err(error) => json!({"user": {}, "error": error}),
        }
    }
}
