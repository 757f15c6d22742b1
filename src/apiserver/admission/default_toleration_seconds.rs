//! DefaultTolerationSeconds: a pod stays on a node that is not ready for five minutes.

use super::{Attributes, Operation, Plugin, is_write, items, list_mut, text};
use crate::api::{GroupVersionResource, Status};
use async_trait::async_trait;
use serde_json::{Value, json};

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

const SECONDS: i64 = 300;

pub struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, operation: Operation, resource: &GroupVersionResource, subresource: &str) -> bool {
        is_write(operation, resource, subresource, "pods")
    }

    async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(pod) = attributes.object.as_deref_mut() else { return Ok(()) };
        let given = items(&pod["spec"]["tolerations"]);
        let missing: Vec<Value> = TAINTS
            .iter()
            .filter(|taint| !given.iter().any(|toleration| tolerates(toleration, taint)))
            .map(|taint| json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}))
            .collect();
        if !missing.is_empty()
            && let Some(tolerations) = list_mut(&mut pod["spec"], "tolerations")
        {
            tolerations.extend(missing);
        }
        Ok(())
    }
}

/// Says something of the taint's NoExecute already.
fn tolerates(toleration: &Value, taint: &str) -> bool {
    let key = text(toleration, "/key");
    (key.is_empty() || key == taint) && matches!(text(toleration, "/effect"), "" | "NoExecute")
}
