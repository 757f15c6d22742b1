//! What a cache keeps of an object.

use super::key::ObjectKey;
use crate::api::time::seconds;
use crate::client::Kind;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The part of an object that its readers read. `Object` is what the JSON is parsed into: often a
/// struct with the few fields needed (the parser skips the rest), and often `Self`.
pub trait Projection: Send + Sync + Sized + 'static {
    type Object: DeserializeOwned + Send;

    const KIND: Kind;

    fn project(object: Self::Object) -> Self;

    fn meta(&self) -> &Meta;

    /// Values to find it by: `add("node", "n1")`. Namespace and controlling owner are always there.
    fn index(&self, _add: &mut dyn FnMut(&'static str, &str)) {}

    fn key(&self) -> ObjectKey {
        self.meta().key()
    }
}

/// The projection of a type that is kept as it is read, with its metadata in `meta`; `forget`: what nobody reads.
macro_rules! whole {
    ($kept:ty, $kind:expr) => {
        $crate::runtime::whole!($kept, $kind, forget: |_| ());
    };
    ($kept:ty, $kind:expr, forget: $forget:expr) => {
        impl $crate::runtime::Projection for $kept {
            type Object = Self;

            const KIND: $crate::client::Kind = $kind;

            fn project(mut object: Self) -> Self {
                let forget: fn(&mut Self) = $forget;
                forget(&mut object);
                object
            }

            fn meta(&self) -> &$crate::runtime::Meta {
                &self.meta
            }
        }
    };
}
pub(crate) use whole;

/// `metadata`, without what no component reads.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub name: Arc<str>,
    pub namespace: Arc<str>,
    pub uid: Arc<str>,
    pub resource_version: Box<str>,
    pub generation: i64,
    pub creation_timestamp: Option<jiff::Timestamp>,
    pub deletion_timestamp: Option<jiff::Timestamp>,
    /// Seconds.
    pub deletion_grace_period_seconds: Option<i64>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub owner_references: Vec<OwnerReference>,
    pub finalizers: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: Arc<str>,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

impl Meta {
    pub fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// The owner that manages this object.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller)
    }

    pub fn is_controlled_by(&self, uid: &str) -> bool {
        self.controller().is_some_and(|owner| &*owner.uid == uid)
    }

    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }

    /// What `kubectl apply` keeps there: as large as the object.
    pub fn forget_applied(&mut self) {
        self.annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }

    /// The age order of objects: older first, then by name.
    pub fn age_order(&self) -> (Option<jiff::Timestamp>, &str) {
        (self.creation_timestamp, &self.name)
    }
}

/// An entry of `status.conditions`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: Box<str>,
    /// `True`, `False` or `Unknown`.
    pub status: Box<str>,
    pub reason: Box<str>,
    pub message: Box<str>,
    pub last_transition_time: Option<jiff::Timestamp>,
    pub last_update_time: Option<jiff::Timestamp>,
    pub last_heartbeat_time: Option<jiff::Timestamp>,
}

impl Condition {
    pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
        conditions.iter().find(|condition| &*condition.kind == kind)
    }

    /// As it is written.
    pub fn wire(&self) -> Value {
        let mut wire = json!({ "type": &*self.kind, "status": &*self.status });
        let texts = [("reason", &self.reason), ("message", &self.message)];
        for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            wire[field] = (**text).into();
        }
        for (field, time) in [
            ("lastTransitionTime", self.last_transition_time),
            ("lastUpdateTime", self.last_update_time),
            ("lastHeartbeatTime", self.last_heartbeat_time),
        ] {
            if let Some(time) = time {
                wire[field] = seconds(time).into();
            }
        }
        wire
    }

    pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
        Self::find(conditions, kind).is_some_and(|condition| &*condition.status == "True")
    }
}
