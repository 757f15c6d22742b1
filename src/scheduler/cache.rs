//! What runs where: nodes with the pods bound to them, or assumed to be.
//!
//! A pod counts from the moment it is placed, before the binding is written; the watch confirms it.

use crate::runtime::ObjectKey;
use crate::runtime::views::{Node, Pod, Resources};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A node as the plugins see it.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub node: Arc<Node>,
    pub pods: Vec<Arc<Pod>>,
    /// Of all its pods together.
    pub requested: Resources,
    /// With Kubernetes's defaults for pods that ask for nothing.
    pub scoring_requested: Resources,
}

impl NodeInfo {
    pub fn new(node: Arc<Node>) -> Self {
        Self { node, pods: Vec::new(), requested: Resources::default(), scoring_requested: Resources::default() }
    }

    pub fn name(&self) -> &str {
        &self.node.meta.name
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.meta.label(key)
    }

    pub fn add(&mut self, pod: Arc<Pod>) {
        self.requested.add(&pod.requests);
        self.scoring_requested.add(&pod.scoring_requests);
        self.pods.push(pod);
    }

    pub fn remove(&mut self, uid: &str) -> Option<Arc<Pod>> {
        let index = self.pods.iter().position(|pod| &*pod.meta.uid == uid)?;
        let pod = self.pods.swap_remove(index);
        self.requested.subtract(&pod.requests);
        self.scoring_requested.subtract(&pod.scoring_requests);
        Some(pod)
    }
}

/// A state of the cluster; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Ordered by name.
    pub nodes: Vec<Arc<NodeInfo>>,
}

impl Snapshot {
    /// The same with another state of one node.
    pub fn with(&self, changed: NodeInfo) -> Self {
        let mut nodes = self.nodes.clone();
        if let Some(place) = nodes.iter_mut().find(|info| info.name() == changed.name()) {
            *place = Arc::new(changed);
        }
        Self { nodes }
    }
}

#[derive(Default)]
pub struct Cache {
    nodes: BTreeMap<Arc<str>, Arc<NodeInfo>>,
    /// Pods by UID: where they count, and whether that is only assumed.
    placed: HashMap<Arc<str>, Placed>,
    /// Pods of nodes that are not known (yet).
    homeless: HashMap<Arc<str>, Vec<Arc<Pod>>>,
}

struct Placed {
    node: Arc<str>,
    key: ObjectKey,
    assumed: bool,
}

impl Cache {
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { nodes: self.nodes.values().cloned().collect() }
    }

    pub fn set_node(&mut self, node: &Arc<Node>) {
        let name = node.meta.name.clone();
        match self.nodes.get_mut(&name) {
            Some(info) => Arc::make_mut(info).node = node.clone(),
            None => {
                let mut info = NodeInfo::new(node.clone());
                for pod in self.homeless.remove(&name).unwrap_or_default() {
                    info.add(pod);
                }
                self.nodes.insert(name, Arc::new(info));
            }
        }
    }

    pub fn remove_node(&mut self, name: &Arc<str>) {
        if let Some(info) = self.nodes.remove(name)
            && !info.pods.is_empty()
        {
            self.homeless.insert(name.clone(), info.pods.clone());
        }
    }

    /// A pod that is bound, as the watch says, or that was just placed.
    pub fn place(&mut self, pod: &Arc<Pod>, node: &Arc<str>, assumed: bool) {
        self.remove_pod(&pod.meta.uid);
        let key = ObjectKey { namespace: pod.meta.namespace.clone(), name: pod.meta.name.clone() };
        self.placed.insert(pod.meta.uid.clone(), Placed { node: node.clone(), key, assumed });
        match self.nodes.get_mut(node) {
            Some(info) => Arc::make_mut(info).add(pod.clone()),
            None => self.homeless.entry(node.clone()).or_default().push(pod.clone()),
        }
    }

    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(placed) = self.placed.remove(uid) else { return false };
        match self.nodes.get_mut(&placed.node) {
            Some(info) => {
                Arc::make_mut(info).remove(uid);
            }
            None => {
                if let Some(pods) = self.homeless.get_mut(&placed.node) {
                    pods.retain(|pod| &*pod.meta.uid != uid);
                    if pods.is_empty() {
                        self.homeless.remove(&placed.node);
                    }
                }
            }
        }
        tracing::trace!(pod = %placed.key, "no longer counted");
        true
    }

    /// Whether a pod counts only by assumption.
    pub fn is_assumed(&self, uid: &str) -> bool {
        self.placed.get(uid).is_some_and(|placed| placed.assumed)
    }
}
