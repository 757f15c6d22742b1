//! Bootstrap tokens go when they expire.
//!
//! A Secret of the type `bootstrap.kubernetes.io/token` in kube-system with an `expiration`; one that
//! nobody can read is left alone (it does not authenticate either).

use super::context::{Context, Running};
use crate::client::{DeleteOptions, Kind, Objects, kinds};
use crate::runtime::{Action, Controller, Informer, InformerOptions, Meta, ObjectKey, Projection, WorkQueue};
use async_trait::async_trait;
use base64::Engine;
use jiff::Timestamp;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// Kubernetes's own service account for this.
const NAME: &str = "token-cleaner";
const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";

/// A token's Secret, of which only the expiration is kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Wire {
    metadata: Meta,
    data: Data,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Data {
    /// Base64 of a time.
    expiration: String,
}

struct BootstrapToken {
    meta: Meta,
    expires: Option<Timestamp>,
}

impl Projection for BootstrapToken {
    type Object = Wire;

    const KIND: Kind = kinds::SECRETS;

    fn project(wire: Wire) -> Self {
        Self { expires: expiration(&wire.data.expiration), meta: wire.metadata }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

fn expiration(text: &str) -> Option<Timestamp> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    String::from_utf8(bytes).ok()?.parse().ok()
}

/// What is left of a token's time; None: it has no end.
fn left(expires: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    let left = expires?.duration_since(now);
    Some(Duration::try_from(left).unwrap_or_default())
}

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let options = InformerOptions {
        namespace: Some(NAMESPACE.to_owned()),
        field_selector: Some(format!("type={TYPE}")),
        ..InformerOptions::default()
    };
    let tokens = Informer::<BootstrapToken>::start(context.informers.client().clone(), options);
    tokens.store().feed(&queue);
    let store = tokens.store().clone();
    let controller = TokenCleaner { objects: context.objects(NAME), tokens };
    Running::new(controller, queue, 1, [store.until_synced()], move || store.keys())
}

struct TokenCleaner {
    objects: Objects,
    tokens: Informer<BootstrapToken>,
}

#[async_trait]
impl Controller for TokenCleaner {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "token-cleaner-controller"
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(token) = self.tokens.store().get(key) else { return Ok(Action::Done) };
        match left(token.expires, Timestamp::now()) {
            None => return Ok(Action::Done),
            Some(left) if !left.is_zero() => return Ok(Action::After(left)),
            Some(_) => {}
        }
        let options = DeleteOptions::of(&token.meta.uid).resource_version(&token.meta.resource_version);
        self.objects.delete_as_seen(&kinds::SECRETS, &key.namespace, &key.name, &options).await?;
        Ok(Action::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_token() {
        let now: Timestamp = "2026-11-20T10:00:00Z".parse().expect("a time");
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let of = |text: &str| left(expiration(&encode(text)), now);
        assert_eq!(of("2026-11-20T10:01:00Z"), Some(Duration::from_secs(60)));
        assert_eq!(of("2026-11-20T11:01:00+01:00"), Some(Duration::from_secs(60)));
        assert_eq!(of("2026-11-20T09:00:00Z"), Some(Duration::ZERO));
        assert_eq!(of("soon"), None);
        assert_eq!(left(expiration(""), now), None);
    }
}
