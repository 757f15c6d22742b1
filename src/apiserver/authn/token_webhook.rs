//! Bearer tokens that another server knows: it is asked with a TokenReview
//! (`--authentication-token-webhook-config-file`), and its answers are remembered for a while.

use super::bearer::{RemoteTokenAuthenticator, TokenUser, digest};
use crate::api::{Fields, UserInfo};
use crate::apiserver::webhook::{Answers, Client, Target};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);

pub struct TokenWebhook {
    client: Arc<Client>,
    target: Target,
    /// `v1` or `v1beta1`.
    version: String,
    remember: Duration,
    answers: Answers<([u8; 32], Vec<String>), Result<TokenUser, String>>,
}

impl TokenWebhook {
    pub fn new(client: Arc<Client>, target: Target, version: &str, remember: Duration) -> Self {
        Self { client, target, version: version.to_owned(), remember, answers: Answers::default() }
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Result<TokenUser, String>, String> {
        let mut spec = json!({ "token": token });
        if !audiences.is_empty() {
            spec["audiences"] = json!(audiences);
        }
        let review = json!({
            "kind": "TokenReview",
            "apiVersion": format!("authentication.k8s.io/{}", self.version),
            "metadata": { "creationTimestamp": null },
            "spec": spec,
            "status": { "user": {} },
        });
        let reply = self.client.post(&self.target, TIMEOUT, &review).await?;
        let status = reply.at("status");
        if !status.bool_at("authenticated") {
            return Ok(Err(status.str_at("error").to_owned()));
        }
        let told: Vec<String> = status.strs_at("audiences").map(str::to_owned).collect();
        let common: Vec<String> = told.iter().filter(|audience| audiences.contains(audience)).cloned().collect();
        if !audiences.is_empty() && !told.is_empty() && common.is_empty() {
            return Ok(Err(String::new()));
        }
        let user = TokenUser { user: user_of(status.at("user")), audiences: (!told.is_empty()).then_some(common) };
        Ok(Ok(user))
    }
}

fn user_of(user: &Value) -> UserInfo {
    let extra = user.map_at("extra").iter();
    UserInfo {
        name: user.str_at("username").to_owned(),
        uid: user.str_at("uid").to_owned(),
        groups: user.strs_at("groups").map(str::to_owned).collect(),
        extra: extra
            .map(|(key, values)| {
                let values = values.as_array().into_iter().flatten();
                (key.clone(), values.filter_map(Value::as_str).map(str::to_owned).collect())
            })
            .collect::<BTreeMap<_, _>>(),
    }
}

#[async_trait]
impl RemoteTokenAuthenticator for TokenWebhook {
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Result<Option<TokenUser>, String> {
        let key = (digest(token), audiences.to_vec());
        let answer = match self.answers.get(&key) {
            Some(answer) => answer,
            None => {
                // A server that cannot be asked says nothing: that is not remembered.
                let answer = self.ask(token, audiences).await?;
                self.answers.put(key, answer.clone(), self.remember);
                answer
            }
        };
        match answer {
            Ok(user) => Ok(Some(user)),
            Err(error) if error.is_empty() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
