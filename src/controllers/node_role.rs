//! The node of the server itself has the role `control-plane`: `kubectl get nodes` shows it, and what is to run
//! beside the API server selects it. Its kubelet may not say so (NodeRestriction), and it has no taint: pods run there.
//! The value is that of other small distributions, whose charts select it.

use super::context::{Context, Running};
use crate::client::{Objects, Patch, is_conflict, is_invalid, is_not_found, kinds};
use crate::runtime::views::Node;
use crate::runtime::{Action, Controller, ObjectKey, Projection, Store, WorkQueue};
use async_trait::async_trait;
use serde_json::json;
use std::sync::Arc;

const ACCOUNT: &str = "node-controller";
const ROLE: &str = "node-role.kubernetes.io/control-plane";

pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let nodes = context.informers.of::<Node>();
    let own = context.config.server_node.clone();
    let lacks_role =
        move |node: &Node| own.as_deref() == Some(&*node.meta.name) && !node.meta.labels.contains_key(ROLE);
    nodes.feed_if(&queue, lacks_role.clone());
    let controller = NodeRole { objects: context.objects(ACCOUNT), nodes: nodes.clone() };
    Running::new(controller, queue, 1, [nodes.until_synced()], move || {
        nodes.all().iter().filter(|node| lacks_role(node)).map(|node| node.key()).collect()
    })
}

struct NodeRole {
    objects: Objects,
    nodes: Arc<Store<Node>>,
}

#[async_trait]
impl Controller for NodeRole {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "node-role-controller"
    }

    /// A role that somebody has given it since stays as it is.
    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        let Some(node) = self.nodes.get(key).filter(|node| !node.meta.labels.contains_key(ROLE)) else {
            return Ok(Action::Done);
        };
        let patch = json!({ "metadata": { "uid": &*node.meta.uid, "labels": { ROLE: "true" } } });
        match self.objects.patch(&kinds::NODES, "", &key.name, "", Patch::Merge, &patch).await {
            // Gone, or another by now, which comes here in its turn.
            Err(error) if is_not_found(&error) || is_conflict(&error) || is_invalid(&error) => Ok(Action::Done),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(Action::Done),
        }
    }
}
